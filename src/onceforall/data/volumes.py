"""From a volume in a file to the input of a network, and back to the file's grid, without PyTorch.

Training, evaluation and prediction share these functions. The way of a volume, each step a pure function:

    file --read_volume--> (C, X, Y, Z), affine
         --prepare_volume--> (C, *grid) float32, normalised, and its `VolumeGeometry`   (labels: prepare_labels)
         --network_volume--> (C, *resolution) float32                                  (labels: network_labels)
    the network's answer (K, *resolution) --to_original--> (K, X, Y, Z) on the grid of the file

Preparation: axes into `orientation`; cut to the box of the voxels that are not 0 (where asked for); per volume and
channel, clip to percentiles and z-score; resample to `spacing`; place into the `box`. Percentiles, mean and standard
deviation (of the clipped values, divided by n) are those of the voxels that are not 0, for 0 is what scanners and
skull stripping leave outside; all voxels, also these, are then clipped and scaled alike. Padding is 0, the mean.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from onceforall.data.label_schemes import OUTSIDE
from onceforall.data.nifti import nibabel, read_labels, read_volume, write_labels
from onceforall.data.preparation import check_whole
from onceforall.data.resampling import apply_matrices, axis_matrix, grid_matrices, resample_labels, single
from onceforall.errors import UserError, check_choice, check_keys

__all__ = [
    "CLIP",
    "VOLUME_FITS",
    "VolumeGeometry",
    "VolumePreparation",
    "check_grid",
    "network_labels",
    "network_volume",
    "pad_to",
    "prepare_labels",
    "prepare_volume",
    "read_labels",
    "read_volume",
    "statistics_of",
    "to_original",
    "volume_geometry",
    "write_labels",
]

VOLUME_FITS = ("pad", "crop", "stretch")
CLIP = (0.5, 99.5)  # percentiles
SAME_SPACING = 1e-3  # relative difference of spacings that count as equal

Grid = tuple[int, int, int]


def check_grid(name: str, got: object) -> Grid:
    """`got` (one size for a cube, or one per axis) as three sizes in voxels. Raises `UserError`."""
    sizes = tuple(got) if isinstance(got, (tuple, list)) else (got,) * 3
    if len(sizes) != 3:
        raise UserError(f"{name} {got!r} has {len(sizes)} sizes; give one, or three for the axes X, Y, Z.")
    x, y, z = (check_whole(name, size, 1, 4096) for size in sizes)
    return x, y, z


@final
@dataclass(frozen=True)
class VolumePreparation:
    """How a volume becomes the input of a network.

    - `box`: size in voxels of the largest grid, to which all volumes are brought; None: volumes keep their own grid
      and are answered window by window.
    - `fit`: how they are brought to the box. "pad": in its centre, a larger volume is refused; "crop": the same, but
      of a larger volume the middle is kept; "stretch": resampled to the box, each axis by itself.
    - `orientation`: the directions to which the axes X, Y, Z point, as in "RAS" (right, anterior, superior).
    - `spacing`: mm per voxel of the axes after reorientation, to which volumes are resampled; None: as they are.
    - `clip`: lower and upper percentile.
    - `foreground_crop`: cut volumes to the smallest box around the voxels that are not 0 in every channel.

    Raises `UserError` for a value out of range.
    """

    channels: int
    box: Grid | None = None
    fit: str = "pad"
    orientation: str = "RAS"
    spacing: tuple[float, float, float] | None = None
    clip: tuple[float, float] = CLIP
    foreground_crop: bool = False

    def __post_init__(self) -> None:
        check_whole("channels", self.channels, 1, 64)
        check_choice("fit", self.fit, VOLUME_FITS)
        if self.box is not None:
            object.__setattr__(self, "box", check_grid("box", self.box))
        elif self.fit != "pad":
            raise UserError(f"fit {self.fit!r} needs a box; volumes that keep their own grid have fit 'pad'.")
        if sorted(min(pair) for pair in ("LR", "PA", "SI") for c in self.orientation if c in pair) != ["A", "I", "L"]:
            raise UserError(f"orientation {self.orientation!r}: give a letter of L/R, P/A and I/S each, as in 'RAS'.")
        if self.spacing is not None:
            spacing = tuple(float(value) for value in self.spacing)
            if len(spacing) != 3 or not all(math.isfinite(value) and value > 0.0 for value in spacing):
                raise UserError(f"spacing {self.spacing!r}: give three numbers above 0, in mm per voxel.")
            object.__setattr__(self, "spacing", spacing)
        clip = tuple(float(value) for value in self.clip)
        if len(clip) != 2 or not 0.0 <= clip[0] < clip[1] <= 100.0:
            raise UserError(f"clip {self.clip!r}: give a lower and an upper percentile, 0 <= lower < upper <= 100.")
        object.__setattr__(self, "clip", clip)

    def to_dict(self) -> dict[str, Any]:
        """The value as JSON types; `from_dict` turns it back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "VolumePreparation":
        """The value of `to_dict`; raises `UserError` for an unknown or missing key."""
        names = [field.name for field in dataclasses.fields(cls)]
        check_keys("volume preparation", values, ("channels",), tuple(names[1:]))
        arguments: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**arguments)


