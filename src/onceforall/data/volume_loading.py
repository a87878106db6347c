"""From a folder of volumes to a `VolumeData`: list, check, prepare into the cache, split by subject."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.data.cache import Progress
from onceforall.data.label_schemes import LabelScheme, label_scheme, scheme_from_labels
from onceforall.data.msd import VolumeListing, list_volumes
from onceforall.data.nifti import UnreadableVolume, read_labels, read_volume
from onceforall.data.preparation import check_whole
from onceforall.data.splits import SPLITS, assign_splits, check_grouping, copies_across, kept_splits, named_groups
from onceforall.data.volume_augmentation import VolumeAugmentation
from onceforall.data.volume_cache import CachedVolumes, cached_volumes, image_digests, unusable, volume_digests
from onceforall.data.volume_data import VolumeData
from onceforall.data.volumes import CLIP, SAME_SPACING, VolumePreparation, check_grid
from onceforall.errors import UserError, check_choice

__all__ = ["MODES", "VolumeOptions", "first_subjects", "load_volumes", "volume_groups", "volume_splits"]

MODES = ("whole", "patches")


@final
@dataclass(frozen=True)
class VolumeOptions:
    """The options of `load_volumes`, which documents them, checked. Raises `UserError`."""

    max_resolution: int | tuple[int, ...]
    scheme: str | LabelScheme = "classes"
    mode: str = "whole"
    fit: str = "pad"
    spacing: tuple[float, float, float] | None = None
    clip: tuple[float, float] = CLIP
    foreground_crop: bool = False
    stride: int = 8
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    seed: int = 0
    split_csv: str | Path | None = None
    group_pattern: str | None = None
    group_csv: str | Path | None = None
    group_column: str | None = None
    subjects: int | None = None
    augmentation: VolumeAugmentation = dataclasses.field(default_factory=VolumeAugmentation)
    cache_dir: str | Path | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        check_grid("max_resolution", self.max_resolution)
        check_choice("mode", self.mode, MODES)
        if self.mode == "patches" and self.fit != "pad":
            raise UserError(f"fit {self.fit!r} is for mode 'whole'; in mode 'patches' volumes keep their own grid.")
        check_grouping(self.group_pattern, self.group_csv, self.group_column)
        self.preparation(1)  # checks these values
        check_whole("stride", self.stride, 1, 1024)
        if self.subjects is not None:
            check_whole("subjects", self.subjects, 2, 1 << 31)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise UserError(f"seed {self.seed!r} must be a whole number.")

    def preparation(self, channels: int) -> VolumePreparation:
        """The preparation that is asked for."""
        box = check_grid("max_resolution", self.max_resolution) if self.mode == "whole" else None
        return VolumePreparation(
            channels, box, self.fit, spacing=self.spacing, clip=self.clip, foreground_crop=self.foreground_crop
        )


def load_volumes(
    path: str | Path,
    *,
    max_resolution: int | tuple[int, ...],
    scheme: str | LabelScheme = "classes",
    mode: str = "whole",
    fit: str = "pad",
    spacing: tuple[float, float, float] | None = None,
    clip: tuple[float, float] = CLIP,
    foreground_crop: bool = False,
    stride: int = 8,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
    split_csv: str | Path | None = None,
    group_pattern: str | None = None,
    group_csv: str | Path | None = None,
    group_column: str | None = None,
    subjects: int | None = None,
    augmentation: VolumeAugmentation | None = None,
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> VolumeData:
    """Load a folder of labelled volumes in the layout of the Medical Segmentation Decathlon or nnU-Net.

    - `max_resolution`: the largest grid that will be trained, one size for a cube or three for X, Y, Z (after
      reorientation to RAS): in mode "whole" the box that holds every volume, in mode "patches" the largest patch.
    - `scheme`: a name in `SCHEMES` or a `LabelScheme`; "classes" are the labels of `dataset.json`, or without one
      the values that are found.
    - `fit`, `spacing`, `clip`, `foreground_crop`: see `VolumePreparation`. Without `spacing` volumes keep their
      voxels; where all have the same spacing it becomes part of the preparation, so that a volume of another spacing is
      resampled to it in prediction.
    - `stride`: the total stride of the network; a volume with a shorter side is refused.
    - `validation_fraction`, `test_fraction`, `seed`: the split by subject. `group_pattern` (a regular expression with
      one bracketed part, for file names) or `group_csv` and `group_column` (a table, in the folder unless found where
      one is) say which files are of one subject; without them each is one of its own.
    - `split_csv`: a table with columns file and split, such as a run's `splits.csv`: what it names keeps its split, and
      where it has a column digest, images of the same content under any name; `VolumeData.note` tells how many of its
      files were found where it is not all.
    - `subjects`: only the first n.
    - `augmentation`: of training batches. `cache_dir`: where prepared volumes are kept (default `$ONCEFORALL_CACHE` or
      `~/.cache/onceforall`). `progress(job, done, total)` is called while files are read and decoded.

    Raises `UserError` for everything that its caller can mend; of files that cannot be used it names all.
    """
    options = VolumeOptions(
        max_resolution=max_resolution,
        scheme=scheme,
        mode=mode,
        fit=fit,
        spacing=spacing,
        clip=clip,
        foreground_crop=foreground_crop,
        stride=stride,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        seed=seed,
        split_csv=split_csv,
        group_pattern=group_pattern,
        group_csv=group_csv,
        group_column=group_column,
        subjects=subjects,
        augmentation=augmentation or VolumeAugmentation(),
        cache_dir=cache_dir,
        progress=progress,
    )
    listing = list_volumes(path)
    if listing.problems:
        raise unusable(listing.problems, listing.root)
    return volumes_from_listing(first_subjects(listing, options.subjects), options)


def volumes_from_listing(listing: VolumeListing, options: VolumeOptions) -> VolumeData:
    """Split, decode (or find in the cache) and describe the volumes of a listing. Raises `UserError`."""
    files = [own[0] for own in listing.images]
    groups = volume_groups(listing, options)
    of_files = volume_digests(listing, options.cache_dir, options.progress)
    digests = image_digests(listing, of_files)
    splits, note = volume_splits(listing, groups, digests, options)  # fails before minutes of decoding, not after
    scheme = _scheme(listing, options.scheme)
    preparation = options.preparation(_channels(listing))
    stored = cached_volumes(listing, of_files, preparation, scheme, options.stride, options.cache_dir, options.progress)
    _check_foreground(stored, listing)
    spacings = np.array([geometry.oriented_spacing for geometry in stored.geometries])  # (N, 3)
    if preparation.spacing is None and bool((np.abs(spacings / spacings[0] - 1.0) < SAME_SPACING).all()):
        preparation = dataclasses.replace(preparation, spacing=tuple(float(v) for v in spacings[0].round(6)))
    low, high = spacings.min(axis=0), spacings.max(axis=0)
    sizes = np.array([geometry.size for geometry in stored.geometries])
    facts: dict[str, Any] = {
        "root": str(listing.root),
        "modalities": list(listing.modalities),
        "spacings": {"least": low.round(4).tolist(), "greatest": high.round(4).tolist()},
        "sizes": {"least": sizes.min(axis=0).tolist(), "greatest": sizes.max(axis=0).tolist()},
        "empty_labels": sum(not any(value > 0 for value in counts) for counts in stored.counts),
        "copies_across_splits": copies_across(stored.digests, splits),
    }
    return VolumeData(
        name=listing.name,
        root=listing.root,
        scheme=scheme,
        stored=stored,
        files=files,
        label_files=listing.labels,
        groups=groups,
        splits=splits,
        digests=digests,
        preparation=preparation,
        augmentation=options.augmentation,
        facts=facts,
        note=note,
    )


def first_subjects(listing: VolumeListing, subjects: int | None) -> VolumeListing:
    """The first `subjects` of a listing; None: all. Raises `UserError` where it has fewer."""
    if subjects is None:
        return listing
    if subjects > len(listing.subjects):
        raise UserError(f"subjects {subjects} is out of range; {listing.name} has {len(listing.subjects)}.")
    return dataclasses.replace(
        listing,
        subjects=listing.subjects[:subjects],
        images=listing.images[:subjects],
        labels=listing.labels[:subjects],
    )


def volume_groups(listing: VolumeListing, options: VolumeOptions) -> list[str]:
    """The group of each subject: itself, unless the options say otherwise. Raises `UserError`."""
    files = [own[0] for own in listing.images]
    named = named_groups(files, listing.root, options.group_pattern, options.group_csv, options.group_column)
    return named or list(listing.subjects)


def volume_splits(
    listing: VolumeListing, groups: Sequence[str], digests: Sequence[str], options: VolumeOptions
) -> tuple[list[str], str]:
    """The split of each subject, and a line for the user or "". Raises `UserError`."""
    files, given, note = [own[0] for own in listing.images], None, ""
    if options.split_csv is not None:
        given, note = kept_splits(Path(options.split_csv), files, digests, None, groups)
    fractions = options.validation_fraction, options.test_fraction
    needed = 2 + (options.test_fraction > 0.0)
    if given is None and len(set(groups)) < needed:
        names = ", ".join(SPLITS[:needed])
        raise UserError(
            f"{len(set(groups))} subject(s) cannot be divided into {names}; add subjects, set test_fraction to 0, or "
            "give a split_csv."
        )
    shared = groups if len(set(groups)) < len(groups) else None
    return assign_splits(files, [0] * len(files), ["volume"], given, shared, *fractions, seed=options.seed), note


def _scheme(listing: VolumeListing, wanted: str | LabelScheme) -> LabelScheme:
    if wanted != "classes" or listing.classes is not None:
        return label_scheme(wanted, listing.classes or {})
    values: set[int] = set()
    for file in listing.labels:
        try:
            values |= set(np.unique(read_labels(listing.root / file, file)[0]).tolist())
        except UnreadableVolume:
            continue  # found again, and reported, when all files are decoded
    names = {"0": "background", **{str(value): f"label {value}" for value in sorted(values - {0})}}
    if len(names) < 2:
        raise UserError(
            f"no label in {str(listing.root)!r} has a voxel above 0; there is nothing to learn: check the files."
        )
    return scheme_from_labels(names)


def _channels(listing: VolumeListing) -> int:
    """Number of modalities, from `dataset.json` or else from the first image."""
    if listing.modalities:
        return len(listing.modalities)
    first = listing.images[0][0]
    try:
        return len(read_volume(listing.root / first, first)[0])
    except UnreadableVolume:
        return 1  # found again, and reported, when all files are decoded


def _check_foreground(stored: CachedVolumes, listing: VolumeListing) -> None:
    if not any(value > 0 for counts in stored.counts for value in counts):
        raise UserError(
            f"no label in {str(listing.root)!r} has a voxel above 0; there is nothing to learn: check the files."
        )
