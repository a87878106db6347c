"""Oracles: wedges drawn by hand on known pixels."""

import numpy as np
import pytest
from PIL import Image

from onceforall.data.decoding import decode
from onceforall.data.preparation import Preparation, prepare, to_stored
from onceforall.data.white_border import RIM, fill_white_border, white_border
from onceforall.errors import UserError


def scan(height=100, width=120):
    """Dark noise, mostly 20, with a bright layer of four rows from side to side, as a retina has."""
    pixels = np.random.default_rng(0).choice(np.array([10, 20, 20, 30], np.uint8), (height, width))
    pixels[60:64] = 255
    return pixels


def wedge(height=100, width=120, slope=0.2, left=30):
    """Above a tilted line."""
    return np.arange(height)[:, None] < left - slope * np.arange(width)[None, :]


def near(mask, pixels):
    """`mask` and everything within so many pixels."""
    for _ in range(pixels):
        padded = np.pad(mask, 1)
        mask = np.any([padded[i : i + len(mask), j : j + mask.shape[1]] for i in range(3) for j in range(3)], axis=0)
    return mask


def test_a_wedge_and_its_rim_are_found_and_the_bright_layer_is_not():
    pixels = scan()
    pixels[wedge()] = 255
    found = white_border(pixels[:, :, None])
    np.testing.assert_array_equal(found, near(wedge(), RIM))
    assert not found[50:].any()


def test_thin_strips_at_every_side_are_found_where_the_layer_crosses_them():
    pixels = scan()
    strips = np.zeros(pixels.shape, bool)
    strips[:2], strips[-1:], strips[:, :1], strips[:, -3:] = True, True, True, True
    pixels[strips] = 255
    found = white_border(pixels[:, :, None])
    assert found[strips].all() and not found[20:80, 20:100].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_fillings(dtype, channels):
    scale = np.iinfo(dtype).max // 255
    pixels = np.repeat(scan()[:, :, None], channels, axis=2).astype(dtype) * scale
    pixels[wedge()] = np.iinfo(dtype).max
    before = pixels.copy()
    mask = white_border(pixels)
    for fill, value in (("black", 0), ("median", 20 * scale)):
        filled = fill_white_border(pixels, fill)
        assert filled.dtype == dtype and (filled[mask] == value).all()
        np.testing.assert_array_equal(filled[~mask], before[~mask])
    assert fill_white_border(pixels, "keep") is pixels
    np.testing.assert_array_equal(pixels, before)


def test_what_is_no_wedge_stays():
    plain = scan()[:, :, None]
    inside = scan()
    inside[20:40, 20:40] = 255  # white, but away from the border
    red = np.zeros((50, 50, 3), np.uint8)
    red[:20, :, 0] = 255
    for pixels in (plain, inside[:, :, None], red, np.full((9, 9, 1), 255, np.uint8)):
        assert fill_white_border(pixels, "black") is pixels


def test_preparation_fills_before_it_resizes(tmp_path):
    pixels = scan()
    clean = pixels.copy()
    pixels[wedge()] = 255
    clean[near(wedge(), RIM)] = 0
    options = {"fit": "stretch", "store_size": 32}
    stored = to_stored(pixels[:, :, None], Preparation(1, white_border="black", **options))
    np.testing.assert_array_equal(stored, to_stored(clean[:, :, None], Preparation(1, **options)))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    filling = Preparation.from_dict(Preparation(1, white_border="median", **options).to_dict())
    assert prepare(tmp_path / "a.png", filling, 32).max() < prepare(tmp_path / "a.png", Preparation(1), 32).max()
    with pytest.raises(UserError, match="white_border 'blck' .* Did you mean 'black'"):
        Preparation(1, white_border="blck")


@pytest.mark.data
def test_real_scans_lose_their_wedges_and_keep_the_rest(data_root):
    wedged = decode(data_root / "oct/NORMAL/NORMAL-1384-2.jpeg")  # its upper sixth is white, above a tilted line
    found = white_border(wedged)
    assert 0.14 < found.mean() < 0.17 and found[:60].all() and not found[90:490, 20:490].any()
    for plain in ("CNV/CNV-103044-18.jpeg", "NORMAL/NORMAL-1384-1.jpeg"):
        assert not white_border(decode(data_root / "oct" / plain)).any()
