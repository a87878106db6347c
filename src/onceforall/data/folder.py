"""Class folders: `root/<class>/*` or `root/{train,val,test}/<class>/*`; files may lie deeper."""

from collections.abc import Sequence
from pathlib import Path

from onceforall.data.listing import Listing, existing_folder, files_below, select_classes, subfolders
from onceforall.errors import UserError

__all__ = ["list_folder", "split_folders"]

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def split_folders(root: Path) -> dict[str, str]:
    """Split -> name of its folder, where `root` holds a training folder with class folders; else empty."""
    found: dict[str, str] = {}
    for name in subfolders(root):
        split = SPLIT_NAMES.get(name.lower())
        if split is None:
            continue
        if split in found:
            raise UserError(f"{str(root)!r} holds both {found[split]!r} and {name!r} for the {split} split; keep one.")
        found[split] = name
    if "train" not in found or not subfolders(root / found["train"]):
        return {}
    return found


def list_folder(path: str | Path, classes: int | Sequence[str] | None = None) -> Listing:
    """The files of a folder of class folders, with the splits its layout gives.

    With `train` beside `val` or `test`, these are taken as they are and a missing one stays open (it will be
    taken from the training images). Every file in a class folder is listed, image or not, hidden ones excepted.
    Raises `UserError` for a missing or empty folder, an empty class, a class that a split folder lacks, or fewer than
    two classes.
    """
    root = existing_folder(path)
    parts = split_folders(root)
    places = [(split, root / name) for split, name in sorted(parts.items())] or [("", root)]
    available = sorted({name for _, place in places for name in subfolders(place)})
    if not available:
        raise UserError(f"{str(path)!r} holds no class folders; looked for <class>/* and train|val|test/<class>/*.")
    chosen = select_classes(available, classes)
    rows: list[tuple[str, int, str]] = []
    for split, place in places:
        given = "" if split == "train" and len(parts) < 3 else split
        for label, name in enumerate(chosen):
            if (place / name).is_dir():
                files = files_below(place / name)
                rows += [((place / name / file).relative_to(root).as_posix(), label, given) for file in files]
    _check_filled(path, chosen, rows, parts)
    bare = [name for split, name in parts.items() if split != "train" and all(row[2] != split for row in rows)]
    if bare:
        raise UserError(f"{str(path)!r}: {bare[0]!r} holds no files in class folders; fill it, or remove or rename it.")
    rows.sort()
    listing = Listing(
        name=root.name,
        root=root,
        classes=tuple(chosen),
        files=tuple(row[0] for row in rows),
        labels=tuple(row[1] for row in rows),
        splits=tuple(row[2] for row in rows),
    )
    _check_splits(listing)
    return listing


def _check_filled(
    path: str | Path, classes: Sequence[str], rows: Sequence[tuple[str, int, str]], parts: dict[str, str]
) -> None:
    filled = {label for _, label, split in rows if split in ("", "train")}
    empty = [name for label, name in enumerate(classes) if label not in filled]
    if empty:
        where = f" in {parts['train']!r}" if parts else ""
        raise UserError(f"{str(path)!r}: no files{where} for class {', '.join(empty)}; fill or remove these folders.")


def _check_splits(listing: Listing) -> None:
    """Every split folder holds images of every class: a score over fewer classes would mislead."""
    for split, folder in split_folders(listing.root).items():
        rows = zip(listing.labels, listing.files, strict=True)
        present = {label for label, file in rows if file.startswith(f"{folder}/")}
        missing = [name for label, name in enumerate(listing.classes) if label not in present]
        if missing:
            raise UserError(
                f"{str(listing.root)!r}: no images of class {', '.join(missing)} in {folder!r}, the {split} split; add "
                "some, remove that folder, or leave the class out."
            )
