"""Oracles: the arrays that were written; hashlib; two real processes."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest
from PIL import Image

from onceforall.data import cache
from onceforall.data.cache import Storage, cache_folder, cached_images, file_digests, storage_for
from onceforall.data.entries import STALE
from onceforall.errors import UserError


@pytest.fixture
def files(image_folder):
    root = image_folder({"a": 3, "b": 2})
    return root, sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))


def stored_images(root, names, *how, folder=None, progress=None, **options):
    contents = file_digests(root, names, folder, progress)
    return cached_images(root, names, contents, *how, folder=folder, progress=progress, **options)


def pixels_of(root, names):
    return np.stack([np.asarray(Image.open(root / name)) for name in names])


def entries(folder):
    """What the cache holds, other than remembered digests."""
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("digests-"))


def test_place(monkeypatch, tmp_path):
    assert cache_folder("/x") == cache_folder().__class__("/x")
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("ONCEFORALL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/onceforall"


def test_images_are_stored_as_they_are(files, own_cache):
    root, names = files
    stored = stored_images(root, names, Storage(12))
    assert isinstance(stored.images, np.memmap) and not stored.images.flags.writeable
    np.testing.assert_array_equal(stored.images[:, 0], pixels_of(root, names))
    assert (stored.store_size, stored.bit_depth, stored.unreadable, stored.sizes) == (None, 8, {}, ((9, 9, 5),))
    assert stored.digests == tuple(hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names)
    assert entries(own_cache) == [stored.key]


def test_a_second_look_decodes_nothing(files, monkeypatch):
    root, names = files
    first = stored_images(root, names, Storage(12))
    monkeypatch.setattr(cache, "decode", None)  # would fail
    again = stored_images(root, names, Storage(12))
    np.testing.assert_array_equal(first.images, again.images)


def test_digests_are_remembered_until_a_file_changes(files, own_cache, monkeypatch):
    root, names = files
    past = time.time() - 60
    for name in names:
        os.utime(root / name, (past, past))
    own_cache.mkdir()
    monkeypatch.setattr(cache, "SETTLED", -60.0)  # the change times cannot be set back: trust them at once
    first, _ = file_digests(root, names, own_cache)
    [memo] = own_cache.glob("digests-*.json")
    known = json.loads(memo.read_text())
    memo.write_text(json.dumps({name: [*known[name][:4], f"remembered {name}"] for name in names}))
    assert file_digests(root, names, own_cache)[0] == tuple(f"remembered {name}" for name in names)
    (root / names[0]).write_bytes(b"other")
    assert file_digests(root, names, own_cache)[0][0] == hashlib.sha256(b"other").hexdigest()
    monkeypatch.setattr(cache, "SETTLED", 1e6)  # a file that may change within its time stamp is not trusted
    memo.unlink()
    assert file_digests(root, names, own_cache)[0][1:] == first[1:] and not list(own_cache.glob("digests-*"))


def test_content_and_options_make_the_key(files):
    root, names = files
    key = stored_images(root, names, Storage(12)).key
    others = [
        stored_images(root, names, storage).key for storage in (Storage(8), Storage(12, "pad"), Storage(12, "crop", 3))
    ]
    (root / names[0]).write_bytes((root / names[1]).read_bytes())
    others.append(stored_images(root, names, Storage(12)).key)
    assert len({key, *others}) == 5


@pytest.mark.parametrize(
    ("shapes", "fit", "expected"),
    [
        ([(64, 64), (64, 64)], "crop", None),
        ([(74, 74)], "crop", None),
        ([(75, 75)], "crop", 74),
        ([(64, 64), (64, 63)], "crop", 74),
        ([(48, 64), (48, 64)], "crop", None),
        ([(48, 64), (48, 64)], "pad", 74),
        ([(48, 64), (48, 64)], "stretch", 74),
    ],
)
def test_storage_rule(shapes, fit, expected):
    assert storage_for(shapes, 74, fit) == expected


def test_large_and_unequal_images_are_reduced(tmp_path):
    large = np.tile(np.arange(40, dtype=np.uint8)[:, None] * 6, (1, 50))
    Image.fromarray(large).save(tmp_path / "1.png")
    Image.fromarray(large[:30]).save(tmp_path / "2.png")
    stored = stored_images(tmp_path, ["1.png", "2.png"], Storage(10))
    assert stored.images.shape == (2, 1, 10, 10) and stored.store_size == 10
    expected = Image.fromarray(large).resize((12, 10), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(stored.images[0, 0], np.asarray(expected)[:, 1:11])
    assert stored.sizes == ((30, 50, 1), (40, 50, 1))


def test_bit_depth_and_colour_are_kept_as_needed(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (6, 6), np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "equal.png")
    Image.fromarray(np.dstack([grey, grey, grey // 2])).save(tmp_path / "colour.png")
    Image.fromarray(grey.astype(np.uint16) * 200).save(tmp_path / "deep.png")
    seemingly = stored_images(tmp_path, ["equal.png", "grey.png"], Storage(6))
    assert seemingly.images.shape == (2, 1, 6, 6)
    np.testing.assert_array_equal(seemingly.images[0], seemingly.images[1])
    colour = stored_images(tmp_path, ["colour.png", "grey.png"], Storage(6))
    assert colour.images.shape == (2, 3, 6, 6)
    deep = stored_images(tmp_path, ["deep.png", "grey.png"], Storage(6))
    assert deep.bit_depth == 16 and deep.images.dtype == np.uint16
    np.testing.assert_array_equal(deep.images[:, 0], [grey.astype(np.uint16) * 200, grey.astype(np.uint16) * 257])
    assert stored_images(tmp_path, ["grey.png", "equal.png"], Storage(6, "crop", 3)).images.shape[1] == 3


@pytest.fixture
def faulty(files):
    root, names = files
    whole = (root / names[0]).read_bytes()
    (root / "a/empty.png").touch()
    (root / "a/short.png").write_bytes(whole[:-30])
    (root / "b/notes.txt").write_text("no image")
    return root, sorted([*names, "a/empty.png", "a/short.png", "b/notes.txt"])


def test_all_unreadable_files_are_named_together(faulty, own_cache):
    root, names = faulty
    with pytest.raises(
        UserError, match=r"3 of 8 files.*a/empty.png: empty.*a/short.png: .*truncated.*b/notes.txt: not"
    ):
        stored_images(root, names, Storage(12))
    assert entries(own_cache) == []


def test_unreadable_files_are_skipped_on_request_and_stay_known(faulty):
    root, names = faulty
    for _ in range(2):  # built, then found
        stored = stored_images(root, names, Storage(12), skip_unreadable=True)
        assert sorted(stored.unreadable) == ["a/empty.png", "a/short.png", "b/notes.txt"]
        good = [i for i, name in enumerate(names) if name not in stored.unreadable]
        np.testing.assert_array_equal(stored.images[good, 0], pixels_of(root, [names[i] for i in good]))
    with pytest.raises(UserError, match="3 of 8 files"):
        stored_images(root, names, Storage(12))


def test_nothing_readable(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match="2 of 2 files .*a.png: empty.*gone.png: cannot be opened"):
        stored_images(tmp_path, ["a.png", "gone.png"], Storage(8), skip_unreadable=True)


def test_many_unreadable_files_make_one_line():
    message = str(cache.unreadable_error({f"{i:02}.png": "empty" for i in range(25)}, 30))
    assert "19.png" in message and "20.png" not in message and "and 5 more" in message and "\n" not in message


@pytest.mark.parametrize("damage", ["short", "index", "missing"])
def test_a_damaged_entry_is_built_again(files, own_cache, damage):
    root, names = files
    key = stored_images(root, names, Storage(12)).key
    path = own_cache / key / "images.npy"
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "index":
        (own_cache / key / "index.json").write_text("{")
    else:
        path.unlink()
    np.testing.assert_array_equal(stored_images(root, names, Storage(12)).images[:, 0], pixels_of(root, names))
    assert entries(own_cache) == [key]


def test_the_second_of_two_builders_uses_the_entry_of_the_first(files, own_cache, monkeypatch):
    root, names = files
    write = cache._write_array
    inner = []

    def overtaken(*arguments):
        monkeypatch.setattr(cache, "_write_array", write)
        inner.append(stored_images(root, names, Storage(12)))  # another process, quicker
        write(*arguments)

    monkeypatch.setattr(cache, "_write_array", overtaken)
    outer = stored_images(root, names, Storage(12))
    np.testing.assert_array_equal(outer.images, inner[0].images)
    assert entries(own_cache) == [outer.key]


CHILD = """
import sys, numpy as np
from pathlib import Path
from onceforall.data.cache import Storage, cached_images, file_digests
root = Path(sys.argv[1])
names = sorted(p.relative_to(root).as_posix() for p in root.rglob('*.png'))
print(cached_images(root, names, file_digests(root, names), Storage(int(sys.argv[2]))).images.sum())
"""


def test_two_processes_at_once(image_folder, own_cache):
    root = image_folder({"a": 150, "b": 150}, shape=(20, 20))
    runs = [
        subprocess.Popen([sys.executable, "-c", CHILD, root, "8"], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    sums = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0] and sums[0] == sums[1]
    assert len(entries(own_cache)) == 1


def test_a_disk_that_is_full_from_the_start(files, own_cache, monkeypatch):
    root, names = files
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage(100, 90, 10))
    with pytest.raises(UserError, match="disk full: .* needs .* MB .* free; .*ONCEFORALL_CACHE"):
        stored_images(root, names, Storage(12))
    assert entries(own_cache) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_disk_that_becomes_full(image_folder, own_cache):
    root = image_folder({"a": 60}, shape=(40, 40))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    run = subprocess.run([sys.executable, "-c", limit + CHILD, root, "40"], capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "UserError: disk full: the cache in" in run.stderr.splitlines()[-1]
    assert list(own_cache.rglob("*.npy")) == [] and entries(own_cache) == []


def test_a_folder_that_cannot_be_made(files, tmp_path):
    root, names = files
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written .*ONCEFORALL_CACHE"):
        stored_images(root, names, Storage(12), folder=tmp_path / "file")


def test_what_a_killed_builder_left_is_removed_after_a_day(files, own_cache):
    root, names = files
    for name, age in ((".building-old", 2 * STALE), (".building-now", 0.0)):
        (own_cache / name).mkdir(parents=True)
        os.utime(own_cache / name, (time.time() - age,) * 2)
    key = stored_images(root, names, Storage(12)).key
    assert entries(own_cache) == [".building-now", key]


def test_progress(files):
    root, names = files
    calls = []
    stored_images(root, names, Storage(12), progress=lambda *call: calls.append(call))
    assert calls == [("read", 5, 5), ("decode", 5, 5)]
