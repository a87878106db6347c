"""What is in a folder of volumes, found in one pass, before anything is trained: `onceforall data check PATH`."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.data.label_schemes import OUTSIDE, label_scheme
from onceforall.data.msd import VolumeListing, list_volumes
from onceforall.data.nifti import nibabel
from onceforall.data.volume_cache import image_digests, volume_digests
from onceforall.data.volume_cases import VolumeCase, read_case
from onceforall.data.volume_loading import VolumeOptions, first_subjects, volume_groups, volume_splits
from onceforall.data.volumes import prepare_labels, spacing_of
from onceforall.errors import UserError

__all__ = ["VolumeReport", "check_volumes"]

SHOWN = 20  # entries of a list that the text shows
WIDE = 1000.0  # ratio of the greatest to the least maximum from which the text says that intensities differ


@final
@dataclass(frozen=True)
class VolumeReport:
    """The findings of `check_volumes`.

    `shapes`, `spacings` (mm) and `orientations` count the readable subjects; `labels` gives for each stored label value
    its voxels and the subjects that have it. `intensities` are the least and greatest minimum and the least and
    greatest maximum of the volumes. `errors` keep the folder from being trained on: a file, what is wrong and what to
    do in each. `warnings` deserve a look.
    """

    root: str
    subjects: int
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    shapes: dict[str, int]
    spacings: dict[str, int]
    orientations: dict[str, int]
    labels: dict[int, tuple[int, int]]
    intensities: tuple[float, float, float, float] | None
    empty: tuple[str, ...]
    copies: tuple[tuple[str, ...], ...]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The findings in JSON types."""
        return {
            "root": self.root,
            "kind": "volumes",
            "subjects": self.subjects,
            "modalities": list(self.modalities),
            "classes": list(self.classes),
            "shapes": self.shapes,
            "spacings": self.spacings,
            "orientations": self.orientations,
            "labels": {str(v): {"voxels": n, "subjects": in_} for v, (n, in_) in self.labels.items()},
            "intensities": None if self.intensities is None else list(self.intensities),
            "empty": list(self.empty),
            "copies": [list(group) for group in self.copies],
            "errors": list(self.errors),
            "warnings": list(self.warnings),
        }

    def text(self) -> str:
        """The findings for people, a few lines each topic."""
        lines = [f"{self.root}: {self.subjects} subjects, layout volumes", ""]
        lines += [f"modalities    {', '.join(self.modalities) or 'not named'}"]
        lines += [f"classes       {', '.join(self.classes) or 'not named'}"]
        lines += [f"shapes        {_counted(self.shapes)}", f"spacings      {_counted(self.spacings)}"]
        lines += [f"orientations  {_counted(self.orientations)}"]
        if self.intensities is not None:
            values = "least {:g} to {:g}, greatest {:g} to {:g}".format(*self.intensities)
            lines += [f"intensities   {values}"]
        total = sum(voxels for voxels, _ in self.labels.values())
        for value, (voxels, subjects) in self.labels.items():
            lines += [f"label {value:<8}{voxels} voxels ({100 * voxels / total:.2g} %) in {subjects} subjects"]
        lines += _block("error", self.errors) + _block("warning", self.warnings)
        if not self.errors:
            lines += ["", "ready to be trained on"]
        return "\n".join(lines)


def _counted(counts: dict[str, int]) -> str:
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:5]]
    return (", ".join(shown) + (f", and {len(counts) - 5} more" if len(counts) > 5 else "")) or "none"


