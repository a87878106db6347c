"""Oracle: MONAI's `sliding_window_inference`, with which evaluation answers to large volumes."""

import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map
from monai.inferers.utils import sliding_window_inference

from onceforall.predict.windows import answer_in_windows, gaussian_weights, window_starts


@pytest.mark.parametrize("window", [(4, 6, 5), (16, 8, 2), (3, 5)])
def test_weights_are_those_of_monai(window):
    expected = compute_importance_map(window, mode="gaussian").numpy()
    np.testing.assert_allclose(gaussian_weights(window), expected, rtol=1e-6)
    assert gaussian_weights((64,)).min() == np.float32(1e-3), "no voxel is without weight"


def test_starts_by_hand():
    assert window_starts(8, 8) == [0]
    assert window_starts(9, 8) == [0, 1]
    assert window_starts(12, 8) == [0, 4]
    assert window_starts(13, 8) == [0, 4, 5]
    assert window_starts(7, 5) == [0, 2], "half of 5 is 2"
    assert window_starts(3, 1) == [0, 1, 2]


@pytest.mark.parametrize("grid", [(9, 8, 6), (4, 6, 5), (7, 13, 5), (4, 19, 11)])
def test_answers_are_those_of_monai(grid):
    window = (4, 6, 5)
    generator = np.random.default_rng(0)
    volume = generator.standard_normal((2, *grid), np.float32)
    place = generator.standard_normal((3, 1, *window), np.float32)  # a network that answers by the place in the window

    def network(inputs):
        return (inputs[:, None] * place).sum(2) + place[:, 0]

    expected = sliding_window_inference(
        torch.from_numpy(volume)[None], window, 4, lambda x: torch.from_numpy(network(x.numpy())), 0.5, "gaussian"
    )
    found = answer_in_windows(network, volume, window)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[0].numpy(), atol=2e-6)
