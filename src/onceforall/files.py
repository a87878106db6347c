"""Writing files so that they are never half-written: to a temporary name in the same folder, then renamed."""

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from onceforall.errors import UserError

__all__ = ["write_atomically", "write_json", "write_text"]


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a new file and put it in the place of `path`; on any failure `path` stays as it was.

    Raises `UserError` where `path` is a folder, the disk is full or the folder cannot be written.
    """
    if os.path.isdir(path):
        raise UserError(f"cannot write {path}: it is a folder; give the name of a file.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        full = "the disk is full; free some space and try again" if error.errno == errno.ENOSPC else error.strerror
        raise UserError(f"cannot write {path}: {full}.") from error
    finally:
        with contextlib.suppress(OSError):  # there may be no such folder; the first failure is the one to tell
            draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")
