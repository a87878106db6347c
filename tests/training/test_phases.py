"""Phases and schedules. Oracles: the published tables (Once-for-All on ImageNet), and counting by hand."""

import json
import random
from collections import Counter
from dataclasses import fields, replace

import pytest

from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.supernets import Freeze
from onceforall.training.phases import (
    SCHEDULES,
    SMALL_ROWS,
    Phase,
    Row,
    Teacher,
    draw_architectures,
    is_taught_in_place,
    progressive_shrinking,
    sandwich,
    scale_epochs,
)

FACTORS = {"kernel_sizes": (3, 5, 7), "expand_ratios": (3, 4, 6), "depths": (2, 3, 4)}
SPACE = SearchSpace.build(5, resolutions=tuple(range(128, 225, 4)), **FACTORS)
SMALL = SearchSpace.build(2, resolutions=(16, 24), kernel_sizes=(3, 5), expand_ratios=(3, 6), depths=(1, 2))


# -- the published schedule --------------------------------------------------------------------------------------------

# phase, kernel sizes, depths, expansions, sub-networks a step, epochs, warm-up epochs, learning rate of one of 32 GPUs,
# whether channels are sorted before
PUBLISHED = [
    ("full", (7,), (4,), (6,), 1, 180, 5, 0.08125, False),
    ("kernel", (3, 5, 7), (4,), (6,), 1, 120, 5, 0.03, False),
    ("depth_1", (3, 5, 7), (3, 4), (6,), 2, 25, 0, 0.0025, False),
    ("depth_2", (3, 5, 7), (2, 3, 4), (6,), 2, 120, 5, 0.0075, False),
    ("expand_1", (3, 5, 7), (2, 3, 4), (4, 6), 4, 25, 0, 0.0025, True),
    ("expand_2", (3, 5, 7), (2, 3, 4), (3, 4, 6), 4, 120, 5, 0.0075, True),
]


def test_the_published_table():
    phases = progressive_shrinking(SPACE, rows="paper")
    found = [
        (
            phase.name,
            phase.space.kernel_sizes,
            phase.space.depths,
            phase.space.expand_ratios,
            phase.subnets_per_step,
            phase.epochs,
            phase.warmup_epochs,
            pytest.approx(phase.learning_rate / 32),
            phase.sort_channels == "banded",
        )
        for phase in phases
    ]
    assert found == PUBLISHED
    assert all(phase.space.resolutions == SPACE.resolutions for phase in phases)
    first, *others = phases
    assert first.teacher.source == "none" and first.sampler == "largest"
    for phase in others:
        assert phase.teacher == Teacher("first", batchnorm="batch", input="student") and phase.sampler == "random"
        assert phase.gradients == "sum" and phase.task_weight == phase.distillation_weight == 1
    for phase in phases:  # what the table says of all
        assert (phase.optimizer, phase.momentum, phase.nesterov, phase.weight_decay) == ("sgd", 0.9, True, 3e-5)
        assert (phase.dropout, phase.decay, phase.clip_gradient, phase.kernel_matrices) == (
            0.1,
            "cosine",
            None,
            "decay",
        )
        assert phase.optimizer_state == "fresh" and phase.start_from == "best"


def test_a_factor_without_choice_has_no_phase():
    space = SearchSpace.build(2, resolutions=(32,), kernel_sizes=(3,), expand_ratios=(4, 6), depths=(2,))
    assert [phase.name for phase in progressive_shrinking(space)] == ["full", "expand"]
    assert [phase.name for phase in progressive_shrinking(SMALL)] == ["full", "kernel", "depth", "expand"]


def test_descending_resolutions_come_last_and_one_by_one():
    space = SearchSpace.build(2, resolutions=(16, 24, 32), kernel_sizes=(3, 5), expand_ratios=(6,), depths=(2,))
    phases = progressive_shrinking(space, resolution="descending")
    assert [phase.name for phase in phases] == ["full", "kernel", "resolution_1", "resolution_2"]
    assert [phase.space.resolutions for phase in phases] == [(32,), (32,), (24, 32), (16, 24, 32)]
    assert phases[-1].space == space
    rows = SMALL_ROWS["resolution"], SMALL_ROWS["resolution_last"]
    assert [phase.epochs for phase in phases[2:]] == [row.epochs for row in rows]


def test_rows_of_ones_own_and_sub_networks_a_step():
    rows = {name: Row(2, 1, 0.5, 3) for name in ("full", "kernel", "depth", "expand")}
    phases = progressive_shrinking(SMALL, rows=rows)
    assert [phase.subnets_per_step for phase in phases] == [1, 3, 3, 3]
    assert {(p.epochs, p.warmup_epochs, p.learning_rate) for p in phases} == {(2, 1, 0.5)}
    phases = progressive_shrinking(SMALL, rows=rows, subnets_per_step=2)
    assert [phase.subnets_per_step for phase in phases] == [1, 2, 2, 2]


