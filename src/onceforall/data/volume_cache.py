"""Volumes, decoded and prepared once, in memory-mapped files.

An entry is a folder `<key>/` with `images.bin` (float16) and `labels.bin` (uint8), the prepared volumes one after the
other, `foreground.npy` and `index.json`. The key is a hash of the files' names and contents and of the preparation, so
an entry never goes stale; it is built in a temporary folder and renamed into place.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.data.cache import Progress, cache_folder, file_digests
from onceforall.data.entries import building, make_folder, read_json, remove_stale
from onceforall.data.label_schemes import OUTSIDE, LabelScheme
from onceforall.data.msd import VolumeListing
from onceforall.data.volume_cases import read_case
from onceforall.data.volumes import VolumeGeometry, VolumePreparation, prepare_labels, prepare_volume
from onceforall.errors import UserError

__all__ = ["CachedVolumes", "cached_volumes", "image_digests", "unusable", "volume_digests"]

VERSION = 1  # raise it when reading or the stored form changes
POSITIONS = 256  # of each label value in a volume, kept to centre patches on
WORKERS = 4  # volumes decoded at a time: each needs a few times its size in memory
SHOWN = 20  # problems that an error names

Grid = tuple[int, int, int]


@final
@dataclass(frozen=True)
class CachedVolumes:
    """Prepared volumes in the order of the listing, read-only.

    `geometries[i]` says where volume i lies in its file; `counts[i]` how many voxels of each label value it has (those
    outside the real volume left out); `digests[i]` tells its content apart. `foreground` (N, values, `POSITIONS`) int64
    are flat positions of voxels of each value of `foreground_values`, -1 where there are no more.
    """

    geometries: tuple[VolumeGeometry, ...]
    grids: tuple[Grid, ...]
    counts: tuple[dict[int, int], ...]
    digests: tuple[str, ...]
    foreground_values: tuple[int, ...]
    foreground: np.ndarray
    channels: int
    images: np.ndarray
    labels: np.ndarray
    starts: tuple[int, ...]

    def image(self, i: int) -> np.ndarray:
        """(C, *grid) float16."""
        start, size = self.starts[i], math.prod(self.grids[i])
        flat = self.images[start * self.channels : (start + size) * self.channels]
        return flat.reshape(self.channels, *self.grids[i])

    def label(self, i: int) -> np.ndarray:
        """(*grid) uint8 label values, `OUTSIDE` in the padding."""
        start, size = self.starts[i], math.prod(self.grids[i])
        return self.labels[start : start + size].reshape(self.grids[i])


def cached_volumes(
    listing: VolumeListing,
    digests: Mapping[str, str],
    preparation: VolumePreparation,
    scheme: LabelScheme,
    stride: int,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> CachedVolumes:
    """The prepared volumes of a listing, from the cache or decoded now.

    `digests` are those of `volume_digests`. `progress(job, done, total)` is called now and then with job "decode".
    Raises `UserError` naming every file that cannot be used, and when the cache cannot be written.
    """
    place = cache_folder(folder)
    make_folder(place)
    wanted = [VERSION, preparation.to_dict(), scheme.values, stride, [(n, digests[n]) for n in _file_names(listing)]]
    key = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:32]
    if not _whole(place / key):
        remove_stale(place)
        _build(place, key, listing, preparation, scheme, stride, progress)
    own = [
        hashlib.sha256(json.dumps([[digests[name] for name in files], digests[label]]).encode()).hexdigest()
        for files, label in zip(listing.images, listing.labels, strict=True)
    ]
    return _open(place / key, own)


def volume_digests(
    listing: VolumeListing, folder: str | Path | None = None, progress: Progress | None = None
) -> dict[str, str]:
    """The SHA-256 of every file of a listing by name, "" where it cannot be opened; see `file_digests`."""
    names = _file_names(listing)
    return dict(zip(names, file_digests(listing.root, names, folder, progress)[0], strict=True))


def image_digests(listing: VolumeListing, digests: Mapping[str, str]) -> list[str]:
    """What tells the image of each subject apart, whatever its label: the SHA-256 of its file, or of those of several.

    "" where a file cannot be opened.
    """
    found = []
    for files in listing.images:
        own = [digests[name] for name in files]
        several = hashlib.sha256(json.dumps(own).encode()).hexdigest()
        found.append("" if "" in own else own[0] if len(own) == 1 else several)
    return found


def _file_names(listing: VolumeListing) -> list[str]:
    return [name for files, label in zip(listing.images, listing.labels, strict=True) for name in (*files, label)]


def unusable(problems: Sequence[str], root: Path) -> UserError:
    """One line that names every problem (the first 20)."""
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return UserError(
        f"{len(problems)} problem(s) in {str(root)!r}: {'; '.join(problems[:SHOWN])}{more}. "
        "`onceforall data check FOLDER --recipe RECIPE` lists them all."
    )


# Building --------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class _Prepared:
    """A volume as it is stored."""

    image: np.ndarray
    labels: np.ndarray
    geometry: VolumeGeometry


def _build(
    place: Path,
    key: str,
    listing: VolumeListing,
    preparation: VolumePreparation,
    scheme: LabelScheme,
    stride: int,
    progress: Progress | None,
) -> None:
    values = tuple(value for value in scheme.values if value > 0)
    positions = np.full((len(listing.subjects), len(values), POSITIONS), -1, np.int64)
    volumes: list[dict[str, Any]] = []
    problems: list[str] = []
    with building(place, key, _whole) as temporary:
        with (temporary / "images.bin").open("wb") as images, (temporary / "labels.bin").open("wb") as labels:
            for i, found in enumerate(_decoded(listing, preparation, scheme, stride)):
                if isinstance(found, tuple):
                    problems += found
                elif not problems:
                    images.write(found.image.tobytes())
                    labels.write(found.labels.tobytes())
                    positions[i] = [_some_positions(found.labels, value) for value in values]
                    volumes.append(_described(found))
                if progress is not None:
                    progress("decode", i + 1, len(listing.subjects))
            if problems:
                raise unusable(problems, listing.root)
            for stream in (images, labels):
                stream.flush()
                os.fsync(stream.fileno())
        np.save(temporary / "foreground.npy", positions)
        index = {"channels": preparation.channels, "values": list(values), "volumes": volumes}
        (temporary / "index.json").write_text(json.dumps(index), encoding="utf-8")
    if not _whole(place / key):
        raise UserError(f"the cache entry {str(place / key)!r} cannot be read back; is another program changing it?")


def _decoded(
    listing: VolumeListing, preparation: VolumePreparation, scheme: LabelScheme, stride: int
) -> Iterator[_Prepared | tuple[str, ...]]:
    """Each subject prepared, or its problems, in order."""

    def one(i: int) -> _Prepared | tuple[str, ...]:
        files, label = listing.images[i], listing.labels[i]
        case = read_case(listing.root, files, label, preparation.channels, scheme, stride, preparation)
        if case.volume is None or case.affine is None or case.labels is None or case.problems:
            return case.problems
        image, geometry = prepare_volume(case.volume, case.affine, preparation)
        return _Prepared(image.astype("<f2"), prepare_labels(case.labels, geometry), geometry)

    workers = min(WORKERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for start in range(0, len(listing.subjects), workers):
            yield from pool.map(one, range(start, min(start + workers, len(listing.subjects))))


def _some_positions(labels: np.ndarray, value: int) -> np.ndarray:
    """(POSITIONS,) flat positions of voxels of a value, evenly spread over all of them, -1 behind the last."""
    found = np.flatnonzero(labels == value)
    if len(found) > POSITIONS:
        found = found[np.linspace(0, len(found) - 1, POSITIONS).astype(np.int64)]
    return np.pad(found, (0, POSITIONS - len(found)), constant_values=-1)


def _described(prepared: _Prepared) -> dict[str, Any]:
    counts = np.bincount(prepared.labels.ravel(), minlength=256)
    present = {str(value): int(n) for value, n in enumerate(counts[:OUTSIDE]) if n}
    return {"grid": list(prepared.labels.shape), "counts": present, "geometry": prepared.geometry.to_dict()}


# Opening ---------------------------------------------------------------------------------------------------------


def _open(entry: Path, digests: Sequence[str]) -> CachedVolumes:
    index = read_json(entry / "index.json")
    grids = [(int(x), int(y), int(z)) for x, y, z in (volume["grid"] for volume in index["volumes"])]
    sizes = [math.prod(grid) for grid in grids]
    return CachedVolumes(
        geometries=tuple(VolumeGeometry.from_dict(volume["geometry"]) for volume in index["volumes"]),
        grids=tuple(grids),
        counts=tuple({int(value): n for value, n in volume["counts"].items()} for volume in index["volumes"]),
        digests=tuple(digests),
        foreground_values=tuple(index["values"]),
        foreground=np.load(entry / "foreground.npy", allow_pickle=False),
        channels=int(index["channels"]),
        images=np.memmap(entry / "images.bin", "<f2", "r"),
        labels=np.memmap(entry / "labels.bin", np.uint8, "r"),
        starts=tuple(sum(sizes[:i]) for i in range(len(sizes))),
    )


def _whole(entry: Path) -> bool:
    """Whether all files are there and as long as the index says."""
    index = read_json(entry / "index.json")
    if not {"channels", "values", "volumes"} <= set(index):
        return False
    voxels = sum(math.prod(volume["grid"]) for volume in index["volumes"])
    try:
        positions = np.load(entry / "foreground.npy", mmap_mode="r", allow_pickle=False)
        sizes = [(entry / name).stat().st_size for name in ("images.bin", "labels.bin")]
    except (OSError, ValueError, EOFError):
        return False
    return sizes == [2 * voxels * index["channels"], voxels] and len(positions) == len(index["volumes"])
