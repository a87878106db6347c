"""Folders and patterns made by hand, and what of them is to be predicted."""

import numpy as np
import pytest

from onceforall.errors import UserError
from onceforall.predict.inputs import VolumeFiles, find_images, find_volumes, read_files
from volume_files import save_nifti


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, in which `make(names)` creates empty files."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def names(volumes):
    return {volume.name: [str(file) for file in volume.files] for volume in volumes}


def test_images_of_files_folders_and_patterns(folder):
    here = folder("in/a.png", "in/deep/b.JPG", "in/notes.txt", "in/.hidden.png", "c.tiff", "d1.bmp", "d2.bmp")
    assert [str(p) for p in find_images(["in"], here / "out")] == ["in/a.png", "in/deep/b.JPG"]
    assert [str(p) for p in find_images(["d?.bmp", "c.tiff", "d1.bmp"], here)] == ["d1.bmp", "d2.bmp", "c.tiff"]
    assert [p.name for p in find_images(["i*"], here / "out")] == ["a.png", "b.JPG"], "a pattern may mean a folder"
    assert [str(p) for p in find_images(["missing.png"], here)] == ["missing.png"], "found missing when it is read"
    for nothing in ("*.gif", "empty"):
        (here / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=r"there is no file \.jpg, \.jpeg"):
            find_images([nothing], here / "out")


def test_what_was_predicted_before_is_no_input(folder):
    here = folder("a.nii.gz", "labels/a.nii.gz")
    assert names(find_volumes(["."], here / "labels", 1)) == {"a": ["a.nii.gz"]}
    assert names(find_volumes(["labels"], here / "labels" / "new", 1)) == {"a": ["labels/a.nii.gz"]}
    for given in ("a.nii.gz", "."):
        with pytest.raises(UserError, match="would take its place in .*; give another --out"):
            find_volumes([given], here, 1)


def test_volumes_have_the_names_of_their_files(folder):
    here = folder("in/a.nii.gz", "in/deep/a.nii", "in/b_0001.nii.gz", "in/c.png")
    expected = {"a": ["in/a.nii.gz"], "b_0001": ["in/b_0001.nii.gz"], "deep/a": ["in/deep/a.nii"]}
    assert names(find_volumes(["in"], here / "out", 1)) == expected
    with pytest.raises(UserError, match=r"in/a\.nii\.gz and in/deep/a\.nii would both be written as a\.nii\.gz"):
        find_volumes(["in/a.nii.gz", "in/deep/a.nii"], here / "out", 1)


def test_of_one_channel_the_number_is_left_out_as_in_training(folder):
    here = folder("in/a_0000.nii.gz", "in/b_0000.nii.gz", "in/b_0001.nii.gz", "in/c_0000.nii.gz", "in/c.nii.gz")
    folder("in/d_0001.nii.gz")
    found = names(find_volumes(["in"], here / "out", 1))
    assert set(found) == {"a", "b_0000", "b_0001", "c_0000", "c", "d_0001"}
    assert found["a"] == ["in/a_0000.nii.gz"]
    assert set(names(find_volumes(["in/b_0000.nii.gz"], here / "out", 1))) == {"b_0000"}


def test_files_of_modalities_are_one_volume(folder):
    here = folder(*(f"in/x_000{i}.nii.gz" for i in range(4)), "in/scan_2021.nii.gz", "in/y.nii.gz")
    found = names(find_volumes(["in"], here / "out", 4))
    assert found["x"] == [f"in/x_000{i}.nii.gz" for i in range(4)]
    assert set(found) == {"x", "scan_2021", "y"}
    assert set(names(find_volumes(["in"], here / "out", 2))) == {"x", "x_0002", "x_0003", "scan_2021", "y"}


def test_a_volume_is_read_from_one_file_or_several(tmp_path):
    array = np.random.default_rng(0).normal(size=(4, 5, 6, 2)).astype(np.float32)
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    one, first, second = (tmp_path / f"{name}.nii.gz" for name in ("one", "x_0000", "x_0001"))
    save_nifti(one, array, affine)
    for file, i in ((first, 0), (second, 1)):
        save_nifti(file, array[..., i], affine)
    for files in ((one,), (first, second)):
        found, its_affine = read_files(VolumeFiles("x", files), 2)
        np.testing.assert_array_equal(found, np.moveaxis(array, -1, 0))
        np.testing.assert_array_equal(its_affine, affine)
    with pytest.raises(UserError, match=r"x_0000.*has 1 channel.*reads 2; give all of them in a 4-D file"):
        read_files(VolumeFiles("x", (first,)), 2)
    with pytest.raises(UserError, match=r"one\.nii\.gz: has 2 channel.*reads 1; give a volume"):
        read_files(VolumeFiles("one", (one,)), 1)
    save_nifti(second, array[..., 1], np.eye(4))
    with pytest.raises(UserError, match=r"x_0001\.nii\.gz: lies elsewhere than .*x_0000"):
        read_files(VolumeFiles("x", (first, second)), 2)
