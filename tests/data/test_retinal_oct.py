"""Oracles: folders whose patients were put into their splits by hand."""

import csv

import numpy as np
import pytest
from PIL import Image

from onceforall.data import check_data, load_data
from onceforall.data.retinal_oct import CLASSES, is_retinal_oct, list_retinal_oct
from onceforall.errors import UserError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def everywhere(*splits):
    """One image of each class in each split folder, each of a patient of its own."""
    return [f"{s}/{c}/{c}-{10 * i + j}-1.jpeg" for i, s in enumerate(splits, 1) for j, c in enumerate(CLASSES)]


def test_patients_come_from_the_names_also_across_classes(tmp_path):
    root = touch(tmp_path, "CNV/CNV-7-1.jpeg", "CNV/CNV-7-2.jpeg", "DME/DME-7-1.jpeg", "NORMAL/NORMAL-81-12.jpeg")
    listing = list_retinal_oct(root)
    assert listing.classes == ("CNV", "DME", "NORMAL") and listing.groups == ("7", "7", "7", "81")
    assert listing.left_out == () and set(listing.splits) == {""}


def test_published_folders_are_kept_and_a_patient_is_on_one_side(tmp_path):
    root = touch(
        tmp_path,
        *everywhere("train", "val", "test"),
        "train/CNV/CNV-31-2.jpeg",  # 31 is a test patient
        "val/DME/DME-31-3.jpeg",
        "train/DME/DME-20-4.jpeg",  # 20 validates
        "train/DME/DME-10-5.jpeg",
    )
    listing = list_retinal_oct(root)
    assert listing.left_out == ("train/CNV/CNV-31-2.jpeg", "train/DME/DME-20-4.jpeg", "val/DME/DME-31-3.jpeg")
    assert listing.groups is not None and len(listing.files) == 13
    for file, split, group in zip(listing.files, listing.splits, listing.groups, strict=True):
        assert {"train": "train", "val": "validation", "test": "test"}[file.split("/")[0]] == split
        assert file.split("-")[1] == group


def test_without_a_validation_folder_training_patients_stay_open(tmp_path):
    listing = list_retinal_oct(touch(tmp_path, *everywhere("train", "test"), "train/CNV/CNV-21-2.jpeg"))
    assert listing.left_out == ("train/CNV/CNV-21-2.jpeg",)
    assert sorted(listing.splits) == [""] * 4 + ["test"] * 4


@pytest.mark.parametrize(
    ("names", "recognised"),
    [
        (("CNV/CNV-1-1.jpeg", "NORMAL/NORMAL-2-1.jpeg"), True),
        (("train/CNV/a.jpeg", "train/DME/DME-2-1.jpeg", "test/DME/DME-3-1.jpeg"), True),
        (("CNV/1.jpeg", "NORMAL/2.jpeg"), False),
        (("CNV/CNV-1-1.jpeg", "NORMAL/NORMAL-2-1.jpeg", "AMD/AMD-3-1.jpeg"), False),
        (("cat/cat-1-1.jpeg", "dog/dog-1-1.jpeg"), False),
        (("CNV-1-1.jpeg",), False),
    ],
)
def test_it_is_recognised_where_names_and_folders_say_so(tmp_path, names, recognised):
    assert is_retinal_oct(touch(tmp_path, *names)) is recognised


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("CNV/CNV-1-1.jpeg", "DME/scan.jpeg"), r"1 of 2 files \(DME/scan.jpeg\) are not named <CLASS>-<patient>-<n>"),
        ((*everywhere("train", "test")[:-1],), "no images of class NORMAL in 'test', the test split"),
        ((*everywhere("test", "train")[:-1],), "no files in 'train' for class NORMAL"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, names, message):
    with pytest.raises(UserError, match=message) as raised:
        list_retinal_oct(touch(tmp_path, *names))
    assert "\n" not in str(raised.value)


def images(root, patients_per_class=8):
    """Two images each of patients 0 to 31; one of every class; white corners."""
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(2 * patients_per_class):
            pixels = np.random.default_rng(100 * label + i).integers(0, 100, (30, 40), np.uint8)
            pixels[np.add.outer(np.arange(30), np.arange(40)) < 12] = 255
            Image.fromarray(pixels).save(root / name / f"{name}-{patients_per_class * label + i // 2}-{i}.jpeg")
    return root


def test_from_files_to_splits_by_patient(tmp_path):
    data = load_data(images(tmp_path / "oct"), fit="stretch", white_border="black", image_size=24)
    sides = [set(data.groups(split) or []) for split in ("train", "validation", "test")]
    assert all(sides) and sum(map(len, sides)) == len(set.union(*sides)) == 32
    data.write_splits(tmp_path / "splits.csv")
    with (tmp_path / "splits.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(row["file"].split("-")[1] == row["group"] for row in rows) and len(rows) == 64
    assert data.channels == 1 and data.stored("train").max() < 200  # the wedges are gone


def test_own_groups_replace_those_of_the_names(tmp_path):
    root = images(tmp_path / "oct")
    data = load_data(root, group_pattern=r"^(\w+-\d+)-", image_size=24)
    assert (data.groups("train") or [""])[0].startswith("CNV-")
    assert load_data(root, "folder", image_size=24).groups("train") is None


def test_left_out_images_are_told(tmp_path):
    for i, split in enumerate(("train", "val", "test")):
        images(tmp_path / f"oct/{split}", 2)
        for file in (tmp_path / f"oct/{split}").rglob("*.jpeg"):
            name, patient, number = file.stem.split("-")
            file.rename(file.with_name(f"{name}-{i}{patient}-{number}.jpeg"))
    leak = tmp_path / "oct/test/DME/DME-22-0.jpeg"
    (tmp_path / "oct/train/DME/DME-22-9.jpeg").write_bytes(leak.read_bytes())
    described = load_data(tmp_path / "oct", image_size=24).describe()
    assert described["counts"] == {"train": 16, "validation": 16, "test": 16}
    assert described["left_out"] == 1 and described["groups"] == {"train": 8, "validation": 8, "test": 8}


@pytest.mark.data
def test_the_real_scans(data_root):
    listing = list_retinal_oct(data_root / "oct")
    assert is_retinal_oct(data_root / "oct") and listing.groups is not None
    assert len(set(listing.groups)) == 45  # counted in the manifest
    with (data_root / "oct/manifest.csv").open(newline="") as stream:
        manifest = {row["file"]: row["patient_id"] for row in csv.DictReader(stream)}
    assert {file.split("/")[1]: g for file, g in zip(listing.files, listing.groups, strict=True)} == manifest
    assert check_data(data_root / "oct").patients == {"undivided": 45}
