"""A file is written whole or not at all."""

import errno
import json
import os
from pathlib import Path

import pytest

from onceforall.errors import UserError
from onceforall.files import write_atomically, write_json, write_text


def test_text_and_json(tmp_path):
    write_text(tmp_path / "new/folder/text", "größer\n")
    assert (tmp_path / "new/folder/text").read_bytes() == "größer\n".encode()
    write_json(tmp_path / "a.json", {"macs": [1, 2.5], "name": None})
    assert json.loads((tmp_path / "a.json").read_text()) == {"macs": [1, 2.5], "name": None}
    write_json(tmp_path / "a.json", 3)
    assert (tmp_path / "a.json").read_text() == "3\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "new"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_what_is_interrupted_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"new, but not whole")
        assert path.read_bytes() == b"old"
        raise error

    with pytest.raises(error):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_who_reads_the_old_file_goes_on_reading_it(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"old content")
    with open(path, "rb") as reader:
        write_text(path, "new content, longer")
        assert reader.read() == b"old content"
    assert path.read_text() == "new content, longer"


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {1, 2})
    assert json.loads((tmp_path / "a.json").read_text()) == 1


def test_full_disk(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def write(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=f"cannot write {path}: the disk is full"):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_full_disk_that_shows_when_the_file_is_flushed(tmp_path, monkeypatch):
    def fsync(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match="the disk is full"):
        write_text(tmp_path / "text", "x")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*run/metrics: "):
        write_text(tmp_path / "run/metrics", "x")
    with pytest.raises(UserError, match="cannot write"):
        write_text(tmp_path / "run/deeper/metrics", "x")


def test_a_file_that_is_a_folder(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*run: "):
        write_text(tmp_path / "run", "x")
    monkeypatch.chdir(tmp_path)
    for name in (".", "..", "run/.."):
        with pytest.raises(UserError, match="it is a folder; give the name of a file"):
            write_text(Path(name), "x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        write_text(tmp_path / ("x" * 300), "x")
