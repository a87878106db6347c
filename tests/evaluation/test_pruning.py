"""Pruning of exits against every subset evaluated by itself, in one pass over the images."""

from dataclasses import replace
from itertools import chain, combinations

import numpy as np
import pytest
import torch

from common_checks import randomised
from onceforall.architecture import Architecture, Block, Stage
from onceforall.data import Augmentation, ImageData, from_arrays
from onceforall.errors import UserError
from onceforall.evaluation.calibration import calibrate
from onceforall.evaluation.cost import cost
from onceforall.evaluation.evaluate import calibration_batches
from onceforall.evaluation.pruning import prune_exits, subsets_of_exits
from onceforall.evaluation.tasks import classification
from onceforall.supernets import create_supernet

TASK = classification()
WEIGHTS = (5 / 15, 4 / 15, 3 / 15, 2 / 15, 1 / 15)


@pytest.fixture(scope="module")
def data() -> ImageData:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 60)
    images = rng.integers(0, 150, (180, 20, 20, 1)) + 30 * labels[:, None, None, None]
    return from_arrays(images.astype(np.uint8), labels, max_resolution=20, augmentation=Augmentation())


def network(**options):
    facts = {"num_classes": 3, "in_channels": 1, "width_mult": 0.35, "depths": (1, 2), "resolutions": (20,)}
    return randomised(create_supernet("ee_b_ofa_mbv3", **(facts | options)), seed=3)


def whole(net) -> Architecture:
    return net.space.uniform(kernel_size=3, expand_ratio=3, depth=1)


def by_hand(net, architecture: Architecture, data: ImageData, split: str) -> dict[tuple[int, ...], float]:
    """Accuracy of each subset: the weighted sum of the raw outputs of its exits, of the whole calibrated network."""
    subnet = net.subnet(replace(architecture, exits=(1, 2, 3, 4, 5)))
    calibrate(subnet, calibration_batches(data, 20, 512))
    images, labels = map(torch.cat, zip(*data.batches(split, 20, 1000), strict=True))
    with torch.no_grad():
        outputs = subnet.eval()(images)
    numbers = architecture.exits
    subsets = chain.from_iterable(combinations(numbers, size) for size in range(1, len(numbers) + 1))
    return {
        exits: float((sum(WEIGHTS[i - 1] * outputs[i - 1] for i in exits).argmax(1) == labels).double().mean())
        for exits in subsets
    }


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("exits", [(1, 2, 3, 4, 5), (2, 3, 5), (5,)])
def test_every_subset_is_measured(data, exits, split):
    net = network()
    architecture = replace(whole(net), exits=exits)
    expected = by_hand(net, architecture, data, split)
    pruned = prune_exits(net, architecture, TASK, data, weights=WEIGHTS, split=split)
    assert len(pruned.table) == len(expected) == 2 ** len(exits) - 1
    found = {result.architecture.exits: result.metrics["accuracy"] for result in pruned.table}
    assert found == pytest.approx(expected)
    for result in pruned.table:
        assert result.split == split
        assert result.architecture.stages == architecture.stages[: result.architecture.exits[-1]], "cut off"
        assert result.cost == cost(net, result.architecture)
    scores = [result.metrics["accuracy"] for result in pruned.table]
    assert scores == sorted(scores, reverse=True)
    best = max(expected.values())
    equals = [result for result in pruned.table if result.metrics["accuracy"] == pytest.approx(best)]
    assert pruned.architecture == pruned.table[0].architecture
    assert pruned.table[0].cost.macs == min(result.cost.macs for result in equals)
    assert len(exits) == 1 or len(set(scores)) > 1


def test_the_cheapest_of_equals_is_kept(data):
    """Where all answers are wrong alike, one exit behind one stage remains."""
    net = network()
    task = replace(TASK, measure=lambda batches: {"accuracy": float(len(list(batches)) > 0)})
    pruned = prune_exits(net, replace(whole(net), exits=(2, 3, 5)), task, data, weights=WEIGHTS)
    assert pruned.architecture == replace(whole(net), stages=whole(net).stages[:2], exits=(2,))
    macs = [result.cost.macs for result in pruned.table]
    assert macs == sorted(macs)


def test_a_lower_metric_may_be_the_better_one(data):
    net = network()
    architecture = replace(whole(net), exits=(1, 3, 5))
    up = prune_exits(net, architecture, TASK, data, weights=WEIGHTS)
    down = prune_exits(net, architecture, replace(TASK, higher_is_better=False), data, weights=WEIGHTS)
    scores = [[result.metrics["accuracy"] for result in pruned.table] for pruned in (up, down)]
    assert scores[1] == scores[0][::-1] and scores[0][0] > scores[0][-1]


def test_weights_decide(data):
    """With all weight on one exit, subsets that hold it answer as it does, and the others by nothing."""
    net = network()
    architecture = replace(whole(net), exits=(1, 2, 3, 4, 5))
    alone = by_hand(net, architecture, data, "validation")[(2,)]
    pruned = prune_exits(net, architecture, TASK, data, weights=(0, 1, 0, 0, 0))
    for result in pruned.table:
        if 2 in result.architecture.exits:
            assert result.metrics["accuracy"] == pytest.approx(alone)


def test_one_pass_answers_for_all(data, monkeypatch):
    net = network()
    passes: list[str] = []
    batches = ImageData.batches

    def counted(self, split, *args, **options):
        passes.append(split)
        return batches(self, split, *args, **options)

    monkeypatch.setattr(ImageData, "batches", counted)
    prune_exits(net, replace(whole(net), exits=(1, 2, 3, 4, 5)), TASK, data, weights=WEIGHTS, calibration_images=30)
    assert sorted(passes) == ["train", "validation"]


def test_a_network_that_cannot_end_there_is_grown_first(data):
    net = network()
    architecture = replace(whole(net), exits=(1, 3, 5))
    alone = net.subnet(architecture)
    weights = (0.5, 0.3, 0.2)
    with pytest.raises(UserError, match=r"exits \[1, 3\]: the network cannot end there, its heights are \[5\]"):
        prune_exits(alone, architecture, TASK, data, weights=weights)
    grown = alone.grow(alone.space.extend(heights=architecture.exits))
    assert set(grown.state_dict()) == set(alone.state_dict()), "nothing is added"
    pruned = prune_exits(grown, architecture, TASK, data, weights=weights)
    same = prune_exits(net, architecture, TASK, data, weights=(0.5, 0, 0.3, 0, 0.2))
    assert pruned.architecture == same.architecture
    assert [r.metrics for r in pruned.table] == [r.metrics for r in same.table]
    assert grown.subnet(pruned.architecture).eval()(torch.zeros(2, 1, 20, 20)) is not None


def test_what_does_not_fit_is_refused(data):
    net = network()
    with pytest.raises(UserError, match="give one for each exit of the network, 5"):
        prune_exits(net, replace(whole(net), exits=(1, 5)), TASK, data, weights=(0.5, 0.5))
    with pytest.raises(UserError, match="outside the search space"):
        prune_exits(net, replace(whole(net), resolution=48), TASK, data, weights=WEIGHTS)


def test_subsets():
    stages = (Stage((Block(3),)), Stage((Block(5),)), Stage((Block(7),)))
    found = subsets_of_exits(Architecture(32, stages, exits=(1, 2, 3)))
    assert [subset.exits for subset in found] == [(1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)]
    assert all(subset == Architecture(32, stages[: subset.exits[-1]], exits=subset.exits) for subset in found)
    assert len(subsets_of_exits(Architecture(32, stages))) == 1
