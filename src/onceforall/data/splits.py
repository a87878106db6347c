"""Who is trained on, who validates, who tests: stratified by class, or with whole groups (patients) on one side.

Nothing is drawn from a random generator: files and groups are ordered by a hash of (seed, name), so a split depends
on the names and the seed only, not on the order in which a file system lists them.
"""

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from onceforall.errors import UserError, suggestion
from onceforall.files import write_text

__all__ = [
    "SPLITS",
    "assign_splits",
    "by_hash",
    "check_grouping",
    "copies_across",
    "groups_from_csv",
    "groups_from_pattern",
    "kept_splits",
    "named_groups",
    "write_split_file",
]

SPLITS = ("train", "validation", "test")
FILE_COLUMNS = ("file", "filename", "file_name", "path", "image")


def by_hash(names: Sequence[str], seed: int) -> list[str]:
    """`names` in an order that looks random and depends on the names and `seed` alone."""
    return sorted(names, key=lambda name: (hashlib.sha256(f"{seed}:{name}".encode()).digest(), name))


def assign_splits(
    files: Sequence[str],
    labels: Sequence[int],
    classes: Sequence[str],
    given: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
) -> list[str]:
    """One of `SPLITS` for each file.

    Files whose `given` split is not "" keep it; the others are divided among train and those splits that no file was
    given, by the fractions (of the files divided), class by class. `test_fraction` may be 0: then there is no test
    split. With `groups`, files of one group stay together and the fractions are met as nearly as that allows.
    Raises `UserError`: fractions out of range, a class with fewer images (or groups) than splits, a group that the
    given splits tear apart.
    """
    given = [""] * len(files) if given is None else list(given)
    _check_fractions(validation_fraction, test_fraction)
    fractions = {
        split: fraction
        for split, fraction in (("test", test_fraction), ("validation", validation_fraction))
        if split not in given and fraction > 0.0
    }
    splits = [split or "train" for split in given]
    open_ = [i for i, split in enumerate(given) if not split]
    if open_ and fractions:
        names = [groups[i] if groups is not None else files[i] for i in open_]
        unit = "groups" if groups is not None else "images"
        divided = _divide(names, [labels[i] for i in open_], classes, fractions, seed, unit)
        for i, split in zip(open_, divided, strict=True):
            splits[i] = split
    if groups is not None:
        _check_groups(groups, splits)
    _check_classes(labels, classes, splits)
    return splits


def _check_fractions(validation: float, test: float) -> None:
    if not 0.0 < validation < 1.0:
        raise UserError(f"validation_fraction {validation!r} is out of range; allowed is 0 < validation_fraction < 1.")
    if not 0.0 <= test < 1.0:
        raise UserError(f"test_fraction {test!r} is out of range; allowed is 0 <= test_fraction < 1.")
    if validation + test >= 1.0:
        raise UserError(f"validation_fraction {validation!r} + test_fraction {test!r} leave nothing to train on.")


def _check_groups(groups: Sequence[str], splits: Sequence[str]) -> None:
    sides: dict[str, set[str]] = {}
    for group, split in zip(groups, splits, strict=True):
        sides.setdefault(group, set()).add(split)
    torn = sorted(group for group, where in sides.items() if len(where) > 1)
    if torn:
        raise UserError(
            f"{len(torn)} group(s) stand in more than one split of the given layout ({_some(torn)}); move their files "
            "to one split, or give one folder per class and let the split be made."
        )


def _check_classes(labels: Sequence[int], classes: Sequence[str], splits: Sequence[str]) -> None:
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    missing = [name for label, name in enumerate(classes) if label not in trained]
    if missing:
        raise UserError(f"no training images for class {_some(missing)}; add some or leave the class out.")
    for split in ("train", "validation"):
        if split not in splits:
            raise UserError(f"no {split} images; raise validation_fraction or add images.")


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _divide(
    names: Sequence[str],
    labels: Sequence[int],
    classes: Sequence[str],
    fractions: dict[str, float],
    seed: int,
    unit: str,
) -> list[str]:
    """A split for each image; images of one name stay together. `names` are unique where no groups are asked for."""
    needed = len(fractions) + 1
    per_class: list[set[str]] = [set() for _ in classes]
    for name, label in zip(names, labels, strict=True):
        per_class[label].add(name)
    few = [f"{classes[c]} ({len(members)})" for c, members in enumerate(per_class) if 0 < len(members) < needed]
    if few:
        raise UserError(
            f"fewer {unit} than splits in class {_some(few)}; each class needs at least {needed} {unit} "
            f"({', '.join(['train', *sorted(fractions, reverse=True)])}): add images or leave the class out."
        )
    if unit == "images":
        chosen: dict[str, str] = {}
        for members in per_class:
            chosen |= _divide_class(by_hash(sorted(members), seed), fractions)
    else:
        chosen = _divide_groups(names, labels, per_class, classes, fractions, seed)
    return [chosen[name] for name in names]


