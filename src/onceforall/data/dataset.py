"""What training and evaluation ask of a data set, whether it holds images or volumes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["DataSet"]

Size = int | tuple[int, ...]


class _Preparation(Protocol):
    """How inputs are made from files, as a value."""

    def to_dict(self) -> dict[str, Any]:
        """The value as JSON types."""
        ...


class DataSet(ABC):
    """Labelled inputs in three splits: "train", "validation", "test".

    Sizes are a whole number, the side of a square or cube, or one number for each axis. Nothing random is drawn but
    from the generators that are passed in.
    """

    inputs = "images"
    """What inputs are called, for words."""
    name: str
    classes: tuple[str, ...]
    """Names of what a network puts out."""
    note: str
    """A line on how the splits were found that its user should read; mostly empty."""
    fingerprint: str
    """Changes with the content of the files, their labels and splits, and their preparation."""

    @property
    def num_classes(self) -> int:
        """Number of a network's outputs (of output maps, for volumes)."""
        return len(self.classes)

    @property
    @abstractmethod
    def channels(self) -> int:
        """Number of channels of a prepared input."""

    @property
    @abstractmethod
    def preparation(self) -> _Preparation:
        """How inputs are made from files."""

    @abstractmethod
    def count(self, split: str) -> int:
        """Number of inputs in a split."""

    @abstractmethod
    def files(self, split: str) -> list[str]:
        """Names of the inputs of a split, in its order."""

    @abstractmethod
    def groups(self, split: str) -> list[str] | None:
        """The group (patient) of each input, or None where the split was not made by groups."""

    @abstractmethod
    def train_batch(
        self,
        indices: np.ndarray,
        resolution: Size,
        generator: "torch.Generator",
        device: "torch.device | str" = "cpu",
        dtype: "torch.dtype | None" = None,
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Augmented training inputs (n, channels, ...) of a size and their targets, on the device.

        `indices` count within the train split. The same state of `generator`, a CPU generator, gives the same batch.
        """

    @abstractmethod
    def batches(
        self,
        split: str,
        resolution: Size,
        batch_size: int,
        indices: np.ndarray | None = None,
        device: "torch.device | str" = "cpu",
        dtype: "torch.dtype | None" = None,
    ) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
        """Prepared inputs of a split and their targets, in order, without augmentation."""

    @abstractmethod
    def class_weights(self) -> np.ndarray:
        """(num_classes,) float64, larger for what is rarer."""

    @abstractmethod
    def train_weights(self, balance: str = "none") -> np.ndarray:
        """(train count,) float64 probabilities of drawing each training input, summing to 1."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What this data set is, in JSON types, with its fingerprint."""

    @abstractmethod
    def write_splits(self, path: str | Path) -> None:
        """Write which input is in which split as CSV; it appears whole or not at all."""
