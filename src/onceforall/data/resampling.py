"""Volumes from one grid to another, axis by axis, by matrices of linear interpolation; without PyTorch.

A matrix (want, have) of an axis holds in row i the weights of the input voxels in output voxel i; None stands for the
identity. Where voxels grow, the weights are a triangle as wide as the output voxel, so nothing is skipped (antialias).
Labels are never interpolated as numbers: each value becomes a map of zeros and ones, the maps are interpolated, and a
voxel takes the value whose map is largest there (of equal ones the lowest).
"""

import functools
from collections.abc import Sequence

import numpy as np

__all__ = ["apply_matrices", "axis_matrix", "grid_matrices", "resample_labels"]

Matrices = tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]


@functools.lru_cache(maxsize=512)
def axis_matrix(have: int, want: int, step: float) -> np.ndarray:
    """(want, have) float64: `want` voxels of `step` input voxels each, centred on the `have` input voxels.

    Beyond the outermost centres the outermost voxel is repeated. Rows sum to 1.
    """
    centres = have / 2 + (np.arange(want) + 0.5 - want / 2) * step  # (want,) in input voxels
    centres = np.clip(centres, 0.5, have - 0.5)
    voxels = np.arange(have) + 0.5  # (have,)
    weights = np.maximum(0.0, 1.0 - np.abs(voxels[None, :] - centres[:, None]) / max(step, 1.0))
    matrix = weights / weights.sum(axis=1, keepdims=True)
    matrix.setflags(write=False)
    return matrix


@functools.lru_cache(maxsize=512)
def grid_matrices(have: tuple[int, int, int], want: tuple[int, int, int]) -> Matrices:
    """The float32 matrices that bring a grid of `have` voxels to one of `want` voxels over the same physical box."""
    x, y, z = (single(axis_matrix(h, w, h / w)) if h != w else None for h, w in zip(have, want, strict=True))
    return x, y, z


def single(matrix: np.ndarray) -> np.ndarray:
    """The matrix as contiguous float32 that nobody can write to."""
    matrix = np.ascontiguousarray(matrix, np.float32)
    matrix.setflags(write=False)
    return matrix


def apply_matrices(volume: np.ndarray, matrices: Sequence[np.ndarray | None]) -> np.ndarray:
    """(..., X, Y, Z) float32 -> (..., x, y, z) float32."""
    along_x, along_y, along_z = matrices
    if along_z is not None:
        volume = np.matmul(volume, along_z.T)  # (..., X, Y, z)
    if along_y is not None:
        volume = np.matmul(along_y, volume)  # (..., X, y, z)
    if along_x is not None:
        flat = volume.reshape(*volume.shape[:-2], -1)  # (..., X, y * z)
        volume = np.matmul(along_x, flat).reshape(*volume.shape[:-3], len(along_x), *volume.shape[-2:])
    return volume


def resample_labels(labels: np.ndarray, matrices: Sequence[np.ndarray | None]) -> np.ndarray:
    """(..., X, Y, Z) label values -> (..., x, y, z) of the same type; 0 where no map reaches."""
    if all(matrix is None for matrix in matrices):
        return labels
    best = largest = None
    for value in np.unique(labels):
        weight = apply_matrices((labels == value).astype(np.float32), matrices)
        if best is None or largest is None:
            best, largest = np.where(weight > 0.0, value, 0).astype(labels.dtype), weight
            continue
        # sums of weights that are equal on paper differ in the last place: only what is clearly larger wins
        better = weight > largest + 1e-6
        best[better] = value
        np.maximum(largest, weight, out=largest)
    if best is None:
        raise ValueError(f"labels of shape {labels.shape} hold no voxel")
    return best