def _divide_class(names: Sequence[str], fractions: dict[str, float]) -> dict[str, str]:
    """The first names to test, the next to validation, the rest to train; every split gets at least one."""
    chosen: dict[str, str] = {}
    start = 0
    for left, (split, fraction) in zip(range(len(fractions), 0, -1), fractions.items(), strict=True):
        size = max(1, min(round(len(names) * fraction), len(names) - start - left))
        chosen |= dict.fromkeys(names[start : start + size], split)
        start += size
    return chosen | dict.fromkeys(names[start:], "train")


def _divide_groups(
    names: Sequence[str],
    labels: Sequence[int],
    per_class: Sequence[set[str]],
    classes: Sequence[str],
    fractions: dict[str, float],
    seed: int,
) -> dict[str, str]:
    """Group -> split. First every class gets one small group in each split, then each remaining group, largest first,
    goes where the counts per class come nearest to the fractions.
    """
    groups = by_hash(sorted(set(names)), seed)
    row = {group: i for i, group in enumerate(groups)}
    counts = np.zeros((len(groups), len(classes)))  # (groups, classes)
    for name, label in zip(names, labels, strict=True):
        counts[row[name], label] += 1
    wanted = ["train", *fractions]
    share = np.array([1.0 - sum(fractions.values()), *fractions.values()])
    total = np.maximum(counts.sum(axis=0), 1.0)  # (classes,)
    target = share[:, None] * total[None, :]  # (splits, classes)
    have = np.zeros_like(target)
    chosen: dict[str, str] = {}

    def put(group: str, split: int) -> None:
        chosen[group] = wanted[split]
        have[split] += counts[row[group]]

    for c in sorted((c for c, members in enumerate(per_class) if members), key=lambda c: (len(per_class[c]), c)):
        for split in sorted(range(len(wanted)), key=lambda s: share[s]):
            if have[split, c] > 0:
                continue
            free = [group for group in groups if group in per_class[c] and group not in chosen]
            if not free:
                raise UserError(
                    f"class {classes[c]} cannot have a group in each of {', '.join(wanted)}: its groups are shared "
                    "with other classes; add groups, set test_fraction to 0, or try another seed."
                )
            put(min(free, key=lambda g: (np.count_nonzero(counts[row[g]]), counts[row[g]].sum())), split)
    for group in sorted((g for g in groups if g not in chosen), key=lambda g: -counts[row[g]].sum()):
        added = counts[row[group]]
        rise = (((have + added - target) ** 2 - (have - target) ** 2) / total**2).sum(axis=1)  # (splits,)
        put(group, int(np.argmin(rise)))
    return chosen


# Groups ----------------------------------------------------------------------------------------------------------


def groups_from_pattern(files: Sequence[str], pattern: str, expected: str = "") -> list[str]:
    """The group of each file: what the one bracketed part of `pattern` matches in the file's name.

    A pattern that holds a `/` is matched against the relative path, any other against the name alone. `expected` says
    in an error what names should look like, where the pattern is not the user's own. Raises `UserError` for a pattern
    without exactly one group and for files that do not match.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"group_pattern {pattern!r} is no regular expression ({error}).") from None
    if compiled.groups != 1:
        raise UserError(
            f"group_pattern {pattern!r} has {compiled.groups} bracketed parts; exactly one is needed, as in '-(\\d+)-'."
        )
    matches = [compiled.search(file if "/" in pattern else PurePosixPath(file).name) for file in files]
    missing = [file for file, match in zip(files, matches, strict=True) if match is None or match.group(1) is None]
    if missing and expected:
        raise UserError(f"{len(missing)} of {len(files)} files ({_some(missing, 3)}) are not named {expected}.")
    if missing:
        raise UserError(
            f"group_pattern {pattern!r} does not match {len(missing)} of {len(files)} files ({_some(missing, 3)})."
        )
    return [match.group(1) for match in matches if match is not None]


def groups_from_csv(files: Sequence[str], path: Path, column: str) -> list[str]:
    """The group of each file: its value of `column` in a CSV file with a column `file` (or filename, path, image).

    Files are found by their relative name, or by their bare name where that is unique in the table. Raises
    `UserError` for a missing table, column, row or value.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
            columns = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"group_csv {str(path)!r} cannot be read ({error}).") from None
    if column not in columns:
        listed = ", ".join(columns)
        raise UserError(
            f"group_csv {path.name} has no column {column!r}; it has: {listed}.{suggestion(column, columns)}"
        )
    key = next((name for name in columns if name.lower() in FILE_COLUMNS), None)
    if key is None:
        raise UserError(f"group_csv {path.name} has no column with file names; looked for: {', '.join(FILE_COLUMNS)}.")
    by_path: dict[str, str] = {}
    by_name: dict[str, set[str]] = {}
    for entry in rows:
        file, group = (entry[key] or "").replace("\\", "/"), (entry[column] or "").strip()
        by_path[file] = group
        by_name.setdefault(PurePosixPath(file).name, set()).add(group)
    groups: list[str] = []
    missing: list[str] = []
    for file in files:
        named = by_name.get(PurePosixPath(file).name, set())
        group = by_path.get(file) or (next(iter(named)) if len(named) == 1 else "")
        groups.append(group)
        if not group:
            missing.append(file)
    if missing:
        raise UserError(
            f"group_csv {path.name} gives no {column} for {len(missing)} of {len(files)} files ({_some(missing, 3)}); "
            f"name them in column {key!r} relative to the data folder."
        )
    return groups


