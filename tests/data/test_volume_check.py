import json
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from onceforall.data.check import check_data
from onceforall.data.volume_check import VolumeReport, check_volumes
from onceforall.data.volume_loading import VolumeOptions, load_volumes
from onceforall.errors import UserError
from volume_files import head, save_nifti

OWN_GRID = {"max_resolution": 8, "mode": "patches"}


def test_a_good_folder(volume_folder):
    told = []
    report = check_volumes(volume_folder(4), progress=lambda *line: told.append(line))
    assert report.errors == () and report.warnings == ()
    assert report.shapes == {"9 x 10 x 11": 2, "10 x 10 x 11": 2} and report.orientations == {"RAS": 4}
    assert report.spacings == {"1 x 1 x 1": 4} and report.modalities == ("MRI",)
    assert report.labels[1] == (4 * 36, 4) and report.labels[2] == (4 * 24, 4)
    assert report.text().endswith("ready to be trained on") and told[-1] == ("check", 4, 4)
    json.dumps(report.to_dict())


def test_all_problems_are_found_in_one_pass(volume_folder):
    root = volume_folder(12)
    images, labels = root / "imagesTr", root / "labelsTr"
    shape = (10, 10, 11)
    volume = np.random.default_rng(7).normal(100, 10, shape).astype(np.float32)
    (images / "s0.nii.gz").write_bytes(b"<!doctype html>")
    (images / "s1.nii.gz").write_bytes((images / "s3.nii.gz").read_bytes()[:-40])
    (labels / "s2.nii.gz").unlink()
    (images / "s4.nii.gz").unlink()
    save_nifti(images / "s5.nii.gz", volume, np.diag([1.0, 2.0, 1.0, 1.0]))  # its label: another affine
    save_nifti(labels / "s6.nii.gz", np.full((9, 10, 11), 9, np.uint8))
    save_nifti(images / "s7.nii.gz", np.stack([volume, volume], axis=-1))
    nan = volume[:9].copy()
    nan[0, 0, 0] = np.nan
    save_nifti(images / "s8.nii.gz", nan)
    save_nifti(labels / "s9.nii.gz", np.zeros(shape, np.uint8))
    shutil.copy(images / "s3.nii.gz", images / "s11.nii.gz")
    save_nifti(images / "s10.nii.gz", np.full((9, 10, 11), 5.0))
    report = check_volumes(root)
    files = ["s0", "s1", "s2", "s4", "s5", "s6", "s7", "s8", "s10"]
    assert sorted({line.split(":")[0].split("/")[1] for line in report.errors}) == sorted(f"{f}.nii.gz" for f in files)
    assert all(";" in line for line in (*report.errors, *report.warnings))
    assert report.empty == ("labelsTr/s9.nii.gz",) and report.copies == (("imagesTr/s11.nii.gz", "imagesTr/s3.nii.gz"),)
    text = report.text()
    assert "ready" not in text and "error: imagesTr/s0.nii.gz: is an HTML page" in text
    assert "spacings differ" in text and "holds background only" in text


def test_a_missing_modality_and_a_short_side(volume_folder):
    root = volume_folder(3, shape=(9, 6, 11))
    described = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**described, "modality": {"0": "T1", "1": "T2"}}))
    report = check_volumes(root)
    assert len(report.errors) == 6
    assert any("is 3-D where 2 modalities are expected" in line for line in report.errors)
    assert any("has a side of 6 voxels, less than the total stride 8" in line for line in report.errors)


def test_a_plain_folder_has_any_values(volume_folder):
    root = volume_folder(3)
    (root / "dataset.json").unlink()
    report = check_volumes(root)
    assert report.errors == () and report.classes == () and set(report.labels) == {0, 1, 2}
    assert check_volumes(root, VolumeOptions(**OWN_GRID, scheme="brats_regions")).errors == ()


def test_intensities_that_differ_much_are_told(volume_folder):
    root = volume_folder(3)
    save_nifti(root / "imagesTr/s0.nii.gz", np.random.default_rng(0).uniform(0, 1e6, (9, 10, 11)))
    report = check_volumes(root)
    assert any("fold; each is normalised by itself" in line for line in report.warnings)


def test_constants_are_judged_as_the_preparation_clips(volume_folder):
    root = volume_folder(3)
    volume = np.full((9, 10, 11), 5.0, np.float32)
    volume[0, 0, :2] = 90.0  # 0.2 % of the voxels: an outlier by default
    save_nifti(root / "imagesTr/s0.nii.gz", volume)
    assert [line.split(":")[1] for line in check_data(root).errors] == [" is constant"]
    assert check_data(root, VolumeOptions(**OWN_GRID, clip=(0.0, 100.0))).errors == ()
    deeper = VolumeOptions(**OWN_GRID, stride=16, clip=(0.0, 100.0))
    assert any("total stride 16" in line for line in check_data(root, deeper).errors)
    load_volumes(root, max_resolution=12, clip=(0.0, 100.0))  # does not raise


