"""From an image file to the input of a network, without PyTorch.

Training, evaluation and prediction share these functions: what a network sees of a file does not depend on who asks.
The way of an image, each step a pure function:

    file --decode--> (H, W, C) uint8 or uint16 --to_stored--> (C, h, w), same type --network_input--> (C, r, r) float32

`Preparation` holds every choice as a JSON-able value, so it can travel inside an exported network.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.data.decoding import decode
from onceforall.data.white_border import WHITE_BORDERS, fill_white_border
from onceforall.errors import UserError, check_choice, suggestion

__all__ = ["FITS", "Preparation", "network_input", "prepare", "resampling_matrix", "to_stored"]

FITS = ("crop", "stretch", "pad")
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow


@final
@dataclass(frozen=True)
class Preparation:
    """How pixels become the input of a network.

    `fit` says how an image that is not square becomes square:

    - `"crop"`: the shorter side is resized to `ceil(r / crop_ratio)`, then the central `r` x `r` pixels are kept;
    - `"stretch"`: both sides are resized to `r`;
    - `"pad"`: the longer side is resized to `r`, the rest is filled with black (pixel value 0).

    `crop_ratio` (0 to 1) matters for `"crop"` only. `bit_depth` (8 or 16) is that of the pixels; `maximum` is the
    pixel value that counts as 1. `mean` and `std` have one number per channel (one alone stands for all); they
    normalise last: `(x / maximum - mean) / std`. `store_size`: images are first brought to this side length by the
    rule of `fit` and rounded to `bit_depth`, as they were for training (None: they are used as they are).
    `white_border`: what takes the place of white regions that touch the border, before anything is resized; see
    `fill_white_border`.
    Raises `UserError` for a value out of range.
    """

    channels: int
    fit: str = "crop"
    crop_ratio: float = 0.875
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    bit_depth: int = 8
    maximum: int = 255
    store_size: int | None = None
    white_border: str = "keep"

    def __post_init__(self) -> None:
        check_whole("channels", self.channels, 1, 64)
        check_choice("fit", self.fit, FITS)
        check_choice("bit_depth", self.bit_depth, (8, 16))
        check_choice("white_border", self.white_border, WHITE_BORDERS)
        check_whole("maximum", self.maximum, 1, 65535)
        if self.store_size is not None:
            check_whole("store_size", self.store_size, 1, 16384)
        if not 0.0 < self.crop_ratio <= 1.0:
            raise UserError(f"crop_ratio {self.crop_ratio!r} is out of range; allowed is 0 < crop_ratio <= 1.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            numbers = tuple(float(value) for value in values)
            if len(numbers) == 1:
                numbers = numbers * self.channels
            if len(numbers) != self.channels or not all(math.isfinite(number) for number in numbers):
                raise UserError(
                    f"{name} {values!r} does not fit; give {self.channels} finite number(s), one a channel."
                )
            object.__setattr__(self, name, numbers)
        if min(self.std) <= 0.0:
            raise UserError(f"std {self.std!r} must be above 0 in every channel.")

    def to_dict(self) -> dict[str, Any]:
        """The value as JSON types; `from_dict` turns it back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preparation":
        """The value of `to_dict`; raises `UserError` for an unknown or missing key."""
        allowed = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in allowed:
                raise UserError(
                    f"preparation has no key {key!r}; allowed: {', '.join(allowed)}.{suggestion(key, allowed)}"
                )
        if "channels" not in values:
            raise UserError("preparation lacks the key 'channels'.")
        arguments: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**arguments)


def check_whole(name: str, got: object, low: int, high: int) -> int:
    """`got` as an int; raises `UserError` unless it is one of `low` to `high`."""
    if isinstance(got, bool) or not isinstance(got, (int, np.integer)) or not low <= got <= high:
        raise UserError(f"{name} {got!r} must be a whole number of {low} to {high}.")
    return int(got)


# The stored form -------------------------------------------------------------------------------------------------


def to_stored(pixels: np.ndarray, preparation: Preparation) -> np.ndarray:
    """(H, W, C) uint8 or uint16 -> (channels, h, w) of the preparation's channels, bit depth, border and `store_size`.

    This is what the cache keeps and what training reads. Raises `UserError` where the channels cannot be converted
    (only 1 to 3 and 3 to 1 can).
    """
    pixels = _with_channels(_with_depth(pixels, preparation.bit_depth), preparation.channels)
    pixels = fill_white_border(pixels, preparation.white_border)
    if preparation.store_size is not None:
        pixels = _square(pixels, preparation.fit, preparation.store_size)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))  # (channels, height, width)


def _with_depth(pixels: np.ndarray, bit_depth: int) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels if bit_depth == 8 else pixels.astype(np.uint16) * 257
    if pixels.dtype == np.uint16:
        return pixels if bit_depth == 16 else np.rint(pixels / 257.0).astype(np.uint8)
    raise UserError(f"pixels of type {pixels.dtype} are not read; give uint8 or uint16.")


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    if pixels.ndim != 3:
        raise UserError(f"an image of shape {pixels.shape} is not (height, width, channels).")
    have = pixels.shape[2]
    if have == channels:
        return pixels
    if have == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=2)
    if have == 3 and channels == 1:
        if np.array_equal(pixels[:, :, 0], pixels[:, :, 1]) and np.array_equal(pixels[:, :, 0], pixels[:, :, 2]):
            return pixels[:, :, :1]
        grey = pixels.astype(np.float64) @ np.array(LUMA)  # (height, width)
        return np.rint(grey).astype(pixels.dtype)[:, :, None]
    raise UserError(f"an image of {have} channels cannot become one of {channels}; only 1 to 3 and 3 to 1 can.")


