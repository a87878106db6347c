"""Evaluation on images in memory, against the same steps written out."""

import numpy as np
import pytest
import torch

from common_checks import changes, randomised, snapshot
from onceforall.data import Augmentation, from_arrays
from onceforall.errors import UserError
from onceforall.evaluation.calibration import calibrate
from onceforall.evaluation.cost import cost
from onceforall.evaluation.evaluate import calibrated_subnet, calibration_batches, evaluate, predict
from onceforall.evaluation.metrics import classification_metrics
from onceforall.evaluation.tasks import classification
from onceforall.search_space import SearchSpace
from onceforall.supernets import create_supernet
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3

TASK = classification()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    images = rng.integers(0, 120, (120, 20, 20, 1)) + 60 * labels[:, None, None, None]
    return from_arrays(images.astype(np.uint8), labels, max_resolution=20, augmentation=Augmentation())


@pytest.fixture
def net():
    options = {"num_classes": 3, "in_channels": 1, "width_mult": 0.35, "depths": (1, 2), "resolutions": (16, 20)}
    return randomised(create_supernet("ofa_mbv3", **options))


def everything(data, split: str, size: int) -> tuple[torch.Tensor, np.ndarray]:
    images, labels = zip(*data.batches(split, size, 1000), strict=True)
    return torch.cat(images), torch.cat(labels).numpy()


@pytest.mark.parametrize("calibration_images", [0, 30])
def test_numbers(data, net, calibration_images):
    chosen = [net.space.largest(), net.space.smallest()]
    before, seen = snapshot(net), []
    results = evaluate(
        net,
        chosen,
        TASK,
        data,
        calibration_images=calibration_images,
        batch_size=7,
        keep_probabilities=True,
        progress=seen.append,
    )
    assert results == seen and [result.architecture for result in results] == chosen
    assert not changes(net, before) and net.training
    for result in results:
        subnet = net.subnet(result.architecture).eval()
        if calibration_images:
            size = result.architecture.resolution
            calibrate(subnet, list(calibration_batches(data, size, calibration_images)))
        images, labels = everything(data, "test", result.architecture.resolution)
        with torch.no_grad():
            expected = subnet(images).softmax(1).numpy()
        np.testing.assert_allclose(result.probabilities, expected, atol=1e-5)
        assert result.metrics == classification_metrics(result.probabilities, labels)
        assert result.cost == cost(net, result.architecture)
        assert result.calibration_images == calibration_images
    assert not np.allclose(results[0].probabilities, results[1].probabilities, atol=1e-3)


def test_calibration_matters_and_is_counted(data, net):
    small = net.space.smallest()
    train = data.count("train")
    without, with_all = (
        evaluate(net, [small], TASK, data, calibration_images=n, keep_probabilities=True)[0] for n in (0, 10_000)
    )
    assert (without.calibration_images, with_all.calibration_images) == (0, train)
    assert np.abs(without.probabilities - with_all.probabilities).max() > 1e-2
    assert evaluate(net, [small], TASK, data)[0].probabilities is None


def test_rules_differ(data, net):
    small = net.space.smallest()
    one, other, same = (
        evaluate(net, [small], TASK, data, calibration_rule=rule, keep_probabilities=True, calibration_images=count)[0]
        for rule, count in (("reference", 20), ("population", 20), ("population", 20))
    )
    assert np.array_equal(other.probabilities, same.probabilities)
    # twenty images are one batch, in which the two rules are the same
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


@pytest.mark.parametrize(("images", "sizes"), [(1, [1]), (84, [84]), (10_000, [84])])
def test_calibration_batches(data, images, sizes):
    found = list(calibration_batches(data, 16, images))
    assert data.count("train") == 84
    assert [len(batch) for batch, _ in found] == sizes


