import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from onceforall.data.resampling import apply_matrices, axis_matrix, grid_matrices, resample_labels

SHAPE = (7, 9, 8)


def volume(seed=0, channels=2):
    return np.random.default_rng(seed).standard_normal((channels, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("want", [(14, 9, 8), (10, 13, 11), SHAPE])
def test_enlarging_agrees_with_torch(want):
    got = apply_matrices(volume(), grid_matrices(SHAPE, want))
    expected = F.interpolate(torch.from_numpy(volume())[None], size=want, mode="trilinear", align_corners=False)[0]
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(("have", "want"), [(9, 4), (10, 9), (16, 5)])
def test_reducing_agrees_with_torch_antialias(have, want):
    line = np.random.default_rng(0).standard_normal(have).astype(np.float32)
    image = torch.from_numpy(line)[None, None, :, None].expand(1, 1, have, 4)
    expected = F.interpolate(image, size=(want, 4), mode="bilinear", antialias=True, align_corners=False)
    np.testing.assert_allclose(axis_matrix(have, want, have / want) @ line, expected[0, 0, :, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize(("have", "want", "step"), [(9, 12, 0.8), (9, 11, 0.8), (10, 10, 1.0), (5, 9, 0.5)])
def test_an_exact_step_agrees_with_scipy(have, want, step):
    line = np.random.default_rng(0).standard_normal(have)
    centres = (have - 1) / 2 + (np.arange(want) - (want - 1) / 2) * step
    expected = ndimage.map_coordinates(line, [centres], order=1, mode="nearest")
    np.testing.assert_allclose(axis_matrix(have, want, step) @ line, expected, atol=1e-12)


def test_no_change_is_no_work():
    assert grid_matrices(SHAPE, SHAPE) == (None, None, None)
    labels = np.zeros(SHAPE, np.uint8)
    assert resample_labels(labels, (None, None, None)) is labels


@pytest.mark.parametrize("want", [(11, 12, 13), (8, 10, 9)])
def test_labels_are_the_largest_of_their_interpolated_maps(want):
    labels = np.random.default_rng(0).choice([0, 1, 4, 255], SHAPE).astype(np.uint8)
    values = np.array([0, 1, 4, 255])
    maps = torch.from_numpy((labels == values[:, None, None, None]).astype(np.float32))[None]
    scores = F.interpolate(maps, size=want, mode="trilinear", align_corners=False)[0].numpy()
    sure = np.diff(np.sort(scores, axis=0)[-2:], axis=0)[0] > 1e-4  # not a tie
    got = resample_labels(labels, grid_matrices(SHAPE, want))
    assert got.dtype == np.uint8 and sure.mean() > 0.9
    np.testing.assert_array_equal(got[sure], values[scores.argmax(axis=0)][sure])


def test_numbers_of_classes_are_never_mixed():
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[4:] = 3  # interpolated numbers would give 1 and 2 between 0 and 3
    for size in (5, 6, 7, 12):
        assert set(np.unique(resample_labels(labels, grid_matrices((8, 8, 8), (size,) * 3)))) == {0, 3}


def test_of_equal_maps_the_lowest_value_wins():
    labels = np.array([2, 1], np.uint8).reshape(2, 1, 1)
    assert resample_labels(labels, grid_matrices((2, 1, 1), (1, 1, 1))).item() == 1
