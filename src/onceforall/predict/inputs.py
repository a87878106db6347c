"""Which images or volumes the paths of a command line mean."""

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from onceforall.data.listing import IMAGE_SUFFIXES, files_below
from onceforall.data.msd import MODALITY
from onceforall.data.nifti import NIFTI_SUFFIXES, nifti_stem, read_volume
from onceforall.data.volume_cases import difference
from onceforall.errors import UserError

__all__ = ["VolumeFiles", "find_images", "find_volumes", "read_files"]


@final
@dataclass(frozen=True)
class VolumeFiles:
    """A volume to predict: its name, with the folders below the one that was given, and its file or files."""

    name: str
    files: tuple[Path, ...]


def find_images(paths: Sequence[str], out: Path) -> list[Path]:
    """The images that `paths` (files, folders, patterns) mean, each once.

    Of a folder they are the files with the ending of an image, in all folders below too, but for `out` if it is one of
    these: what was predicted before is no input. Raises `UserError` where a
    path stands for nothing; a file that does not exist is left to be found when it is read.
    """
    return [file for file, _ in _expanded(paths, IMAGE_SUFFIXES, out)]


def find_volumes(paths: Sequence[str], out: Path, channels: int) -> list[VolumeFiles]:
    """The volumes that `paths` mean, for a network that reads `channels`; like `find_images`.

    For several channels the files x_0000.nii.gz, x_0001.nii.gz, ... of a folder are one volume x; for one channel
    x_0000.nii.gz is x where its folder has no other file of x. Raises `UserError` where two volumes have one name, or
    the labels of a volume in `out` would take the place of an input.
    """
    found: dict[tuple[Path, str], list[Path]] = {}
    entries = _expanded(paths, NIFTI_SUFFIXES, out)
    counts = {folder: _files_of_subjects(folder) for folder in {file.parent for file, _ in entries}}
    for file, name in entries:
        stem = nifti_stem(name)
        subject, number = _subject_and_number(stem)
        if number < channels and (channels > 1 or counts[file.parent][subject] < 2):
            stem = subject
        found.setdefault((file.parent, str(Path(name).parent / stem)), []).append(file)
    volumes = [VolumeFiles(name, tuple(sorted(files))) for (_, name), files in found.items()]
    first: dict[str, VolumeFiles] = {}
    inputs = {file.resolve() for volume in volumes for file in volume.files}
    for volume in volumes:
        if (out / f"{volume.name}.nii.gz").resolve() in inputs:
            raise UserError(f"the labels of {volume.files[0]} would take its place in {out}; give another --out.")
        other = first.setdefault(volume.name, volume)
        if other is not volume:
            raise UserError(
                f"{other.files[0]} and {volume.files[0]} would both be written as {volume.name}.nii.gz; predict them "
                "one after the other, into two folders."
            )
    return volumes


def _subject_and_number(stem: str) -> tuple[str, int]:
    """Of x_0001 x and 1; a stem without the number of a modality is its own subject and number 0."""
    match = MODALITY.fullmatch(stem)
    return (stem, 0) if match is None else (match.group(1), int(match.group(2)))


def _files_of_subjects(folder: Path) -> Counter[str]:
    """How many NIfTI files of each subject are directly in a folder."""
    names = [path.name for path in folder.glob("*") if path.name.lower().endswith(NIFTI_SUFFIXES)]
    return Counter(_subject_and_number(nifti_stem(name))[0] for name in names)


def read_files(volume: VolumeFiles, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """(C, X, Y, Z) float32 and the affine (4, 4) of a volume in one file or in a file for each modality.

    Raises `UserError`, naming the file: it cannot be read, has other channels than wanted, or lies elsewhere than the
    first.
    """
    parts = [(str(file), *read_volume(file)) for file in volume.files]
    first, array, affine = parts[0]
    for file, other, its_affine in parts[1:]:
        for text in difference(parts[0], other.shape[1:], its_affine):
            raise UserError(f"{file}: {text}.")
    array = np.concatenate([part for _, part, _ in parts])
    if len(array) != channels:
        wanted = "a volume (X, Y, Z)" if channels == 1 else "all of them in a 4-D file or in files x_0000, x_0001, ..."
        raise UserError(f"{first}: has {len(array)} channel(s) where the network reads {channels}; give {wanted}.")
    return array, affine


def _expanded(paths: Sequence[str], suffixes: tuple[str, ...], out: Path) -> list[tuple[Path, str]]:
    """Each file once, with its name below the folder that was given."""
    found: dict[Path, tuple[Path, str]] = {}
    for text in paths:
        path = Path(text).expanduser()
        matches = [path]
        if not path.exists() and any(mark in text for mark in "*?["):
            matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        files = [entry for match in matches for entry in _files(match, suffixes, out.resolve())]
        if not files:
            kinds = ", ".join(suffixes)
            raise UserError(f"{text}: there is no file {kinds}; give files, folders or patterns of such files.")
        for file, name in files:
            found.setdefault(file.resolve(), (file, name))
    return list(found.values())


def _files(path: Path, suffixes: tuple[str, ...], out: Path) -> list[tuple[Path, str]]:
    """The file itself, or the files in a folder, each with its name in that folder; none of a folder `out` below it."""
    if not path.is_dir():
        return [(path, path.name)]
    below = path.resolve() in out.parents
    names = [name for name in files_below(path) if name.lower().endswith(suffixes)]
    return [(path / name, name) for name in names if not (below and out in (path / name).resolve().parents)]