def _block(word: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    more = [f"  ... and {len(entries) - SHOWN} more (all of them: --json)"] if len(entries) > SHOWN else []
    return ["", *(f"{word}: {entry}" for entry in entries[:SHOWN]), *more]


def check_volumes(
    path: str | Path,
    options: VolumeOptions | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> VolumeReport:
    """Read every file of a folder of volumes once and report what it holds, and all that loading would refuse.

    `options` are those with which it will be loaded; None: the usual ones, and volumes of any size fit. Whatever keeps
    the folder from being loaded is reported, not raised; a folder of another layout and an unknown scheme raise
    `UserError`. `progress(job, done, total)` is called with job "check".
    """
    options = options or VolumeOptions(max_resolution=1, mode="patches")
    listing = list_volumes(path)
    refused: list[str] = []
    try:
        listing = first_subjects(listing, options.subjects)
    except UserError as error:
        refused.append(str(error).removesuffix("."))
    named = options.scheme == "classes" and listing.classes is None
    values = None if named else label_scheme(options.scheme, listing.classes or {})
    channels = len(listing.modalities) or None
    preparation = options.preparation(channels or 1)  # of its channels nothing depends here
    found = _Findings(listing)
    for i in range(len(listing.subjects)):
        files, label = listing.images[i], listing.labels[i]
        case = read_case(listing.root, files, label, channels, values, options.stride, preparation)
        if channels is None and case.volume is not None:
            channels = len(case.volume)  # the first subject decides for the others
        found.add(i, case)
        if progress is not None:
            progress("check", i + 1, len(listing.subjects))
    try:
        groups = volume_groups(listing, options)
        digests = [""] * len(groups)
        if options.split_csv is not None:
            digests = image_digests(listing, volume_digests(listing, options.cache_dir))
        _, note = volume_splits(listing, groups, digests, options)
    except UserError as error:
        refused, note = [*refused, str(error).removesuffix(".")], ""
    return found.report(str(path), () if values is None else values.outputs, refused, [note] if note else [])


@final
class _Findings:
    """What the subjects read so far have shown."""

    def __init__(self, listing: VolumeListing) -> None:
        self.listing = listing
        self.errors = list(listing.problems)
        self.shapes: Counter[str] = Counter()
        self.spacings: Counter[str] = Counter()
        self.orientations: Counter[str] = Counter()
        self.voxels: Counter[int] = Counter()
        self.having: Counter[int] = Counter()
        self.lows: list[float] = []
        self.highs: list[float] = []
        self.empty: list[str] = []
        self.usable = 0
        self.foreground = False
        self.same: dict[str, list[str]] = {}

    def add(self, i: int, case: VolumeCase) -> None:
        """Count one subject."""
        self.errors += case.problems
        if case.volume is not None and case.affine is not None:
            self.shapes[" x ".join(map(str, case.volume.shape[1:]))] += 1
            self.spacings[" x ".join(f"{mm:.3g}" for mm in spacing_of(case.affine))] += 1
            self.orientations["".join(map(str, nibabel().aff2axcodes(case.affine)))] += 1
            digest = hashlib.sha256(case.volume.tobytes()).hexdigest()
            self.same.setdefault(digest, []).append(self.listing.images[i][0])
            if np.isfinite(case.volume).all():
                self.lows.append(float(case.volume.min()))
                self.highs.append(float(case.volume.max()))
        if case.labels is not None:
            values, counts = np.unique(case.labels, return_counts=True)
            self.voxels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
            self.having.update(values.tolist())
            if not (values > 0).any():
                self.empty.append(self.listing.labels[i])
            if case.geometry is not None and not case.problems:
                self.usable += 1
                self.foreground = self.foreground or _has_foreground(prepare_labels(case.labels, case.geometry))

    def report(
        self, root: str, classes: tuple[str, ...], refused: Sequence[str], warnings: Sequence[str]
    ) -> VolumeReport:
        """All of it as a value, with why the subjects as a whole are `refused`."""
        copies = [tuple(group) for group in self.same.values() if len(group) > 1]
        errors, warnings = list(self.errors), list(warnings)
        if self.usable and not self.foreground:
            errors.append("no label has a voxel above 0: there is nothing to learn; check the label files")
        errors += refused
        for file in self.empty:
            warnings.append(f"{file}: holds background only; correct it, or leave it if nothing is there to be seen")
        for group in copies:
            others = ", ".join(group[1:])
            warnings.append(f"{group[0]}: has the same voxels as {others}; keep one, or a split may part them")
        if len(self.spacings) > 1:
            warnings.append("spacings differ; give spacing=(x, y, z) in mm to resample all volumes to one")
        if self.highs and min(self.highs) > 0 and max(self.highs) > WIDE * min(self.highs):
            ratio = max(self.highs) / min(self.highs)
            warnings.append(f"the volumes' greatest values differ {ratio:.0f}-fold; each is normalised by itself")
        if self.listing.unlisted:
            count, first = len(self.listing.unlisted), self.listing.unlisted[0]
            warnings.append(f"{count} image(s) are not listed in dataset.json and not used (first: {first})")
        intensities = (min(self.lows), max(self.lows), min(self.highs), max(self.highs)) if self.lows else None
        return VolumeReport(
            root=root,
            subjects=len(self.listing.subjects),
            modalities=self.listing.modalities,
            classes=classes,
            shapes=dict(self.shapes.most_common()),
            spacings=dict(self.spacings.most_common()),
            orientations=dict(self.orientations.most_common()),
            labels={value: (self.voxels[value], self.having[value]) for value in sorted(self.voxels)},
            intensities=intensities,
            empty=tuple(self.empty),
            copies=tuple(copies),
            errors=tuple(errors),
            warnings=tuple(warnings),
        )


def _has_foreground(labels: np.ndarray) -> bool:
    return bool(((labels > 0) & (labels != OUTSIDE)).any())
