"""Evaluation on images in memory, against the same steps written out."""

import random
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from common_checks import changes, randomised, snapshot
from onceforall.data import Augmentation, from_arrays
from onceforall.errors import UserError
from onceforall.evaluation.calibration import calibrate
from onceforall.evaluation.cost import cost
from onceforall.evaluation.evaluate import calibrated_subnet, calibration_batches, evaluate, evaluate_each
from onceforall.evaluation.metrics import classification_metrics
from onceforall.evaluation.tasks import classification
from onceforall.evaluation.trunks import group_by_trunk
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


# -- several in one pass ---------------------------------------------------------------------------------------------

WEIGHTS = (0.5, 0.1, 0.4)


@pytest.fixture(scope="module")
def with_exits():
    """A network with three heights; its statistics of normalisation are random, its weights of about unit gain."""
    space = SearchSpace.build(
        5, resolutions=(16, 20), depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(2, 3), heights=(1, 3, 5)
    )
    return randomised(OFAMobileNetV3(space, num_classes=3, in_channels=1, width_mult=0.25)).eval()


def different(space):
    """Single exits of three trunks and two resolutions, and several exits at once, in no order."""
    out = [a for a, _ in space.grid() if a.depths[0] == 2][::3]
    everything = space.largest(exits="all")
    out += [everything, replace(everything, exits=(1, 5)), replace(everything, exits=(3, 5))]
    out += [replace(everything, stages=everything.stages[:3], exits=(1, 3))]
    random.Random(0).shuffle(out)
    return out


def by_itself(net, architecture, data, split, weights, calibration_images=40):
    """Raw outputs of one network, extracted and calibrated by itself, and summed by the formula."""
    subnet = net.subnet(architecture)
    calibrate(subnet, list(calibration_batches(data, architecture.resolution, calibration_images, dtype=dtype_of(net))))
    images, _ = everything(data, split, architecture.resolution)
    with torch.no_grad():
        outputs = subnet.eval()(images.to(dtype_of(net)))
    if isinstance(outputs, torch.Tensor):
        return outputs
    exits = [(1, 3, 5).index(number) for number in architecture.exits]
    factors = [1 / len(exits)] * len(exits) if weights is None else [weights[i] for i in exits]
    return sum(factor * output for factor, output in zip(factors, outputs, strict=True))


def dtype_of(net):
    return next(net.parameters()).dtype


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_shared_trunks_give_what_each_gives_by_itself(data, with_exits, dtype, tolerance, weights, monkeypatch):
    net = with_exits.to(dtype)
    chosen = different(net.space)
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)  # doubles stay doubles up to the probabilities
    before = snapshot(net)
    splits = ("validation", "test")
    found = {
        (result.architecture, result.split): result
        for result in evaluate_each(
            net, chosen, TASK, data, splits=splits, calibration_images=40, exit_weights=weights, keep=chosen
        )
    }
    assert not changes(net, before) and len(found) == 2 * len(chosen)
    for (architecture, split), result in found.items():
        expected = by_itself(net, architecture, data, split, weights).softmax(1).numpy()
        np.testing.assert_allclose(result.probabilities, expected, rtol=0, atol=tolerance)
        truth = data.labels(split)
        assert result.metrics == pytest.approx(classification_metrics(expected, truth), abs=tolerance)
        np.testing.assert_array_equal(result.correct, expected.argmax(1) == truth)
        assert result.cost == cost(net, architecture) and result.calibration_images == 40
    answers = [result.probabilities for (_, split), result in found.items() if split == "test"]
    assert min(np.abs(a - b).max() for a, b in combinations(answers, 2)) > 1e-3, "all networks differ"


def test_weights_of_exits_matter(data, with_exits):
    net = with_exits.float()
    every = net.space.largest(exits="all")
    equal, weighted = (
        evaluate(net, [every], TASK, data, exit_weights=weights, keep_probabilities=True)[0].probabilities
        for weights in (None, WEIGHTS)
    )
    assert np.abs(equal - weighted).max() > 1e-2
    with pytest.raises(UserError, match="give one for each exit of the network, 3"):
        evaluate(net, [every], TASK, data, exit_weights=(0.5, 0.5))


def test_results_are_in_the_order_of_the_question(data, with_exits):
    chosen = different(with_exits.space)
    chosen.append(chosen[0])  # asked twice
    seen = []
    results = evaluate(with_exits.float(), chosen, TASK, data, calibration_images=20, progress=seen.append)
    assert [result.architecture for result in results] == chosen
    assert len(seen) == len(chosen) - 1 and {result.split for result in results} == {"test"}


class Counting:
    """Images whose preparations are counted."""

    def __init__(self, data):
        self.data, self.asked = data, []
        self.count, self.channels = data.count, data.channels

    def batches(self, split, resolution, *args, **options):
        self.asked.append((split, resolution))
        return self.data.batches(split, resolution, *args, **options)


def test_batches_are_prepared_once_for_all_trunks_of_a_resolution(data, with_exits, monkeypatch):
    net, counting = with_exits.float(), Counting(data)
    chosen = [a for a, _ in net.space.grid() if a.depths[0] == 2]
    once = [(split, size) for size in (16, 20) for split in ("train", "validation", "test")]
    splits = {"splits": ("validation", "test"), "calibration_images": 20}
    shared = list(evaluate_each(net, chosen, TASK, counting, **splits))
    assert counting.asked == once, "resolution after resolution, each split once"
    monkeypatch.setattr("onceforall.evaluation.evaluate.KEPT_BYTES", 1000)
    again = list(evaluate_each(net, chosen, TASK, counting, **splits))
    assert len(counting.asked) == 6 + 6 * len(group_by_trunk(chosen)) / 2, "too many to be kept: again for each trunk"
    assert [result.metrics for result in shared] == [result.metrics for result in again]


def test_a_single_member_streams(data, with_exits):
    """A batch has been judged before the next one is prepared."""
    events = []

    class Watched(Counting):
        def batches(self, *args, **options):
            for number, batch in enumerate(self.data.batches(*args, **options)):
                events.append(("prepared", number))
                yield batch

    def measure(batches):
        for number, _ in enumerate(batches):
            events.append(("judged", number))
        return {"accuracy": 0.0}

    task = replace(TASK, measure=measure)
    every = with_exits.space.largest(exits="all")
    list(evaluate_each(with_exits.float(), [every], task, Watched(data), calibration_images=0, batch_size=6))
    assert events == [(what, number) for number in range(3) for what in ("prepared", "judged")]


def test_parts_of_a_split_and_time(data, with_exits):
    times = []

    @contextmanager
    def timed(part):
        times.append(part)
        yield
        times.append("end")

    net = with_exits.float()
    [result] = evaluate_each(
        net, [net.space.smallest()], TASK, data, images=5, keep=[net.space.smallest()], timed=timed
    )
    [whole] = evaluate(net, [net.space.smallest()], TASK, data, keep_probabilities=True)
    np.testing.assert_allclose(result.probabilities, whole.probabilities[:5], atol=1e-6)
    assert len(result.correct) == 5 and times == ["calibration", "end", "validation", "end"]
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_a_task_without_scores_of_images(data, net):
    [result] = evaluate(net, [net.space.smallest()], replace(TASK, per_image=None), data)
    assert result.correct is None


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
    with pytest.raises(UserError, match=r"resolution \(16, 20\) must be a whole number"):
        evaluate(wide, [wide.space.largest()], TASK, data)
    other = create_supernet("ofa_mbv3", **options, resolutions=(32,))
    with pytest.raises(UserError, match="resolution 32, allowed 16, 20"):
        evaluate(net, [other.space.largest()], TASK, data)
