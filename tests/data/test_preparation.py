"""Oracles: Pillow's resize of floating-point images, torch's antialiased interpolation, weights worked out by hand."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from onceforall.data.decoding import decode
from onceforall.data.preparation import Preparation, network_input, prepare, resampling_matrix, to_stored
from onceforall.errors import UserError

PLAIN = {"mean": (0.0,), "std": (1.0,), "maximum": 1}  # pixel values as they are


def random_pixels(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(len(shape) + shape[0]).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def pillow_resize(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    image = Image.fromarray(plane.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def test_weights_by_hand():
    # 4 -> 2: the triangle has a half width of 2; around 1.0 lie the centres 0.5, 1.5, 2.5 at 0.5, 0.5 and 1.5
    expected = np.array([[0.75, 0.75, 0.25, 0.0], [0.0, 0.25, 0.75, 0.75]]) / 1.75
    np.testing.assert_allclose(resampling_matrix(4, 2), expected, atol=1e-15)
    # 2 -> 4: plain linear interpolation, edges repeated
    np.testing.assert_allclose(resampling_matrix(2, 4)[:, 0], [1.0, 0.75, 0.25, 0.0], atol=1e-15)
    np.testing.assert_array_equal(resampling_matrix(5, 5), np.eye(5))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (74, 74), (50, 81), (8, 8), (31, 20)])
@pytest.mark.parametrize("resolution", [8, 33, 64])
def test_crop_is_resize_then_centre_crop(height, width, resolution):
    image = random_pixels(height, width)
    size = math.ceil(resolution / 0.875)
    short = min(height, width)
    resized = pillow_resize(image, size * height // short, size * width // short)
    top, left = (round((side - resolution) / 2) for side in resized.shape)
    expected = resized[top : top + resolution, left : left + resolution]
    result = network_input(image[None], Preparation(1, **PLAIN), resolution)
    assert result.shape == (1, resolution, resolution) and result.dtype == np.float32
    np.testing.assert_allclose(result[0], expected, atol=2e-3)


def test_resizing_agrees_with_torch():
    image = random_pixels(3, 40, 40)
    expected = F.interpolate(torch.from_numpy(image)[None].float(), size=(24, 24), mode="bilinear", antialias=True)[0]
    result = network_input(image, Preparation(3, crop_ratio=1.0, **PLAIN), 24)
    np.testing.assert_allclose(result, expected.numpy(), atol=2e-3)


def test_stretch_and_pad():
    image = random_pixels(20, 32)
    np.testing.assert_allclose(
        network_input(image[None], Preparation(1, "stretch", **PLAIN), 16)[0], pillow_resize(image, 16, 16), atol=2e-3
    )
    padded = network_input(image[None], Preparation(1, "pad", **PLAIN), 16)[0]
    np.testing.assert_allclose(padded[3:13], pillow_resize(image, 10, 16), atol=2e-3)
    assert not padded[:3].any() and not padded[13:].any()


def test_scale_and_normalisation():
    image = np.full((2, 10, 10), 51, np.uint8)
    result = network_input(image, Preparation(2, mean=(0.1, 0.2), std=(0.5, 0.25)), 10)
    np.testing.assert_allclose(result[0], (0.2 - 0.1) / 0.5, atol=1e-6)
    np.testing.assert_allclose(result[1], 0.0, atol=1e-6)
    deep = np.full((1, 10, 10), 13107, np.uint16)
    sixteen = Preparation(1, mean=(0.0,), std=(1.0,), bit_depth=16, maximum=65535)
    np.testing.assert_allclose(network_input(deep, sixteen, 5), 0.2, atol=1e-6)


def test_one_image_and_a_batch_give_the_same_bits():
    images = random_pixels(5, 3, 30, 26)
    preparation = Preparation(3)
    batch = network_input(images, preparation, 20)
    for i in range(5):
        np.testing.assert_array_equal(network_input(images[i], preparation, 20), batch[i])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_stored_form_of_8_bits_is_pillows_resize(channels):
    image = random_pixels(30, 41, channels)
    stored = to_stored(image, Preparation(channels, store_size=12))
    assert stored.shape == (channels, 12, 12) and stored.dtype == np.uint8
    for i in range(channels):
        expected = pillow_resize(image[:, :, i], 12, 12 * 41 // 30)[:, 2:14]
        assert np.abs(stored[i] - np.rint(expected)).max() <= 1  # Pillow rounds between its two passes


def test_stored_form_of_16_bits():
    image = random_pixels(30, 41, 1, dtype=np.uint16)
    stored = to_stored(image, Preparation(1, "stretch", bit_depth=16, store_size=12))
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored[0], np.rint(pillow_resize(image[:, :, 0], 12, 12)).astype(np.uint16))
    padded = to_stored(image, Preparation(1, "pad", bit_depth=16, store_size=12))
    assert not padded[0, 0].any() and padded[0, 6].any()


def test_bit_depth_and_channels_are_converted():
    grey = random_pixels(4, 5, 1)
    np.testing.assert_array_equal(to_stored(grey, Preparation(3))[2], grey[:, :, 0])
    wide = to_stored(grey, Preparation(1, bit_depth=16))
    np.testing.assert_array_equal(wide[0], grey[:, :, 0].astype(np.uint16) * 257)
    np.testing.assert_array_equal(to_stored(wide.transpose(1, 2, 0), Preparation(1))[0], grey[:, :, 0])
    colour = random_pixels(4, 5, 3)
    luma = np.asarray(Image.fromarray(colour).convert("L")).astype(int)
    assert np.abs(to_stored(colour, Preparation(1))[0] - luma).max() <= 1
    same = np.repeat(random_pixels(4, 5, 1, dtype=np.uint16), 3, axis=2)
    np.testing.assert_array_equal(to_stored(same, Preparation(1, bit_depth=16))[0], same[:, :, 0])


def test_prepare_is_the_three_steps(tmp_path):
    image = random_pixels(40, 52)
    Image.fromarray(image).save(tmp_path / "a.png")
    preparation = Preparation(1, store_size=20)
    expected = network_input(to_stored(decode(tmp_path / "a.png"), preparation), preparation, 16)
    np.testing.assert_array_equal(prepare(tmp_path / "a.png", preparation, 16), expected)
    np.testing.assert_array_equal(prepare((tmp_path / "a.png").read_bytes(), preparation, 16), expected)
    np.testing.assert_array_equal(prepare(image[:, :, None], preparation, 16), expected)


def test_json_round_trip():
    preparation = Preparation(3, "pad", 0.9, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 16, 4095, 100)
    assert Preparation.from_dict(json.loads(json.dumps(preparation.to_dict()))) == preparation
    assert Preparation(3).mean == (0.5, 0.5, 0.5)  # one number stands for all channels


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": 0}, "channels 0 .* 1 to 64"),
        ({"channels": 1.5}, "channels 1.5"),
        ({"channels": True}, "channels True"),
        ({"channels": 1, "fit": "crops"}, "fit 'crops' .* Did you mean 'crop'"),
        ({"channels": 1, "crop_ratio": 0.0}, "crop_ratio 0.0"),
        ({"channels": 1, "crop_ratio": float("nan")}, "crop_ratio nan"),
        ({"channels": 1, "bit_depth": 12}, "bit_depth 12"),
        ({"channels": 1, "maximum": 0}, "maximum 0"),
        ({"channels": 1, "store_size": 0}, "store_size 0"),
        ({"channels": 3, "mean": (0.1, 0.2)}, "mean .* 3 finite"),
        ({"channels": 1, "std": (0.0,)}, "above 0"),
        ({"channels": 1, "std": (float("inf"),)}, "std .* finite"),
        ({"channels": 1, "crop_ration": 1.0}, "no key 'crop_ration'.*Did you mean 'crop_ratio'"),
        ({"fit": "crop"}, "lacks the key 'channels'"),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Preparation.from_dict(values)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: network_input(np.zeros((1, 8, 8), np.uint8), Preparation(1), 0), "resolution 0"),
        (lambda: network_input(np.zeros((1, 8, 8), np.uint8), Preparation(1), (8, 8)), "resolution"),
        (lambda: network_input(np.zeros((1, 8, 8), np.uint8), Preparation(3), 8), "3 channel"),
        (lambda: to_stored(np.zeros((8, 8, 4), np.uint8), Preparation(3)), "4 channels cannot become one of 3"),
        (lambda: to_stored(np.zeros((8, 8), np.uint8), Preparation(1)), r"\(height, width, channels\)"),
        (lambda: to_stored(np.zeros((8, 8, 1), np.int64), Preparation(1)), "int64"),
    ],
)
def test_wrong_images_are_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_runs_without_torch(tmp_path):
    Image.fromarray(random_pixels(9, 9)).save(tmp_path / "a.png")
    code = (
        "import sys; from pathlib import Path; import onceforall.data; from onceforall.data.preparation import *\n"
        "x = prepare(Path(sys.argv[1]), Preparation(1), 8); print(x.shape, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[0] == "(1, 8, 8) False"
