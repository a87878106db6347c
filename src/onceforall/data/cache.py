"""Image files, decoded once into one memory-mapped array.

An entry is a folder `<key>/` with `images.npy`, (N, C, h, w) uint8 or uint16, and `index.json`. The key is a hash of
the files' names and contents and of the options, so an entry never goes stale; it is built in a temporary folder and
renamed into place, so it is whole or absent, and of two processes that build it at once the first wins and both are
right. File contents are hashed again only when size or time stamps changed.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.data.decoding import ImageHeader, UnreadableImage, decode, read_header
from onceforall.data.entries import building, make_folder, read_json, remove_stale
from onceforall.data.preparation import Preparation, to_stored
from onceforall.errors import UserError
from onceforall.files import write_text

__all__ = ["CachedImages", "Storage", "cache_folder", "cached_images", "file_digests", "shows_colour", "storage_for"]

VERSION = 1  # raise it when decoding or the stored form changes
CHUNK = 256  # images decoded at a time
SETTLED = 2.0  # seconds after which a file's time stamps are trusted to change with its content

Progress = Callable[[str, int, int], None]
Contents = tuple[tuple[str, ...], dict[str, str]]  # see `file_digests`


@final
@dataclass(frozen=True)
class Storage:
    """What is asked of the stored images.

    `size`: side length in pixels that larger images are reduced to (and images of unequal shape are brought to) by
    the rule of `fit`; see `Preparation`, also for `white_border`. `channels` None: 1 where every file is grey, else 3.
    """

    size: int
    fit: str = "crop"
    channels: int | None = None
    white_border: str = "keep"

    def key(self) -> list[Any]:
        """What tells entries apart; a later option counts only where it is used, so that older entries are found."""
        return [self.size, self.fit, self.channels, *([] if self.white_border == "keep" else [self.white_border])]


@final
@dataclass(frozen=True)
class CachedImages:
    """`images` (N, C, h, w), read-only, row i for file i; rows of `unreadable` files (name -> reason) are black.

    `store_size` is None where the images kept their own size. `sizes` are the (height, width) of the files, each
    once with its count. `digests[i]` is the SHA-256 of file i.
    """

    images: np.ndarray
    digests: tuple[str, ...]
    unreadable: dict[str, str]
    bit_depth: int
    store_size: int | None
    sizes: tuple[tuple[int, int, int], ...]
    key: str


def cache_folder(folder: str | Path | None = None) -> Path:
    """`folder`, or `$ONCEFORALL_CACHE`, or `~/.cache/onceforall`."""
    if folder is not None:
        return Path(folder).expanduser()
    named = os.environ.get("ONCEFORALL_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "onceforall"


def cached_images(
    root: Path,
    files: Sequence[str],
    contents: Contents,
    storage: Storage,
    skip_unreadable: bool = False,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> CachedImages:
    """The stored form of `files` (relative to `root`), from the cache or decoded now.

    `contents` is what `file_digests` gives for them. `progress(job, done, total)` is called now and then with job
    "decode". Raises `UserError` naming all unreadable files, unless `skip_unreadable`; and when the cache cannot be
    written.
    """
    place = cache_folder(folder)
    make_folder(place)
    digests, unreadable = contents[0], dict(contents[1])
    wanted = [VERSION, *storage.key(), list(zip(files, digests, strict=True))]
    key = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:32]
    found = _open_entry(place / key, files, key)
    if found is None:
        remove_stale(place)
        found = _build(place, key, root, files, digests, storage, unreadable, skip_unreadable, progress)
    if found.unreadable and not skip_unreadable:
        raise unreadable_error(found.unreadable, len(files))
    return found


def unreadable_error(unreadable: dict[str, str], total: int) -> UserError:
    """One line that names every unreadable file (the first 20) and its reason."""
    named = "; ".join(f"{name}: {reason}" for name, reason in sorted(unreadable.items())[:20])
    more = f"; and {len(unreadable) - 20} more" if len(unreadable) > 20 else ""
    return UserError(
        f"{len(unreadable)} of {total} files cannot be read as images ({named}{more}); "
        "mend or remove them, or pass skip_unreadable (--skip-unreadable) to leave them out."
    )


# Contents --------------------------------------------------------------------------------------------------------


def file_digests(
    root: Path, files: Sequence[str], folder: str | Path | None = None, progress: Progress | None = None
) -> Contents:
    """SHA-256 of each file and, for files that cannot be opened, name -> reason (their digest is "").

    Remembers digests in the cache by size and time stamps, so that a second look reads no file. `progress(job, done,
    total)` is called now and then with job "read". Raises `UserError` when the cache cannot be written.
    """
    place = cache_folder(folder)
    make_folder(place)
    memo = place / f"digests-{hashlib.sha256(str(root).encode()).hexdigest()[:32]}.json"
    known = read_json(memo)
    now = time.time_ns()
    remembered: dict[str, Any] = {}
    digests: list[str] = []
    failed: dict[str, str] = {}
    for i, name in enumerate(files):
        try:
            stat = (root / name).stat()
            stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
            entry = known.get(name)
            if isinstance(entry, list) and entry[:4] == stamp:
                digest = str(entry[4])
            else:
                digest = hashlib.sha256((root / name).read_bytes()).hexdigest()
            if max(stat.st_mtime_ns, stat.st_ctime_ns) < now - SETTLED * 1e9:
                remembered[name] = [*stamp, digest]
        except OSError as error:
            digest = ""
            failed[name] = f"cannot be opened ({error.strerror})"
        digests.append(digest)
        _report(progress, "read", i + 1, len(files))
    if any(known.get(name) != entry for name, entry in remembered.items()):
        write_text(memo, json.dumps({**known, **remembered}))
    return tuple(digests), failed


def _report(progress: Progress | None, job: str, done: int, total: int) -> None:
    if progress is not None and (done % CHUNK == 0 or done == total):
        progress(job, done, total)


# Deciding what to store ------------------------------------------------------------------------------------------


def storage_for(shapes: Sequence[tuple[int, int]], size: int, fit: str) -> int | None:
    """None (keep the images as they are) where all have one shape no larger than `size`, else `size`.

    Images that are not square are kept for `fit="crop"` only. `shapes` are (height, width) in pixels.
    """
    first = shapes[0]
    same = all(shape == first for shape in shapes)
    return None if same and max(first) <= size and (first[0] == first[1] or fit == "crop") else size


def _headers(root: Path, files: Sequence[str], unreadable: dict[str, str]) -> dict[str, ImageHeader]:
    headers: dict[str, ImageHeader] = {}
    for name in files:
        if name in unreadable:
            continue
        try:
            headers[name] = read_header(root / name, name)
        except UnreadableImage as error:
            unreadable[name] = error.reason
    return headers


def _any_colour(root: Path, headers: dict[str, ImageHeader]) -> bool:
    """Whether a file shows colour; one stored as colour whose channels are equal counts as grey."""
    for name, header in headers.items():
        if header.grey:
            continue
        try:
            pixels = decode(root / name, name)
        except UnreadableImage:
            continue  # found again, and reported, when all files are decoded
        if shows_colour(pixels):
            return True
    return False


def shows_colour(pixels: np.ndarray) -> bool:
    """Whether the channels of (H, W, C) pixels differ."""
    return pixels.shape[2] == 3 and bool((pixels != pixels[:, :, :1]).any())


# Building --------------------------------------------------------------------------------------------------------


def _build(
    place: Path,
    key: str,
    root: Path,
    files: Sequence[str],
    digests: tuple[str, ...],
    storage: Storage,
    unreadable: dict[str, str],
    skip_unreadable: bool,
    progress: Progress | None,
) -> CachedImages:
    headers = _headers(root, files, unreadable)
    if not headers:
        raise unreadable_error(unreadable, len(files))
    shapes = [(header.height, header.width) for header in headers.values()]
    store_size = storage_for(shapes, storage.size, storage.fit)
    bit_depth = max(header.bits for header in headers.values())
    channels = storage.channels or (3 if _any_colour(root, headers) else 1)
    preparation = Preparation(
        channels, storage.fit, bit_depth=bit_depth, store_size=store_size, white_border=storage.white_border
    )
    shape = (channels, *(shapes[0] if store_size is None else (store_size, store_size)))
    with building(place, key, _whole) as temporary:
        _check_space(place, len(files) * math.prod(shape) * bit_depth // 8)
        dtype = np.dtype("<u2" if bit_depth == 16 else "u1")
        rows = _decoded(root, files, preparation, shape, dtype, unreadable, progress)
        _write_array(temporary / "images.npy", (len(files), *shape), dtype, rows)
        if unreadable and not skip_unreadable:
            raise unreadable_error(unreadable, len(files))
        index = {
            "files": list(files),
            "digests": list(digests),
            "unreadable": unreadable,
            "bit_depth": bit_depth,
            "store_size": store_size,
            "sizes": [[*size, shapes.count(size)] for size in sorted(set(shapes))],
        }
        (temporary / "index.json").write_text(json.dumps(index), encoding="utf-8")
    built = _open_entry(place / key, files, key)
    if built is None:
        raise UserError(
            f"the cache entry {str(place / key)!r} cannot be read back; is another program changing {str(place)!r}?"
        )
    return built


def _decoded(
    root: Path,
    files: Sequence[str],
    preparation: Preparation,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    unreadable: dict[str, str],
    progress: Progress | None,
) -> Iterator[np.ndarray]:
    """The stored form of each file in order; black, and a line in `unreadable`, where it fails."""

    def one(name: str) -> np.ndarray | str:
        try:
            pixels = to_stored(decode(root / name, name), preparation)
        except UnreadableImage as error:
            return error.reason
        except UserError as error:
            return str(error)
        return pixels if pixels.shape == shape else f"decodes to {pixels.shape} instead of {shape}"

    black = np.zeros(shape, dtype)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), CHUNK):
            names = files[start : start + CHUNK]
            for name, result in zip(names, pool.map(one, names), strict=True):
                if isinstance(result, str):
                    unreadable.setdefault(name, result)
                yield black if isinstance(result, str) else result.astype(dtype, copy=False)
            _report(progress, "decode", min(start + CHUNK, len(files)), len(files))


def _write_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], rows: Iterator[np.ndarray]) -> None:
    """Written with ordinary writes: a full disk is then an error, not a crash in a memory map."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for row in rows:
            stream.write(row.tobytes())
        stream.flush()
        os.fsync(stream.fileno())


def _check_space(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"disk full: the cache in {str(place)!r} needs {needed / 1e6:.0f} MB and {free / 1e6:.0f} MB are free; "
            "free some space, set ONCEFORALL_CACHE to another folder, or give a smaller image_size."
        )


# Opening ---------------------------------------------------------------------------------------------------------


def _open_entry(entry: Path, files: Sequence[str], key: str) -> CachedImages | None:
    """The entry, or None where it is absent or damaged (then it is built again)."""
    if not _whole(entry):
        return None
    index = read_json(entry / "index.json")
    return CachedImages(
        images=np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False),
        digests=tuple(index["digests"]),
        unreadable=dict(index["unreadable"]),
        bit_depth=int(index["bit_depth"]),
        store_size=None if index["store_size"] is None else int(index["store_size"]),
        sizes=tuple((int(h), int(w), int(count)) for h, w, count in index["sizes"]),
        key=key,
    )


def _whole(entry: Path) -> bool:
    """Whether both files are there and the array is as long as its header says."""
    index = read_json(entry / "index.json")
    if not {"files", "digests", "unreadable", "bit_depth", "store_size", "sizes"} <= set(index):
        return False
    try:
        images = np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return len(images) == len(index["files"])
