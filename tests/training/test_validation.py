"""Which sub-networks judge a phase, and that judging leaves no trace in the supernet."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from onceforall.architecture import path_code
from onceforall.evaluation.evaluate import evaluate
from onceforall.evaluation.tasks import classification
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.training.distributed import World
from onceforall.training.ledger import Ledger
from onceforall.training.options import RunOptions
from onceforall.training.validation import Validator, is_best, validation_architectures
from tiny_runs import one_phase, striped, two_stages

DATA, CPU = striped(), torch.device("cpu")
SPACE = two_stages().space


def validator(world=None, **options):
    ledger = Ledger(CPU)
    ledger.begin_phase("only")
    options = RunOptions(calibration_images=32, **options)
    return Validator(DATA, classification(), options, world or World(0, 1, CPU), ledger, torch.float32)


def test_the_smallest_the_largest_and_fixed_random_ones():
    chosen = validation_architectures(one_phase(SPACE), seed=0, random_ones=3, most_extremes=9)
    assert list(chosen) == ["smallest", "largest", "random_1", "random_2", "random_3"]
    assert chosen["smallest"] == SPACE.smallest() and chosen["largest"] == SPACE.largest()
    assert len(set(chosen.values())) == 5 and all(architecture in SPACE for architecture in chosen.values())
    assert chosen == validation_architectures(one_phase(SPACE), seed=0, random_ones=3, most_extremes=9)
    more = validation_architectures(one_phase(SPACE), seed=0, random_ones=4, most_extremes=9)
    assert {name: more[name] for name in chosen} == chosen, "one more changes the others"
    for other in (
        validation_architectures(one_phase(SPACE), seed=1, random_ones=3, most_extremes=9),
        validation_architectures(one_phase(SPACE, name="other"), seed=0, random_ones=3, most_extremes=9),
    ):
        assert other["random_1"] != chosen["random_1"]


def test_none_is_judged_twice():
    only = SearchSpace.only(SPACE.largest())
    assert validation_architectures(one_phase(only), 0, random_ones=4, most_extremes=9) == {"largest": SPACE.largest()}
    two = only.extend(resolutions=(16, 24))
    assert sorted(validation_architectures(one_phase(two), 0, random_ones=9, most_extremes=9)) == [
        "largest",
        "smallest",
    ]


def extremes(space, most=100, **fields):
    phase = one_phase(space, judged_by="extremes", **fields)
    return validation_architectures(phase, seed=0, random_ones=5, most_extremes=most)


def test_extremes_are_every_combination_of_smallest_and_largest():
    """OFAv2's published validation: two values of each open factor, and all level codes with one path or all three."""
    space = SearchSpace.build(
        3,
        resolutions=(16, 20, 24),
        kernel_sizes=(3, 5, 7),
        expand_ratios=(3, 4, 6),
        depths=(1, 2, 3),
        heights=(1, 2, 3),
        paths=(1, 2, 4, 3, 5, 6, 7),
    )
    chosen = extremes(space)
    assert [*chosen][:2] == ["smallest", "largest"]
    codes = Counter(path_code(a.stages[0].blocks[0].paths) for a in chosen.values())
    # resolution, depth, height; kernel and expansion where the inverted residual runs
    assert codes == {1: 8, 2: 8, 4: 32, 7: 32}
    assert {a.resolution for a in chosen.values()} == {16, 24} and {a.height for a in chosen.values()} == {1, 3}
    assert {block.kernel_size for a in chosen.values() for s in a.stages for block in s.blocks} == {None, 3, 7}
    few = extremes(space, most=10)
    assert len(few) == 10 and [*few][:2] == ["smallest", "largest"] and few.items() <= chosen.items()
    assert few == extremes(space, most=10)


def test_every_kernel_size_is_an_extreme_while_nothing_else_is_open():
    space = SearchSpace.build(2, resolutions=(16, 20, 24), kernel_sizes=(3, 5, 7), depths=(2,))
    assert len(extremes(space)) == 6
    assert len(extremes(space.extend(depths=(1, 2)))) == 8


def test_a_phase_of_the_largest_with_all_exits_is_judged_by_it_at_every_resolution():
    space = SearchSpace.build(2, resolutions=(16, 24), kernel_sizes=(3,), depths=(1,), heights=(1, 2))
    phase = one_phase(space.restrict(heights=(2,)), sampler="largest")
    chosen = validation_architectures(phase, 0, 3, 9)
    assert [(a.resolution, a.exits) for a in chosen.values()] == [(16, (1, 2)), (24, (1, 2))]


def test_scores_are_those_of_an_evaluation():
    supernet = two_stages(seed=5).train()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    scores = validator().validate(supernet, one_phase(SPACE))
    assert list(scores) == ["smallest", "largest", "random_1", "random_2"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    assert all(module.training for module in supernet.modules())
    [expected] = evaluate(
        supernet, [SPACE.largest()], classification(), DATA, split="validation", calibration_images=32
    )
    assert scores["largest"] == pytest.approx(expected.metrics, nan_ok=True)


def test_numbers_are_those_of_python():
    """Those of numpy could be written into a state, but not read again."""
    found = validator()
    measure = found.task.measure
    found.task = replace(found.task, measure=lambda b: {k: np.float32(v) for k, v in measure(b).items()})
    score = found.score(two_stages(seed=5), SPACE.largest(), one_phase(SPACE), images=6)
    assert {type(value) for value in score.values()} == {float}


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("mean", "best", "higher", "expected"),
    [
        (0.5, None, True, True),
        (NAN, None, True, True),
        (0.5, NAN, True, True),
        (0.5, NAN, False, True),
        (0.5, INF, True, True),
        (NAN, 0.5, True, False),
        (NAN, 0.5, False, False),
        (INF, 0.5, True, False),
        (-INF, 0.5, False, False),
        (0.6, 0.5, True, True),
        (0.6, 0.5, False, False),
        (0.5, 0.5, True, False),
    ],
)
def test_what_is_best_so_far(mean, best, higher, expected):
    assert is_best(mean, best, higher) is expected


