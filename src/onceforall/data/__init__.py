"""Images with labels: from a folder, Tiny ImageNet, retinal OCT, the built-in digits or arrays to batches.

Volumes with label volumes: from a folder in the layout of the Medical Segmentation Decathlon or nnU-Net.

Importing this package does not import torch; training and evaluation batches do when they are made.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from onceforall.data.arrays import array_set
from onceforall.data.assembly import DataOptions, data_from_arrays, data_from_files
from onceforall.data.augmentation import Augmentation
from onceforall.data.check import DataReport, check_data
from onceforall.data.dataset import DataSet
from onceforall.data.decoding import UnreadableImage
from onceforall.data.digits import digits
from onceforall.data.images import ImageData
from onceforall.data.label_schemes import LabelScheme
from onceforall.data.layouts import check_layout, list_images, say_kind
from onceforall.data.listing import KINDS
from onceforall.data.preparation import Preparation
from onceforall.data.volume_augmentation import VolumeAugmentation
from onceforall.data.volume_check import VolumeReport
from onceforall.data.volume_data import VolumeData
from onceforall.data.volume_loading import load_volumes
from onceforall.data.volumes import VolumePreparation
from onceforall.errors import check_choice

__all__ = [
    "KINDS",
    "Augmentation",
    "DataReport",
    "DataSet",
    "ImageData",
    "LabelScheme",
    "Preparation",
    "UnreadableImage",
    "VolumeAugmentation",
    "VolumeData",
    "VolumePreparation",
    "VolumeReport",
    "check_data",
    "from_arrays",
    "load_data",
    "load_volumes",
]

DIGITS_AUGMENTATION = Augmentation(horizontal_flip=False)  # a mirrored digit is none


def load_data(
    path: str | Path | None = None,
    kind: str = "auto",
    *,
    classes: int | Sequence[str] | None = None,
    max_resolution: int = 64,
    image_size: int | None = None,
    channels: int | None = None,
    fit: str = "crop",
    white_border: str = "keep",
    crop_ratio: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    maximum: int | None = None,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
    split_csv: str | Path | None = None,
    group_pattern: str | None = None,
    group_csv: str | Path | None = None,
    group_column: str | None = None,
    train_per_class: int | None = None,
    validation_per_class: int | None = None,
    rest_to_test: bool = True,
    augmentation: Augmentation | None = None,
    cache_dir: str | Path | None = None,
    skip_unreadable: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> ImageData:
    """Load a data set of labelled images.

    - `path`: a folder; None for the built-in digits. `kind`: one of `KINDS`; "auto" looks at the layout.
    - `classes`: the first n, or a list of names; None for all.
    - `max_resolution`: the largest resolution that will be trained; images are stored large enough for it.
      `image_size` gives the stored side length itself. Images of one shape that are not larger keep their size.
    - `channels`: 1 or 3; None: 1 where every file is grey, else 3. `fit`, `white_border`, `crop_ratio`, `mean`, `std`,
      `maximum`: see `Preparation`; by default mean and std are measured on the training images, and `crop_ratio` is
      0.875 (digits, which fill their frame: 1).
    - `validation_fraction`, `test_fraction`, `seed`: the stratified split, for splits that the layout does not give.
      `group_pattern` (a regular expression with one bracketed part, for file names) or `group_csv` and `group_column`
      keep the images of one group, such as a patient, on one side; kind "retinal_oct" finds the patients itself.
    - `split_csv`: a table with columns file and split, such as a run's `splits.csv`: what it names keeps its split, and
      of a group that it names all; where it has a column digest, images of the same content keep it under any name.
      The other images are then for training, or divided where it knows none of a split. `ImageData.note` tells how
      many of its files were found where it is not all.
    - `train_per_class`, `validation_per_class`, `rest_to_test`: Tiny ImageNet only, see `list_tiny_imagenet`.
    - `augmentation`: of training batches; digits are by default not mirrored.
    - `cache_dir`: where decoded images are kept (default `$ONCEFORALL_CACHE` or `~/.cache/onceforall`).
    - `skip_unreadable`: leave out files that cannot be read instead of refusing; `describe()` lists them.
    - `progress(job, done, total)` is called while files are read and decoded.

    Raises `UserError` for everything that its caller can mend.
    """
    check_choice("kind", kind, KINDS)
    kind = say_kind(path, kind)
    if augmentation is None:
        augmentation = DIGITS_AUGMENTATION if kind == "digits" else Augmentation()
    if crop_ratio is None:
        crop_ratio = 1.0 if kind == "digits" else 0.875
    options = DataOptions(
        kind=kind,
        classes=classes,
        max_resolution=max_resolution,
        image_size=image_size,
        channels=channels,
        fit=fit,
        white_border=white_border,
        crop_ratio=crop_ratio,
        mean=mean,
        std=std,
        maximum=maximum,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        seed=seed,
        split_csv=split_csv,
        group_pattern=group_pattern,
        group_csv=group_csv,
        group_column=group_column,
        train_per_class=train_per_class,
        validation_per_class=validation_per_class,
        rest_to_test=rest_to_test,
        augmentation=augmentation,
        cache_dir=cache_dir,
        skip_unreadable=skip_unreadable,
        progress=progress,
    )
    if path is None:
        check_layout(kind, options)
        return data_from_arrays(digits(classes), options)
    return data_from_files(list_images(path, kind, options), options)


def from_arrays(
    images: np.ndarray,
    labels: np.ndarray | Sequence[int],
    classes: Sequence[str] | None = None,
    name: str = "arrays",
    *,
    max_resolution: int = 64,
    image_size: int | None = None,
    channels: int | None = None,
    fit: str = "crop",
    white_border: str = "keep",
    crop_ratio: float = 0.875,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    maximum: int | None = None,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    augmentation: Augmentation | None = None,
) -> ImageData:
    """A data set from images (N, H, W) or (N, H, W, C), uint8, uint16 or floats of 0 to 1, and N labels from 0.

    `groups` names the group (patient) of each image; images of one group stay in one split. The other options are
    those of `load_data`. Raises `UserError`.
    """
    options = DataOptions(
        max_resolution=max_resolution,
        image_size=image_size,
        channels=channels,
        fit=fit,
        white_border=white_border,
        crop_ratio=crop_ratio,
        mean=mean,
        std=std,
        maximum=maximum,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        seed=seed,
        augmentation=augmentation or Augmentation(),
    )
    return data_from_arrays(array_set(images, labels, classes, name), options, groups)
