"""Tiny ImageNet in its official layout: `train/<wnid>/images/*`, `val/images` with `val_annotations.txt`.

The official validation images become the *test* split: they are the only labelled images that training never sees.
Validation images are taken from the training images.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from onceforall.data.listing import Listing, existing_folder, files_below, select_classes, subfolders
from onceforall.data.splits import by_hash
from onceforall.errors import UserError

__all__ = ["is_tiny_imagenet", "list_tiny_imagenet"]

ANNOTATIONS = "val/val_annotations.txt"


def is_tiny_imagenet(root: Path) -> bool:
    """Whether `root` has the official layout: a training folder and the annotated validation images."""
    return (root / "train").is_dir() and (root / ANNOTATIONS).is_file()


def list_tiny_imagenet(
    path: str | Path,
    classes: int | Sequence[str] | None = None,
    train_per_class: int | None = None,
    validation_per_class: int | None = None,
    rest_to_test: bool = True,
    seed: int = 0,
) -> Listing:
    """The files of Tiny ImageNet.

    `classes`: the first n in the order of `wnids.txt`, or names (`n02124075` or its word, `Egyptian cat`). With
    `train_per_class` and `validation_per_class` the first images of each class (by number) are divided at random, by
    `seed`, into so many of each; the remaining ones go to test, or are left out with `rest_to_test=False`. Without
    them, all training images are to be divided by fractions later. Raises `UserError`.
    """
    root = existing_folder(path)
    if not is_tiny_imagenet(root):
        raise UserError(
            f"{str(path)!r} is not Tiny ImageNet's layout; looked for train/<wnid>/images and {ANNOTATIONS}."
        )
    if (train_per_class is None) != (validation_per_class is None):
        raise UserError("train_per_class and validation_per_class go together; give both or neither.")
    available = _wnids(root)
    words = _words(root, available)
    chosen = select_classes(available, classes, {word: wnid for wnid, word in words.items()})
    official = _validation_files(root)
    rows: list[tuple[str, int, str]] = []
    for label, wnid in enumerate(chosen):
        files = sorted((f"train/{wnid}/{name}" for name in _images(root / "train" / wnid)), key=_number)
        if not files:
            raise UserError(f"{str(path)!r}: class {wnid} holds no training images; looked in train/{wnid}/images.")
        if train_per_class is None or validation_per_class is None:
            rows += [(file, label, "") for file in files]
        else:
            rows += _divide(files, label, wnid, train_per_class, validation_per_class, rest_to_test, seed)
        rows += [(file, label, "test") for file in official.get(wnid, [])]
    rows.sort()
    return Listing(
        name=root.name,
        root=root,
        classes=tuple(words[wnid] for wnid in chosen),
        files=tuple(row[0] for row in rows),
        labels=tuple(row[1] for row in rows),
        splits=tuple(row[2] for row in rows),
    )


def _divide(
    files: Sequence[str], label: int, wnid: str, train: int, validation: int, rest_to_test: bool, seed: int
) -> list[tuple[str, int, str]]:
    """Rows (file, label, split) of one class, `files` in the order of their numbers."""
    if min(train, validation) < 1 or train + validation > len(files):
        raise UserError(
            f"train_per_class {train} and validation_per_class {validation} do not fit class {wnid} of {len(files)} "
            "images; each must be at least 1 and their sum at most that."
        )
    mixed = by_hash(files[: train + validation], seed)
    rows = [(file, label, "train" if i < train else "validation") for i, file in enumerate(mixed)]
    return rows + [(file, label, "test") for file in files[train + validation :] if rest_to_test]


def _number(file: str) -> tuple[int, str]:
    digits = re.findall(r"\d+", Path(file).stem)
    return (int(digits[-1]) if digits else 0, file)


def _images(folder: Path) -> list[str]:
    """Images of a class, relative to its folder; the boxes' text file beside `images` is none."""
    inner = folder / "images"
    return [f"images/{name}" for name in files_below(inner)] if inner.is_dir() else []


def _wnids(root: Path) -> list[str]:
    present = subfolders(root / "train")
    if not (root / "wnids.txt").is_file():
        return present
    listed = (root / "wnids.txt").read_text(encoding="utf-8").split()
    return [wnid for wnid in listed if wnid in set(present)] or present


def _words(root: Path, wnids: Sequence[str]) -> dict[str, str]:
    """Word of each wnid: its first word in `words.txt`; where two classes share it, the wnid is added."""
    words = {wnid: wnid for wnid in wnids}
    if (root / "words.txt").is_file():
        for line in (root / "words.txt").read_text(encoding="utf-8").splitlines():
            wnid, _, text = line.partition("\t")
            if wnid in words and text.strip():
                words[wnid] = text.split(",")[0].strip()
    shared = list(words.values())
    return {wnid: word if shared.count(word) == 1 else f"{word} ({wnid})" for wnid, word in words.items()}


def _validation_files(root: Path) -> dict[str, list[str]]:
    """The official validation files of each wnid, relative to the root."""
    found: dict[str, list[str]] = {}
    for line in (root / ANNOTATIONS).read_text(encoding="utf-8").splitlines():
        parts = line.split("\t")
        if len(parts) >= 2:
            found.setdefault(parts[1], []).append(f"val/images/{parts[0]}")
    return found
