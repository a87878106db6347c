import shutil
from pathlib import Path

import numpy as np
import pytest

from onceforall.data import volume_cache
from onceforall.data.label_schemes import OUTSIDE, scheme_from_labels
from onceforall.data.msd import list_volumes
from onceforall.data.volume_cache import POSITIONS, cached_volumes, volume_digests
from onceforall.data.volumes import VolumePreparation, prepare_labels, prepare_volume, read_labels, read_volume
from onceforall.errors import UserError

BOX = VolumePreparation(1, (12, 12, 12))
OWN = VolumePreparation(1)


def cached(root, preparation=BOX, **options):
    listing = list_volumes(root)
    digests = volume_digests(listing, **options)
    return cached_volumes(listing, digests, preparation, scheme_from_labels(listing.classes or {}), 8, **options)


def entries(folder: Path):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


@pytest.mark.parametrize("preparation", [BOX, OWN])
def test_what_is_stored_is_what_the_preparation_gives(volume_folder, preparation):
    root = volume_folder(3)
    got = cached(root, preparation)
    for i in range(3):
        volume, affine = read_volume(root / f"imagesTr/s{i}.nii.gz")
        image, geometry = prepare_volume(volume, affine, preparation)
        labels = prepare_labels(read_labels(root / f"labelsTr/s{i}.nii.gz")[0], geometry)
        np.testing.assert_array_equal(got.image(i), image.astype(np.float16))
        np.testing.assert_array_equal(got.label(i), labels)
        assert got.geometries[i] == geometry and got.grids[i] == labels.shape
        assert got.counts[i] == {value: int((labels == value).sum()) for value in (0, 1, 2)}
        for v, value in enumerate((1, 2)):
            positions = got.foreground[i, v]
            here = positions[positions >= 0]
            assert len(here) == min(POSITIONS, (labels == value).sum()) and (labels.ravel()[here] == value).all()
    assert (got.label(0) == OUTSIDE).any() == (preparation is BOX)


def test_nothing_is_read_twice(volume_folder, own_cache, monkeypatch):
    root = volume_folder(3)
    first = cached(root)
    monkeypatch.setattr(volume_cache, "read_case", None)  # would fail
    second = cached(root)
    np.testing.assert_array_equal(first.images, second.images)
    assert first.digests == second.digests and len(entries(own_cache)) == 1
    assert isinstance(second.images, np.memmap) and not second.images.flags.writeable


def test_a_changed_file_or_preparation_is_another_entry(volume_folder, own_cache):
    root = volume_folder(3)
    first = cached(root)
    shutil.copy(root / "imagesTr/s2.nii.gz", root / "imagesTr/s0.nii.gz")
    second = cached(root)
    assert first.digests[0] != second.digests[0] and first.digests[1:] == second.digests[1:]
    cached(root, OWN)
    assert len(entries(own_cache)) == 3


@pytest.mark.parametrize("broken", ["images.bin", "foreground.npy", "index.json"])
def test_a_damaged_entry_is_built_again(volume_folder, own_cache, broken):
    root = volume_folder(3)
    before = np.array(cached(root).images)
    (entry,) = entries(own_cache)
    (own_cache / entry / broken).write_bytes(b"xx")
    np.testing.assert_array_equal(cached(root).images, before)
    assert entries(own_cache) == [entry]


def test_every_bad_file_is_named_and_nothing_is_left(volume_folder, own_cache):
    root = volume_folder(4)
    (root / "imagesTr/s1.nii.gz").write_bytes(b"<html>")
    (root / "labelsTr/s3.nii.gz").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"2 problem.*imagesTr/s1.nii.gz: is an HTML.*labelsTr/s3.nii.gz: is empty.*data ch"
    ):
        cached(root)
    assert entries(own_cache) == []


def test_a_volume_that_does_not_fit_is_named(volume_folder):
    with pytest.raises(UserError, match=r"imagesTr/s1.nii.gz: \(10, 10, 11\) voxels do not fit .*max_resolution"):
        cached(volume_folder(2), VolumePreparation(1, (9, 12, 12)))


def test_progress_is_told(volume_folder):
    told = []
    cached(volume_folder(3), progress=lambda *line: told.append(line))
    assert told == [("read", 6, 6), ("decode", 1, 3), ("decode", 2, 3), ("decode", 3, 3)]
