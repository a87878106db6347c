"""`load_data`: the kinds of data sets, on small folders, on the built-in digits and on real data."""

import csv

import numpy as np
import pytest
import torch

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