def check_grouping(pattern: str | None, table: str | Path | None, column: str | None) -> None:
    """Raise `UserError` where `group_pattern`, `group_csv` and `group_column` do not go together."""
    if pattern is not None and table is not None:
        raise UserError("group_pattern and group_csv exclude each other; give one.")
    if (table is None) != (column is None):
        raise UserError("group_csv and group_column go together; give both, as in manifest.csv and patient_id.")


def named_groups(
    files: Sequence[str], root: Path, pattern: str | None, table: str | Path | None, column: str | None
) -> list[str] | None:
    """The group of each file by `group_pattern`, or by `group_csv` and `group_column`; None where none is given.

    A relative table that is not found where one is lies in `root`. Raises `UserError`.
    """
    if pattern is not None:
        return groups_from_pattern(files, pattern)
    if table is None or column is None:
        return None
    path = Path(table).expanduser()
    return groups_from_csv(files, path if path.is_absolute() or path.is_file() else root / path, column)


def copies_across(digests: Sequence[str], splits: Sequence[str]) -> int:
    """Number of validation and test inputs that stand identical among the training inputs."""
    trained = {digest for digest, split in zip(digests, splits, strict=True) if split == "train"}
    return sum(split != "train" and digest in trained for digest, split in zip(digests, splits, strict=True))


def kept_splits(
    path: Path,
    files: Sequence[str],
    digests: Sequence[str],
    given: Sequence[str] | None,
    groups: Sequence[str] | None,
) -> tuple[list[str], str]:
    """The split of each file by the table that `write_split_file` wrote to `path`, and a line for the user.

    A file has the split of its content, wherever that lay and whatever it was called, or else of its name, or of its
    group; of which none is known keeps the `given` split, or "". Of equal content in several splits a file of another
    name is for training if one of them was. The `digests` are those of the table; "" where there is none, and a table
    may have none. The line says how many of the table's files were found where it is not all, otherwise it is empty.
    Raises `UserError` where there is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"split_csv {str(path)!r} cannot be read ({error}).") from None
    if not rows or not {"file", "split"} <= set(rows[0]) or {row["split"] for row in rows} - set(SPLITS):
        raise UserError(f"split_csv {str(path)!r}: needs columns file and split, with {', '.join(SPLITS)} in it.")
    unmoved = {(row["file"], row["digest"]): row["split"] for row in rows if row.get("digest")}
    by_digest: dict[str, str] = {}
    for row in rows:
        if digest := row.get("digest"):
            by_digest[digest] = min(by_digest.get(digest, row["split"]), row["split"], key=SPLITS.index)
    by_file = {row["file"]: row["split"] for row in rows}
    by_group = {row["group"]: row["split"] for row in rows if row.get("group")}
    groups = groups if groups is not None else [""] * len(files)
    given = given if given is not None else [""] * len(files)
    splits = [
        unmoved.get((file, digest)) or by_digest.get(digest) or by_file.get(file) or by_group.get(group) or own
        for file, digest, group, own in zip(files, digests, groups, given, strict=True)
    ]
    names, contents = set(files), set(digests) - {""}
    found = sum(row["file"] in names or row.get("digest") in contents for row in rows)
    return splits, "" if found == len(rows) else _not_all_found(path, found, len(rows), by_digest)


def _not_all_found(path: Path, found: int, total: int, by_digest: Mapping[str, str]) -> str:
    if by_digest:
        return f"{found} of the {total} files in {path} were found, by name or content; all others here are new to it."
    return (
        f"{found} of the {total} files in {path} were found, by name alone, for it has no digests: what was moved or "
        "renamed counts as new and may be tested on though it was trained on."
    )


def write_split_file(
    path: str | Path,
    files: Sequence[str],
    class_names: Sequence[str] | None,
    splits: Sequence[str],
    groups: Sequence[str] | None = None,
    digests: Sequence[str] | None = None,
) -> None:
    """Write `file,class,split,group,digest` as CSV, sorted by file, without what is None; whole or not at all."""
    named = {"file": files, "class": class_names, "split": splits, "group": groups, "digest": digests}
    columns = {name: column for name, column in named.items() if column is not None}
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(sorted(zip(*columns.values(), strict=True)))
    write_text(Path(path), stream.getvalue())
