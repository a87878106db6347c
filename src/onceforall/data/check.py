"""What is in a data folder, found in one pass, before anything is trained: `onceforall data check PATH`."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from onceforall.data.assembly import DataOptions, groups_of, splits_of
from onceforall.data.cache import shows_colour
from onceforall.data.decoding import UnreadableImage, decode, read_header
from onceforall.data.folder import split_folders
from onceforall.data.layouts import list_images, say_kind
from onceforall.data.listing import IMAGE_SUFFIXES, Listing, existing_folder, files_below, subfolders
from onceforall.data.msd import is_volume_folder
from onceforall.data.retinal_oct import patient_of
from onceforall.data.splits import SPLITS
from onceforall.data.tiny_imagenet import list_tiny_imagenet
from onceforall.data.volume_check import VolumeReport, check_volumes
from onceforall.data.volume_loading import VolumeOptions
from onceforall.errors import UserError

__all__ = ["DataReport", "check_data"]

UNDIVIDED = "undivided"  # the split of a layout that gives none
SHOWN = 10  # entries of a list that the text shows


@final
@dataclass(frozen=True)
class DataReport:
    """The findings of `check_data`.

    `counts[split][class]` counts files, readable or not; the split is "undivided" where the layout gives none.
    `sizes`, `modes` and `bit_depths` count the readable images by "width x height", by what the file stores ("L" grey,
    "RGB" colour, ...) and by bits per channel. `unreadable` gives a reason per file. `copies` are groups of
    byte-identical images that stand in several classes or splits; `copies_within` counts the superfluous ones inside
    one class and split. `ignored` are files that lie outside the class folders. For retinal OCT, `patients` counts the
    patients of each split, `shared_patients` are those in several split folders, `unnamed` files that name no patient.
    `refused` says why these images would not be loaded whatever their files hold, and `note` what their user should
    read of their splits. `skipped`: files that cannot be read are left out.
    """

    root: str
    kind: str
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    sizes: dict[str, int]
    modes: dict[str, int]
    bit_depths: dict[int, int]
    unreadable: dict[str, str]
    copies: tuple[tuple[str, ...], ...]
    copies_within: int
    ignored: tuple[str, ...]
    patients: dict[str, int]
    shared_patients: tuple[str, ...]
    unnamed: tuple[str, ...]
    refused: tuple[str, ...]
    note: str
    skipped: bool

    @property
    def errors(self) -> list[str]:
        """What keeps this folder from being trained on, one line each."""
        found = (self._lacking() or list(self.refused)) if self.refused else []
        if self.unreadable and not self.skipped:
            found.append(f"{len(self.unreadable)} file(s) cannot be read as images; mend, remove or skip them")
        return found

    def _lacking(self) -> list[str]:
        """All that the layout lacks, of which its listing names the first."""
        found = []
        if len(self.classes) < 2:
            names = ", ".join(self.classes) or "none"
            found.append(f"{len(self.classes)} class folder(s) ({names}); at least two are needed, each with images")
        empty = [c for c in self.classes if sum(per_class.get(c, 0) for per_class in self.counts.values()) == 0]
        if empty:
            found.append(f"no files for class {', '.join(empty)}; fill or remove these folders")
        elif "train" in self.counts and (untrained := [c for c in self.classes if not self.counts["train"].get(c)]):
            found.append(f"no training files for class {', '.join(untrained)}")
        if len(self.counts) > 1 and (
            bare := [s for s, n in self.counts.items() if s != "train" and not any(n.values())]
        ):
            found.append(f"no files in class folders for the split {', '.join(bare)}; fill or remove its folder")
        if self.unnamed:
            found.append(
                f"{len(self.unnamed)} file(s) are not named <CLASS>-<patient>-<n>.jpeg (first: {self.unnamed[0]})"
            )
        if self.kind == "retinal_oct":
            for split in [s for s in self.counts if s != "train" and any(self.counts[s].values())]:
                if lacking := [c for c in self.classes if not self.counts[split][c] and c not in empty]:
                    found.append(f"no {split} images of class {', '.join(lacking)}; add some or remove that folder")
        return found

    @property
    def warnings(self) -> list[str]:
        """What can be trained on but deserves a look, one line each."""
        found = [self.note] * bool(self.note)
        if self.unreadable and self.skipped:
            found.append(f"{len(self.unreadable)} file(s) cannot be read as images and are left out")
        if self.copies:
            found.append(f"{len(self.copies)} image(s) stand byte-identical in several classes or splits")
        if self.copies_within:
            found.append(f"{self.copies_within} byte-identical copies inside a class: a split may part them")
        if self.shared_patients:
            named = ", ".join(self.shared_patients[:SHOWN])
            found.append(
                f"{len(self.shared_patients)} patient(s) stand in several split folders ({named}); their images stay "
                "in test, or else in validation, and are left out elsewhere"
            )
        if self.ignored:
            found.append(f"{len(self.ignored)} file(s) outside the class folders are ignored")
        if len(self.bit_depths) > 1:
            found.append("8-bit and 16-bit images are mixed; all are stored with 16 bits")
        return found

    def to_dict(self) -> dict[str, Any]:
        """The findings in JSON types."""
        return {
            "root": self.root,
            "kind": self.kind,
            "classes": list(self.classes),
            "counts": self.counts,
            "sizes": self.sizes,
            "modes": self.modes,
            "bit_depths": {str(bits): count for bits, count in self.bit_depths.items()},
            "unreadable": self.unreadable,
            "copies": [list(group) for group in self.copies],
            "copies_within": self.copies_within,
            "ignored": list(self.ignored),
            "patients": self.patients,
            "shared_patients": list(self.shared_patients),
            "unnamed": list(self.unnamed),
            "errors": self.errors,
            "warnings": self.warnings,
        }

    def text(self) -> str:
        """The findings for people, a few lines each topic."""
        total = sum(sum(per_class.values()) for per_class in self.counts.values())
        lines = [f"{self.root}: {total} files, {len(self.classes)} classes, layout {self.kind}", ""]
        lines += self._table()
        lines += ["", f"sizes       {_counted(self.sizes)}", f"modes       {_counted(self.modes)}"]
        lines += [f"bit depths  {_counted({f'{bits} bit': n for bits, n in self.bit_depths.items()})}"]
        if self.patients:
            lines += [f"patients    {_counted(self.patients)}"]
        lines += _block("unreadable", [f"{name}: {reason}" for name, reason in sorted(self.unreadable.items())])
        lines += _block("byte-identical in several classes or splits", [" = ".join(group) for group in self.copies])
        lines += _block("outside the class folders, ignored", list(self.ignored))
        lines += ["", *(f"error: {line}" for line in self.errors), *(f"warning: {line}" for line in self.warnings)]
        if not self.errors:
            lines.append("ready to be trained on")
        return "\n".join(lines)

    def _table(self) -> list[str]:
        width = max([len(name) for name in self.classes] + [5])
        splits = list(self.counts)
        rows = [f"{'class':<{width}}  " + "  ".join(f"{split:>10}" for split in splits)]
        for name in self.classes[:200]:
            rows.append(f"{name:<{width}}  " + "  ".join(f"{self.counts[split].get(name, 0):>10}" for split in splits))
        rows.append(f"{'all':<{width}}  " + "  ".join(f"{sum(self.counts[split].values()):>10}" for split in splits))
        return rows


def _counted(counts: dict[str, int]) -> str:
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:SHOWN]]
    more = f", and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    return (", ".join(shown) + more) or "none"


def _block(title: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    more = [f"  ... and {len(entries) - SHOWN} more"] if len(entries) > SHOWN else []
    return ["", f"{title} ({len(entries)}):", *(f"  {entry}" for entry in entries[:SHOWN]), *more]


def check_data(
    path: str | Path,
    options: DataOptions | VolumeOptions | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> DataReport | VolumeReport:
    """Read and decode every file of a data folder once and report what it holds, and all that loading would refuse.

    `options` are those with which it will be loaded, of images or of volumes; None: the usual ones of what the folder
    looks like (see `check_volumes`). A bad file, an empty class, a split or grouping that cannot be made and whatever
    else keeps the folder from being loaded is reported, not raised; a missing or empty folder and one of another kind
    raise `UserError`. `progress(job, done, total)` is called with job "check".
    """
    root = existing_folder(path)
    if isinstance(options, VolumeOptions) or (options is None and is_volume_folder(root)):
        return check_volumes(path, options, progress)
    options = options or DataOptions()
    kind = say_kind(path, options.kind)
    splits, classes, entries = _tiny_entries(root) if kind == "tiny_imagenet" else _folder_entries(root)
    ignored = _ignored(root, {file for file, _, _ in entries}, kind)
    listing, refused = None, []
    try:
        listing = list_images(path, kind, options)
    except UserError as error:
        refused.append(str(error).removesuffix("."))
    else:
        classes, used = list(listing.classes), {*listing.files, *listing.left_out}
        entries = [entry for entry in entries if entry[0] in used]
    counts = {split: dict.fromkeys(classes, 0) for split in splits}
    sizes: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    bit_depths: Counter[int] = Counter()
    unreadable: dict[str, str] = {}
    digests: dict[str, str] = {}
    colour = False
    for done, (file, name, split) in enumerate(entries, start=1):
        counts[split][name] += 1
        try:
            data = _bytes(root / file)
            header = read_header(data, file)
            pixels = decode(data, file)
        except UnreadableImage as error:
            unreadable[file] = error.reason
        else:
            sizes[f"{pixels.shape[1]} x {pixels.shape[0]}"] += 1
            modes[header.mode] += 1
            bit_depths[header.bits] += 1
            digests[file] = hashlib.sha256(data).hexdigest()
            colour = colour or shows_colour(pixels)
        if progress is not None and (done % 256 == 0 or done == len(entries)):
            progress("check", done, len(entries))
    note = ""
    if listing is not None:
        refused, note = _judged(listing, options, digests, 3 if colour else 1, max(bit_depths, default=8))
    same: dict[str, list[tuple[str, str, str]]] = {}
    for entry in entries:
        if entry[0] in digests:
            same.setdefault(digests[entry[0]], []).append(entry)
    homes: dict[str, set[str]] = {}  # patient -> splits
    by_name = kind == "retinal_oct" and not options.has_groups
    for file, _, split in entries if by_name else []:
        homes.setdefault(patient_of(file) or "", set()).add(split)
    unnamed = tuple(file for file, _, _ in entries if not patient_of(file)) if homes.pop("", None) else ()
    copies = [group for group in same.values() if len(group) > 1]
    return DataReport(
        root=str(path),
        kind=kind,
        classes=tuple(classes),
        counts=counts,
        sizes=dict(sizes.most_common()),
        modes=dict(modes.most_common()),
        bit_depths=dict(bit_depths.most_common()),
        unreadable=unreadable,
        copies=tuple(tuple(file for file, _, _ in group) for group in copies if len(_places(group)) > 1),
        copies_within=sum(len(group) - len(_places(group)) for group in copies),
        ignored=ignored,
        patients={split: sum(split in where for where in homes.values()) for split in splits if homes},
        shared_patients=tuple(sorted(patient for patient, where in homes.items() if len(where) > 1)),
        unnamed=unnamed,
        refused=tuple(refused),
        note=note,
        skipped=options.skip_unreadable,
    )


def _judged(
    listing: Listing, options: DataOptions, readable: Mapping[str, str], channels: int, bit_depth: int
) -> tuple[list[str], str]:
    """Why images would be refused, and what to say of their splits; `readable` files have a digest."""
    digests = [readable.get(file, "") for file in listing.files]
    rows = range(len(digests))
    refused, note = [], ""
    try:
        groups = groups_of(listing, options)
        _, note = splits_of(listing, groups, digests, rows, options)
        if options.skip_unreadable:
            _, note = splits_of(listing, groups, digests, [i for i in rows if digests[i]], options)
    except UserError as error:
        refused.append(str(error).removesuffix("."))
    try:
        options.preparation(options.channels or channels, bit_depth, None, (0.0,), (1.0,))
    except UserError as error:
        refused.append(str(error).removesuffix("."))
    return refused, note


def _places(group: Sequence[tuple[str, str, str]]) -> set[tuple[str, str]]:
    """The (class, split) pairs in which the copies of one image stand."""
    return {(name, split) for _, name, split in group}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(path.name, f"cannot be opened ({error.strerror})") from None


def _folder_entries(root: Path) -> tuple[list[str], list[str], list[tuple[str, str, str]]]:
    """Splits, classes and (file, class, split) of class folders, however incomplete."""
    parts = split_folders(root)
    places = [(split, root / name) for split, name in sorted(parts.items())] or [(UNDIVIDED, root)]
    classes = sorted({name for _, place in places for name in subfolders(place)})
    entries = [
        ((place / name / file).relative_to(root).as_posix(), name, split)
        for split, place in places
        for name in classes
        if (place / name).is_dir()
        for file in files_below(place / name)
    ]
    return [split for split in SPLITS if split in parts] or [UNDIVIDED], classes, sorted(entries)


def _tiny_entries(root: Path) -> tuple[list[str], list[str], list[tuple[str, str, str]]]:
    listing = list_tiny_imagenet(root)
    rows = zip(listing.files, listing.labels, listing.splits, strict=True)
    entries = [(file, listing.classes[label], split or "train") for file, label, split in rows]
    return ["train", "test"], list(listing.classes), entries


def _ignored(root: Path, listed: set[str], kind: str) -> tuple[str, ...]:
    """Files that no class holds; of Tiny ImageNet only images, its lists belong to the layout."""
    rest = [file for file in files_below(root) if file not in listed]
    if kind == "tiny_imagenet":
        rest = [file for file in rest if file.lower().endswith(IMAGE_SUFFIXES)]
    return tuple(rest)