@final
@dataclass(frozen=True)
class VolumeGeometry:
    """Where a prepared volume lies in its file: all that is needed to bring labels there, and answers back.

    `shape` (X, Y, Z) and `affine` (rows of the 4 x 4 matrix) are the file's. Then along the axes of `orientation`:
    `cut`, first voxel and the one behind the last; `step`, voxels of the file per prepared voxel; `size` in prepared
    voxels; and `box` and `fit` of the preparation.
    """

    shape: Grid
    affine: tuple[tuple[float, ...], ...]
    orientation: str
    cut: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    step: tuple[float, float, float]
    size: Grid
    box: Grid | None
    fit: str

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres per voxel of the file's axes."""
        x, y, z = spacing_of(np.asarray(self.affine)).tolist()
        return x, y, z

    @property
    def oriented_spacing(self) -> tuple[float, float, float]:
        """Millimetres per voxel of the file, along the axes of `orientation`."""
        axes, _ = _turn(np.asarray(self.affine), self.orientation)
        x, y, z = (self.spacing[axis] for axis in axes)
        return x, y, z

    def to_dict(self) -> dict[str, Any]:
        """The value as JSON types; `from_dict` turns it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "VolumeGeometry":
        """The value of `to_dict`; raises `UserError` for an unknown or missing key."""
        check_keys("volume geometry", values, tuple(field.name for field in dataclasses.fields(cls)))
        return cls(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """(3,) millimetres per voxel along the axes of a (4, 4) affine."""
    return np.sqrt(np.square(affine[:3, :3]).sum(axis=0))


# Axes ------------------------------------------------------------------------------------------------------------


def _turn(affine: np.ndarray, orientation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(axis of the file that becomes axis k, axes k that are mirrored) to bring a file into an orientation."""
    orientations = nibabel().orientations
    turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt(orientation))
    axes = np.argsort(turn[:, 0])
    return tuple(int(a) for a in axes), tuple(k for k in range(3) if turn[axes[k], 1] < 0)


def _turned(volume: np.ndarray, affine: np.ndarray, orientation: str) -> np.ndarray:
    """(..., X, Y, Z) of the file -> (..., x, y, z) along the axes of the orientation."""
    axes, mirrored = _turn(affine, orientation)
    first = volume.ndim - 3
    volume = volume.transpose(*range(first), *(first + axis for axis in axes))
    return np.flip(volume, tuple(first + axis for axis in mirrored))


def _turned_back(volume: np.ndarray, affine: np.ndarray, orientation: str) -> np.ndarray:
    axes, mirrored = _turn(affine, orientation)
    first = volume.ndim - 3
    volume = np.flip(volume, tuple(first + axis for axis in mirrored))
    return volume.transpose(*range(first), *(first + int(axis) for axis in np.argsort(axes)))


# To the network --------------------------------------------------------------------------------------------------


def prepare_volume(
    volume: np.ndarray, affine: np.ndarray, preparation: VolumePreparation
) -> tuple[np.ndarray, VolumeGeometry]:
    """(C, X, Y, Z) of a file -> (C, *box) float32, or (C, *its own grid) where the box is None, and the geometry.

    Raises `UserError` for another number of channels, a channel with one value only or values that are not finite,
    and a volume larger than the box where `fit` is "pad".
    """
    if volume.ndim != 4 or len(volume) != preparation.channels:
        raise UserError(f"a volume of shape {volume.shape} does not have {preparation.channels} channel(s) first.")
    geometry = volume_geometry(volume, affine, preparation)
    x, y, z = (slice(*ends) for ends in geometry.cut)
    turned = _turned(volume, affine, preparation.orientation)[:, x, y, z]
    output = np.stack([_normalised(channel, i, preparation.clip) for i, channel in enumerate(turned)])
    return _placed(apply_matrices(output, _spacing_matrices(geometry)), geometry, 0.0), geometry


