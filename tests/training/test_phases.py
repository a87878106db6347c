"""Phases as values, and what their samplers draw. Oracles: counting by hand."""

import json
import random
from collections import Counter
from dataclasses import fields, replace

import pytest

from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.supernets import Freeze
from onceforall.training.phases import Phase, Teacher, draw_architectures, draw_resolution, is_taught_in_place

FACTORS = {"kernel_sizes": (3, 5, 7), "expand_ratios": (3, 4, 6), "depths": (2, 3, 4)}
SPACE = SearchSpace.build(5, resolutions=tuple(range(128, 225, 4)), **FACTORS)
SIZES = {"resolutions": (16,), "depths": (1,), "kernel_sizes": (3,)}
SMALL = SearchSpace.build(2, resolutions=(16, 24), kernel_sizes=(3, 5), expand_ratios=(3, 6), depths=(1, 2))


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
            "exits",
            "judged_by",
        )
        for v in ("other", None, 1)
    ],
    ({"nesterov": "yes"}, "nesterov"),
    *[({"teacher": v}, "teacher") for v in (None, "first", {"source": "first"})],
    *[({"freeze": v}, "freeze") for v in (None, True)],
    *[({"stop_rule": v}, "stop_rule") for v in ("stop", True, {"action": "stop"})],
    *[({"resolutions": v}, "resolutions") for v in ((), (20,), (16, 20), 16, "16", (16.5,), ("16",), (16, 16))],
    *[({"clip_gradient": v}, "clip_gradient") for v in (0, -1, "1", float("nan"), True)],
    *[
        ({name: v}, name)
        for name in ("exit_loss_weights", "exit_output_weights")
        for v in ((), 1, ("1",), "1", (float("nan"),))
    ],
    ({"exits": "all", "space": SearchSpace.build(2, **SIZES, heights=(1, 2))}, "exits"),
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
        ({"ensemble": "logits"}, "'outputs', 'probabilities'"),
        ({"guard": True}, "guard True of a teacher: .* goes with previous_phase"),
        ({"source": "previous_phase", "guard": 1}, "guard 1"),
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


def drawn_sizes(phase):
    """Of 400 steps, the size of the first sub-network; all of a step have the same."""
    rng, steps = random.Random(0), []
    for step in range(400):
        size = draw_resolution(phase, rng)
        steps.append({architecture.resolution for architecture in draw_architectures(phase, step, size, rng)})
        assert steps[-1] == {size}
    return Counter(size for sizes in steps for size in sizes)


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 160, 240), (0.5, 260, 340), (1.0, 400, 400)])
def test_a_favoured_resolution_is_drawn_as_often_as_it_says(probability, low, high):
    part = SMALL.restrict(resolutions=(24,))
    phase = phase_with("random", 2, favoured=part, favoured_probability=probability)
    assert low <= drawn_sizes(phase)[24] <= high  # else as often as the other


def test_a_part_with_all_resolutions_leaves_them_as_they_are():
    part = SMALL.restrict(kernel_sizes=(5,))
    both = phase_with("random", 1, favoured=part, favoured_probability=1.0)
    assert 160 <= drawn_sizes(both)[24] <= 240
    assert drawn_sizes(replace(both, resolutions=(16,))) == {16: 400}
    assert drawn_sizes(replace(both, resolutions=(16,), favoured=SMALL.restrict(resolutions=(24,)))) == {16: 400}


def test_all_exits_are_drawn_where_the_phase_says_so():
    space = SearchSpace.build(3, resolutions=(16,), depths=(1, 2), kernel_sizes=(3,), heights=(1, 2, 3))
    phase = Phase("one", space.restrict(heights=(3,)), 1, exits="all", subnets_per_step=3)
    drawn = draw_architectures(phase, 0, 16, random.Random(0))
    assert [architecture.exits for architecture in drawn] == [(1, 2, 3)] * 3
    drawn = draw_architectures(replace(phase, exits="last"), 0, 16, random.Random(0))
    assert [architecture.exits for architecture in drawn] == [(3,)] * 3
