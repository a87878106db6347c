"""`load_data`: the kinds of data sets, on small folders, on the built-in digits and on real data."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from onceforall.data import Augmentation, load_data
from onceforall.errors import UserError

SPLITS = ("train", "validation", "test")


def test_digits_are_the_default():
    data = load_data()
    assert (data.name, data.channels, data.num_classes) == ("digits", 1, 10)
    assert [data.count(split) for split in SPLITS] == [1259, 269, 269]
    assert data.preparation.crop_ratio == 1.0 and not data.augmentation.horizontal_flip
    assert data.describe()["stored_size"] == [8, 8]
    assert load_data(kind="digits", classes=3).num_classes == 3


def test_folder_is_found_by_its_layout(image_folder):
    data = load_data(image_folder({"a": 10, "b": 10}), augmentation=Augmentation(rotation=5), max_resolution=8)
    assert data.classes == ("a", "b") and data.augmentation.rotation == 5
    assert data.preparation.crop_ratio == 0.875
    images, _ = data.train_batch(np.arange(4), 8, torch.Generator().manual_seed(0))
    assert images.shape == (4, 1, 8, 8)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        (None, {"kind": "fodler"}, "kind 'fodler' .* Did you mean 'folder'"),
        (None, {"kind": "folder"}, "needs the path"),
        ("x", {"kind": "digits"}, "takes no path"),
        ("nowhere", {}, "'nowhere' does not exist"),
        (None, {"train_per_class": 3}, "'tiny_imagenet' only"),
        (None, {"group_pattern": "(.)"}, "groups="),
        (None, {"classes": 11}, "classes 11"),
        (None, {"channels": 4}, "1 channels cannot become one of 4"),
    ],
)
def test_wrong_calls(path, options, message):
    with pytest.raises(UserError, match=message):
        load_data(path, **options)


def test_misspelt_options_are_refused():
    with pytest.raises(TypeError, match="image_sise"):
        load_data(image_sise=3)


@pytest.mark.data
def test_real_mednist(data_root):
    data = load_data(data_root / "mednist")
    assert (data.channels, data.num_classes, data.describe()["stored_size"]) == (1, 6, [64, 64])
    assert [set(np.bincount(data.labels(split))) for split in SPLITS] == [{350}, {75}, {75}]
    assert data.describe()["copies_across_splits"] == 0
    assert next(data.batches("test", 32, 16))[0].shape == (16, 1, 32, 32)


@pytest.mark.data
def test_real_oct_keeps_patients_on_one_side(data_root):
    by_name = load_data(data_root / "oct", group_pattern=r"-(\d+)-\d+\.jpeg$")
    by_table = load_data(data_root / "oct", group_csv="manifest.csv", group_column="patient_id")
    assert by_name.fingerprint == by_table.fingerprint
    assert (by_name.channels, by_name.preparation.store_size) == (1, 74)  # the three stored as RGB are grey
    with (data_root / "oct/manifest.csv").open(newline="") as stream:
        patient = {row["file"]: row["patient_id"] for row in csv.DictReader(stream)}
    sides = [{patient[file.split("/")[1]] for file in by_name.files(split)} for split in SPLITS]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 45
    for split in SPLITS:
        assert (np.bincount(by_name.labels(split), minlength=4) >= 2).all()


@pytest.mark.data
def test_real_tiny_imagenet(data_root):
    data = load_data(data_root / "tiny-imagenet-200", classes=20, train_per_class=60, validation_per_class=15)
    assert (data.channels, data.classes[:2]) == (3, ("Egyptian cat", "reel"))
    assert [set(np.bincount(data.labels(split))) for split in SPLITS] == [{60}, {15}, {35}]
    official = [file for file in data.files("test") if file.startswith("val/")]
    assert len(official) == 200 and not any(file.startswith("val/") for file in data.files("train"))


def moved(root, target):
    """The same files, one folder deeper."""
    for file in sorted(root.rglob("*.png")):
        place = target / file.parent.name / "2024" / f"scan {file.name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    return target


def contents(root, data, split):
    return {(root / file).read_bytes() for file in data.files(split)}


def test_a_moved_folder_keeps_its_splits(image_folder, tmp_path):
    root = image_folder({"a": 20, "b": 20})
    data = load_data(root, max_resolution=8)
    data.write_splits(tmp_path / "splits.csv")
    other = moved(root, tmp_path / "other")
    again = load_data(other, max_resolution=8, seed=1, split_csv=tmp_path / "splits.csv")
    assert again.note == "" and not set(again.files("train")) & set(data.files("train"))
    for split in SPLITS:
        assert contents(other, again, split) == contents(root, data, split)


def test_a_renamed_copy_of_a_training_image_is_never_tested_on(image_folder, tmp_path):
    root = image_folder({"a": 20, "b": 20})
    data = load_data(root, max_resolution=8)
    data.write_splits(tmp_path / "splits.csv")
    for i, file in enumerate(data.files("train")):
        (root / file).rename(root / file.split("/")[0] / f"again-{i}.png")
    for file in data.files("test"):  # nothing that was tested on is known: there will be new test images
        (root / file).unlink()
    for name in "ab":
        for i in range(20):
            pixels = np.random.default_rng([i, ord(name)]).integers(0, 255, (9, 9), np.uint8)
            Image.fromarray(pixels).save(root / name / f"new-{i}.png")
    again = load_data(root, max_resolution=8, split_csv=tmp_path / "splits.csv")
    assert {file.split("/")[1][:3] for file in again.files("test")} == {"new"}
    assert sum("again" in file for file in again.files("train")) == data.count("train")
    tested = data.count("test")
    assert again.note.startswith(f"{40 - tested} of the 40 files in {tmp_path / 'splits.csv'} were found, by name or")


def test_a_table_without_digests_goes_by_names(image_folder, tmp_path):
    root = image_folder({"a": 20, "b": 20})
    data, table = load_data(root, max_resolution=8), tmp_path / "old.csv"
    rows = [f"{file},{split}\n" for split in SPLITS for file in data.files(split)]
    table.write_text("file,split\n" + "".join(rows))
    again = load_data(root, max_resolution=8, seed=1, split_csv=table)
    assert again.fingerprint == data.fingerprint and again.note == ""
    other = load_data(moved(root, tmp_path / "other"), max_resolution=8, split_csv=table)
    assert other.note.startswith(f"0 of the 40 files in {table} were found, by name alone, for it has no digests")