def volume_geometry(volume: np.ndarray, affine: np.ndarray, preparation: VolumePreparation) -> VolumeGeometry:
    """Where (C, X, Y, Z) of a file will lie. Raises `UserError` where `fit` is "pad" and the box is too small."""
    turned = _turned(volume, affine, preparation.orientation)
    cut = _foreground(turned) if preparation.foreground_crop else tuple((0, size) for size in turned.shape[1:])
    return _geometry(volume.shape[1:], affine, cut, preparation)


def prepare_labels(labels: np.ndarray, geometry: VolumeGeometry) -> np.ndarray:
    """(X, Y, Z) label values of a file -> (*box) uint8 as `prepare_volume` did it; `OUTSIDE` in the padding."""
    turned = _turned(labels, np.asarray(geometry.affine), geometry.orientation)
    x, y, z = (slice(*ends) for ends in geometry.cut)
    output = resample_labels(np.ascontiguousarray(turned[x, y, z]), _spacing_matrices(geometry))
    if geometry.box is not None and geometry.fit == "stretch":
        return resample_labels(output, grid_matrices(geometry.size, geometry.box))
    return _placed(output, geometry, OUTSIDE)


def network_volume(prepared: np.ndarray, resolution: int | Sequence[int]) -> np.ndarray:
    """(C, *box) -> (C, *resolution) float32: the same physical box on another grid, interpolated linearly."""
    x, y, z = prepared.shape[-3:]
    return apply_matrices(prepared.astype(np.float32), grid_matrices((x, y, z), check_grid("resolution", resolution)))


def network_labels(labels: np.ndarray, resolution: int | Sequence[int]) -> np.ndarray:
    """(*box) label values -> (*resolution), each voxel the value whose interpolated map is largest there."""
    x, y, z = labels.shape[-3:]
    return resample_labels(labels, grid_matrices((x, y, z), check_grid("resolution", resolution)))


