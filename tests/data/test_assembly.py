"""Oracles: numpy's mean and standard deviation, hand-counted copies and groups."""

import numpy as np
import pytest

from onceforall.data import from_arrays, load_data
from onceforall.data.assembly import DataOptions, mean_and_std
from onceforall.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 10, 10, 3), np.uint8)
LABELS = np.arange(40) % 2


def test_mean_and_std_of_the_training_images():
    data = from_arrays(IMAGES, LABELS, max_resolution=16)
    train = data.stored("train") / 255
    np.testing.assert_allclose(data.preparation.mean, train.mean(axis=(0, 2, 3)), atol=5e-5)
    np.testing.assert_allclose(data.preparation.std, train.std(axis=(0, 2, 3)), atol=5e-5)
    given = from_arrays(IMAGES, LABELS, max_resolution=16, mean=[0.5, 0.5, 0.5], std=[0.2, 0.2, 0.2])
    assert given.preparation.mean == (0.5, 0.5, 0.5)


def test_mean_and_std_of_deep_and_of_constant_images():
    deep = RNG.integers(0, 4096, (300, 2, 4, 4), np.uint16)
    mean, std = mean_and_std(deep, np.arange(300), 4095)
    np.testing.assert_allclose(mean, (deep / 4095).mean(axis=(0, 2, 3)), atol=5e-5)
    np.testing.assert_allclose(std, (deep / 4095).std(axis=(0, 2, 3)), atol=5e-5)
    assert mean_and_std(np.full((3, 1, 2, 2), 51, np.uint8), np.arange(3), 255) == ((0.2,), (1.0,))


def test_channels_of_arrays():
    grey = np.repeat(IMAGES[..., :1], 3, axis=3)
    assert from_arrays(grey, LABELS).channels == 1
    assert from_arrays(grey, LABELS, channels=3).channels == 3
    four = np.concatenate([IMAGES, IMAGES[..., :1]], axis=3)
    assert from_arrays(four, LABELS, image_size=6).stored("train").shape[1:] == (4, 6, 6)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"max_resolution": 8}, 10),  # 8 / 0.875 -> 10
        ({"max_resolution": 7}, 8),
        ({"max_resolution": 7, "fit": "pad"}, 7),
        ({"max_resolution": 8, "crop_ratio": 1.0}, 8),
        ({"max_resolution": 64}, 10),  # not enlarged
        ({"image_size": 5}, 5),
    ],
)
def test_stored_size(options, size):
    assert from_arrays(IMAGES, LABELS, **options).describe()["stored_size"] == [size, size]


def test_maximum_and_bit_depth():
    deep = from_arrays(IMAGES.astype(np.uint16) * 16, LABELS, maximum=4095)
    assert (deep.preparation.bit_depth, deep.preparation.maximum) == (16, 4095)
    assert 0.4 < deep.preparation.mean[0] < 0.6
    assert from_arrays(IMAGES.astype(np.uint16), LABELS).preparation.maximum == 65535


def test_copies_across_splits_are_counted():
    images = IMAGES.copy()
    images[:] = images[0]
    data = from_arrays(images, LABELS)
    assert data.describe()["copies_across_splits"] == data.count("validation") + data.count("test")
    assert from_arrays(IMAGES, LABELS).describe()["copies_across_splits"] == 0


def test_groups_of_arrays():
    groups = [f"p{i // 4}" for i in range(40)]
    data = from_arrays(IMAGES, LABELS, groups=groups)
    sides = [set(data.groups(split) or []) for split in ("train", "validation", "test")]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 10
    assert data.describe()["groups"] == dict(zip(("train", "validation", "test"), map(len, sides), strict=True))
    with pytest.raises(UserError, match="groups has 3 entries; .* 40"):
        from_arrays(IMAGES, LABELS, groups=["p"] * 3)


def test_grouped_files(image_folder):
    root = image_folder({"a": 20, "b": 20})
    data = load_data(root, group_pattern=r"-(\d+)-\d+\.png$")
    sides = [set(data.groups(split) or []) for split in ("train", "validation", "test")]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 20
    (root / "m.csv").write_text("file,patient\n" + "".join(f"{f},{g}\n" for s in ("train", "validation", "test")
                                for f, g in zip(data.files(s), data.groups(s) or [], strict=True)))  # fmt: skip
    same = load_data(root, group_csv="m.csv", group_column="patient")
    assert same.fingerprint == data.fingerprint


def test_unreadable_files_leave_no_trace_in_splits(image_folder):
    root = image_folder({"a": 12, "b": 12})
    before = load_data(root)
    (root / "a" / "broken.png").write_bytes(b"x")
    with pytest.raises(UserError, match="a/broken.png"):
        load_data(root)
    after = load_data(root, skip_unreadable=True)
    assert after.describe()["unreadable"] == {"a/broken.png": "not an image this package reads (JPEG, PNG, TIFF, BMP)"}
    assert after.fingerprint == before.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_resolution": 0}, "max_resolution 0"),
        ({"image_size": -3}, "image_size -3"),
        ({"channels": 0}, "channels|0"),
        ({"fit": "squash"}, "fit 'squash' .* 'crop', 'stretch', 'pad'"),
        ({"crop_ratio": 1.5}, "crop_ratio 1.5"),
        ({"maximum": 0}, "maximum 0"),
        ({"seed": "one"}, "seed 'one'"),
        ({"seed": True}, "seed True"),
        ({"mean": (0.5,)}, "mean and std go together"),
        ({"group_csv": "m.csv"}, "group_column go together"),
        ({"group_pattern": "(.)", "group_csv": "m.csv", "group_column": "p"}, "exclude each other"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError, match=message):
        DataOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 4}, "channels 4 .* give 1 or 3"),
        ({"maximum": 4095}, "maximum 4095 .* 8-bit"),
        ({"mean": (0.1, 0.2), "std": (1.0, 1.0)}, "mean .* finite"),
    ],
)
def test_options_that_do_not_fit_the_files(image_folder, options, message):
    with pytest.raises(UserError, match=message):
        load_data(image_folder({"a": 6, "b": 6}), **options)
