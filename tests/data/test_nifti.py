import gzip
import sys

import nibabel
import numpy as np
import pytest

from onceforall.data.nifti import UnreadableVolume, nifti_stem, read_labels, read_nifti, read_volume, write_labels
from onceforall.errors import UserError

AFFINE = np.array([[0, 0, 2.0, -5], [1.5, 0, 0, 3], [0, -1.0, 0, 7], [0, 0, 0, 1]])


def volume(*shape, dtype=np.float32):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_volume_with_its_affine(tmp_path, suffix, kind):
    array = volume(3, 4, 5)
    nibabel.save(kind(array, AFFINE), tmp_path / f"a{suffix}")
    got, affine = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(got, array[None])
    np.testing.assert_allclose(affine, AFFINE)
    assert got.dtype == np.float32


def test_the_fourth_axis_is_the_channels_and_scaling_is_applied(tmp_path):
    array = volume(3, 4, 5, 2, dtype=np.int16)
    image = nibabel.Nifti1Image(array, AFFINE)
    image.header.set_slope_inter(0.5, 3.0)
    nibabel.save(image, tmp_path / "a.nii")
    want = nibabel.load(tmp_path / "a.nii").get_fdata()
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii")[0], np.moveaxis(want, -1, 0).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_of_any_type(tmp_path, dtype):
    array = volume(3, 4, 5, dtype=dtype)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), tmp_path / "a.nii.gz")
    got, _ = read_labels(tmp_path / "a.nii.gz")
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, array)


def written(tmp_path, array, **header):
    image = nibabel.Nifti1Image(array, np.eye(4))
    data = bytearray(image.to_bytes())
    for start, content in header.items():
        data[int(start[1:]) : int(start[1:]) + len(content)] = content
    path = tmp_path / "bad.nii.gz"
    path.write_bytes(gzip.compress(bytes(data)))
    return path


ZERO = np.zeros(3, "<f4").tobytes()
BAD = {
    "HTML": lambda p: (p / "bad.nii.gz").write_bytes(b"<!DOCTYPE html><html>404</html>"),
    "is empty": lambda p: (p / "bad.nii.gz").write_bytes(b""),
    "is no NIfTI": lambda p: (p / "bad.nii.gz").write_bytes(b"x" * 1000),
    "is no NIfTI file; write": lambda p: (p / "bad.nii.gz").write_bytes(gzip.compress(b"\x5c\x01\x00\x00")),
    "dcm2niix": lambda p: (p / "bad.nii.gz").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 500),
    "cannot be opened": lambda p: None,
    "truncated or damaged .gz": lambda p: (p / "bad.nii.gz").write_bytes(
        written(p, volume(9, 9, 9)).read_bytes()[:-200]
    ),
    "voxels are missing": lambda p: (p / "bad.nii.gz").write_bytes(
        nibabel.Nifti1Image(volume(9, 9, 9), np.eye(4)).to_bytes()[:-200]
    ),
    r"spacing of \[0.0": lambda p: written(p, volume(3, 3, 3), b80=ZERO),
    "affine with a spacing of zero": lambda p: written(p, volume(3, 3, 3), b280=b"\0" * 48),
    "2 dimensions": lambda p: nibabel.save(nibabel.Nifti1Image(volume(3, 3), np.eye(4)), p / "bad.nii.gz"),
    "5 dimensions": lambda p: nibabel.save(nibabel.Nifti1Image(volume(3, 3, 3, 1, 2), np.eye(4)), p / "bad.nii.gz"),
    "voxels of type": lambda p: nibabel.save(
        nibabel.Nifti1Image(np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4)), p / "bad.nii.gz"
    ),
    r"damaged header .*code 999": lambda p: written(p, volume(3, 3, 3), b70=np.int16(999).tobytes()),
    r"damaged header .*shape is \(-3, 3, 3\)": lambda p: written(p, volume(3, 3, 3), b42=np.int16(-3).tobytes()),
    r"damaged header .*w2 should be positive": lambda p: written(
        p, volume(3, 3, 3), b252=np.array([1, 0], "<i2").tobytes(), b256=np.ones(3, "<f4").tobytes()
    ),
    r"damaged header .*NaN": lambda p: written(p, volume(3, 3, 3), b108=np.float32(np.nan).tobytes()),
    r"damaged header .*infinity": lambda p: written(p, volume(3, 3, 3), b108=np.float32(np.inf).tobytes()),
    "one half of a pair": lambda p: written(p, volume(3, 3, 3), b344=b"ni1\0"),
    "is truncated: voxels are missing at its end": lambda p: written(
        p, volume(3, 3, 3), b42=np.full(3, 30000, "<i2").tobytes()
    ),
}


@pytest.mark.parametrize("reason", BAD)
def test_files_that_are_no_volumes_say_why(tmp_path, reason):
    BAD[reason](tmp_path)
    with pytest.raises(UnreadableVolume, match=f"^imagesTr/bad.nii.gz: .*{reason}") as caught:
        read_volume(tmp_path / "bad.nii.gz", "imagesTr/bad.nii.gz")
    assert "\n" not in str(caught.value) and isinstance(caught.value, UserError)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((2, 2, 2), 0.5, np.float32), "no whole numbers"),
        (np.full((2, 2, 2), np.nan, np.float32), "no whole numbers"),
        (np.full((2, 2, 2), 300, np.int16), "300 to 300; allowed is 0 to 254"),
        (np.full((2, 2, 2), -1, np.int16), "-1 to -1"),
        (np.zeros((2, 2, 2, 2), np.uint8), "4 dimensions"),
    ],
)
def test_labels_that_are_none(tmp_path, array, reason):
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(UnreadableVolume, match=reason):
        read_labels(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_written_labels_are_read_by_nibabel(tmp_path, suffix):
    labels = volume(3, 4, 5, dtype=np.uint8)
    write_labels(tmp_path / f"out{suffix}", labels, AFFINE)
    image = nibabel.load(tmp_path / f"out{suffix}")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), labels)
    np.testing.assert_allclose(image.affine, AFFINE)
    np.testing.assert_array_equal(read_nifti(tmp_path / f"out{suffix}")[0], labels)


def test_names():
    assert nifti_stem("imagesTr/BRATS_001.nii.gz") == nifti_stem("BRATS_001.nii") == "BRATS_001"


def test_without_nibabel_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UserError, match=r"pip install onceforall\[medical\]"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.data
def test_labels_stored_as_floating_point_numbers_load(data_root):
    folder = data_root / "Task04_Hippocampus" / "labelsTr"
    paths = [path for path in sorted(folder.iterdir()) if nibabel.load(path).get_data_dtype() == np.float32]
    assert paths
    for path in paths:
        assert np.unique(read_labels(path)[0]).tolist() == [0, 1, 2]
