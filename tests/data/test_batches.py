"""Oracles: Pillow's resize, numpy flips and turns, and a bilinear sampling written as a loop over pixels."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from onceforall.data.augmentation import Augmentation
from onceforall.data.batches import DRAWS, augment, crop_matrices, sampling_grid, to_float_tensor
from onceforall.data.preparation import Preparation

STILL = Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), horizontal_flip=False)
PLAIN = Preparation(1, mean=(0.0,), std=(1.0,), maximum=1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int, channels: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (count, channels, height, width), np.uint8)


def run(
    pixels: np.ndarray, resolution: int, augmentation: Augmentation, preparation: Preparation = PLAIN, seed: int = 0
):
    return augment(to_float_tensor(pixels, "cpu"), resolution, augmentation, preparation, generator(seed)).numpy()


def test_no_augmentation_leaves_the_image():
    pixels = images(3, 1, 16, 16)
    np.testing.assert_allclose(run(pixels, 16, STILL), pixels, atol=1e-3)
    deep = pixels.astype(np.uint16) * 257
    np.testing.assert_allclose(run(deep, 16, STILL), deep, atol=0.2)


@pytest.mark.parametrize("resolution", [24, 40])
def test_enlarging_is_pillows_resize(resolution):
    pixels = images(1, 1, 16, 16)
    expected = Image.fromarray(pixels[0, 0].astype(np.float32)).resize((resolution,) * 2, Image.Resampling.BILINEAR)
    np.testing.assert_allclose(run(pixels, resolution, STILL)[0, 0], np.asarray(expected), atol=2e-2)


def test_reducing_much_is_antialiased():
    pixels = images(1, 1, 64, 64)
    expected = Image.fromarray(pixels[0, 0].astype(np.float32)).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(run(pixels, 16, STILL)[0, 0], np.asarray(expected), atol=2e-2)
    assert run(pixels, 16, Augmentation()).std() < 0.6 * pixels.std()  # without antialias noise keeps its variance


def test_normalisation():
    preparation = Preparation(2, mean=(0.1, 0.2), std=(0.5, 0.25))
    result = run(np.full((2, 2, 8, 8), 51, np.uint8), 8, STILL, preparation)
    np.testing.assert_allclose(result[:, 0], 0.2, atol=1e-5)
    np.testing.assert_allclose(result[:, 1], 0.0, atol=1e-5)


def test_flips_happen_in_half_of_the_cases():
    pixels = np.repeat(images(1, 1, 8, 8), 200, axis=0)
    both = Augmentation((1.0, 1.0), (1.0, 1.0), horizontal_flip=True, vertical_flip=True)
    result = run(pixels, 8, both)
    image = pixels[0, 0].astype(float)
    ways = {"as it is": image, "left-right": image[:, ::-1], "up-down": image[::-1], "both": image[::-1, ::-1]}
    counts = {name: sum(np.allclose(r[0], way, atol=1e-2) for r in result) for name, way in ways.items()}
    assert sum(counts.values()) == 200 and min(counts.values()) > 30, counts


@pytest.mark.parametrize(("angle", "turns"), [(90, 1), (180, 2)])
def test_rotation_turns_the_image(angle, turns):
    draws = torch.full((1, DRAWS), 0.5)
    draws[:, 6] = 1.0
    theta = crop_matrices(draws, 8, 8, Augmentation((1.0, 1.0), (1.0, 1.0), False, rotation=angle))
    pixels = torch.from_numpy(images(1, 1, 8, 8)).float()
    result = torch.nn.functional.grid_sample(pixels, sampling_grid(theta, 8), align_corners=False)[0, 0]
    np.testing.assert_allclose(result, np.rot90(pixels[0, 0].numpy(), turns), atol=1e-2)


def test_rotation_keeps_shapes_in_oblong_images():
    draws = torch.full((1, DRAWS), 0.5)
    draws[:, 6] = 1.0
    theta = crop_matrices(draws, 20, 40, Augmentation((1.0, 1.0), (1.0, 1.0), False, rotation=30))[0].double()
    in_pixels = torch.diag(torch.tensor([20.0, 10.0])).double() @ theta[:, :2]  # half sizes: pixels of the input
    columns = in_pixels / in_pixels.norm(dim=0)
    assert abs(float(columns[:, 0] @ columns[:, 1])) < 1e-6  # still at right angles
    assert math.isclose(math.degrees(math.atan2(columns[1, 0], columns[0, 0])), 30, abs_tol=1e-4)


def bilinear(plane: np.ndarray, x: float, y: float) -> float:
    """The value at (x, y) in pixels, pixel centres at 0.5, edges repeated."""
    height, width = plane.shape
    x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    upper = plane[top, left] * (1 - (x - left)) + plane[top, right] * (x - left)
    lower = plane[bottom, left] * (1 - (x - left)) + plane[bottom, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


def test_random_crop_against_a_loop_over_pixels():
    height, width, resolution = 18, 24, 10
    augmentation = Augmentation(scale=(0.4, 0.9), ratio=(0.8, 1.25), horizontal_flip=True)
    pixels = images(4, 1, height, width)
    draws = torch.rand((4, DRAWS), generator=generator(3)).double().numpy()
    result = run(pixels, resolution, augmentation, seed=3)
    for i, u in enumerate(draws):
        area = (0.4 + 0.5 * u[0]) * height * width
        low, high = max(0.8, area / height**2), min(1.25, width**2 / area)
        ratio = math.exp(math.log(low) + u[1] * (math.log(high) - math.log(low)))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        left, top = u[2] * (width - w), u[3] * (height - h)
        expected = [
            [
                bilinear(pixels[i, 0], left + (column + 0.5) / resolution * w, top + (row + 0.5) / resolution * h)
                for column in range(resolution)
            ]
            for row in range(resolution)
        ]
        expected = np.array(expected)[:, :: -1 if u[4] < 0.5 else 1]
        np.testing.assert_allclose(result[i, 0], expected, atol=0.02)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 60), (90, 30)])
def test_crops_lie_inside_the_image(height, width):
    augmentation = Augmentation(scale=(0.08, 1.0))
    theta = crop_matrices(torch.rand((2000, DRAWS), generator=generator()), height, width, augmentation)
    w, h, x, y = theta[:, 0, 0].abs(), theta[:, 1, 1].abs(), theta[:, 0, 2].abs(), theta[:, 1, 2].abs()
    assert (x + w).max() <= 1 + 1e-5 and (y + h).max() <= 1 + 1e-5
    if height == width:
        area, ratio = w * h, w / h
        assert 0.079 < area.min() < 0.1 and 0.95 < area.max() <= 1.0001 and abs(area.mean() - 0.54) < 0.02
        assert ratio.min() >= 0.7499 and ratio.max() <= 1.3334


def test_jitter_against_numpy():
    pixels = images(6, 3, 8, 8)
    augmentation = Augmentation((1.0, 1.0), (1.0, 1.0), False, brightness=0.4, saturation=0.5)
    result = run(pixels, 8, augmentation, Preparation(3, mean=(0.0,), std=(1.0,)), seed=5)
    draws = torch.rand((6, DRAWS), generator=generator(5)).double().numpy()
    for i, u in enumerate(draws):
        bright = np.clip(pixels[i] / 255 * (1 + (2 * u[7] - 1) * 0.4), 0, 1)
        grey = 0.299 * bright[0] + 0.587 * bright[1] + 0.114 * bright[2]
        expected = np.clip(grey + (bright - grey) * (1 + (2 * u[8] - 1) * 0.5), 0, 1)
        np.testing.assert_allclose(result[i], expected, atol=1e-5)
    grey_only = run(pixels[:, :1], 8, Augmentation((1.0, 1.0), (1.0, 1.0), False, saturation=0.5))
    np.testing.assert_allclose(grey_only, pixels[:, :1], atol=1e-3)  # one channel has no saturation


def test_depends_on_the_generator_alone():
    pixels = images(8, 1, 16, 16)
    augmentation = Augmentation(brightness=0.2, rotation=15)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first = run(pixels, 12, augmentation, Preparation(1))
    np.testing.assert_array_equal(first, run(pixels, 12, augmentation, Preparation(1)))
    alone = run(pixels[:3], 12, augmentation, Preparation(1))  # image i takes row i of the numbers
    np.testing.assert_array_equal(first[:3], alone)
    assert not np.array_equal(first, run(pixels, 12, augmentation, Preparation(1), seed=1))
    assert torch.equal(before[0], torch.random.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()


def test_dtype():
    pixels = to_float_tensor(images(2, 1, 8, 8), "cpu")
    assert augment(pixels, 8, STILL, PLAIN, generator(), torch.bfloat16).dtype == torch.bfloat16
