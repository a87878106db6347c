import csv
import hashlib
import json
import time

import numpy as np
import pytest
import torch

from onceforall.data import load_data
from onceforall.data.label_schemes import LabelScheme
from onceforall.data.volume_augmentation import NO_VOLUME_AUGMENTATION
from onceforall.data.volume_loading import load_volumes
from onceforall.errors import UserError
from volume_files import head, save_nifti

BOX = (12, 12, 12)


def test_the_split_is_by_subject_saved_and_kept(volume_folder, tmp_path):
    root = volume_folder(10)
    data = load_volumes(root, max_resolution=BOX, group_pattern=r"s(\d)")
    assert [data.count(split) for split in ("train", "validation", "test")] == [7, 1, 2]
    again = load_volumes(root, max_resolution=BOX)
    assert again.files("test") == data.files("test") and again.groups("test") != data.groups("test")
    data.write_splits(tmp_path / "splits.csv")
    with (tmp_path / "splits.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["file"] for row in rows if row["split"] == "test"} == set(data.files("test"))
    assert {row["group"] for row in rows} == set("0123456789") and "class" not in rows[0]
    other = load_volumes(root, max_resolution=BOX, seed=5)
    kept = load_volumes(root, max_resolution=BOX, seed=5, split_csv=tmp_path / "splits.csv")
    assert other.files("test") != data.files("test") and kept.files("test") == data.files("test")


def test_renamed_volumes_keep_their_split_whatever_their_labels(volume_folder, tmp_path):
    root = volume_folder(10)
    data, table = load_volumes(root, max_resolution=BOX), tmp_path / "splits.csv"
    data.write_splits(table)
    digests = {hashlib.sha256((root / file).read_bytes()).hexdigest() for file in data.files("test")}
    with table.open() as stream:
        assert {row["digest"] for row in csv.DictReader(stream) if row["split"] == "test"} == digests
    for i in range(10):
        for folder in ("imagesTr", "labelsTr"):
            (root / folder / f"s{i}.nii.gz").rename(root / folder / f"case{9 - i}.nii.gz")
    save_nifti(root / "labelsTr/case0.nii.gz", head((10, 10, 11), 9)[1][::-1].copy())  # corrected
    again = load_volumes(root, max_resolution=BOX, seed=5, split_csv=table)
    for split in ("train", "validation", "test"):
        assert again.files(split)[::-1] == [f"imagesTr/case{9 - int(file[10])}.nii.gz" for file in data.files(split)]
    gone = again.files("train")[0].removeprefix("imagesTr/")
    (root / "imagesTr" / gone).unlink()
    (root / "labelsTr" / gone).unlink()
    assert load_volumes(root, max_resolution=BOX, split_csv=table).note.startswith("9 of the 10 files in ")


def test_volumes_of_one_subject_stay_together(volume_folder):
    data = load_volumes(
        volume_folder(12), max_resolution=BOX, group_pattern=r"s\d?(\d)\.", validation_fraction=0.2
    )  # 0, 1 and 10, 11 are of one subject each
    sides = {}
    for split in ("train", "validation", "test"):
        for group in data.groups(split):
            sides.setdefault(group, set()).add(split)
    assert len(sides) == 10 and all(len(side) == 1 for side in sides.values())


def test_a_table_says_which_volumes_are_of_one_patient(volume_folder):
    root = volume_folder(12)
    patients = {f"s{i}.nii.gz": f"p{i // 2}" for i in range(12)}
    rows = [f"{file},{patient}" for file, patient in patients.items()]
    (root / "scans.csv").write_text("\n".join(["file,patient", *rows]))
    data = load_volumes(root, max_resolution=BOX, group_csv="scans.csv", group_column="patient")
    sides = [{patients[file.split("/")[1]] for file in data.files(split)} for split in ("train", "validation", "test")]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 6
    assert set(data.groups("train")) == sides[0]


def test_the_first_subjects(volume_folder):
    root = volume_folder(6)
    data = load_volumes(root, max_resolution=BOX, subjects=4)
    assert sum(data.count(split) for split in ("train", "validation", "test")) == 4
    with pytest.raises(UserError, match="subjects 7 is out of range; Heads has 6"):
        load_volumes(root, max_resolution=BOX, subjects=7)
    with pytest.raises(UserError, match="2 subject.* cannot be divided .* test_fraction to 0"):
        load_volumes(root, max_resolution=BOX, subjects=2)
    assert load_volumes(root, max_resolution=BOX, subjects=2, test_fraction=0).count("validation") == 1


def test_a_common_spacing_becomes_part_of_the_preparation(volume_folder):
    root = volume_folder(4)
    assert load_volumes(root, max_resolution=BOX).preparation.spacing == (1.0, 1.0, 1.0)
    volume = np.random.default_rng(0).normal(100, 10, (9, 10, 11)).astype(np.float32)
    save_nifti(root / "imagesTr/s0.nii.gz", volume, np.diag([1.0, 1.0, 2.0, 1.0]))
    save_nifti(root / "labelsTr/s0.nii.gz", (volume > 100).astype(np.uint8), np.diag([1.0, 1.0, 2.0, 1.0]))
    data = load_volumes(root, max_resolution=BOX)
    assert data.preparation.spacing is None
    assert data.describe()["spacings"] == {"least": [1.0, 1.0, 1.0], "greatest": [1.0, 1.0, 2.0]}
    resampled = load_volumes(root, max_resolution=(12, 12, 24), spacing=(1.0, 1.0, 1.0))
    assert resampled.describe()["sizes"]["greatest"] == [10, 10, 22]


def test_schemes(volume_folder):
    root = volume_folder(4)
    whole = LabelScheme("whole", "softmax", ("background", "body"), ((0,), (1, 2)))
    assert load_volumes(root, max_resolution=BOX).classes == ("background", "front", "back")
    assert load_volumes(root, max_resolution=BOX, scheme=whole).classes == ("background", "body")
    assert load_volumes(root, max_resolution=BOX, scheme="brats_regions").num_classes == 3
    (root / "dataset.json").unlink()
    assert load_volumes(root, max_resolution=BOX).classes == ("background", "label 1", "label 2")
    for path in (root / "labelsTr").iterdir():
        save_nifti(path, np.zeros((9 + int(path.name[1]) % 2, 10, 11), np.uint8))
    with pytest.raises(UserError, match="nothing to learn"):
        load_volumes(root, max_resolution=BOX)
    with pytest.raises(UserError, match="nothing to learn"):
        load_volumes(root, max_resolution=BOX, scheme="brats_regions")


def test_one_file_for_each_modality(volume_folder):
    root = volume_folder(4)
    for path in list((root / "imagesTr").iterdir()):
        stem = path.name.removesuffix(".nii.gz")
        (root / "imagesTr" / f"{stem}_0001.nii.gz").write_bytes(path.read_bytes())
        path.rename(root / "imagesTr" / f"{stem}_0000.nii.gz")
    labels = {"background": 0, "front": 1, "back": 2}
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1", "1": "T2"}, "labels": labels}))
    data = load_volumes(root, max_resolution=BOX)
    assert data.channels == 2 and data.describe()["modalities"] == ["T1", "T2"]
    assert data.files("train")[0].endswith("_0000.nii.gz")
    images, _ = next(data.batches("train", 12, 2))
    torch.testing.assert_close(images[:, 0], images[:, 1])


BAD = {
    "imagesTr/s1.nii.gz: is an HTML page": lambda r: (r / "imagesTr/s1.nii.gz").write_bytes(b"<html>"),
    "imagesTr/s1.nii.gz: is a truncated": lambda r: (r / "imagesTr/s1.nii.gz").write_bytes(
        (r / "imagesTr/s2.nii.gz").read_bytes()[:-30]
    ),
    "imagesTr/s1.nii.gz: has no label; add": lambda r: (r / "labelsTr/s1.nii.gz").unlink(),
    "labelsTr/s1.nii.gz: has no image; add": lambda r: (r / "imagesTr/s1.nii.gz").unlink(),
    "labelsTr/s1.nii.gz: has label values 7": lambda r: save_nifti(
        r / "labelsTr/s1.nii.gz", np.full((10, 10, 11), 7, np.uint8)
    ),
    "imagesTr/s1.nii.gz: is constant": lambda r: save_nifti(r / "imagesTr/s1.nii.gz", np.ones((10, 10, 11))),
}


@pytest.mark.parametrize("problem", BAD)
def test_bad_files_are_named(volume_folder, problem):
    root = volume_folder(4)
    BAD[problem](root)
    with pytest.raises(UserError, match=rf"1 problem\(s\) .*{problem}"):
        load_volumes(root, max_resolution=BOX)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_resolution": (12, 12)}, "max_resolution"),
        ({"mode": "patch"}, "Did you mean 'patches'"),
        ({"mode": "patches", "fit": "stretch"}, "is for mode 'whole'"),
        ({"stride": 0}, "stride 0"),
        ({"stride": 16}, "less than the total stride 16"),
        ({"seed": 1.5}, "seed 1.5"),
        ({"scheme": "classess"}, "Did you mean 'classes'"),
        ({"group_pattern": "(x)"}, "does not match"),
        ({"group_pattern": "(x)", "group_csv": "m.csv", "group_column": "p"}, "exclude each other"),
        ({"group_column": "p"}, "go together"),
        ({"group_csv": "m.csv", "group_column": "p"}, "m.csv.* cannot be read"),
        ({"clip": (5, 1)}, "clip"),
        ({"validation_fraction": 0.0}, "validation_fraction 0.0 is out of range"),
    ],
)
def test_options_that_make_no_sense(volume_folder, options, message):
    with pytest.raises(UserError, match=message):
        load_volumes(volume_folder(4), **{"max_resolution": BOX, **options})


