"""Which inputs an export sees: held-out ones to be compared on, training ones to learn ranges from."""

import numpy as np
import torch

from onceforall.data import load_data, load_volumes
from onceforall.exporting.inputs import calibration_inputs, held_out_inputs
from volume_files import make_volumes


def test_inputs_are_held_out_and_of_the_size_of_the_network(tmp_path, monkeypatch):
    monkeypatch.setenv("ONCEFORALL_CACHE", str(tmp_path / "cache"))
    images = load_data(max_resolution=16)
    assert held_out_inputs(images, 12).shape == (64, 1, 12, 12)
    folder = make_volumes(tmp_path / "volumes", 12, (9, 13, 11))
    options = {"stride": 2, "test_fraction": 0.8}
    whole = load_volumes(folder, max_resolution=(12, 14, 12), **options)
    found = held_out_inputs(whole, (10, 12, 10))
    assert whole.count("test") > 8 and found.shape == (8, 1, 10, 12, 10)
    patches = load_volumes(folder, max_resolution=(6, 6, 12), mode="patches", **options)
    found = held_out_inputs(patches, (6, 6, 12))
    assert found.shape == (8, 1, 6, 6, 12)
    [(first, _)] = patches.batches("test", (6, 6, 12), 1, np.array([0]))
    x = (first.shape[2] - 6) // 2
    assert torch.equal(found[0], first[0, :, x : x + 6, 3:9]), "the window in the middle"
    none = load_volumes(folder, max_resolution=(12, 14, 12), stride=2, test_fraction=0.0, validation_fraction=0.25)
    assert len(held_out_inputs(none, (12, 14, 12))) == none.count("validation") > 0


def test_ranges_are_learned_from_different_training_inputs():
    images = load_data(max_resolution=16)
    found = calibration_inputs(images, 12, 20, seed=1)
    assert found.shape == (20, 1, 12, 12) and len(np.unique(found.flatten(1).numpy(), axis=0)) == 20
    training = torch.cat([batch for batch, _ in images.batches("train", 12, 1000)])
    for image in found:
        assert (training - image).abs().amax((1, 2, 3)).min() == 0
    assert torch.equal(found, calibration_inputs(images, 12, 20, seed=1))
    assert len(calibration_inputs(images, 12, 10**6)) == images.count("train")
