"""A whole family of networks in one archive, opened with no data at hand; `deploying.packaging` writes it.

    family.json                        what it is: classes, task, preparation, phase, checksums of all other files
    run.json                           recipe, phases and description of the data, without paths
    checkpoints/<n>-<phase>-best.safetensors    the weights, with network, options and search space
    models/predictor.json              predictor of the metric, where the run had one
    models/latency-<name>.json         latency tables
    results/                           tables and pictures of what was evaluated
    README.md                          a model card

Unpacked it is a run directory without data: `search` asks the predictor, and whatever measures takes `--data PATH`.
"""

import hashlib
import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, final

from onceforall.errors import UserError
from onceforall.runs import read_run, trained_space
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import load_network
from onceforall.training.records import FAMILY as ABOUT

__all__ = ["ABOUT", "FORMAT", "MODELS", "Family", "family_folder", "is_family", "open_family", "unpack"]

FORMAT = "onceforall-family-1"
CHECKPOINTS, MODELS = "checkpoints", "models"
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)  # what reading a damaged archive raises
SUFFIXES = (".json", ".csv", ".md", ".png", ".svg", ".safetensors")
MOST_FILES = 1_000
MOST_BYTES = 16 << 30
CHUNK = 1 << 20


@final
@dataclass(frozen=True)
class Family:
    """What `open_family` found.

    Args:
        folder: where it lies.
        about: what `family.json` says.
        supernet: the elastic network, in evaluation mode.
        space: what its phase trained: that of the network, or less where phases were still to come.
    """

    folder: Path
    about: dict[str, Any]
    supernet: Supernet
    space: SearchSpace

    @property
    def metric(self) -> str:
        """By which its networks are chosen."""
        return self.about["metric"]

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger metric is better."""
        return self.about["higher_is_better"]

    @property
    def predictor(self) -> Path | None:
        """The file of its predictor."""
        path = self.folder / MODELS / "predictor.json"
        return path if path.is_file() else None

    @property
    def latency_tables(self) -> list[Path]:
        """The files of its latency tables."""
        return sorted((self.folder / MODELS).glob("latency-*.json"))


def is_family(path: Path) -> bool:
    """Whether it is an unpacked family, or an archive."""
    return path.is_file() if path.suffix == ".zip" else (path / ABOUT).is_file()


def family_folder(path: Path) -> Path:
    """The folder of a family: `path` itself, or where the archive `path` is unpacked, which happens once.

    An archive `x.zip` is unpacked into `x` beside it; a folder `x` that holds the same family is taken as it is.
    """
    if path.suffix != ".zip" or not path.is_file():
        return path
    folder = path.with_suffix("")
    if (folder / ABOUT).is_file():
        with _opened(path) as archive:
            if _read_member(path, archive) == (folder / ABOUT).read_bytes():
                return folder
    return unpack(path, folder)


def open_family(path: Path) -> Family:
    """Open a family; see `family_folder`. Raises `UserError` where it is none, or a file is missing or damaged."""
    folder = family_folder(path)
    about = read_about(folder)
    for name, digest in about["files"].items():
        if name.startswith((CHECKPOINTS, MODELS)) and _digest(folder / name) != digest:
            raise UserError(
                f"{folder / name} is missing, or was changed after it was unpacked; unpack the archive again."
            )
    space = trained_space(read_run(folder)[0], about["phase"])
    return Family(folder, about, load_network(folder / about["weights"]), space)


def _digest(path: Path) -> str | None:
    """The checksum of a file; None where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_about(folder: Path) -> dict[str, Any]:
    """What `family.json` says."""
    path = folder / ABOUT
    if not path.is_file():
        raise UserError(f"{folder} is no family: {ABOUT} is missing. Give the archive that onceforall package wrote.")
    return _checked_about(path.read_bytes(), str(path))


