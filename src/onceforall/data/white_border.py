"""White wedges at the border of an image, as rotated retinal scans have them, and what takes their place."""

import numpy as np

from onceforall.errors import check_choice

__all__ = ["WHITE_BORDERS", "fill_white_border", "white_border"]

WHITE_BORDERS = ("keep", "black", "median")
WHITE = 230 / 255  # part of the largest value from which a pixel is white: JPEG leaves some below the whole
WIDTH = 5  # pixels; what is narrower and reaches inwards is a bright layer, no wedge
LEAST = 0.0005  # part of the image below which a white spot at the border is none
RIM = 2  # pixels around a wedge that JPEG has made grey


def fill_white_border(pixels: np.ndarray, fill: str) -> np.ndarray:
    """(H, W, C) uint8 or uint16, with white regions at the border replaced.

    `fill`: "keep" changes nothing, "black" writes 0, "median" the median of all other pixels, channel by channel.
    An image without such a region is returned as it is. Raises `UserError` for another `fill`.
    """
    check_choice("white_border", fill, WHITE_BORDERS)
    if fill == "keep":
        return pixels
    mask = white_border(pixels)
    if not mask.any() or mask.all():
        return pixels
    value = 0 if fill == "black" else np.median(pixels[~mask], axis=0).astype(pixels.dtype)
    return np.where(mask[:, :, None], value, pixels).astype(pixels.dtype)


def white_border(pixels: np.ndarray) -> np.ndarray:
    """(H, W) bool: the white regions of (H, W, C) that touch the border, and their grey rim."""
    from scipy import ndimage

    white = pixels.min(axis=2) >= WHITE * np.iinfo(pixels.dtype).max  # (height, width)
    if not (white[[0, -1]].any() or white[:, [0, -1]].any()):
        return np.zeros_like(white)
    # White all around the image lets a strip along the border pass, however thin; a thin bright layer does not pass.
    around = np.pad(white, WIDTH, constant_values=True)
    opened = ndimage.binary_opening(around, np.ones((WIDTH, WIDTH), bool))[WIDTH:-WIDTH, WIDTH:-WIDTH]
    regions = np.zeros(opened.shape, np.int32)
    ndimage.label(opened, output=regions)
    sizes = np.bincount(regions.ravel())  # of each region; the first is what is not white
    touching = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    wedges = [region for region in touching if region > 0 and sizes[region] >= LEAST * white.size]
    found = np.isin(regions, wedges)
    square = np.ones((3, 3), bool)
    found = ndimage.binary_dilation(found, square, WIDTH, mask=found | white)  # what the opening took from their edges
    return ndimage.binary_dilation(found, square, RIM)
