"""Retinal OCT as Kermany et al. (Cell, 2018) publish it: `[train|val|test/]<CLASS>/<CLASS>-<patient>-<n>.jpeg`.

The number in the middle of a file's name is the patient's, also across classes; a patient's images stay on one side.
Published folders are kept: a patient who stands in several stays in the test folder, or else in the validation
folder, and further images of this patient are left out.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from onceforall.data.folder import list_folder, split_folders
from onceforall.data.listing import Listing, files_below, subfolders
from onceforall.data.splits import SPLITS, groups_from_pattern

__all__ = ["CLASSES", "EXPECTED", "PATIENT", "is_retinal_oct", "list_retinal_oct", "patient_of"]

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
PATIENT = r"^[A-Za-z]+-(\d+)-\d+\.\w+$"
EXPECTED = (
    "<CLASS>-<patient>-<n>.jpeg, as CNV-1016042-1.jpeg, which tells the patient; rename them, or give group_pattern or "
    "group_csv, or kind 'folder' to divide the images without regard to patients"
)


def is_retinal_oct(root: Path) -> bool:
    """Whether all class folders bear names of this data set, and one of them holds a file named after a patient."""
    places = [root / name for name in split_folders(root).values()] or [root]
    folders = [place / name for place in places for name in subfolders(place)]
    if not folders or not {folder.name for folder in folders} <= set(CLASSES):
        return False
    return any(patient_of(file) is not None for folder in folders for file in files_below(folder))


def patient_of(file: str) -> str | None:
    """The patient's number in the name of a file, or None where it has none."""
    match = re.search(PATIENT, PurePosixPath(file).name)
    return None if match is None else match.group(1)


def list_retinal_oct(path: str | Path, classes: int | Sequence[str] | None = None, *, patients: bool = True) -> Listing:
    """The files of retinal OCT, with their patients and the splits of the layout.

    `classes`: the first n of the alphabet, or names; all by default. With `patients=False` file names are not
    looked at; the caller groups the files. Raises `UserError` for names without a patient's number, and for a class
    that a split folder lacks.
    """
    listing = list_folder(path, classes)
    if not patients:
        return listing
    groups = groups_from_pattern(listing.files, PATIENT, EXPECTED)
    home: dict[str, str] = {}  # patient -> split, the last of SPLITS where the images stand in several
    order = ("", *SPLITS)
    for group, split in zip(groups, listing.splits, strict=True):
        home[group] = max(home.get(group, ""), split, key=order.index)
    rows = range(len(groups))
    kept = [i for i in rows if listing.splits[i] == home[groups[i]]]
    return replace(
        listing,
        files=tuple(listing.files[i] for i in kept),
        labels=tuple(listing.labels[i] for i in kept),
        splits=tuple(listing.splits[i] for i in kept),
        groups=tuple(groups[i] for i in kept),
        left_out=tuple(listing.files[i] for i in rows if listing.splits[i] != home[groups[i]]),
    )
