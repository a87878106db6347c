import json

import numpy as np
import pytest
import torch

from onceforall.data.label_schemes import OUTSIDE
from onceforall.data.volume_augmentation import NO_VOLUME_AUGMENTATION, VolumeAugmentation
from onceforall.data.volume_loading import load_volumes
from onceforall.data.volumes import network_volume, prepare_volume, read_labels, read_volume, to_original
from onceforall.errors import UserError

BOX = (12, 12, 16)


@pytest.fixture
def root(volume_folder):
    return volume_folder(6)


def load(root, **options):
    return load_volumes(root, **{"max_resolution": BOX, "augmentation": NO_VOLUME_AUGMENTATION, **options})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_batches_are_the_preparation_and_the_labels_of_the_box(root):
    data = load(root)
    for resolution in (BOX, (8, 10, 12), 8):
        ((images, labels),) = data.batches("train", resolution, 9)
        assert labels.dtype == torch.int64 and labels.shape == (data.count("train"), *BOX)
        for k, file in enumerate(data.files("train")):
            prepared, geometry = prepare_volume(*read_volume(root / file), data.preparation)
            want = network_volume(prepared.astype(np.float16), resolution)
            np.testing.assert_allclose(images[k].numpy(), want, atol=1e-6)
            own, _ = read_labels(root / "labelsTr" / file.rsplit("/")[-1])
            np.testing.assert_array_equal(to_original(labels[k].numpy(), geometry), own)
    assert (labels == OUTSIDE).any()


def test_batches_keep_the_order_and_take_indices(root):
    data = load(root)
    whole = torch.cat([images for images, _ in data.batches("train", 8, 1)])
    picked, _ = next(data.batches("train", 8, 3, indices=np.array([2, 0, 1]), dtype=torch.bfloat16))
    assert picked.dtype == torch.bfloat16
    assert torch.equal(picked, whole[[2, 0, 1]].bfloat16())


@pytest.mark.parametrize("resolution", [BOX, (8, 10, 12)])
def test_training_without_augmentation_sees_what_evaluation_sees(root, resolution):
    data = load(root)
    images, labels = data.train_batch(np.array([1, 0]), resolution, generator())
    wanted, truth = next(data.batches("train", resolution, 2, indices=np.array([1, 0])))
    torch.testing.assert_close(images, wanted, atol=1e-5, rtol=0)
    assert labels.dtype == torch.int64 and labels.shape == (2, *resolution)
    assert set(labels.unique().tolist()) == {0, 1, 2, OUTSIDE}
    if resolution == BOX:
        assert torch.equal(images, wanted) and torch.equal(labels, truth)


def test_augmentation_is_keyed_by_the_generator(root):
    data = load(root, augmentation=VolumeAugmentation())
    first, labels = data.train_batch(np.arange(2), BOX, generator())
    again, _ = data.train_batch(np.arange(2), BOX, generator())
    other, _ = data.train_batch(np.arange(2), BOX, generator(1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert set(labels.unique().tolist()) <= {0, 1, 2, OUTSIDE}


def test_patches(root):
    data = load(root, mode="patches", max_resolution=8)
    assert data.mode == "patches" and data.preparation.box is None
    images, labels = data.train_batch(np.arange(4), (8, 4, 8), generator())
    assert images.shape == (4, 1, 8, 4, 8) and labels.shape == (4, 8, 4, 8)
    assert sum(bool(((patch > 0) & (patch < OUTSIDE)).any()) for patch in labels) >= 2
    batches = list(data.batches("train", (8, 16, 8), 4))
    assert len(batches) == data.count("train")
    for (image, label), file in zip(batches, data.files("train"), strict=True):
        shape = read_volume(root / file)[0].shape[1:]
        assert image.shape == (1, 1, shape[0], 16, shape[2]) and label.shape == image.shape[:1] + image.shape[2:]
        assert (label == OUTSIDE).sum() == (16 - shape[1]) * shape[0] * shape[2]


def test_the_original_of_a_case(root):
    data = load(root)
    labels, affine, spacing = data.original("test", 0)
    file = data.files("test")[0]
    np.testing.assert_array_equal(labels, read_labels(root / "labelsTr" / file.rsplit("/")[-1])[0])
    assert spacing == (1.0, 1.0, 1.0) and np.array_equal(affine, np.eye(4))
    ((_, truth),) = data.batches("test", BOX, 9, indices=np.array([0]))
    np.testing.assert_array_equal(to_original(truth[0].numpy(), data.geometry("test", 0)), labels)


def test_class_weights_are_inverse_to_the_voxels(root):
    data = load(root)
    stored = [read_labels(root / "labelsTr" / file.rsplit("/")[-1])[0].ravel() for file in data.files("train")]
    counts = np.bincount(np.concatenate(stored), minlength=3)
    np.testing.assert_allclose(data.class_weights(), counts.sum() / (3 * counts))
    with pytest.raises(UserError, match="regions have none"):
        load(root, scheme="brats_regions").class_weights()


def test_train_weights(root):
    data = load(root)
    np.testing.assert_allclose(data.train_weights(), np.full(data.count("train"), 1 / data.count("train")))
    with pytest.raises(UserError, match="balance 'classes'"):
        data.train_weights("classes")


def test_the_description_is_json_and_the_fingerprint_follows_the_content(root):
    data = load(root)
    described = json.loads(json.dumps(data.describe()))
    assert described["counts"] == {"train": 4, "validation": 1, "test": 1} and described["mode"] == "whole"
    assert described["voxels_per_class"]["test"]["front"] == 36  # 3 x 4 x 3 voxels
    assert data.fingerprint == load(root).fingerprint == described["fingerprint"]
    prints = {data.fingerprint, load(root, seed=3).fingerprint, load(root, scheme="brats_regions").fingerprint}
    (root / "imagesTr/s0.nii.gz").write_bytes((root / "imagesTr/s2.nii.gz").read_bytes())
    assert len(prints | {load(root).fingerprint}) == 4
    assert load(root).describe()["copies_across_splits"] in (0, 1)


def test_what_cannot_be_asked_for(root):
    data = load(root, test_fraction=0.0)
    with pytest.raises(UserError, match="no test volumes"):
        next(data.batches("test", 8, 1))
    with pytest.raises(UserError, match=r"larger than the stored box \(12, 12, 16\); raise max_resolution"):
        next(data.batches("train", (12, 13, 16), 1))
    with pytest.raises(UserError, match="split 'tests'"):
        data.count("tests")
