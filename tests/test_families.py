"""Archives of families are read with care: only what was announced, only inside the folder, only undamaged."""

import hashlib
import json
import stat
import zipfile
from pathlib import Path

import pytest

from onceforall.errors import UserError
from onceforall.families import family_folder, is_family, open_family, unpack
from onceforall.recipes import make_recipe
from onceforall.training.checkpoint import save_network
from tiny_runs import two_stages

TRAINED = two_stages().space.restrict(depths=(2,))
WEIGHTS = "checkpoints/1-only-best.safetensors"


def write(path, files, about=None, entries=()):
    """An archive of `files` with a fitting `family.json`, changed by `about`, and more `entries`."""
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    known = {"format": "onceforall-family-1", "weights": WEIGHTS, "phase": "only", "files": sums} | (about or {})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("family.json", json.dumps(known))
        for name, data in [*files.items(), *entries]:
            archive.writestr(name, data)
    return path


@pytest.fixture
def files(tmp_path):
    save_network(two_stages(), tmp_path / "net.safetensors", {})
    phases = [{"name": "only", "space": TRAINED.to_dict()}, {"name": "next", "space": two_stages().space.to_dict()}]
    run = {"settings": {"recipe": make_recipe("digits-ps").to_dict()}, "phases": phases}
    return {
        WEIGHTS: (tmp_path / "net.safetensors").read_bytes(),
        "run.json": json.dumps(run).encode(),
        "results/test.json": b"{}",
        "models/predictor.json": b"{}",
    }


def test_an_archive_is_unpacked_once(files, tmp_path):
    path = write(tmp_path / "family.zip", files)
    family = open_family(path)
    assert family.folder == tmp_path / "family" and is_family(path) and is_family(family.folder)
    assert family.supernet.space == two_stages().space and family.space == TRAINED != family.supernet.space
    assert family.predictor == tmp_path / "family" / "models" / "predictor.json"
    (family.folder / "kept.txt").write_text("mine")
    assert family_folder(path) == family.folder and (family.folder / "kept.txt").is_file()
    write(path, files | {"results/test.json": b"[]"})
    with pytest.raises(UserError, match=rf"exists and holds something else.*onceforall unpack {path} --out DIR"):
        family_folder(path)


@pytest.mark.parametrize(
    "name", ["../evil.json", "/evil.json", "a/../../evil.json", "a\\evil.json", "C:evil.json", "evil.py", "a//b.json"]
)
def test_nothing_is_written_outside_and_no_code_is_taken(files, tmp_path, name):
    path = write(tmp_path / "family.zip", files, entries=[(name, b"{}")])
    with pytest.raises(UserError, match="has no place in a family"):
        unpack(path, tmp_path / "in" / "family")
    assert not (tmp_path / "in" / "family").exists() and not list(tmp_path.rglob("*evil*"))


def test_links_are_refused(files, tmp_path):
    link = zipfile.ZipInfo("link.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = write(tmp_path / "family.zip", files, entries=[(link, b"/etc/passwd")])
    with pytest.raises(UserError, match=r"'link\.json'"):
        unpack(path, tmp_path / "family")


def test_too_many_or_too_large_files_are_refused(files, tmp_path, monkeypatch):
    path = write(tmp_path / "family.zip", files)
    monkeypatch.setattr("onceforall.families.MOST_BYTES", 1000)
    with pytest.raises(UserError, match="it was not unpacked"):
        unpack(path, tmp_path / "family")
    assert not (tmp_path / "family").exists()


def test_a_changed_byte_is_found(files, tmp_path):
    about = {"files": dict.fromkeys(files, "0" * 64)}
    with pytest.raises(UserError, match="its checksum differs"):
        unpack(write(tmp_path / "family.zip", files, about), tmp_path / "family")
    path = write(tmp_path / "other.zip", files)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # in the weights; the archive's own sum finds it
    path.write_bytes(data)
    with pytest.raises(UserError, match="truncated or damaged"):
        unpack(path, tmp_path / "family")
    assert not list(tmp_path.glob(".*part"))


@pytest.mark.parametrize("name", [WEIGHTS, "models/predictor.json"])
def test_what_was_changed_after_it_was_unpacked_is_found(files, tmp_path, name):
    """Results may change, by `evaluate`; what search and export stand on may not."""
    family = open_family(write(tmp_path / "family.zip", files))
    (family.folder / "results" / "test.json").write_text("[]")
    assert open_family(family.folder).space == family.space
    data = bytearray((family.folder / name).read_bytes())
    data[-1] ^= 1
    (family.folder / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"{name} is missing, or was changed after it was unpacked"):
        open_family(family.folder)
    (family.folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing"):
        open_family(family.folder)


def test_an_archive_that_was_damaged_after_it_was_unpacked_is_told(files, tmp_path):
    path = write(tmp_path / "family.zip", files)
    open_family(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"onceforall-family-1")] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="truncated or damaged"):
        open_family(path)


def test_files_that_are_not_listed_or_missing_are_found(files, tmp_path):
    path = write(tmp_path / "family.zip", files, entries=[("more.json", b"{}")])
    with pytest.raises(UserError, match=r"more\.json"):
        unpack(path, tmp_path / "family")


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"PK\x03\x04 truncated"])
def test_what_is_no_archive_is_told(tmp_path, content):
    (tmp_path / "family.zip").write_bytes(content)
    with pytest.raises(UserError, match="is no archive that onceforall package wrote"):
        unpack(tmp_path / "family.zip", tmp_path / "family")
    with pytest.raises(UserError, match="no such file"):
        unpack(tmp_path / "absent.zip", tmp_path / "family")


def test_other_archives_and_versions_are_told(files, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.md", "hello")
    with pytest.raises(UserError, match=r"no family: it has no family\.json"):
        unpack(tmp_path / "a.zip", tmp_path / "a")
    path = write(tmp_path / "b.zip", files, {"format": "onceforall-family-9"})
    with pytest.raises(UserError, match="of another version of the package"):
        unpack(path, tmp_path / "b")
    with pytest.raises(UserError, match=r"is no family: family\.json is missing"):
        open_family(tmp_path)


def test_the_folder_one_is_in(files, tmp_path, monkeypatch):
    path = write(tmp_path / "family.zip", files)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="exists and holds something else"):
        unpack(path, Path("."))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    unpack(path, Path("."))
    assert (tmp_path / "empty" / "family.json").is_file() and not list(tmp_path.glob(".*part"))