def test_calibration_batches_are_even(data, monkeypatch):
    monkeypatch.setattr("onceforall.evaluation.evaluate.CALIBRATION_BATCH", 25)
    found = list(calibration_batches(data, 16, 84))
    assert [len(batch) for batch, _ in found] == [21, 21, 21, 21]
    assert all(len(set(labels.tolist())) == 3 for _, labels in found), "classes are mixed"
    part = list(calibration_batches(data, 20, 30))
    assert [len(batch) for batch, _ in part] == [15, 15]
    again = list(calibration_batches(data, 16, 30))
    assert [labels.tolist() for _, labels in part] == [labels.tolist() for _, labels in again], "the same images"
    other = list(calibration_batches(data, 16, 30, seed=1))
    assert [labels.tolist() for _, labels in other] != [labels.tolist() for _, labels in again]
    assert part[0][0].shape == (15, 1, 20, 20) and part[0][0].dtype == torch.float32
    assert next(calibration_batches(data, 16, 30, dtype=torch.float64))[0].dtype == torch.float64


def test_calibration_images_come_from_the_whole_split(data):
    class Watched:
        count = data.count

        def batches(self, split, resolution, size, indices, **options):
            self.asked = split, resolution, size, indices.tolist()

    watched = Watched()
    calibration_batches(watched, 16, 30)
    split, resolution, size, indices = watched.asked
    assert (split, resolution, size) == ("train", 16, 30)
    assert len(set(indices)) == 30 and 0 <= min(indices) < 15 and 70 < max(indices) < 84


def test_calibrated_subnet(data, net):
    small = net.space.smallest()
    subnet = calibrated_subnet(net, small, data, images=40)
    assert not subnet.training and subnet.space == SearchSpace.only(small)
    expected = calibrate(net.subnet(small), list(calibration_batches(data, 16, 40)))
    assert not changes(subnet, snapshot(expected))
    double = calibrated_subnet(net.double(), small, data, images=40)
    assert next(double.parameters()).dtype == torch.float64


def test_predict(data, net):
    subnet = calibrated_subnet(net, net.space.largest(), data).train()
    found = list(predict(subnet, data.batches("validation", 20, 5), TASK))
    assert not subnet.training
    assert sum(len(labels) for _, labels in found) == data.count("validation")
    images, labels = everything(data, "validation", 20)
    np.testing.assert_allclose(np.concatenate([p for p, _ in found]).sum(1), 1, atol=1e-6)
    assert np.concatenate([labels for _, labels in found]).tolist() == labels.tolist()
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_several_exits_are_averaged(data):
    space = SearchSpace.build(
        5, resolutions=(16,), depths=(1,), kernel_sizes=(3,), expand_ratios=(2, 3), heights=(1, 5)
    )
    net = randomised(OFAMobileNetV3(space, num_classes=3, in_channels=1, width_mult=0.35)).eval()
    both = net.space.largest(exits="all")
    [result] = evaluate(net, [both], TASK, data, calibration_images=0, keep_probabilities=True)
    images, _ = everything(data, "test", 16)
    with torch.no_grad():
        first, last = net(images, both)
    np.testing.assert_allclose(result.probabilities, ((first + last) / 2).softmax(1).numpy(), atol=1e-5)
    assert not torch.allclose(first, last)


def test_wrong_arguments(data, net):
    small = [net.space.smallest()]
    with pytest.raises(UserError, match="split 'tets'.*Did you mean 'test'"):
        evaluate(net, small, TASK, data, split="tets")
    with pytest.raises(UserError, match="calibration_images -1: must be a whole number"):
        evaluate(net, small, TASK, data, calibration_images=-1)
    with pytest.raises(UserError, match="calibration with 0 of 84 training images"):
        calibrated_subnet(net, small[0], data, images=0)
    with pytest.raises(UserError, match="calibration rule 'mean'"):
        evaluate(net, small, TASK, data, calibration_rule="mean")
    options = {"num_classes": 3, "in_channels": 1, "width_mult": 0.35, "depths": (1,)}
    wide = create_supernet("ofa_mbv3", **options, resolutions=((16, 20),))
    with pytest.raises(UserError, match=r"resolution \(16, 20\): images are prepared as squares"):
        evaluate(wide, [wide.space.largest()], TASK, data)
    other = create_supernet("ofa_mbv3", **options, resolutions=(32,))
    with pytest.raises(UserError, match="resolution 32, allowed 16, 20"):
        evaluate(net, [other.space.largest()], TASK, data)
