"""One subject read whole, with every problem of its files found at once: what loading refuses and checking lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from onceforall.data.label_schemes import LabelScheme
from onceforall.data.nifti import UnreadableVolume, read_labels, read_volume
from onceforall.data.volumes import VolumeGeometry, VolumePreparation, spacing_of, statistics_of, volume_geometry
from onceforall.errors import UserError

__all__ = ["VolumeCase", "difference", "read_case"]

ELSEWHERE = 0.1  # part of a voxel by which corners may differ before two files count as lying elsewhere


@final
@dataclass(frozen=True)
class VolumeCase:
    """`volume` (C, X, Y, Z) float32, `affine` (4, 4) and `labels` (X, Y, Z) uint8, None where they cannot be read.

    `geometry` says where the prepared volume lies. `problems` are lines "file: what is wrong; what to do". Where there
    are none, nothing is None.
    """

    volume: np.ndarray | None
    affine: np.ndarray | None
    labels: np.ndarray | None
    geometry: VolumeGeometry | None
    problems: tuple[str, ...]


def read_case(
    root: Path,
    images: Sequence[str],
    label: str,
    channels: int | None,
    scheme: LabelScheme | None,
    stride: int,
    preparation: VolumePreparation,
) -> VolumeCase:
    """Read the image files and the label of a subject below `root` and look for all that keeps it from being used.

    `channels` are those expected in all (None: any); `scheme` None: any label values; `stride`: the total stride of
    the network, below which no side may be. Of the `preparation` all counts but its channels: between its percentiles
    a volume must not be constant, and its box must hold it.
    """
    problems: list[str] = []
    parts: list[tuple[str, np.ndarray, np.ndarray]] = []
    for file in images:
        try:
            parts.append((file, *read_volume(root / file, file)))
        except UnreadableVolume as error:
            problems.append(_line(file, error.reason))
    expected = 1 if len(images) > 1 else channels
    for file, volume, _ in parts:
        problems += [_line(file, text) for text in _volume_problems(volume, expected, stride, preparation.clip)]
    for file, volume, affine in parts[1:]:
        problems += [_line(file, text) for text in difference(parts[0], volume.shape[1:], affine)]
    labels = None
    try:
        labels, affine = read_labels(root / label, label)
    except UnreadableVolume as error:
        problems.append(_line(label, error.reason))
    else:
        if parts:
            problems += [_line(label, text) for text in difference(parts[0], labels.shape, affine)]
        strange = [] if scheme is None else [int(v) for v in np.unique(labels) if v not in scheme.values]
        if strange and scheme is not None:
            allowed = ", ".join(map(str, scheme.values))
            text = f"has label values {', '.join(map(str, strange))}, allowed are {allowed} (scheme {scheme.name})"
            problems.append(_line(label, f"{text}; correct it or name the values in dataset.json"))
    same = len({volume.shape[1:] for _, volume, _ in parts}) == 1
    whole = np.concatenate([volume for _, volume, _ in parts]) if same and len(parts) == len(images) else None
    geometry = None
    if whole is not None:
        try:
            geometry = volume_geometry(whole, parts[0][2], preparation)
        except UserError as error:
            problems.append(_line(images[0], str(error).removesuffix(".")))
    return VolumeCase(whole, parts[0][2] if parts else None, labels, geometry, tuple(problems))


def _line(file: str, text: str) -> str:
    return f"{file}: {text}"


def _volume_problems(volume: np.ndarray, channels: int | None, stride: int, clip: tuple[float, float]) -> list[str]:
    found = []
    have, shape = len(volume), volume.shape[1:]
    if channels is not None and have != channels:
        if channels == 1:
            found.append(f"has {have} channels (4-D) where a 3-D volume is expected; split it into a file a modality")
        elif have == 1:
            found.append(f"is 3-D where {channels} modalities are expected; give a 4-D file or one file a modality")
        else:
            found.append(f"has {have} channels instead of {channels}; add the missing modality or correct dataset.json")
    if min(shape) < stride:
        found.append(
            f"has a side of {min(shape)} voxels, less than the total stride {stride} of the network; remove it, "
            "or use one with fewer poolings (in a recipe network.poolings)"
        )
    if not np.isfinite(volume).all():
        bad = int(np.count_nonzero(~np.isfinite(volume)))
        found.append(f"has {bad} voxels that are not finite (NaN); replace them, for example by 0")
    else:
        deviations = [statistics_of(channel, clip)[-1] for channel in volume]
        for i in (i for i, deviation in enumerate(deviations) if deviation == 0):
            where = f"in channel {i} " if have > 1 else ""
            found.append(
                f"is constant: {where}all voxels but zeros and outliers have one value; remove this subject or export "
                "it again"
            )
    return found


def difference(first: tuple[str, np.ndarray, np.ndarray], shape: tuple[int, ...], affine: np.ndarray) -> list[str]:
    """How a file of `shape` and `affine` lies elsewhere than the first one (name, volume, affine) of its subject."""
    file, volume, reference = first
    if shape != volume.shape[1:]:
        mine, its = (" x ".join(map(str, size)) for size in (shape, volume.shape[1:]))
        return [f"has the shape {mine}, but {file} {its}; resample one to the grid of the other"]
    corners = np.array([[x, y, z, 1.0] for x in (0, shape[0]) for y in (0, shape[1]) for z in (0, shape[2])])
    distance = float(np.abs(corners @ (affine - reference).T).max())
    if distance > ELSEWHERE * spacing_of(reference).min():
        text = f"lies elsewhere than {file}: their affines differ by {distance:.3g} mm at a corner"
        return [f"{text}; copy the affine or resample one to the other"]
    return []
