"""Training batches of volumes: patches drawn, brought to a resolution and augmented, on the batch's device."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from onceforall.data.label_schemes import OUTSIDE
from onceforall.data.resampling import Matrices
from onceforall.data.volume_augmentation import VolumeAugmentation
from onceforall.data.volume_cache import CachedVolumes

__all__ = ["augment_volumes", "draw_patches", "resample_batch"]

Grid = tuple[int, int, int]

# random numbers a volume takes, whatever is switched on: 3 flips, plane, turns, 3 angles, scale, 3 shifts, noise
DRAWS = 13
DRAWS_PER_CHANNEL = 3  # gamma, scale, shift
PLANES = ((0, 1), (0, 2), (1, 2))  # of quarter turns


# Patches ---------------------------------------------------------------------------------------------------------


def draw_patches(
    stored: CachedVolumes, rows: Sequence[int] | np.ndarray, size: Grid, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A patch of each volume in `rows`: (n, C, *size) float16 and (n, *size) uint8 label values.

    The first half of a batch (rounded up) is centred on the foreground, as nearly as the volume's border allows: on a
    voxel of one of the label values that the volume has, each value equally probable. A batch of one is so in half of
    the cases. The others lie anywhere. Volumes smaller than the patch are padded around their middle.
    """
    draws = torch.rand((len(rows), 6), generator=generator, dtype=torch.float64).numpy()
    images = np.zeros((len(rows), stored.channels, *size), np.float16)
    labels = np.full((len(rows), *size), OUTSIDE, np.uint8)
    certain = math.ceil(len(rows) / 2) if len(rows) > 1 else int(draws[0, 0] < 0.5)
    for k, row in enumerate(rows):
        grid = stored.grids[row]
        starts = [math.floor(u * (have - want + 1)) for u, have, want in zip(draws[k, 1:4], grid, size, strict=True)]
        present = [positions[positions >= 0] for positions in stored.foreground[row] if positions[0] >= 0]
        if k < certain and present:
            positions = present[int(draws[k, 4] * len(present))]
            centre = np.unravel_index(positions[int(draws[k, 5] * len(positions))], grid)
            starts = [int(c) - want // 2 for c, want in zip(centre, size, strict=True)]
        source, target = [], []
        for start, have, want in zip(starts, grid, size, strict=True):
            first = min(max(start, 0), max(have - want, 0))
            shift = max(want - have, 0) // 2
            source.append(slice(first, first + min(have, want)))
            target.append(slice(shift, shift + min(have, want)))
        images[k, :, *target] = stored.image(row)[:, *source]
        labels[k, *target] = stored.label(row)[*source]
    return images, labels


# Another resolution ----------------------------------------------------------------------------------------------


def resample_batch(images: torch.Tensor, labels: torch.Tensor, matrices: Matrices) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, C, X, Y, Z) float32 and (n, X, Y, Z) label values -> the same on the grid of the matrices.

    As `network_volume` and `network_labels` do it, on the device.
    """
    on_device = [None if matrix is None else torch.tensor(matrix, device=images.device) for matrix in matrices]
    if all(matrix is None for matrix in on_device):
        return images, labels
    best = largest = None
    present = torch.bincount(labels.flatten(), minlength=256).nonzero()[:, 0]
    for value in present.tolist():
        weight = _apply((labels == value).to(torch.float32), on_device)
        if best is None or largest is None:
            best, largest = torch.full_like(weight, value, dtype=labels.dtype), weight
            continue
        best = torch.where(weight > largest + 1e-6, torch.full_like(best, value), best)
        largest = torch.maximum(largest, weight)
    return _apply(images, on_device), labels if best is None else best


def _apply(volumes: torch.Tensor, matrices: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """(..., X, Y, Z) -> (..., x, y, z)."""
    along_x, along_y, along_z = matrices
    if along_z is not None:
        volumes = volumes @ along_z.T  # (..., X, Y, z)
    if along_y is not None:
        volumes = along_y @ volumes  # (..., X, y, z)
    if along_x is not None:
        flat = along_x @ volumes.flatten(-2)  # (..., x, y * z)
        volumes = flat.unflatten(-1, volumes.shape[-2:])
    return volumes


# Augmentation ----------------------------------------------------------------------------------------------------


def augment_volumes(
    images: torch.Tensor,
    labels: torch.Tensor,
    augmentation: VolumeAugmentation,
    generator: torch.Generator,
    extent: tuple[float, float, float],
    matrices: Matrices | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, C, X, Y, Z) float32 and (n, X, Y, Z) label values, both moved alike, then intensities of the image changed.

    With `matrices` the volumes come in their box, and are mirrored and turned there before they are brought to the grid
    of the matrices: so the same draw shows the same view at any resolution. Without (patches) the plane of a turn is
    drawn from all three, and a patch whose sides differ in that plane is not turned.

    Images are interpolated linearly, labels take the nearest voxel; what comes from beyond the volume is 0 and
    `OUTSIDE`. `extent` is the physical size of the volume along its axes, so that rotations do not shear. All random
    numbers come from `generator`, on the CPU; volume i takes the i-th row, on every device.
    """
    count, channels = images.shape[:2]
    draws = torch.rand((count, DRAWS + channels * DRAWS_PER_CHANNEL), generator=generator, dtype=torch.float64)
    per_channel = draws[:, DRAWS:].unflatten(1, (channels, DRAWS_PER_CHANNEL))
    images, labels = _flipped_and_turned(images, labels, augmentation, draws, in_box=matrices is not None)
    if matrices is not None:
        images, labels = resample_batch(images, labels, matrices)
    if augmentation.moves:
        images, labels = _moved(images, labels, affine_matrices(draws, augmentation, extent))
    if augmentation.changes_intensity:
        changed = _with_intensity(images, per_channel, augmentation)
        if augmentation.noise:
            noise = torch.randn(images.shape, generator=generator).to(images.device)
            strength = (draws[:, 12] * augmentation.noise).float().to(images.device)  # (n,)
            changed = changed + noise * strength[:, None, None, None, None]
        images = torch.where((labels == OUTSIDE)[:, None], images, changed)
    return images, labels