def test_the_sandwich_is_one_phase():
    [phase] = sandwich(SMALL, epochs=7, warmup_epochs=2, learning_rate=0.3)
    assert (phase.sampler, phase.subnets_per_step, phase.gradients) == ("sandwich", 4, "mean")
    assert phase.teacher.source == "in_place" and phase.task_weight == 0 and phase.space == SMALL
    assert (phase.epochs, phase.warmup_epochs, phase.learning_rate) == (7, 2, 0.3)
    [phase] = sandwich(SMALL, subnets_per_step=1)
    assert phase.sampler == "sandwich_in_turn"


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [5, 6, 17, 60, 1000])
def test_total_epochs_are_met_by_every_schedule(name, total):
    phases = SCHEDULES[name](SMALL, total_epochs=total)
    assert sum(phase.total_epochs for phase in phases) == total
    assert all(phase.epochs >= 1 for phase in phases)


def test_epochs_are_scaled_in_proportion():
    phases = [Phase("a", SMALL, 18, 2), Phase("b", SMALL, 60), Phase("c", SMALL, 20)]
    scaled = scale_epochs(phases, 50)
    assert [(phase.epochs, phase.warmup_epochs) for phase in scaled] == [(9, 1), (30, 0), (10, 0)]
    scaled = scale_epochs(phases, 33)  # exactly 6.6, 19.8 and 6.6: one of the first and last must give way
    assert [phase.total_epochs for phase in scaled] in ([7, 20, 6], [6, 20, 7])
    assert scale_epochs(phases, None) == phases
    with pytest.raises(UserError, match="3 phases"):
        scale_epochs(phases, 2)
    for wrong in (2.5, True, "8"):
        with pytest.raises(UserError, match="whole number"):
            scale_epochs(phases, wrong)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"rows": "papr"}, "Did you mean 'paper'"),
        ({"resolution": "falling"}, "'mixed', 'descending'"),
        ({"total_epochs": 3}, "4 phases"),
        ({"subnets_per_step": 0}, "subnets_per_step"),
    ],
)
def test_wrong_arguments_of_a_schedule(arguments, expected):
    with pytest.raises(UserError, match=expected) as error:
        progressive_shrinking(SMALL, **arguments)
    assert "\n" not in str(error.value)


# -- values ------------------------------------------------------------------------------------------------------------

WRONG: list[tuple[dict, str]] = [
    *[({"name": value}, "name") for value in ("", "a b", "a-b", "a.b", 5, None)],
    *[({"space": value}, "space") for value in (None, "all", SMALL.to_dict())],
    *[({name: v}, name) for name in ("epochs", "warmup_epochs") for v in (-1, 1.5, "3", None, True)],
    ({"epochs": 0}, "epochs"),
    *[({name: v}, name) for name in ("batch_size", "subnets_per_step", "validate_every") for v in (0, -1, 2.0, "2")],
    *[({"learning_rate": v}, "learning_rate") for v in (0, -0.1, "fast", None, float("nan"), float("inf"), True)],
    *[
        ({name: v}, name)
        for name in ("weight_decay", "task_weight", "distillation_weight")
        for v in (-1e-9, "no", None, float("nan"), float("inf"))
    ],
    *[({name: v}, name) for name in ("momentum", "beta2", "dropout") for v in (1, 1.5, -0.1, "0", None, float("nan"))],
    *[({name: v}, name) for name in ("warmup_start", "favoured_probability") for v in (-0.1, 1.1, "1", float("nan"))],
    *[
        ({name: v}, name)
        for name in (
            "decay",
            "optimizer",
            "optimizer_state",
            "gradients",
            "sampler",
            "kernel_matrices",
            "sort_channels",
            "start_from",
        )
        for v in ("other", None, 1)
    ],
    ({"nesterov": "yes"}, "nesterov"),
    *[({"teacher": v}, "teacher") for v in (None, "first", {"source": "first"})],
    *[({"freeze": v}, "freeze") for v in (None, True)],
    *[({"resolutions": v}, "resolutions") for v in ((), (20,), (16, 20), 16, "16", (16.5,), ("16",), (16, 16))],
    *[({"clip_gradient": v}, "clip_gradient") for v in (0, -1, "1", float("nan"), True)],
    *[({"exit_loss_weights": v}, "exit_loss_weights") for v in ((), 1, ("1",), "1", (float("nan"),))],
    ({"favoured_probability": 0.5}, "favoured"),
    ({"favoured": SPACE, "favoured_probability": 0.5}, "favoured"),
    ({"sampler": "sandwich", "subnets_per_step": 1}, "subnets_per_step"),
    ({"sampler": "sandwich_in_turn", "subnets_per_step": 3}, "subnets_per_step"),
    ({"sampler": "largest", "subnets_per_step": 2}, "subnets_per_step"),
]


@pytest.mark.parametrize(("changes", "named"), WRONG, ids=str)
def test_a_wrong_value_is_one_clear_line(changes, named):
    given = {"name": "one", "space": SMALL, "epochs": 2}
    with pytest.raises(UserError) as error:
        Phase(**(given | changes))
    message = str(error.value)
    assert message.startswith(named.removesuffix("s")) and "\n" not in message
    got = repr(changes.get(named))[:20].strip("(),")
    assert got in message, "the message does not say what was got"


