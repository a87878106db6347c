"""What a layout finds in a folder, as a value: files, classes, and the split where the layout decides it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from onceforall.errors import UserError, suggestion

__all__ = ["IMAGE_SUFFIXES", "KINDS", "Listing", "existing_folder", "files_below", "select_classes", "subfolders"]

KINDS = ("auto", "folder", "tiny_imagenet", "retinal_oct", "digits")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
NEVER_IMAGES = ("thumbs.db", "desktop.ini")  # what file managers leave behind; hidden files are passed over too


@final
@dataclass(frozen=True)
class Listing:
    """Files of a data set below `root`, in an order that does not depend on the file system.

    `files` are relative names with `/`; `labels[i]` is an index into `classes`; `splits[i]` is "train",
    "validation", "test" or "" where the layout leaves the split open. `groups` are those (patients) that the file
    names tell, None where the layout knows of none; `left_out` are files that are not used because of them.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[int, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.files) == len(self.labels) == len(self.splits) == len(self.groups or self.files):
            raise ValueError("files, labels, splits and groups differ in length")


def existing_folder(path: str | Path) -> Path:
    """`path` as an absolute folder. Raises `UserError` where it is missing, no folder or empty."""
    folder = Path(path).expanduser()
    if not folder.exists():
        near = suggestion(folder.name, _names(folder.parent)) if folder.parent.is_dir() else ""
        raise UserError(f"data folder {str(path)!r} does not exist; give a folder with one sub-folder per class.{near}")
    if not folder.is_dir():
        raise UserError(f"data path {str(path)!r} is a file; give a folder with one sub-folder per class.")
    if not _names(folder):
        raise UserError(f"data folder {str(path)!r} is empty; give a folder with one sub-folder per class.")
    return folder.resolve()


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise UserError(f"data folder {str(folder)!r} cannot be read ({error.strerror}).") from None


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted, hidden ones left out."""
    return [name for name in _names(folder) if (folder / name).is_dir()]


def files_below(folder: Path) -> list[str]:
    """Relative names (with `/`) of all files in `folder` and below, sorted, hidden files and folders left out."""
    found: list[str] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(parent).relative_to(folder)
        found += [(below / n).as_posix() for n in names if not n.startswith(".") and n.lower() not in NEVER_IMAGES]
    return sorted(found)


def select_classes(
    available: Sequence[str], wanted: int | Sequence[str] | None, other_names: Mapping[str, str] | None = None
) -> list[str]:
    """The first `wanted` of `available` (an int), those named (a sequence), or all (None).

    `other_names` maps further accepted names to available ones. Raises `UserError` for an unknown name, fewer than
    two classes, or more than there are.
    """
    if wanted is None:
        chosen = list(available)
    elif isinstance(wanted, (str, bool, float)):
        raise UserError(f"classes {wanted!r} must be a whole number or a list of names.")
    elif isinstance(wanted, (int, np.integer)):
        if not 2 <= wanted <= len(available):
            raise UserError(
                f"classes {wanted!r} is out of range; this data set has {len(available)} (at least 2 are needed)."
            )
        return list(available[: int(wanted)])
    else:
        names = {**(other_names or {}), **{name: name for name in available}}
        for name in wanted:
            if name not in names:
                shown = ", ".join(list(available)[:10]) + (", ..." if len(available) > 10 else "")
                raise UserError(f"class {name!r} is not in this data set; it has: {shown}.{suggestion(name, names)}")
        chosen = list(dict.fromkeys(names[name] for name in wanted))
    if len(chosen) < 2:
        raise UserError(
            f"one class only ({', '.join(chosen) or 'none'}); at least two are needed to train a classifier."
        )
    return chosen