def test_a_part_of_the_images_and_all_of_them(monkeypatch):
    supernet = two_stages(seed=5)
    kept = []
    part = validator(validation_images=6)
    measure = part.task.measure

    def keep(batches):
        batches = list(batches)
        kept.append(batches)
        return measure(batches)

    object.__setattr__(part.task, "measure", keep)
    phase = one_phase(SPACE, batch_size=4)
    score = part.score(supernet, SPACE.largest(), phase)
    truth = np.concatenate([labels for _, labels in kept[0]])
    answers = np.concatenate([probabilities.argmax(1) for probabilities, _ in kept[0]])
    assert [len(labels) for _, labels in kept[0]] == [4, 2]
    np.testing.assert_array_equal(truth, DATA.labels("validation")[:6])
    assert score["accuracy"] == accuracy_score(truth, answers)
    part.score(supernet, SPACE.largest(), phase, images=5)
    part.score(supernet, SPACE.largest(), phase, images=1000)
    assert [sum(len(labels) for _, labels in batches) for batches in kept] == [6, 5, 15]


def test_processes_share_the_work():
    """Each judges a part of the architectures; together they have judged all, and none twice."""
    supernet = two_stages(seed=5)
    phase = one_phase(SPACE)
    whole = validator().validate(supernet, phase)
    own = {}
    for rank in range(2):
        part = validator(World(rank, 2, CPU))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(World, "merge", lambda _, rows, names: (rows, names))
            rows, names = part.validate(supernet, phase)
        assert names == list(whole)
        own |= {rank: rows}
    assert len(own[0]) == len(own[1]) == 2 and not own[0].keys() & own[1].keys()
    assert own[0] | own[1] == {name: pytest.approx(row, nan_ok=True) for name, row in whole.items()}


def test_processes_share_trunks(monkeypatch):
    """Networks of which one is a beginning of the other stay on one process, and share its pass."""
    space = SearchSpace.build(2, resolutions=(16, 24), depths=(1,), kernel_sizes=(3, 5), heights=(1, 2))
    names = {
        f"k{k} r{r} h{h}": {"kernel_size": k, "resolution": r, "height": h}
        for k in (3, 5)
        for r in (16, 24)
        for h in (1, 2)
    }
    architectures = {name: space.uniform(**factors) for name, factors in names.items()}
    monkeypatch.setattr("onceforall.training.validation.validation_architectures", lambda *_: architectures)
    supernet = OFAMobileNetV3(space, num_classes=3, in_channels=1, width_mult=0.25).initialise(5)
    whole = validator().validate(supernet, one_phase(space))
    for name, architecture in architectures.items():
        [alone] = evaluate(supernet, [architecture], classification(), DATA, split="validation", calibration_images=32)
        assert whole[name] == pytest.approx(alone.metrics, nan_ok=True)
    monkeypatch.setattr(World, "merge", lambda _, rows, names: rows)
    extracted = []
    monkeypatch.setattr(supernet, "subnet", lambda arch, take=supernet.subnet: extracted.append(arch) or take(arch))
    own = [validator(World(rank, 2, CPU)).validate(supernet, one_phase(space)) for rank in range(2)]
    assert sorted([*own[0], *own[1]]) == sorted(architectures) and len(own[0]) == len(own[1]) == 4
    assert all({name.replace("h1", "h2") for name in rows} <= rows.keys() for rows in own), "a trunk was torn apart"
    assert len(extracted) == 4 and all(arch.exits == (1, 2) for arch in extracted)


def test_outputs_of_exits_are_weighted(monkeypatch):
    """A phase that trains the largest with all exits is judged by their weighted sum."""
    space = SearchSpace.build(2, resolutions=(16,), depths=(1,), kernel_sizes=(3,), heights=(1, 2))
    supernet = OFAMobileNetV3(space, num_classes=3, in_channels=1, width_mult=0.25).initialise(5)
    every = space.largest(exits="all")
    monkeypatch.setattr("onceforall.training.validation.validation_architectures", lambda *_: {"all": every})
    scores = {}
    for weights in (None, (0.9, 0.1), (1.0, 0.0)):
        score = validator().validate(supernet, one_phase(space, exit_output_weights=weights))["all"]
        options = {"split": "validation", "calibration_images": 32, "exit_weights": weights}
        [expected] = evaluate(supernet, [every], classification(), DATA, **options)
        assert score == pytest.approx(expected.metrics, nan_ok=True)
        scores[weights] = score["log_loss"]
    assert len(set(scores.values())) == 3


def test_time_is_split():
    part = validator()
    part.validate(two_stages(), one_phase(SPACE))
    seconds = part.ledger.entries[0]["seconds"]
    assert seconds["calibration"] > 0 and seconds["validation"] > 0 and seconds["student"] == 0