def test_every_field_is_in_the_table_of_wrong_values():
    assert {name for changes, _ in WRONG for name in changes} == {field.name for field in fields(Phase)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source": ""}, "source ''"),
        ({"source": None}, "source None"),
        ({"batchnorm": "running"}, "'batch', 'calibrated'"),
        ({"input": "natve"}, "Did you mean 'native'"),
        ({"exit_weights": ()}, "exit_weights"),
        ({"exit_weights": 0.5}, "exit_weights"),
    ],
)
def test_a_wrong_teacher(changes, expected):
    with pytest.raises(UserError, match=expected):
        Teacher(**changes)


def test_a_phase_becomes_json():
    phase = Phase("one", SMALL, 2, teacher=Teacher("first"), freeze=Freeze(stem=True), resolutions=[24, 16])
    assert phase.resolutions == (16, 24)
    described = json.loads(json.dumps(phase.to_dict()))
    assert set(described) == {field.name for field in fields(Phase)}
    assert SearchSpace.from_dict(described["space"]) == SMALL
    assert described["teacher"]["source"] == "first" and described["freeze"]["stem"] and described["favoured"] is None
    favoured = replace(phase, favoured=SMALL.restrict(depths=(1,)), favoured_probability=0.5)
    assert SearchSpace.from_dict(favoured.to_dict()["favoured"]) == SMALL.restrict(depths=(1,))


# -- what a step trains ------------------------------------------------------------------------------------------------


def phase_with(sampler: str, count: int, **changes) -> Phase:
    return Phase("one", SMALL, 1, sampler=sampler, subnets_per_step=count, **changes)


def test_random_draws_stay_in_the_space_of_the_phase_at_one_resolution():
    part = SMALL.restrict(kernel_sizes=(5,), depths=(1, 2))
    rng = random.Random(0)
    seen = Counter()
    for step in range(300):
        drawn = draw_architectures(replace(phase_with("random", 2), space=part), step, 16, rng)
        assert len(drawn) == 2
        assert all(architecture in part and architecture.resolution == 16 for architecture in drawn)
        seen.update(drawn[0].depths[:1])
    assert 100 < seen[1] < 200  # both depths, about equally often
    assert rng.random() != random.Random(0).random(), "nothing was drawn"


def test_the_same_generator_draws_the_same():
    first, second = (draw_architectures(phase_with("random", 5), 0, 24, random.Random(3)) for _ in range(2))
    assert first == second and len(set(first)) > 1


def test_sandwich_is_largest_smallest_and_random_ones():
    drawn = draw_architectures(phase_with("sandwich", 4), 7, 16, random.Random(0))
    at_16 = [replace(extreme, resolution=16) for extreme in (SMALL.largest(), SMALL.smallest())]
    assert drawn[:2] == at_16 and len(drawn) == 4
    assert all(architecture in SMALL and architecture.resolution == 16 for architecture in drawn[2:])
    assert not is_taught_in_place(replace(phase_with("sandwich", 4), teacher=Teacher("in_place")), drawn)


@pytest.mark.parametrize(("count", "steps"), [(1, 8), (2, 4), (4, 2)])
def test_sandwich_in_turn_goes_round(count, steps):
    rng = random.Random(0)
    drawn = [draw_architectures(phase_with("sandwich_in_turn", count), step, 24, rng) for step in range(steps)]
    line = [architecture for step in drawn for architecture in step]
    assert all(len(step) == count for step in drawn)
    assert line[0] == line[4] == SMALL.largest()
    assert line[1] == line[5] == replace(SMALL.smallest(), resolution=24)
    assert len({line[2], line[3], line[6], line[7]}) == 4
    phase = replace(phase_with("sandwich_in_turn", count), teacher=Teacher("in_place"))
    asked = [is_taught_in_place(phase, step) for step in drawn]
    assert asked == [step[0] != SMALL.largest() for step in drawn]
    assert not any(is_taught_in_place(phase_with("sandwich_in_turn", count), step) for step in drawn)  # no teacher


def test_largest_takes_all_exits():
    space = SearchSpace.build(3, resolutions=(16,), depths=(1,), kernel_sizes=(3, 5), heights=(2, 3))
    [drawn] = draw_architectures(Phase("one", space, 1, sampler="largest"), 3, 16, random.Random(0))
    assert drawn == space.largest(exits="all") and drawn.exits == (2, 3)


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 20), (0.7, 250, 340), (1.0, 400, 400)])
def test_a_favoured_part_is_drawn_as_often_as_it_says(probability, low, high):
    part = SMALL.restrict(kernel_sizes=(5,), expand_ratios=(6,))
    phase = phase_with("random", 1, favoured=part, favoured_probability=probability)
    rng = random.Random(0)
    inside = sum(draw_architectures(phase, step, 16, rng)[0] in part for step in range(400))
    assert low <= inside <= high  # of the whole space 1 in 9 to 1 in 64 lies in the part