def test_images_and_volumes_are_not_mixed_up(volume_folder):
    with pytest.raises(UserError, match="holds volumes; load it by load_volumes"):
        load_data(volume_folder(3))


@pytest.mark.data
def test_the_hippocampus_loads_and_is_read_fast(data_root, tmp_path):
    root = data_root / "Task04_Hippocampus"
    options = {"max_resolution": (48, 64, 48), "cache_dir": tmp_path, "subjects": 50}
    load_volumes(root, **options)
    start = time.perf_counter()
    data = load_volumes(root, **options)
    assert time.perf_counter() - start < 5.0  # measured with all 200: 0.2 s, and 6 s for the first time
    assert [data.count(split) for split in ("train", "validation", "test")] == [35, 5, 10]
    plain = load_volumes(root, **options, augmentation=NO_VOLUME_AUGMENTATION)
    for each, least in ((plain, 20.0), (data, 5.0)):  # measured on one core: 1800, and 35 with everything
        each.train_batch(np.arange(2), (48, 64, 48), torch.Generator())
        start = time.perf_counter()
        for i in range(10):
            each.train_batch(np.arange(2 * i, 2 * i + 2), (48, 64, 48), torch.Generator().manual_seed(i))
        assert 20 / (time.perf_counter() - start) > least


@pytest.mark.data
def test_the_tumour_crops_in_patches(data_root, tmp_path):
    data = load_volumes(
        data_root / "Task01_BrainTumour_crops",
        max_resolution=32,
        mode="patches",
        scheme="brats_regions",
        test_fraction=0.0,
        cache_dir=tmp_path,
    )
    assert (data.channels, data.num_classes, data.mode) == (4, 3, "patches")
    images, labels = data.train_batch(np.zeros(2, int), 32, torch.Generator().manual_seed(0))
    assert images.shape == (2, 4, 32, 32, 32) and set(labels.unique().tolist()) <= {0, 1, 2, 3, 255}
    whole, truth = next(data.batches("validation", 32, 4))
    assert whole.shape[1:] == (4, *truth.shape[1:]) and len(whole) == 1 and min(truth.shape[1:]) >= 32