def _flipped_and_turned(
    images: torch.Tensor,
    labels: torch.Tensor,
    augmentation: VolumeAugmentation,
    draws: torch.Tensor,
    in_box: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    grid = tuple(images.shape[2:])
    square = [plane for plane in PLANES if grid[plane[0]] == grid[plane[1]]] if augmentation.rotate90 else []
    if not square and not any(augmentation.flip):
        return images, labels
    planes = square if in_box else PLANES
    image_parts, label_parts = [], []
    for image, label, row in zip(images, labels, draws.tolist(), strict=True):
        axes = [axis - 3 for axis in range(3) if row[axis] < augmentation.flip[axis]]
        image, label = (torch.flip(volume, axes) for volume in (image, label))
        if square and (plane := planes[int(row[3] * len(planes))]) in square:
            turns, axes = int(row[4] * 4), [axis - 3 for axis in plane]
            image, label = (torch.rot90(volume, turns, axes) for volume in (image, label))
        image_parts.append(image)
        label_parts.append(label)
    return torch.stack(image_parts), torch.stack(label_parts)


def affine_matrices(
    draws: torch.Tensor, augmentation: VolumeAugmentation, extent: tuple[float, float, float]
) -> torch.Tensor:
    """(n, 13 or more) numbers of 0 to 1 -> (n, 3, 4): output to input coordinates, -1 to 1 along X, Y, Z."""
    signed = 2.0 * draws - 1.0
    angles = signed[:, 5:8] * math.radians(augmentation.rotation)  # (n, 3)
    matrix = torch.eye(3, dtype=draws.dtype).expand(len(draws), 3, 3)
    for axis, (first, second) in enumerate(((1, 2), (0, 2), (0, 1))):
        turn = torch.eye(3, dtype=draws.dtype).repeat(len(draws), 1, 1)
        cos, sin = torch.cos(angles[:, axis]), torch.sin(angles[:, axis])
        turn[:, first, first], turn[:, second, second] = cos, cos
        turn[:, first, second], turn[:, second, first] = -sin, sin
        matrix = matrix @ turn
    matrix = matrix / (1.0 + signed[:, 8] * augmentation.scale)[:, None, None]
    half = torch.tensor(extent, dtype=draws.dtype) / 2.0
    matrix = matrix * half[None, None, :] / half[None, :, None]
    shift = 2.0 * signed[:, 9:12] * augmentation.shift  # (n, 3)
    return torch.cat([matrix, shift[:, :, None]], dim=2)


def _moved(images: torch.Tensor, labels: torch.Tensor, matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    grid = _sampling_grid(matrices.to(images.device, images.dtype), tuple(images.shape[2:]))
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    # one more than the value, so that 0 is left for what comes from beyond the volume
    raised = labels[:, None].to(images.dtype) + 1.0
    nearest = F.grid_sample(raised, grid, mode="nearest", padding_mode="zeros", align_corners=False)[:, 0]
    nearest = torch.where(nearest == 0.0, torch.full_like(nearest, OUTSIDE + 1.0), nearest) - 1.0
    return moved, nearest.to(labels.dtype)


def _sampling_grid(matrices: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """(n, 3, 4) -> (n, X, Y, Z, 3): where each output voxel's centre lies in the input, -1 to 1, as (z, y, x)."""
    matrices = matrices.flip(1)[:, None, None, None]  # rows in the order in which grid_sample counts axes
    axes = [(2.0 * torch.arange(side, device=matrices.device) + 1.0) / side - 1.0 for side in size]
    along_x = matrices[..., 0] * axes[0][:, None, None, None]  # (n, X, 1, 1, 3)
    along_y = matrices[..., 1] * axes[1][:, None, None]  # (n, 1, Y, 1, 3)
    along_z = matrices[..., 2] * axes[2][:, None] + matrices[..., 3]  # (n, 1, 1, Z, 3)
    return along_x + (along_y + along_z)


def _with_intensity(images: torch.Tensor, draws: torch.Tensor, augmentation: VolumeAugmentation) -> torch.Tensor:
    """(n, C, X, Y, Z) by (n, C, 3) numbers of 0 to 1: gamma, then scale and shift."""
    signed = (2.0 * draws - 1.0).float().to(images.device)[:, :, None, None, None]  # (n, C, 1, 1, 1, 3)
    if augmentation.gamma:
        low, high = images.amin((2, 3, 4), keepdim=True), images.amax((2, 3, 4), keepdim=True)
        width = (high - low).clamp_min(1e-6)
        power = torch.exp(signed[..., 0] * augmentation.gamma)
        images = ((images - low) / width).clamp(0.0, 1.0) ** power * width + low
    factor = 1.0 + signed[..., 1] * augmentation.intensity_scale
    return images * factor + signed[..., 2] * augmentation.intensity_shift
