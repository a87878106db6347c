"""From what a layout found, or from arrays, to an `ImageData`: store, split, measure mean and standard deviation."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.data.arrays import ArraySet
from onceforall.data.augmentation import Augmentation
from onceforall.data.cache import Progress, Storage, cached_images, file_digests, storage_for
from onceforall.data.images import ImageData
from onceforall.data.listing import KINDS, Listing
from onceforall.data.preparation import FITS, Preparation, check_whole, to_stored
from onceforall.data.splits import assign_splits, check_grouping, copies_across, kept_splits, named_groups
from onceforall.errors import UserError, check_choice

__all__ = ["DataOptions", "data_from_arrays", "data_from_files", "groups_of", "splits_of"]


@final
@dataclass(frozen=True)
class DataOptions:
    """The options of `load_data`, which documents them, checked. Raises `UserError`."""

    kind: str = "auto"
    classes: int | Sequence[str] | None = None
    max_resolution: int = 64
    image_size: int | None = None
    channels: int | None = None
    fit: str = "crop"
    white_border: str = "keep"
    crop_ratio: float = 0.875
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    maximum: int | None = None
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    seed: int = 0
    split_csv: str | Path | None = None
    group_pattern: str | None = None
    group_csv: str | Path | None = None
    group_column: str | None = None
    train_per_class: int | None = None
    validation_per_class: int | None = None
    rest_to_test: bool = True
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    cache_dir: str | Path | None = None
    skip_unreadable: bool = False
    progress: Progress | None = None

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        check_whole("max_resolution", self.max_resolution, 1, 16384)
        if self.image_size is not None:
            check_whole("image_size", self.image_size, 1, 16384)
        check_choice("fit", self.fit, FITS)
        channels = 1 if self.channels is None else self.channels
        Preparation(channels, self.fit, self.crop_ratio, white_border=self.white_border)  # checks these values
        if self.maximum is not None:
            check_whole("maximum", self.maximum, 1, 65535)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise UserError(f"seed {self.seed!r} must be a whole number.")
        check_grouping(self.group_pattern, self.group_csv, self.group_column)
        if (self.mean is None) != (self.std is None):
            raise UserError("mean and std go together; give both or neither (then they are measured).")

    @property
    def store_size(self) -> int:
        """Side length in pixels to which larger images are reduced before they are stored."""
        if self.image_size is not None:
            return self.image_size
        return math.ceil(self.max_resolution / self.crop_ratio) if self.fit == "crop" else self.max_resolution

    @property
    def has_groups(self) -> bool:
        """Whether these options, and not the layout, say which images are of one group."""
        return self.group_pattern is not None or self.group_csv is not None

    def preparation(
        self, channels: int, bit_depth: int, store_size: int | None, mean: Sequence[float], std: Sequence[float]
    ) -> Preparation:
        """The preparation of such images, with `mean` and `std` where these options give none. Raises `UserError`."""
        maximum = self.maximum or (65535 if bit_depth == 16 else 255)
        if maximum > 255 and bit_depth == 8:
            raise UserError(f"maximum {maximum} is out of range for 8-bit images; allowed is 1 to 255.")
        return Preparation(
            channels=channels,
            fit=self.fit,
            crop_ratio=self.crop_ratio,
            mean=tuple(mean if self.mean is None else self.mean),
            std=tuple(std if self.std is None else self.std),
            bit_depth=bit_depth,
            maximum=maximum,
            store_size=store_size,
            white_border=self.white_border,
        )


def data_from_files(listing: Listing, options: DataOptions) -> ImageData:
    """Decode (or find in the cache), split and measure the files of a listing. Raises `UserError`."""
    groups = groups_of(listing, options)
    contents = file_digests(listing.root, listing.files, options.cache_dir, options.progress)
    every = range(len(listing.files))
    splits_of(listing, groups, contents[0], every, options)  # fails before hours of decoding, not after
    stored = cached_images(
        listing.root,
        listing.files,
        contents,
        Storage(options.store_size, options.fit, options.channels, options.white_border),
        options.skip_unreadable,
        options.cache_dir,
        options.progress,
    )
    rows = [i for i in every if listing.files[i] not in stored.unreadable]
    splits, note = splits_of(listing, groups, contents[0], rows, options)
    facts: dict[str, Any] = {
        "root": str(listing.root),
        "sizes": [{"height": h, "width": w, "count": count} for h, w, count in stored.sizes],
        "unreadable": stored.unreadable,
        **({"left_out": len(listing.left_out)} if listing.left_out else {}),
    }
    return _assemble(
        name=listing.name,
        classes=listing.classes,
        images=stored.images,
        rows=rows,
        files=[listing.files[i] for i in rows],
        labels=[listing.labels[i] for i in rows],
        splits=splits,
        digests=[stored.digests[i] for i in rows],
        groups=None if groups is None else [groups[i] for i in rows],
        bit_depth=stored.bit_depth,
        store_size=stored.store_size,
        facts=facts,
        note=note,
        options=options,
    )


def data_from_arrays(arrays: ArraySet, options: DataOptions, groups: Sequence[str] | None = None) -> ImageData:
    """Store (in memory), split and measure images that are already there. Raises `UserError`."""
    if options.has_groups:
        raise UserError("group_pattern and group_csv apply to image files; images in memory take groups=[...].")
    if groups is not None and len(groups) != len(arrays.files):
        raise UserError(f"groups has {len(groups)} entries; give one for each of the {len(arrays.files)} images.")
    images = arrays.images
    bit_depth = 16 if images.dtype == np.uint16 else 8
    channels = options.channels or _channels(images)
    store_size = storage_for([(images.shape[1], images.shape[2])], options.store_size, options.fit)
    preparation = Preparation(
        channels, options.fit, bit_depth=bit_depth, store_size=store_size, white_border=options.white_border
    )
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    splits, note = _assign(arrays.files, digests, arrays.labels, arrays.classes, None, groups, options)
    return _assemble(
        name=arrays.name,
        classes=arrays.classes,
        images=np.stack([to_stored(image, preparation) for image in images]),
        rows=range(len(images)),
        files=arrays.files,
        labels=arrays.labels,
        splits=splits,
        digests=digests,
        groups=groups,
        bit_depth=bit_depth,
        store_size=store_size,
        facts={"sizes": [{"height": images.shape[1], "width": images.shape[2], "count": len(images)}]},
        note=note,
        options=options,
    )


def _channels(images: np.ndarray) -> int:
    """Channels of (N, H, W, C) images; three equal ones count as one."""
    same = images.shape[3] == 3 and bool((images == images[:, :, :, :1]).all())
    return 1 if same else images.shape[3]


def groups_of(listing: Listing, options: DataOptions) -> list[str] | None:
    """The group of each file by the options, or else by the layout; None where neither knows. Raises `UserError`."""
    named = named_groups(listing.files, listing.root, options.group_pattern, options.group_csv, options.group_column)
    return list(listing.groups) if named is None and listing.groups is not None else named


def splits_of(
    listing: Listing, groups: Sequence[str] | None, digests: Sequence[str], rows: Sequence[int], options: DataOptions
) -> tuple[list[str], str]:
    """The split of each file in `rows` of a listing, and a line for the user or "". Raises `UserError`."""
    return _assign(
        [listing.files[i] for i in rows],
        [digests[i] for i in rows],
        [listing.labels[i] for i in rows],
        listing.classes,
        [listing.splits[i] for i in rows],
        None if groups is None else [groups[i] for i in rows],
        options,
    )


def _assign(
    files: Sequence[str],
    digests: Sequence[str],
    labels: Sequence[int],
    classes: Sequence[str],
    given: Sequence[str] | None,
    groups: Sequence[str] | None,
    options: DataOptions,
) -> tuple[list[str], str]:
    fractions, note = (options.validation_fraction, options.test_fraction), ""
    if options.split_csv is not None:
        given, note = kept_splits(Path(options.split_csv), files, digests, given, groups)
    return assign_splits(files, labels, classes, given, groups, *fractions, seed=options.seed), note


def _assemble(
    *,
    name: str,
    classes: Sequence[str],
    images: np.ndarray,
    rows: Sequence[int],
    files: Sequence[str],
    labels: Sequence[int],
    splits: Sequence[str],
    digests: Sequence[str],
    groups: Sequence[str] | None,
    bit_depth: int,
    store_size: int | None,
    facts: dict[str, Any],
    note: str,
    options: DataOptions,
) -> ImageData:
    preparation = options.preparation(images.shape[1], bit_depth, store_size, (0.0,), (1.0,))
    if options.mean is None:
        train = np.asarray(rows)[np.asarray(splits) == "train"]
        mean, std = mean_and_std(images, train, preparation.maximum)
        preparation = dataclasses.replace(preparation, mean=mean, std=std)
    return ImageData(
        name=name,
        classes=classes,
        images=images,
        rows=rows,
        files=files,
        labels=labels,
        splits=splits,
        digests=digests,
        preparation=preparation,
        augmentation=options.augmentation,
        groups=groups,
        facts={**facts, "copies_across_splits": copies_across(digests, splits)},
        note=note,
    )


def mean_and_std(images: np.ndarray, rows: np.ndarray, maximum: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels of (N, C, h, w) rows, in units of `maximum`.

    Rounded to 4 decimals, so that they do not depend on the order of the sums; a constant channel gets std 1.
    """
    total = np.zeros(images.shape[1])
    squares = np.zeros(images.shape[1])
    for start in range(0, len(rows), 256):
        part = images[rows[start : start + 256]].astype(np.float64) / maximum
        total += part.sum(axis=(0, 2, 3))
        squares += np.square(part).sum(axis=(0, 2, 3))
    pixels = len(rows) * images.shape[2] * images.shape[3]
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - np.square(mean), 0.0))
    rounded = [round(float(value), 4) for value in std]
    return tuple(round(float(value), 4) for value in mean), tuple(value if value > 0.0 else 1.0 for value in rounded)