def test_too_few_subjects_are_an_error(volume_folder):
    report = check_volumes(volume_folder(2))
    assert len(report.errors) == 1 and "2 subject(s) cannot be divided" in report.errors[0]


def test_every_volume_that_the_box_does_not_hold_is_named(volume_folder):
    root = volume_folder(6)  # of 9 and of 10 voxels along X
    tight = VolumeOptions(max_resolution=(9, 12, 12))
    found = check_volumes(root, tight).errors
    assert [line.split(":")[0] for line in found] == [f"imagesTr/s{i}.nii.gz" for i in (1, 3, 5)]
    with pytest.raises(UserError) as error:
        load_volumes(root, max_resolution=(9, 12, 12))
    assert all(line in str(error.value) for line in found)
    assert check_volumes(root, replace(tight, fit="crop")).errors == ()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"group_pattern": r"zzz(\d+)"}, "does not match 4 of 4 files"),
        ({"group_csv": "m.csv", "group_column": "p"}, "cannot be read"),
        ({"split_csv": "none.csv"}, "split_csv 'none.csv' cannot be read"),
        ({"subjects": 5}, "subjects 5 is out of range; Heads has 4"),
        ({"subjects": 2}, "2 subject(s) cannot be divided into train, validation, test; add subjects"),
        ({"validation_fraction": 0.9}, "leave nothing to train on"),
        ({"subjects": 2, "test_fraction": 0.0}, ""),
    ],
)
def test_splits_are_judged_as_they_will_be_made(volume_folder, options, expected):
    root = volume_folder(4)
    errors = check_volumes(root, VolumeOptions(max_resolution=12, **options)).errors
    assert len(errors) == bool(expected) and all(expected in line for line in errors)
    if expected:
        with pytest.raises(UserError) as error:
            load_volumes(root, max_resolution=12, **options)
        assert str(error.value).removesuffix(".") == errors[0]
    else:
        load_volumes(root, max_resolution=12, **options)


def test_foreground_that_the_box_cuts_off_is_none(volume_folder):
    root = volume_folder(3)
    for i in range(3):
        labels = np.zeros((9 + i % 2, 10, 11), np.uint8)
        labels[0, 0, 0] = 1
        save_nifti(root / f"labelsTr/s{i}.nii.gz", labels)
    assert check_volumes(root).errors == ()
    report = check_volumes(root, VolumeOptions(max_resolution=8, fit="crop"))
    assert [line.split(":")[0] for line in report.errors] == ["no label has a voxel above 0"]
    with pytest.raises(UserError, match="no label in .* has a voxel above 0"):
        load_volumes(root, max_resolution=8, fit="crop")


def test_what_a_table_does_not_know_is_told(volume_folder, tmp_path):
    root, table = volume_folder(4), tmp_path / "splits.csv"
    data = load_volumes(root, max_resolution=12)
    data.write_splits(table)
    name = data.files("train")[0].removeprefix("imagesTr/")
    (root / "imagesTr" / name).rename(root / "imagesTr/t0.nii.gz")
    (root / "labelsTr" / name).rename(root / "labelsTr/t0.nii.gz")
    known = VolumeOptions(max_resolution=12, split_csv=table)
    assert check_volumes(root, known).warnings == ()
    shape = nibabel.load(root / "imagesTr/t0.nii.gz").shape
    save_nifti(root / "imagesTr/t0.nii.gz", head(shape, 9)[0])
    assert check_volumes(root, known).warnings[0].startswith("3 of the 4 files in ")


def test_labels_without_any_foreground(volume_folder):
    root = volume_folder(2)
    for i in range(2):
        save_nifti(root / f"labelsTr/s{i}.nii.gz", np.zeros((9 + i, 10, 11), np.uint8))
    assert any("nothing to learn" in line for line in check_volumes(root).errors)


def test_check_data_knows_folders_of_volumes(volume_folder, tmp_path):
    root = volume_folder(3)
    assert isinstance(check_data(root), VolumeReport)
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "slice.dcm").touch()
    with pytest.raises(UserError, match="dcm2niix"):
        check_data(tmp_path / "series")


@pytest.mark.data
def test_a_real_folder_of_two_subjects(data_root):
    report = check_volumes(data_root / "Task01_BrainTumour_crops")
    assert [line.split(" into")[0] for line in report.errors] == ["2 subject(s) cannot be divided"]
    assert report.classes[1:] == ("edema", "non-enhancing tumor", "enhancing tumour")


@pytest.mark.data
def test_a_part_of_the_hippocampi_as_a_plain_folder(data_root, tmp_path):
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
        for path in sorted((data_root / "Task04_Hippocampus" / folder).iterdir())[::8]:
            (tmp_path / folder / path.name).symlink_to(path)
    report = check_volumes(tmp_path)
    assert report.errors == () and report.subjects == 25 and report.orientations == {"RAS": 25}
    assert {value: subjects for value, (_, subjects) in report.labels.items()} == {0: 25, 1: 25, 2: 25}
