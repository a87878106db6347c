"""One data set of labelled images, split, prepared and ready to be trained on, whatever it was made from."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from onceforall.data.augmentation import Augmentation
from onceforall.data.dataset import DataSet
from onceforall.data.preparation import Preparation, check_whole, network_input
from onceforall.data.splits import SPLITS, write_split_file
from onceforall.errors import UserError, check_choice

if TYPE_CHECKING:
    import torch

__all__ = ["BALANCES", "ImageData"]

BALANCES = ("none", "classes")
KEPT_BYTES = 1 << 30  # prepared evaluation images that are kept for the next time
CHUNK = 512  # images prepared at a time


@final
class ImageData(DataSet):
    """Images with labels in three splits: "train", "validation", "test".

    Made by `onceforall.data.load_data` or `from_arrays`. Pixels stay in `images`, (N, channels, h, w) uint8 or uint16
    (possibly a memory map); row `rows[i]` belongs to `files[i]`, whose class is `labels[i]` and whose split is
    `splits[i]`. `digests[i]` tells the content of image i apart. Within a split, images keep the order of `files`.
    Nothing in it changes after it was made, except which prepared batches are kept.
    """

    def __init__(
        self,
        *,
        name: str,
        classes: Sequence[str],
        images: np.ndarray,
        rows: Sequence[int] | np.ndarray,
        files: Sequence[str],
        labels: Sequence[int],
        splits: Sequence[str],
        digests: Sequence[str],
        preparation: Preparation,
        augmentation: Augmentation,
        groups: Sequence[str] | None = None,
        facts: Mapping[str, Any] | None = None,
        note: str = "",
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self.name = name
        self.note = note
        self.classes = tuple(classes)
        self._preparation = preparation
        self.augmentation = augmentation
        self._images = images
        self._files = tuple(files)
        self._labels = np.asarray(labels, np.int64)
        self._groups = None if groups is None else tuple(groups)
        self._splits = tuple(splits)
        self._digests = tuple(digests)
        self._facts = dict(facts or {})
        marks = np.asarray(splits)
        self._members = {split: np.flatnonzero(marks == split) for split in SPLITS}
        self._rows = np.asarray(rows, np.int64)
        self._kept: OrderedDict[tuple[str, int, str], np.ndarray] = OrderedDict()
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self.fingerprint = self._fingerprint()

    @property
    def preparation(self) -> Preparation:
        """How pixels become the input of a network."""
        return self._preparation

    @property
    def channels(self) -> int:
        """Number of channels of a prepared image."""
        return self.preparation.channels

    def count(self, split: str) -> int:
        """Number of images in a split."""
        return len(self._indices(split))

    def labels(self, split: str) -> np.ndarray:
        """(count,) int64 indices into `classes`."""
        return self._labels[self._indices(split)]

    def files(self, split: str) -> list[str]:
        """Names of the images, relative to the data folder (made up where there are no files)."""
        return [self._files[i] for i in self._indices(split)]

    def groups(self, split: str) -> list[str] | None:
        """The group (patient) of each image, or None where the split was not made by groups."""
        return None if self._groups is None else [self._groups[i] for i in self._indices(split)]

    def stored(self, split: str, indices: np.ndarray | None = None) -> np.ndarray:
        """(n, channels, h, w) uint8 or uint16: images of a split as they are stored; `indices` into the split."""
        members = self._indices(split)
        return self._images[self._rows[members if indices is None else members[np.asarray(indices)]]]

    def train_batch(
        self,
        indices: np.ndarray,
        resolution: int | tuple[int, ...],
        generator: "torch.Generator",
        device: "torch.device | str" = "cpu",
        dtype: "torch.dtype | None" = None,
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Augmented training images (n, channels, r, r) and their labels (n,) int64 on the device.

        `indices` count within the train split. All randomness comes from `generator`, a CPU generator: the same state
        gives the same batch on every device, and no global generator is touched. `dtype`: default float32.
        """
        import torch

        from onceforall.data.batches import augment, to_float_tensor

        side = check_whole("resolution", resolution, 1, 16384)
        indices = np.asarray(indices)
        pixels = to_float_tensor(self.stored("train", indices), device)
        images = augment(pixels, side, self.augmentation, self.preparation, generator, dtype or torch.float32)
        return images, torch.from_numpy(self.labels("train")[indices]).to(device)

    def batches(
        self,
        split: str,
        resolution: int | tuple[int, ...],
        batch_size: int,
        indices: np.ndarray | None = None,
        device: "torch.device | str" = "cpu",
        dtype: "torch.dtype | None" = None,
    ) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
        """Prepared images (n, channels, r, r) and labels (n,) of a split, in order, without augmentation.

        `indices` (into the split) choose and order the images. Prepared images are kept for the next call, as long
        as they fit into `kept_bytes`. The preparation is `network_input`, as in prediction. Raises `UserError` for an
        unknown or empty split.
        """
        import torch

        side = check_whole("resolution", resolution, 1, 16384)
        check_whole("batch_size", batch_size, 1, 1 << 31)
        chosen = np.arange(self.count(split)) if indices is None else np.asarray(indices, np.int64)
        if len(chosen) == 0:
            raise UserError(f"data set {self.name!r} has no {split} images; choose another split or add images.")
        labels = self.labels(split)[chosen]
        whole = self._prepared(split, side, chosen)
        for start in range(0, len(chosen), batch_size):
            part = slice(start, start + batch_size)
            # what is kept is copied, for a caller may change its batch in place
            images = self._prepare(split, side, chosen[part]) if whole is None else whole[part].copy()
            yield (
                torch.from_numpy(images).to(device=device, dtype=dtype or torch.float32),
                torch.from_numpy(labels[part]).to(device),
            )

    def class_weights(self) -> np.ndarray:
        """(num_classes,) float64, proportional to 1 / training images of the class; their mean over images is 1."""
        counts = np.bincount(self.labels("train"), minlength=self.num_classes)
        return counts.sum() / (self.num_classes * counts)

    def train_weights(self, balance: str = "none") -> np.ndarray:
        """(train count,) float64 probabilities of drawing each training image, summing to 1.

        "none": all equal; "classes": all classes equally probable.
        """
        check_choice("balance", balance, BALANCES)
        labels = self.labels("train")
        weights = np.ones(len(labels)) if balance == "none" else self.class_weights()[labels]
        return weights / weights.sum()

    def describe(self) -> dict[str, Any]:
        """What this data set is, in JSON types: classes, counts, sizes, preparation, augmentation, fingerprint."""
        counts = {split: np.bincount(self.labels(split), minlength=self.num_classes).tolist() for split in SPLITS}
        described: dict[str, Any] = {
            "name": self.name,
            "classes": list(self.classes),
            "counts": {split: sum(per_class) for split, per_class in counts.items()},
            "counts_per_class": {
                split: dict(zip(self.classes, per_class, strict=True)) for split, per_class in counts.items()
            },
            "channels": self.channels,
            "bit_depth": self.preparation.bit_depth,
            "stored_size": [int(side) for side in self._images.shape[2:]],
            "fingerprint": self.fingerprint,
            "preparation": self.preparation.to_dict(),
            "augmentation": self.augmentation.to_dict(),
        }
        if self._groups is not None:
            described["groups"] = {split: len(set(self.groups(split) or [])) for split in SPLITS}
        return {**described, **self._facts}

    def write_splits(self, path: str | Path) -> None:
        """Write `file,class,split,digest` (and `group`) as CSV; it appears whole or not at all."""
        names = [self.classes[label] for label in self._labels]
        write_split_file(path, self._files, names, self._splits, self._groups, self._digests)

    def _indices(self, split: str) -> np.ndarray:
        check_choice("split", split, SPLITS)
        return self._members[split]

    def _fingerprint(self) -> str:
        images = sorted(zip(self._files, self._digests, self._labels.tolist(), self._splits, strict=True))
        preparation = self.preparation.to_dict()
        if preparation["white_border"] == "keep":
            del preparation["white_border"]  # runs from before this option are found unchanged
        content = [list(self.classes), preparation, images]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _prepare(self, split: str, resolution: int, indices: np.ndarray) -> np.ndarray:
        return network_input(self.stored(split, indices), self.preparation, resolution)

    def _prepared(self, split: str, resolution: int, indices: np.ndarray) -> np.ndarray | None:
        """All prepared images (n, channels, r, r) float32, kept; None where they are more than may be kept."""
        size = len(indices) * self.channels * resolution * resolution * 4
        if size > self._kept_bytes:
            return None
        key = (split, resolution, hashlib.sha256(indices.tobytes()).hexdigest())
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        whole = np.empty((len(indices), self.channels, resolution, resolution), np.float32)
        for start in range(0, len(indices), CHUNK):
            whole[start : start + CHUNK] = self._prepare(split, resolution, indices[start : start + CHUNK])
        with self._lock:
            self._kept[key] = whole
            while sum(kept.nbytes for kept in self._kept.values()) > self._kept_bytes:
                self._kept.popitem(last=False)
        return whole
