"""A volume answered window by window, as evaluation does it (MONAI's sliding windows), with numpy alone.

Windows overlap by half. Their outputs are averaged with weights that fall off from the middle as a Gaussian, whose
standard deviation is an eighth of the window along each axis, but not below a thousandth of the largest weight.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["answer_in_windows", "gaussian_weights", "window_starts"]

DEVIATION = 0.125  # of the Gaussian, as a part of the window
LOWEST_WEIGHT = 1e-3


def window_starts(have: int, window: int) -> list[int]:
    """First voxels of the windows that cover an axis of `have` voxels, no less than `window`; the last ends with it."""
    step = max(1, window // 2)
    return [*range(0, have - window, step), have - window]


def gaussian_weights(window: Sequence[int]) -> np.ndarray:
    """(*window) float32, how much each voxel of a window counts."""
    weights = np.ones((), np.float32)
    for size in window:
        places = np.arange(size, dtype=np.float32) - (size - 1) / 2
        weights = weights[..., None] * np.exp(-(places**2) / (2 * (DEVIATION * size) ** 2))
    return np.maximum(weights, LOWEST_WEIGHT).astype(np.float32)


def answer_in_windows(
    network: Callable[[np.ndarray], np.ndarray], volume: np.ndarray, window: Sequence[int]
) -> np.ndarray:
    """What `network`, (1, C, *window) -> (1, K, *window), answers to a volume (C, *grid): (K, *grid) float32.

    The grid is nowhere smaller than the window.
    """
    grid = volume.shape[1:]
    weights = gaussian_weights(window)
    starts = [window_starts(have, size) for have, size in zip(grid, window, strict=True)]
    total, seen = None, np.zeros(grid, np.float32)
    for corner in itertools.product(*starts):
        place = tuple(slice(first, first + size) for first, size in zip(corner, window, strict=True))
        answer = network(np.ascontiguousarray(volume[:, *place])[None])[0]  # (K, *window)
        if total is None:
            total = np.zeros((len(answer), *grid), np.float32)
        total[:, *place] += answer * weights
        seen[place] += weights
    assert total is not None
    return total / seen
