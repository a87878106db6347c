"""Entries of the cache: folders that are built under a temporary name and renamed, so each is whole or absent."""

import contextlib
import errno
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from onceforall.errors import UserError

__all__ = ["building", "make_folder", "read_json", "remove_stale"]

STALE = 86_400.0  # seconds after which a temporary folder is taken for what a killed process left behind


def make_folder(place: Path) -> None:
    """Make the cache folder. Raises `UserError` where it cannot be made."""
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _write_error(place, error) from None


@contextlib.contextmanager
def building(place: Path, key: str, whole: Callable[[Path], bool]) -> Iterator[Path]:
    """Gives a temporary folder to fill; renamed to `place / key` at the end, removed where filling fails.

    A damaged entry of that name, one for which `whole` is false, is replaced. Where another process was first, its
    entry stays: it has the same content. Raises `UserError` where the disk is full or cannot be written.
    """
    temporary = place / f".building-{key}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        temporary.mkdir()
        yield temporary
        _move_into_place(temporary, place / key, whole)
    except OSError as error:
        raise _write_error(place, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_into_place(temporary: Path, entry: Path, whole: Callable[[Path], bool]) -> None:
    if entry.exists() and not whole(entry):
        broken = entry.with_name(f".broken-{uuid.uuid4().hex[:8]}")
        os.rename(entry, broken)
        shutil.rmtree(broken, ignore_errors=True)
    try:
        os.rename(temporary, entry)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES) or not whole(entry):
            raise


def _write_error(place: Path, error: OSError) -> UserError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return UserError(
        f"{'disk full: ' if full else ''}the cache in {str(place)!r} cannot be written "
        f"({error.strerror or error}); free some space or set ONCEFORALL_CACHE to another folder."
    )


def remove_stale(place: Path) -> None:
    """Remove what processes that were killed while building left behind."""
    for folder in place.glob(".building-*"):
        try:
            if time.time() - folder.stat().st_mtime > STALE:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # its owner was quicker


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
