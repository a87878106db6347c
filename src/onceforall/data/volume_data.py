"""A data set of labelled volumes, split by subject, prepared and ready to be trained on."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from onceforall.data.dataset import DataSet, Size
from onceforall.data.label_schemes import OUTSIDE, LabelScheme
from onceforall.data.nifti import read_labels
from onceforall.data.preparation import check_whole
from onceforall.data.resampling import grid_matrices
from onceforall.data.splits import SPLITS, write_split_file
from onceforall.data.volume_augmentation import NO_VOLUME_AUGMENTATION, VolumeAugmentation
from onceforall.data.volume_cache import CachedVolumes
from onceforall.data.volumes import VolumeGeometry, VolumePreparation, check_grid, network_volume, pad_to
from onceforall.errors import UserError, check_choice

if TYPE_CHECKING:
    import torch

__all__ = ["VolumeData"]


@final
class VolumeData(DataSet):
    """Volumes with label volumes in three splits: "train", "validation", "test".

    Made by `load_volumes`. Label volumes hold the stored values that `scheme` names, and `OUTSIDE` (255) in padding.
    In mode "whole" every volume lies in the box of `preparation`, and a resolution is a grid over that box. In mode
    "patches" volumes keep their own grid, training sees patches of the resolution's size, and evaluation gets whole
    volumes, one at a time. Within a split, volumes keep the order of the listing. Nothing in it changes.
    """

    inputs = "volumes"

    def __init__(
        self,
        *,
        name: str,
        root: Path,
        scheme: LabelScheme,
        stored: CachedVolumes,
        files: Sequence[str],
        label_files: Sequence[str],
        groups: Sequence[str],
        splits: Sequence[str],
        digests: Sequence[str],
        preparation: VolumePreparation,
        augmentation: VolumeAugmentation,
        facts: Mapping[str, Any] | None = None,
        note: str = "",
    ) -> None:
        self.name = name
        self.note = note
        self.scheme = scheme
        self.classes = scheme.outputs
        self._preparation = preparation
        self.augmentation = augmentation
        self._root = root
        self._stored = stored
        self._files = tuple(files)
        self._label_files = tuple(label_files)
        self._groups = tuple(groups)
        self._splits = tuple(splits)
        self._digests = tuple(digests)
        self._facts = dict(facts or {})
        marks = np.asarray(splits)
        self._members = {split: np.flatnonzero(marks == split) for split in SPLITS}
        self.fingerprint = self._fingerprint()

    @property
    def channels(self) -> int:
        """Number of channels (modalities) of a volume."""
        return self.preparation.channels

    @property
    def preparation(self) -> VolumePreparation:
        """How volumes become the input of a network."""
        return self._preparation

    @property
    def mode(self) -> str:
        """Whether volumes are seen "whole", in one box, or in "patches"."""
        return "patches" if self.preparation.box is None else "whole"

    def count(self, split: str) -> int:
        """Number of volumes in a split."""
        return len(self._indices(split))

    def files(self, split: str) -> list[str]:
        """The image file (of several modalities the first) of each volume, relative to the data folder."""
        return [self._files[i] for i in self._indices(split)]

    def groups(self, split: str) -> list[str]:
        """The subject of each volume; volumes of one subject are in one split."""
        return [self._groups[i] for i in self._indices(split)]

    def train_batch(
        self,
        indices: np.ndarray,
        resolution: Size,
        generator: "torch.Generator",
        device: "torch.device | str" = "cpu",
        dtype: "torch.dtype | None" = None,
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Augmented training volumes (n, C, *resolution) and their label values (n, *resolution) int64 on the device.

        `indices` count within the train split. Mode "whole" gives whole volumes on the grid of the resolution, mode
        "patches" a patch of that size from each. All randomness comes from `generator`, a CPU generator.
        """
        import torch

        from onceforall.data.volume_batches import augment_volumes, draw_patches, resample_batch

        grid = self._grid(resolution)
        rows = self._indices("train")[np.asarray(indices, np.int64)]
        box = self.preparation.box
        if box is None:
            stored_images, stored_labels = draw_patches(self._stored, rows, grid, generator)
        else:
            stored_images = np.stack([self._stored.image(row) for row in rows])
            stored_labels = np.stack([self._stored.label(row) for row in rows])
        images = torch.from_numpy(stored_images).to(device).float()  # (n, C, X, Y, Z)
        labels = torch.from_numpy(stored_labels).to(device)
        matrices = None if box is None else grid_matrices(box, grid)
        if self.augmentation != NO_VOLUME_AUGMENTATION:
            extent = self._extent(grid)
            images, labels = augment_volumes(images, labels, self.augmentation, generator, extent, matrices)
        elif matrices is not None:
            images, labels = resample_batch(images, labels, matrices)
        return images.to(dtype or torch.float32), labels.long()

    def batches(
        self,
        split: str,
        resolution: Size,
        batch_size: int,
        indices: np.ndarray | None = None,
        device: "torch.device | str" = "cpu",
        dtype: "torch.dtype | None" = None,
    ) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
        """Prepared volumes (n, C, *resolution) and label values (n, *box) int64 of a split, without augmentation.

        Labels stay on the grid of the box, whatever the resolution. In mode "patches" each batch is one whole volume
        on its own grid, padded where it is smaller than the resolution. `indices` (into the split) choose and order
        the volumes. The preparation is that of prediction. Raises `UserError` for an unknown or empty split.
        """
        import torch

        grid = self._grid(resolution)
        check_whole("batch_size", batch_size, 1, 1 << 31)
        chosen = np.arange(self.count(split)) if indices is None else np.asarray(indices, np.int64)
        if len(chosen) == 0:
            raise UserError(f"data set {self.name!r} has no {split} volumes; choose another split or add volumes.")
        rows = self._indices(split)[chosen]
        size = batch_size if self.preparation.box else 1
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            if self.preparation.box:
                images = np.stack([network_volume(self._stored.image(row), grid) for row in part])
                labels = np.stack([self._stored.label(row) for row in part])
            else:
                images = pad_to(self._stored.image(part[0])[None].astype(np.float32), grid, 0.0)
                labels = pad_to(self._stored.label(part[0])[None], grid, OUTSIDE)
            yield (
                torch.from_numpy(images).to(device=device, dtype=dtype or torch.float32),
                torch.from_numpy(labels.astype(np.int64)).to(device),
            )

    def original(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
        """The label values (X, Y, Z) uint8 as they are in the file, its affine (4, 4) and its spacing in mm.

        Scores of a case are computed there: `to_original(answer, data.geometry(split, index))` brings answers there.
        """
        row = self._indices(split)[index]
        labels, affine = read_labels(self._root / self._label_files[row], self._label_files[row])
        return labels, affine, self._stored.geometries[row].spacing

    def geometry(self, split: str, index: int) -> VolumeGeometry:
        """Where the prepared volume lies in its file; see `to_original`."""
        return self._stored.geometries[self._indices(split)[index]]

    def class_weights(self) -> np.ndarray:
        """(num_classes,) float64, proportional to 1 / training voxels of the class; their mean over voxels is 1.

        Raises `UserError` for regions, which overlap, and for a class without training voxels.
        """
        if self.scheme.kind != "softmax":
            raise UserError("class weights are for classes that exclude each other; regions have none.")
        counts = np.array([self._voxels("train", values) for values in self.scheme.members], np.float64)
        if (counts == 0).any():
            missing = ", ".join(name for name, n in zip(self.classes, counts, strict=True) if n == 0)
            raise UserError(f"no training voxels of class {missing}; add volumes or do without class weights.")
        return counts.sum() / (self.num_classes * counts)

    def train_weights(self, balance: str = "none") -> np.ndarray:
        """(train count,) float64 probabilities of drawing each training volume; all equal.

        Raises `UserError` for any `balance` but "none": a volume has no single class.
        """
        if balance != "none":
            raise UserError(f"balance {balance!r} is for images of one class each; volumes allow 'none' only.")
        return np.full(self.count("train"), 1.0 / self.count("train"))

    def describe(self) -> dict[str, Any]:
        """What this data set is, in JSON types."""
        voxels = {
            split: {
                output: self._voxels(split, values)
                for output, values in zip(self.classes, self.scheme.members, strict=True)
            }
            for split in SPLITS
        }
        return {
            "name": self.name,
            "classes": list(self.classes),
            "scheme": self.scheme.to_dict(),
            "mode": self.mode,
            "counts": {split: self.count(split) for split in SPLITS},
            "voxels_per_class": voxels,
            "groups": {split: len(set(self.groups(split))) for split in SPLITS},
            "channels": self.channels,
            "fingerprint": self.fingerprint,
            "preparation": self.preparation.to_dict(),
            "augmentation": self.augmentation.to_dict(),
            **self._facts,
        }

    def write_splits(self, path: str | Path) -> None:
        """Write `file,split,group,digest` as CSV; it appears whole or not at all."""
        write_split_file(path, self._files, None, self._splits, self._groups, self._digests)

    def _indices(self, split: str) -> np.ndarray:
        check_choice("split", split, SPLITS)
        return self._members[split]

    def _grid(self, resolution: Size) -> tuple[int, int, int]:
        grid, box = check_grid("resolution", resolution), self.preparation.box
        if box is not None and any(want > have for want, have in zip(grid, box, strict=True)):
            raise UserError(
                f"resolution {resolution!r} is larger than the stored box {box}; raise max_resolution (of a "
                "recipe data.volumes.box)."
            )
        return grid

    def _extent(self, grid: tuple[int, int, int]) -> tuple[float, float, float]:
        """The physical size of what a batch shows, in mm or, where spacings differ, in voxels of the file."""
        spacing = self.preparation.spacing or (1.0, 1.0, 1.0)
        shown = self.preparation.box or grid
        x, y, z = (sides * mm for sides, mm in zip(shown, spacing, strict=True))
        return x, y, z

    def _voxels(self, split: str, values: Sequence[int]) -> int:
        """Voxels of any of these label values in a split, on the prepared grid."""
        return sum(self._stored.counts[row].get(value, 0) for row in self._indices(split) for value in values)

    def _fingerprint(self) -> str:
        volumes = sorted(zip(self._files, self._stored.digests, self._splits, strict=True))
        content = [self.scheme.to_dict(), self.preparation.to_dict(), volumes]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()