def _checked_about(data: bytes, name: str) -> dict[str, Any]:
    try:
        about = json.loads(data)
        known = about["format"] == FORMAT and isinstance(about["files"], dict) and isinstance(about["weights"], str)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{name} is damaged, or was not written by onceforall package.") from error
    if not known:
        raise UserError(f"{name} is of another version of the package; this one reads {FORMAT!r}.")
    if about["weights"] not in about["files"]:
        raise UserError(f"{name} names weights that are not among its files.")
    return about


# -- reading an archive -------------------------------------------------------------------------------------------


def unpack(path: Path, folder: Path) -> Path:
    """Unpack an archive into the new or empty `folder`, which appears whole or not at all; returns it.

    Nothing is written outside, nothing is run, and no more than is announced is read: names, kinds and sizes are
    checked before, and every file's checksum after. Raises `UserError` for anything else than an archive that
    `onceforall package` wrote.
    """
    own = folder.resolve()  # of "." there is no name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} exists and holds something else; nothing was unpacked. Unpack it elsewhere: "
            f"onceforall unpack {path} --out DIR"
        )
    draft = own.with_name(f".{own.name}.{os.getpid()}.part")
    try:
        with _opened(path) as archive:
            members = _checked_members(path, archive)
            about = _checked_about(_read_member(path, archive), f"{path}: {ABOUT}")
            _check_names(path, members, about)
            draft.mkdir(parents=True)
            for name, member in members.items():
                _extract(path, archive, member, draft / name, about["files"].get(name))
        if own.exists():
            own.rmdir()
        os.rename(draft, own)
    except OSError as error:
        raise UserError(f"cannot unpack {path} into {folder}: {error.strerror or error}.") from error
    except DAMAGE as error:
        raise UserError(f"{path} is truncated or damaged ({error}); copy it again.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _opened(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file.")
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is no archive that onceforall package wrote, or it is truncated ({error}).") from error


def _read_member(path: Path, archive: zipfile.ZipFile) -> bytes:
    """The contents of `family.json`, where they are of a size that may be read."""
    try:
        member = archive.getinfo(ABOUT)
    except KeyError as error:
        raise UserError(f"{path} is an archive, but no family: it has no {ABOUT}.") from error
    if member.file_size > CHUNK * 8 or member.flag_bits & 1:
        raise UserError(f"{path}: {ABOUT} is too large or encrypted; this was not written by onceforall package.")
    try:
        return archive.read(member)
    except DAMAGE as error:
        raise UserError(f"{path} is truncated or damaged ({error}); copy it again.") from error


def _checked_members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    entries = archive.infolist()
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise UserError(f"{path} holds more than {MOST_FILES} files or {MOST_BYTES >> 30} GiB; it was not unpacked.")
    for entry in entries:
        name, parts = entry.filename, PurePosixPath(entry.filename).parts
        plain = bool(parts) and not name.startswith("/") and ".." not in parts and "/".join(parts) == name
        plain &= not any(mark in name for mark in "\\:\0") and name.endswith(SUFFIXES)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not plain or kind not in (0, stat.S_IFREG) or entry.flag_bits & 1 or name in members:
            raise UserError(f"{path} holds {name!r}, which has no place in a family; it was not unpacked.")
        members[name] = entry
    return members


def _check_names(path: Path, members: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    listed = {ABOUT, *about["files"]}
    if listed != set(members):
        odd = ", ".join(sorted(listed ^ set(members))[:3])
        raise UserError(f"{path}: its files are not those that {ABOUT} lists ({odd}); copy it again.")


def _extract(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, expected: str | None) -> None:
    """Write one file, never more than its announced size; compare its checksum where it has one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), member.file_size
    with archive.open(member) as source, target.open("wb") as file:
        while data := source.read(CHUNK):
            left -= len(data)
            if left < 0:
                raise UserError(f"{path}: {member.filename} is larger than announced; it was not unpacked.")
            digest.update(data)
            file.write(data)
    if left or expected not in (None, digest.hexdigest()):
        raise UserError(f"{path}: {member.filename} was changed or damaged (its checksum differs); copy it again.")
