"""Bundles come to be whole or not at all: in a folder beside, which is renamed into place."""

import importlib.metadata
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onceforall.bundles import ABOUT, checksum, is_bundle, seal
from onceforall.errors import UserError
from onceforall.evaluation.results import json_types
from onceforall.exporting.model_card import model_card
from onceforall.files import write_json, write_text

__all__ = ["check_place", "draft_folder", "finish", "rejected_place", "requirements"]

FRONT, CARD, REQUIREMENTS = "front.png", "README.md", "requirements.txt"


def rejected_place(folder: Path) -> Path:
    """Where a bundle goes that failed its check."""
    folder = folder.resolve()  # of "." there is no name
    return folder.with_name(f"{folder.name}.rejected")


def check_place(folder: Path) -> None:
    """Raise `UserError` where `folder`, or the place of a rejected one, is something else than a bundle or empty."""
    for place in (folder, rejected_place(folder)):
        if not place.exists() or is_bundle(place):
            continue
        if not place.is_dir() or any(place.iterdir()):
            raise UserError(f"{place} exists and is no bundle; nothing was written. Give another folder by --out.")


@contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, which is gone in the end unless it was renamed.

    Raises `UserError` where it cannot be made.
    """
    folder = folder.resolve()
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}.") from error
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def finish(draft: Path, folder: Path, about: Mapping[str, Any], front: bytes | None = None) -> None:
    """Complete the bundle in `draft`, which has its model files, and put it in the place of `folder`.

    Args:
        draft: from `draft_folder`.
        folder: absent, empty, or a bundle, which is replaced.
        about: what `model.json` says, without `files`.
        front: the picture (PNG) of its place among other networks.
    """
    about, folder = json_types(about), folder.resolve()
    if front is not None:
        (draft / FRONT).write_bytes(front)
    write_text(draft / REQUIREMENTS, "".join(f"{line}\n" for line in about["requirements"]))
    write_text(draft / CARD, model_card(about, picture=FRONT if front is not None else None))
    files = {path.name: checksum(path) for path in sorted(draft.iterdir())}
    write_json(draft / ABOUT, seal({**about, "files": files}))
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        if folder.exists():
            os.rename(folder, old)
        try:
            os.rename(draft, folder)
        except OSError:
            if old.exists():
                os.rename(old, folder)
            raise
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}.") from error
    finally:
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)


def requirements(engine: str, segments: bool, preparation: Mapping[str, Any]) -> list[str]:
    """What a device without PyTorch has to install beside this package (with `pip install --no-deps`)."""
    names = ["numpy", "click", "torch" if engine == "torch" else engine, "nibabel" if segments else "pillow"]
    if preparation.get("white_border", "keep") != "keep":
        names.append("scipy")
    return [_with_version(name) for name in names]


def _with_version(name: str) -> str:
    """The name with the oldest version that this package asks for."""
    try:
        lines = importlib.metadata.requires("onceforall") or []
    except importlib.metadata.PackageNotFoundError:  # run from its source
        lines = []
    known = [line.partition(";")[0].strip() for line in lines]
    return next((line for line in known if re.match(rf"{re.escape(name)}\b", line)), name)