def _square(pixels: np.ndarray, fit: str, size: int) -> np.ndarray:
    """(H, W, C) -> (size, size, C), same type: resized with Pillow's antialiased bilinear filter."""
    height, width = pixels.shape[:2]
    out_height, out_width = _resized_shape(height, width, fit, size)
    resized = _resize(pixels, out_height, out_width)
    if fit == "pad":
        square = np.zeros((size, size, pixels.shape[2]), pixels.dtype)
        top, left = (size - out_height) // 2, (size - out_width) // 2
        square[top : top + out_height, left : left + out_width] = resized
        return square
    top, left = _centre(out_height, size), _centre(out_width, size)
    return resized[top : top + size, left : left + size]


def _resized_shape(height: int, width: int, fit: str, size: int) -> tuple[int, int]:
    """Height and width after resizing: shorter side = `size` for "crop", longer side = `size` for "pad"."""
    if fit == "stretch":
        return size, size
    if fit == "crop":
        short = min(height, width)
        return max(size, size * height // short), max(size, size * width // short)
    long = max(height, width)
    return max(1, round(size * height / long)), max(1, round(size * width / long))


def _centre(have: int, want: int) -> int:
    return round((have - want) / 2)


def _resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    if pixels.shape[:2] == (height, width):
        return pixels
    bilinear = Image.Resampling.BILINEAR
    if pixels.dtype == np.uint8 and pixels.shape[2] in (1, 3):
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))
        return np.asarray(image.resize((width, height), bilinear)).reshape(height, width, pixels.shape[2])
    planes = [
        np.asarray(Image.fromarray(pixels[:, :, i].astype(np.float32)).resize((width, height), bilinear))
        for i in range(pixels.shape[2])
    ]
    return np.rint(np.stack(planes, axis=2)).astype(pixels.dtype)  # (height, width, channels)


# The network's input ---------------------------------------------------------------------------------------------


def network_input(images: np.ndarray, preparation: Preparation, resolution: int) -> np.ndarray:
    """(..., channels, h, w) stored images -> (..., channels, r, r) float32, normalised; r = `resolution` in pixels.

    Bilinear with antialias (a triangle filter as wide as the reduction), computed as two matrix products; it
    agrees with Pillow's filter on floating-point images. One image and a batch give the same numbers.
    """
    check_whole("resolution", resolution, 1, 16384)
    if images.ndim < 3 or images.shape[-3] != preparation.channels:
        raise UserError(
            f"images of shape {images.shape} do not have {preparation.channels} channel(s) before height and width."
        )
    height, width = images.shape[-2:]
    rows, columns = _matrices(height, width, preparation.fit, preparation.crop_ratio, int(resolution))
    output = images.astype(np.float32)
    if rows is not None:
        output = np.matmul(rows, output)  # (..., channels, r, w)
    if columns is not None:
        output = np.matmul(output, columns.T)  # (..., channels, r, r)
    std = np.asarray(preparation.std, np.float32)[:, None, None]
    mean = np.asarray(preparation.mean, np.float32)[:, None, None]
    output *= np.float32(1.0) / (preparation.maximum * std)
    output -= mean / std
    return output


def prepare(source: Path | bytes | np.ndarray, preparation: Preparation, resolution: int, name: str = "") -> np.ndarray:
    """A file, its bytes or its pixels (H, W, C) -> the network's input (channels, r, r) float32."""
    pixels = source if isinstance(source, np.ndarray) else decode(source, name)
    return network_input(to_stored(pixels, preparation), preparation, resolution)


@functools.lru_cache(maxsize=64)
def _matrices(
    height: int, width: int, fit: str, crop_ratio: float, resolution: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The matrices (r, height) and (r, width) that resize and then crop or pad; None stands for the identity."""
    size = math.ceil(resolution / crop_ratio) if fit == "crop" else resolution
    shape = _resized_shape(height, width, fit, size)
    return _matrix(height, shape[0], resolution), _matrix(width, shape[1], resolution)


def _matrix(have: int, resized: int, resolution: int) -> np.ndarray | None:
    matrix = resampling_matrix(have, resized)
    if resized >= resolution:
        top = _centre(resized, resolution)
        matrix = matrix[top : top + resolution]
    else:
        top = (resolution - resized) // 2
        matrix = np.pad(matrix, ((top, resolution - resized - top), (0, 0)))
    if have == resolution and np.array_equal(matrix, np.eye(resolution)):
        return None
    matrix = np.ascontiguousarray(matrix, np.float32)
    matrix.setflags(write=False)
    return matrix


def resampling_matrix(have: int, want: int) -> np.ndarray:
    """(want, have) float64: row i holds the weights of the input pixels in output pixel i; each row sums to 1."""
    scale = have / want
    support = max(scale, 1.0)
    centres = (np.arange(want) + 0.5) * scale  # (want,)
    pixels = np.arange(have) + 0.5  # (have,)
    weights = np.maximum(0.0, 1.0 - np.abs(pixels[None, :] - centres[:, None]) / support)
    return weights / weights.sum(axis=1, keepdims=True)