def pad_to(volume: np.ndarray, grid: Grid, fill: float) -> np.ndarray:
    """(..., X, Y, Z) in the middle of (..., *max(own size, grid)), `fill` around it."""
    missing = [max(0, want - have) for have, want in zip(volume.shape[-3:], grid, strict=True)]
    if not any(missing):
        return volume
    widths = [(0, 0)] * (volume.ndim - 3) + [(gap // 2, gap - gap // 2) for gap in missing]
    return np.pad(volume, widths, constant_values=fill)


def _foreground(volume: np.ndarray) -> tuple[tuple[int, int], ...]:
    occupied = (volume != 0).any(axis=0)  # (x, y, z)
    ends = []
    for axis in range(3):
        where = np.flatnonzero(occupied.any(axis=tuple(other for other in range(3) if other != axis)))
        ends.append((int(where[0]), int(where[-1]) + 1) if len(where) else (0, occupied.shape[axis]))
    return tuple(ends)


def _normalised(channel: np.ndarray, index: int, clip: tuple[float, float]) -> np.ndarray:
    """(x, y, z), clipped to percentiles and z-scored."""
    if not np.isfinite(channel).all():
        raise UserError(f"channel {index} has voxels that are not finite (NaN); replace them, for example by 0.")
    low, high, mean, std = statistics_of(channel, clip)
    if std == 0:
        raise UserError(f"channel {index} has one value only ({low:g}); remove this volume or export it again.")
    return ((np.clip(channel, low, high) - mean) / std).astype(np.float32)


def statistics_of(channel: np.ndarray, clip: tuple[float, float]) -> tuple[float, float, float, float]:
    """The percentiles `clip` of the voxels that are not 0, and mean and deviation of these, clipped.

    The deviation is 0 where they have one value only, up to rounding, or there are none.
    """
    values = channel[channel != 0]
    if not len(values):
        return 0.0, 0.0, 0.0, 0.0
    low, high = map(float, np.percentile(values, clip))
    clipped = np.clip(values, low, high).astype(np.float64)
    std = float(clipped.std())
    return low, high, float(clipped.mean()), std if std > 1e-6 * max(abs(low), abs(high)) else 0.0


def _geometry(
    shape: Sequence[int], affine: np.ndarray, cut: tuple[tuple[int, int], ...], preparation: VolumePreparation
) -> VolumeGeometry:
    axes, _ = _turn(affine, preparation.orientation)
    own = spacing_of(affine)[list(axes)]
    step = np.ones(3) if preparation.spacing is None else np.asarray(preparation.spacing) / own
    step[np.abs(step - 1.0) < SAME_SPACING] = 1.0
    size = [max(1, round((stop - start) / float(s))) for (start, stop), s in zip(cut, step, strict=True)]
    box = preparation.box
    if box is not None and preparation.fit == "pad" and any(have > room for have, room in zip(size, box, strict=True)):
        needed = tuple(max(have, room) for have, room in zip(size, box, strict=True))
        raise UserError(
            f"{tuple(size)} voxels do not fit into the box {box}; raise max_resolution (in a recipe "
            f"network.resolutions) to {needed} or more, or give fit 'crop' or 'stretch', a larger spacing, or mode "
            "'patches'."
        )
    return VolumeGeometry(
        shape=check_grid("shape", tuple(shape)),
        affine=tuple(tuple(float(value) for value in row) for row in affine),
        orientation=preparation.orientation,
        cut=(cut[0], cut[1], cut[2]),
        step=(float(step[0]), float(step[1]), float(step[2])),
        size=check_grid("size", size),
        box=box,
        fit=preparation.fit,
    )


def _spacing_matrices(geometry: VolumeGeometry) -> list[np.ndarray | None]:
    return [
        None if step == 1.0 else single(axis_matrix(stop - start, size, step))
        for (start, stop), size, step in zip(geometry.cut, geometry.size, geometry.step, strict=True)
    ]


def _placed(volume: np.ndarray, geometry: VolumeGeometry, fill: float) -> np.ndarray:
    """(..., *size) -> (..., *box), or unchanged where there is no box."""
    if geometry.box is None:
        return np.ascontiguousarray(volume)
    if geometry.fit == "stretch":
        return apply_matrices(volume, grid_matrices(geometry.size, geometry.box))
    for axis, (have, room) in enumerate(zip(geometry.size, geometry.box, strict=True), start=-3):
        if have > room:
            volume = np.take(volume, np.arange(room) + (have - room) // 2, axis=axis)
    return np.ascontiguousarray(pad_to(volume, geometry.box, fill))


# Back ------------------------------------------------------------------------------------------------------------


def to_original(answer: np.ndarray, geometry: VolumeGeometry) -> np.ndarray:
    """A network's answer on the grid of its input -> the same on the grid, shape and orientation of the file.

    Floating-point maps (K, *grid), such as probabilities, are interpolated linearly to (K, X, Y, Z) float32; label
    values (*grid), of an integer type, by the maps of their values to (X, Y, Z). Voxels of the file that the input did
    not show are 0 in every map, and 0 as labels. The grid is any resolution of the box; without a box it is the
    volume's own grid, possibly padded around its middle. Raises `UserError` for another shape.
    """
    labels = answer.dtype.kind in "biu"
    if answer.ndim != (3 if labels else 4):
        wanted = "label values (x, y, z)" if labels else "maps (K, x, y, z)"
        raise UserError(f"an answer of shape {answer.shape} and type {answer.dtype} is not {wanted}.")
    grid = answer.shape[-3:]
    if geometry.box is None and any(have < size for have, size in zip(grid, geometry.size, strict=True)):
        raise UserError(f"an answer on the grid {grid} does not cover the volume's own grid {geometry.size}.")
    matrices = [single(_back(geometry, axis, grid[axis])) for axis in range(3)]
    if labels:
        back = resample_labels(np.where(answer == OUTSIDE, 0, answer), matrices).astype(answer.dtype)
    else:
        back = apply_matrices(answer.astype(np.float32), matrices)
    return np.ascontiguousarray(_turned_back(back, np.asarray(geometry.affine), geometry.orientation))


def _back(geometry: VolumeGeometry, axis: int, have: int) -> np.ndarray:
    """(voxels of the file, have): an axis of the network's grid back to the whole axis of the file, reoriented."""
    start, stop = geometry.cut[axis]
    size, room = geometry.size[axis], have if geometry.box is None else geometry.box[axis]
    to_box = axis_matrix(have, room, have / room)  # (room, have)
    if geometry.fit == "stretch":
        to_size = axis_matrix(room, size, room / size)  # (size, room)
    else:
        to_size = np.zeros((size, room))
        shift = (room - size) // 2 if room >= size else -((size - room) // 2)
        inside = np.arange(max(0, -shift), min(size, room - shift))
        to_size[inside, inside + shift] = 1.0
    to_file = axis_matrix(size, stop - start, 1.0 / geometry.step[axis])  # (stop - start, size)
    axes, _ = _turn(np.asarray(geometry.affine), geometry.orientation)
    whole = np.zeros((geometry.shape[axes[axis]], have))
    whole[start:stop] = to_file @ to_size @ to_box
    return whole
