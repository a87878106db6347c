"""Oracles: `network_input` on the same pixels, scikit-learn's class weights, hand-made arrays."""

import csv
import json

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from onceforall.data import from_arrays
from onceforall.data.preparation import network_input
from onceforall.errors import UserError

RNG = np.random.default_rng(0)
LABELS = np.array([0] * 20 + [1] * 30 + [2] * 50)
IMAGES = RNG.integers(0, 256, (100, 8, 8), np.uint8)


@pytest.fixture
def data():
    return from_arrays(IMAGES, LABELS, ["a", "b", "c"], "toy", max_resolution=16)


def test_what_it_says_of_itself(data):
    assert (data.name, data.classes, data.num_classes, data.channels) == ("toy", ("a", "b", "c"), 3, 1)
    assert [data.count(split) for split in ("train", "validation", "test")] == [70, 15, 15]
    assert sorted(sum((data.files(split) for split in ("train", "validation", "test")), [])) == [
        f"image-{i:02d}" for i in range(100)
    ]
    for split in ("train", "validation", "test"):
        numbers = [int(name[-2:]) for name in data.files(split)]
        assert data.labels(split).dtype == np.int64
        np.testing.assert_array_equal(data.labels(split), LABELS[numbers])
        np.testing.assert_array_equal(data.stored(split)[:, 0], IMAGES[numbers])
    described = json.loads(json.dumps(data.describe()))
    assert described["counts_per_class"]["train"] == {"a": 14, "b": 22, "c": 34}
    assert described["preparation"]["mean"] == list(data.preparation.mean)
    assert (described["fingerprint"], described["stored_size"]) == (data.fingerprint, [8, 8])


def test_training_batch(data):
    indices = np.array([5, 0, 69])
    images, labels = data.train_batch(indices, 12, torch.Generator().manual_seed(0))
    assert images.shape == (3, 1, 12, 12) and images.dtype == torch.float32
    np.testing.assert_array_equal(labels, data.labels("train")[indices])
    again, _ = data.train_batch(indices, 12, torch.Generator().manual_seed(0), "cpu")
    assert torch.equal(images, again)
    other, _ = data.train_batch(indices, 12, torch.Generator().manual_seed(1), dtype=torch.bfloat16)
    assert other.dtype == torch.bfloat16 and not torch.equal(images, other.float())


def test_batches_are_the_preparation_of_prediction(data):
    batches = list(data.batches("validation", 12, 4))
    assert [len(images) for images, _ in batches] == [4, 4, 4, 3]
    expected = network_input(data.stored("validation"), data.preparation, 12)
    np.testing.assert_array_equal(torch.cat([images for images, _ in batches]), expected)
    np.testing.assert_array_equal(torch.cat([labels for _, labels in batches]), data.labels("validation"))
    [(images, labels)] = data.batches("train", 12, 8, indices=np.array([3, 1]), dtype=torch.float64)
    assert images.dtype == torch.float64
    np.testing.assert_array_equal(labels, data.labels("train")[[3, 1]])
    np.testing.assert_allclose(images[1], network_input(data.stored("train")[1], data.preparation, 12), atol=1e-6)


def test_prepared_images_are_kept_within_bounds_and_unharmed(data, monkeypatch):
    first = [images.clone() for images, _ in data.batches("test", 12, 8)]
    for images, _ in data.batches("test", 12, 8):
        images.zero_()
    monkeypatch.setattr("onceforall.data.images.network_input", None)  # would fail
    again = [images for images, _ in data.batches("test", 12, 8)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    monkeypatch.undo()
    data._kept_bytes = 15 * 12 * 12 * 4  # exactly the test split
    list(data.batches("validation", 12, 8))
    assert [key[0] for key in data._kept] == ["validation"]
    whole = torch.cat([images for images, _ in data.batches("train", 12, 8)])  # too much to be kept
    assert [key[0] for key in data._kept] == ["validation"]
    np.testing.assert_array_equal(whole, network_input(data.stored("train"), data.preparation, 12))


def test_weights(data):
    weights = data.class_weights()
    labels = data.labels("train")
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(3), y=labels))
    np.testing.assert_allclose(data.train_weights(), 1 / 70)
    balanced = data.train_weights("classes")
    np.testing.assert_allclose([balanced[labels == label].sum() for label in range(3)], 1 / 3)


def test_fingerprint_tells_data_and_splits_apart(data):
    options = {"classes": ["a", "b", "c"], "max_resolution": 16}
    assert from_arrays(IMAGES, LABELS, name="other", **options).fingerprint == data.fingerprint
    changed = IMAGES.copy()
    changed[0, 0, 0] ^= 1
    others = [
        from_arrays(changed, LABELS, **options),
        from_arrays(IMAGES, LABELS, seed=1, **options),
        from_arrays(IMAGES, LABELS[::-1], **{**options, "classes": ["c", "b", "a"]}),
        from_arrays(IMAGES, LABELS, crop_ratio=1.0, **options),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 5
    fixed = [from_arrays(IMAGES, LABELS, seed=seed, mean=[0.5], std=[0.5], **options) for seed in (0, 1)]
    assert fixed[0].preparation == fixed[1].preparation and fixed[0].fingerprint != fixed[1].fingerprint


def test_written_splits(data, tmp_path):
    data.write_splits(tmp_path / "splits.csv")
    with (tmp_path / "splits.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 100
    for split in ("train", "validation", "test"):
        assert [row["file"] for row in rows if row["split"] == split] == data.files(split)
    assert [row["class"] for row in rows] == [["a", "b", "c"][label] for label in LABELS]
    assert len({row["digest"] for row in rows}) == 100


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda data: data.count("val"), "split 'val' is not one of"),
        (lambda data: data.train_weights("class"), "balance 'class' .* Did you mean 'classes'"),
        (lambda data: next(data.batches("test", 0, 4)), "resolution 0"),
        (lambda data: next(data.batches("test", 8, 0)), "batch_size 0"),
        (lambda data: next(data.batches("test", 8, 4, indices=np.array([], int))), "no test images"),
        (lambda data: data.train_batch(np.array([0]), 8.5, torch.Generator()), "resolution 8.5"),
    ],
)
def test_wrong_calls(data, call, message):
    with pytest.raises(UserError, match=message):
        call(data)
