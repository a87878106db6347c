"""Schedules. Oracles: the published tables (Once-for-All on ImageNet, OFAv2's Table III), and counting by hand."""

import pytest
import torch

from onceforall.architecture import path_code
from onceforall.choices import BlockChoices, StageChoices
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.training.phases import Teacher
from onceforall.training.rows import SMALL_ROWS, Row
from onceforall.training.schedules import (
    SCHEDULES,
    exit_weights_of,
    extended_progressive_shrinking,
    progressive_expansion,
    progressive_shrinking,
    sandwich,
)
from onceforall.training.validation import validation_architectures

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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"rows": "papr"}, "Did you mean 'paper'"),
        ({"resolution": "falling"}, "'mixed', 'descending'"),
        ({"total_epochs": 3}, "4 phases"),
        ({"subnets_per_step": 0}, "subnets_per_step"),
        ({"subnets_per_step": "two"}, "subnets_per_step 'two'"),
        ({"rows": 5}, "rows 5: must be a row for each kind of phase, or the name of a table: small, paper, even"),
        ({"rows": {"full": {"epochs": 5}}}, "rows.full lacks the key warmup_epochs, learning_rate"),
        ({"rows": {"full": 5}}, "rows.full: got 5"),
    ],
)
def test_wrong_arguments_of_a_schedule(arguments, expected):
    check_refused(progressive_shrinking, SMALL, arguments, expected)


def check_refused(make, space, arguments, expected):
    """In one line."""
    with pytest.raises(UserError, match=expected) as error:
        make(space, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "arguments", "expected"),
    [
        (sandwich, {"subnets_per_step": "two"}, "subnets_per_step 'two': must be a whole number"),
        (sandwich, {"subnets_per_step": True}, "subnets_per_step True"),
        (extended_progressive_shrinking, {"exit_weights": 0.5}, "exit_weights 0.5: give 5 numbers that sum to 1"),
        (extended_progressive_shrinking, {"exit_weights": {"desc": 1}}, "exit_weights {'desc': 1}: give 5 numbers"),
        (extended_progressive_shrinking, {"teacher": "fixed", "teacher_guard": "maybe"}, "teacher_guard 'maybe': must"),
        (extended_progressive_shrinking, {"train_all_exits": 1}, "train_all_exits 1: must be true or false"),
        (extended_progressive_shrinking, {"rows": ["full"]}, r"rows \['full'\]: must be"),
        (progressive_expansion, {"freeze_stem": "maybe"}, "freeze_stem 'maybe': must be true or false"),
        (progressive_expansion, {"freeze_inner_kernels": "inner"}, "freeze_inner_kernels 'inner' is not one of"),
    ],
)
def test_wrong_arguments_of_other_schedules(make, arguments, expected):
    check_refused(make, ofav2_space(CODES, HEIGHTS), arguments, expected)


def test_a_space_that_the_network_outgrew_is_refused():
    with pytest.raises(UserError, match="depth 1: a network grows into a space that keeps .* and 2 is missing"):
        progressive_expansion(SMALL.restrict(depths=(1,)), start=SMALL.restrict(depths=(2,)))


@pytest.mark.parametrize("strategy", ["dsec", [0.5]])
def test_exit_weights_count_with_a_single_exit_too(strategy):
    with pytest.raises(UserError, match="exit_weights"):
        extended_progressive_shrinking(SMALL, exit_weights=strategy)


# -- blocks and stages that differ -------------------------------------------------------------------------------------

# the first stage: depths, kernel sizes, expansions; and the second's
UNEVEN = SearchSpace(
    (16,),
    (
        StageChoices((1,), (BlockChoices((3, 5), (3, 6)),)),
        StageChoices((1, 2), (BlockChoices((5, 7), (4, 6)),) * 2),
    ),
)
LARGEST_FIRST = [
    ("full", ((1,), (5,), (6,)), ((2,), (7,), (6,))),
    ("kernel", ((1,), (3, 5), (6,)), ((2,), (5, 7), (6,))),
    ("depth", ((1,), (3, 5), (6,)), ((1, 2), (5, 7), (6,))),
    ("expand_1", ((1,), (3, 5), (6,)), ((1, 2), (5, 7), (4, 6))),
    ("expand_2", ((1,), (3, 5), (3, 6)), ((1, 2), (5, 7), (4, 6))),
]
SMALLEST_FIRST = [  # in depth 1 and 2 differ, of expansions 4 opens nothing new, for the second stage has it already
    ("smallest", ((1,), (3,), (3,)), ((1,), (5,), (4,))),
    ("depth", ((1,), (3,), (3,)), ((1, 2), (5,), (4,))),
    ("expand", ((1,), (3,), (3, 6)), ((1, 2), (5,), (4, 6))),
    ("kernel_1", ((1,), (3, 5), (3, 6)), ((1, 2), (5,), (4, 6))),
    ("kernel_2", ((1,), (3, 5), (3, 6)), ((1, 2), (5, 7), (4, 6))),
]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (progressive_shrinking, LARGEST_FIRST),
        (extended_progressive_shrinking, LARGEST_FIRST),
        (progressive_expansion, SMALLEST_FIRST),
    ],
)
def test_stages_may_have_choices_of_their_own(make, expected):
    phases = make(UNEVEN)
    stages = [[(s.depths, s.blocks[0].kernel_sizes, s.blocks[0].expand_ratios) for s in p.space.stages] for p in phases]
    assert [(phase.name, *both) for phase, both in zip(phases, stages, strict=True)] == expected
    assert phases[-1].space == UNEVEN
    named = {name for phase in phases for name in validation_architectures(phase, 0, 1, 32)}
    assert {"smallest", "largest"} <= named


def test_one_factor_of_stages_that_differ():
    phases = progressive_expansion(UNEVEN, only="depths", newest_probability=0.5)
    assert [[stage.depths for stage in phase.space.stages] for phase in phases] == [[(1,), (1,)], [(1,), (1, 2)]]
    assert [stage.depths for stage in phases[1].favoured.stages] == [(1,), (2,)]
    assert {block.kernel_sizes for stage in phases[1].space.stages for block in stage.blocks} == {(3,), (5,)}
    with pytest.raises(UserError, match="kernel_sizes 3: not among the present choices 5, 7"):
        progressive_expansion(UNEVEN, only="depths", fixed={"kernel_sizes": 3})


# -- extended progressive shrinking ------------------------------------------------------------------------------------

# Table III: phase, kernel sizes, level codes, heights, depths, expansions, learning rate, epochs, warm-up, sub-networks
TABLE_III = [
    ("full", (7,), (7,), (5,), (4,), (6,), 1e-3, 180, 0, 1),
    ("kernel", (3, 5, 7), (7,), (5,), (4,), (6,), 3e-2, 120, 5, 1),
    ("level_1", (3, 5, 7), (3, 5, 6, 7), (5,), (4,), (6,), 2.5e-3, 25, 0, 2),
    ("level_2", (3, 5, 7), (1, 2, 3, 4, 5, 6, 7), (5,), (4,), (6,), 7.5e-3, 120, 5, 2),
    ("height_1", (3, 5, 7), (1, 2, 3, 4, 5, 6, 7), (4, 5), (4,), (6,), 2.5e-3, 25, 0, 2),
    ("height_2", (3, 5, 7), (1, 2, 3, 4, 5, 6, 7), (3, 4, 5), (4,), (6,), 7.5e-3, 60, 5, 2),
    ("height_3", (3, 5, 7), (1, 2, 3, 4, 5, 6, 7), (2, 3, 4, 5), (4,), (6,), 1e-2, 90, 5, 2),
    ("height_4", (3, 5, 7), (1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5), (4,), (6,), 3e-2, 120, 5, 2),
    ("depth_1", (3, 5, 7), (1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5), (3, 4), (6,), 2.5e-3, 25, 0, 2),
    ("depth_2", (3, 5, 7), (1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5), (2, 3, 4), (6,), 7.5e-3, 120, 5, 2),
    ("expand_1", (3, 5, 7), (1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5), (2, 3, 4), (4, 6), 2.5e-3, 25, 0, 4),
    ("expand_2", (3, 5, 7), (1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5), (2, 3, 4), (3, 4, 6), 7.5e-3, 120, 5, 4),
]
CODES = {"paths": (1, 2, 4, 3, 5, 6, 7)}
HEIGHTS = {"heights": (1, 2, 3, 4, 5)}
DESC = (5 / 15, 4 / 15, 3 / 15, 2 / 15, 1 / 15)


def ofav2_space(*factors):
    given = {"resolutions": (48, 52, 56, 60, 64), **FACTORS}
    for factor in factors:
        given |= factor
    return SearchSpace.build(5, **given)


def row_of(phase):
    space = phase.space
    codes = tuple(sorted(path_code(names) for names in space.paths))
    factors = (space.kernel_sizes, codes, space.heights, space.depths, space.expand_ratios)
    numbers = (phase.learning_rate, phase.epochs, phase.warmup_epochs, phase.subnets_per_step)
    return phase.name, *factors, *numbers


def test_the_published_extended_table():
    phases = extended_progressive_shrinking(ofav2_space(CODES, HEIGHTS), rows="paper")
    assert [row_of(phase) for phase in phases] == TABLE_III
    for phase in phases:
        assert (phase.batch_size, phase.momentum, phase.nesterov, phase.weight_decay) == (200, 0.9, True, 3e-5)
        assert (phase.optimizer, phase.decay, phase.warmup_start, phase.clip_gradient) == ("sgd", "cosine", 0.1, None)
        assert (phase.optimizer_state, phase.start_from, phase.gradients) == ("fresh", "best", "sum")
        assert phase.dropout == (0.2 if phase.name == "full" else 0.1)
        assert phase.space.resolutions == (48, 52, 56, 60, 64) and phase.resolutions is None
        assert phase.space.exits == (1, 2, 3, 4, 5)
        assert (phase.task_weight, phase.distillation_weight) == (1, 1)
        assert phase.judged_by == "extremes"
        assert phase.sort_channels == ("banded" if phase.name.startswith("expand") else "none")


# spec, sections 1 and 7.1: the phases that each network has, epochs with warm-up, epochs times sub-networks
NETWORKS = {
    "ofa": ((), [], 605, 1205),
    "p": ((CODES,), ["level"], 755, 1505),
    "ee": ((HEIGHTS,), ["height"], 915, 1825),
    "ee_p": ((CODES, HEIGHTS), ["level", "height"], 1065, 2125),
}


@pytest.mark.parametrize(("factors", "further", "epochs", "passes"), NETWORKS.values(), ids=NETWORKS)
def test_a_network_has_only_its_phases(factors, further, epochs, passes):
    phases = extended_progressive_shrinking(ofav2_space(*factors), rows="paper")
    kinds = ["full", "kernel", *further, "depth", "expand"]
    assert [phase.name for phase in phases] == [row[0] for row in TABLE_III if row[0].partition("_")[0] in kinds]
    assert sum(phase.total_epochs for phase in phases) == epochs
    assert sum(phase.total_epochs * phase.subnets_per_step for phase in phases) == passes


def test_teachers():
    space = ofav2_space(HEIGHTS)
    fixed = extended_progressive_shrinking(space, teacher="fixed")
    moving = extended_progressive_shrinking(space, teacher="previous_phase")
    assert fixed[:2] == moving[:2], "the first two phases do not depend on the teacher"
    assert [phase.teacher.source for phase in fixed] == ["none", *["first"] * 9]
    assert [phase.teacher.source for phase in moving] == ["none", "first", *["previous_phase"] * 8]
    for phase in moving:
        assert phase.teacher.exit_weights == pytest.approx(DESC)
        assert phase.exit_loss_weights == pytest.approx(DESC) and phase.exit_output_weights == pytest.approx(DESC)
        assert not phase.teacher.guard and phase.exits == "last"
        assert (phase.teacher.batchnorm, phase.teacher.input, phase.teacher.ensemble) == ("batch", "student", "outputs")
    [full, *_] = extended_progressive_shrinking(ofav2_space())
    assert (full.exit_loss_weights, full.exit_output_weights, full.teacher.exit_weights) == (None, None, None)


def test_deviations_are_off_unless_asked_for():
    space = ofav2_space(CODES, HEIGHTS)
    guarded = extended_progressive_shrinking(space, teacher_guard=True)
    assert [phase.teacher.guard for phase in guarded] == [False, False, *[True] * 10]
    whole = extended_progressive_shrinking(space, train_all_exits=True)
    assert [phase.name for phase in whole if phase.exits == "all"] == ["kernel", "level_1", "level_2"]
    single = extended_progressive_shrinking(ofav2_space(CODES), train_all_exits=True)
    assert {phase.exits for phase in single} == {"last"}
    strong = extended_progressive_shrinking(space, rows="strong_teacher")
    assert [phase.learning_rate for phase in strong[:2]] == [0.25, 0.03]
    assert [row_of(phase) for phase in strong[1:]] == TABLE_III[1:]


def test_exit_weights():
    """AEP's four strategies for five exits, in fifteenths; with other numbers of exits they sum to one."""
    rising = tuple(reversed(DESC))
    for strategy, losses, outputs in (
        ("desc", DESC, DESC),
        ("asc", rising, rising),
        ("mix", DESC, rising),
        ("unif", (0.2,) * 5, (0.2,) * 5),
        ([0.5, 0.2, 0.1, 0.1, 0.1], (0.5, 0.2, 0.1, 0.1, 0.1), (0.5, 0.2, 0.1, 0.1, 0.1)),
    ):
        found = exit_weights_of(strategy, 5)
        assert found[0] == pytest.approx(losses, abs=1e-15) and found[1] == pytest.approx(outputs, abs=1e-15)
        [full, *_] = extended_progressive_shrinking(ofav2_space(HEIGHTS), exit_weights=strategy)
        assert full.exit_loss_weights == pytest.approx(losses) and full.exit_output_weights == pytest.approx(outputs)
    for strategy in ("desc", "asc", "mix", "unif"):
        for exits in range(1, 9):
            assert [sum(weights) for weights in exit_weights_of(strategy, exits)] == pytest.approx([1, 1])
    for wrong in ([0.5, 0.5], [0.2] * 4 + [0.1], ["a"] * 5):
        with pytest.raises(UserError, match="exit_weights .*: give 5 numbers that sum to 1"):
            exit_weights_of(wrong, 5)
    with pytest.raises(UserError, match="exit_weights 'dsc' is not one of.*Did you mean 'desc'"):
        exit_weights_of("dsc", 5)


def test_shrinking_of_ofa_has_phases_for_levels_and_heights_too():
    phases = progressive_shrinking(ofav2_space(CODES, HEIGHTS))
    assert [phase.name for phase in phases] == [row[0] for row in TABLE_III]
    assert all(phase.space.paths == (phases[0].space.paths[-1],) for phase in phases[:2])
    assert phases[-1].space == ofav2_space(CODES, HEIGHTS)


def test_a_row_that_is_missing_is_named():
    with pytest.raises(UserError, match="rows: none for phase 'height_1'; give one named 'height_1' or 'height'"):
        extended_progressive_shrinking(
            ofav2_space(HEIGHTS), rows={name: SMALL_ROWS[name] for name in ("full", "kernel", "depth", "expand")}
        )


# -- progressive expansion -------------------------------------------------------------------------------------------

# ProX's shipped run on retinal OCT (spec, section 1.2): depths, expansions, kernel sizes, resolutions of each phase
PROX = SearchSpace.build(
    5, resolutions=(160, 192, 224), depths=(1, 2, 3), expand_ratios=(3, 4, 6), kernel_sizes=(3, 5, 7)
)
PUBLISHED_EXPANSION = [
    ("smallest", (1,), (3,), (3,), (160,)),
    ("depth_1", (1, 2), (3,), (3,), (160,)),
    ("depth_2", (1, 2, 3), (3,), (3,), (160,)),
    ("expand_1", (1, 2, 3), (3, 4), (3,), (160,)),
    ("expand_2", (1, 2, 3), (3, 4, 6), (3,), (160,)),
    ("kernel_1", (1, 2, 3), (3, 4, 6), (3, 5), (160,)),
    ("kernel_2", (1, 2, 3), (3, 4, 6), (3, 5, 7), (160,)),
    ("resolution_1", (1, 2, 3), (3, 4, 6), (3, 5, 7), (160, 192)),
    ("resolution_2", (1, 2, 3), (3, 4, 6), (3, 5, 7), (160, 192, 224)),
]


ALL_OF_A_KERNEL = {"weight", "rings.5", "rings.7"}


def expansion_row(phase, favoured=False):
    space = phase.favoured if favoured else phase.space
    return phase.name, space.depths, space.expand_ratios, space.kernel_sizes, space.resolutions


def test_the_published_expansion():
    increasing = progressive_expansion(PROX, mode="increasing")
    assert [expansion_row(phase) for phase in increasing] == PUBLISHED_EXPANSION
    mixed = progressive_expansion(PROX)
    assert [expansion_row(phase) for phase in mixed] == [(*row[:4], (160, 192, 224)) for row in PUBLISHED_EXPANSION[:7]]
    for number, phase in enumerate(increasing):
        assert (phase.optimizer, phase.decay, phase.weight_decay, phase.epochs) == ("adam", "constant", 0, 10)
        assert (phase.task_weight, phase.distillation_weight) == (0.5, 0.5)
        taught = Teacher("previous_phase", batchnorm="calibrated", input="native")
        assert phase.teacher == (taught if number else Teacher())
    assert {phase.teacher.input for phase in mixed} == {"student"}
    given = progressive_expansion(PROX, mode="increasing", teacher_input="student")
    assert {phase.teacher.input for phase in given} == {"student"}


@pytest.mark.parametrize(
    ("policy", "frozen"), [("never", set()), ("depth", {1, 2}), ("always", {1, 2, 3, 4, 5, 6})], ids=str
)
def test_what_expansion_freezes(policy, frozen):
    phases = progressive_expansion(PROX, freeze_earlier_blocks=policy, freeze_stem=policy == "always")
    assert {i for i, phase in enumerate(phases) if phase.freeze.earlier_blocks} == frozen
    assert {i for i, phase in enumerate(phases) if phase.freeze.stem} == (frozen if policy == "always" else set())


@pytest.mark.parametrize(
    ("policy", "kernels_and_resolutions"),
    [("off", ["off"] * 4), ("on_sample", ["on_sample"] * 4), ("hard", [5, 7, "off", "off"])],
)
def test_which_kernels_expansion_freezes(policy, kernels_and_resolutions):
    phases = progressive_expansion(PROX, mode="increasing", freeze_inner_kernels=policy)
    assert [phase.freeze.inner_kernels for phase in phases] == ["off"] * 5 + kernels_and_resolutions


def test_hard_freezing_goes_with_the_kernels_that_open():
    """A network whose kernels are all there gets new blocks: their kernels have yet to learn everything."""
    deeper = PROX.extend(depths=(1, 2, 3, 4), kernel_sizes=(3, 5, 7, 9))
    phases = progressive_expansion(deeper, start=PROX, freeze_inner_kernels="hard")
    assert [(phase.name, phase.freeze.inner_kernels) for phase in phases] == [("depth", "off"), ("kernel", 9)]
    between = progressive_expansion(PROX, start=PROX.restrict(kernel_sizes=(3, 7)), freeze_inner_kernels="hard")
    assert [phase.freeze.inner_kernels for phase in between] == [5], "its ring, and that of 7 around it"


@pytest.mark.parametrize(
    ("policy", "learn"),
    [("hard", [{"weight"}, {"rings.5"}, {"rings.7"}]), ("off", [{"weight"}, {"weight", "rings.5"}, ALL_OF_A_KERNEL])],
)
def test_what_of_the_kernels_of_a_whole_supernet_learns(policy, learn):
    """Also in a network that has had the largest kernel from the beginning, the largest of the phase counts."""
    space = SearchSpace.build(2, resolutions=(16,), kernel_sizes=(3, 5, 7), expand_ratios=(2,), depths=(1,))
    net = OFAMobileNetV3(space, num_classes=3, in_channels=1, width_mult=0.25, kernel_rule="rings").initialise()
    conv = net.train().get_submodule("stages.0.0.paths.main.depthwise.conv")
    for phase, expected in zip(progressive_expansion(space, freeze_inner_kernels=policy), learn, strict=True):
        net.zero_grad()
        net(torch.rand(2, 1, 16, 16), phase.space.largest(), phase.freeze).square().sum().backward()
        found = {name.removeprefix("kernel_rule.") for name, p in conv.named_parameters() if p.grad is not None}
        assert found == expected


def test_expansion_may_take_its_numbers_by_kind_of_phase():
    phases = progressive_expansion(
        PROX, epochs_per_phase={"smallest": 2, "kernel": 5, "other": 3}, learning_rate={"kernel": 1e-4, "other": 1e-3}
    )
    assert [phase.epochs for phase in phases] == [2, 3, 3, 3, 3, 5, 5]
    assert [phase.learning_rate for phase in phases] == [1e-3] * 5 + [1e-4] * 2
    scaled = progressive_expansion(PROX, epochs_per_phase={"smallest": 2, "kernel": 5, "other": 3}, total_epochs=48)
    assert [phase.epochs for phase in scaled] == [4, 6, 6, 6, 6, 10, 10]
    with pytest.raises(UserError, match="kind of phase in learning_rate 'kernels'.*Did you mean 'kernel'"):
        progressive_expansion(PROX, learning_rate={"kernels": 1e-4, "other": 1e-3})
    with pytest.raises(UserError, match="epochs_per_phase has nothing for phases of 'depth'"):
        progressive_expansion(PROX, epochs_per_phase={"smallest": 2})


def test_expansion_may_favour_what_is_newest():
    phases = progressive_expansion(PROX, mode="increasing", newest_probability=0.5)
    assert [phase.favoured_probability for phase in phases] == [0.0, *[0.5] * 8]
    newest = [expansion_row(phase, favoured=True) for phase in phases[1:]]
    for row, (before, now) in zip(newest, zip(PUBLISHED_EXPANSION, PUBLISHED_EXPANSION[1:], strict=False), strict=True):
        expected = tuple(b if a == b else tuple(sorted(set(b) - set(a))) for a, b in zip(before, now, strict=True))
        assert row[1:] == expected[1:]


def test_expansion_opens_every_factor_that_a_space_has():
    phases = progressive_expansion(ofav2_space(CODES, HEIGHTS))
    assert phases[-1].space == ofav2_space(CODES, HEIGHTS)
    assert [path_code(names) for names in phases[0].space.paths] == [4] and phases[0].space.heights == (1,)
    levels = [{path_code(names) for names in p.space.paths} for p in phases if p.name.startswith("level")]
    assert levels == [{1, 2, 4}, {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6, 7}]
    assert sum(phase.name.startswith("height") for phase in phases) == 4
    widths = SearchSpace.build(2, resolutions=(16,), depths=(1,), kernel_sizes=(3, 5), widths=(0.5, 1.0))
    assert [phase.name for phase in progressive_expansion(widths)] == ["smallest", "width", "kernel"]
    assert [phase.name for phase in progressive_shrinking(widths)] == ["full", "kernel", "width"]
    for wrong in ({"mode": "mixd"}, {"freeze_earlier_blocks": "depths"}):
        with pytest.raises(UserError, match="Did you mean"):
            progressive_expansion(PROX, **wrong)


def test_expansion_of_a_trained_network_opens_only_what_is_new():
    start = PROX.restrict(depths=(1, 2), kernel_sizes=(3, 5), resolutions=(160, 192))
    phases = progressive_expansion(PROX, start=start, start_teacher="old.safetensors")
    assert [expansion_row(phase) for phase in phases] == [
        ("depth", (1, 2, 3), (3, 4, 6), (3, 5), (160, 192)),
        ("kernel", (1, 2, 3), (3, 4, 6), (3, 5, 7), (160, 192)),
        ("resolution", (1, 2, 3), (3, 4, 6), (3, 5, 7), (160, 192, 224)),
    ]
    teachers = [Teacher(source, "calibrated", "native") for source in ("old.safetensors", *["previous_phase"] * 2)]
    assert [phase.teacher for phase in phases] == teachers
    between = progressive_expansion(PROX, start=PROX.restrict(kernel_sizes=(5,)), newest_probability=0.5)
    assert [(phase.name, phase.space.kernel_sizes) for phase in between] == [
        ("kernel_1", (3, 5)),
        ("kernel_2", (3, 5, 7)),
    ]
    assert [phase.favoured.kernel_sizes for phase in between] == [(3,), (7,)]
    assert {phase.teacher.source for phase in between[:1]} == {"none"} and between[0].teacher.input == "student"
    with pytest.raises(UserError, match="nothing to grow"):
        progressive_expansion(PROX, start=PROX)


# -- one factor alone (ProX, Figs. 5 and 6) ----------------------------------------------------------------------------


def shrinking_rows(phases):
    return [expansion_row(phase)[1:] for phase in phases]


def test_one_factor_grows_from_the_smallest_of_the_others():
    phases = progressive_expansion(PROX, only="depths")
    assert [expansion_row(phase) for phase in phases] == [
        ("smallest", (1,), (3,), (3,), (160,)),
        ("depth_1", (1, 2), (3,), (3,), (160,)),
        ("depth_2", (1, 2, 3), (3,), (3,), (160,)),
    ]
    phases = progressive_expansion(PROX, only="kernel_sizes", fixed={"depths": 3, "resolutions": 224})
    assert shrinking_rows(phases) == [((3,), (3,), sizes, (224,)) for sizes in ((3,), (3, 5), (3, 5, 7))]
    for mode in ("mixed", "increasing"):
        phases = progressive_expansion(PROX, only="resolutions", mode=mode)
        assert shrinking_rows(phases) == [((1,), (3,), (3,), PROX.resolutions[:count]) for count in (1, 2, 3)]


def test_one_factor_shrinks_with_the_largest_of_the_others():
    phases = progressive_shrinking(PROX, only="depths")
    assert shrinking_rows(phases) == [(depths, (6,), (7,), (224,)) for depths in ((3,), (2, 3), (1, 2, 3))]
    phases = progressive_shrinking(PROX, only="expand_ratios", fixed={"kernel_sizes": 5})
    assert shrinking_rows(phases) == [((3,), ratios, (5,), (224,)) for ratios in ((6,), (4, 6), (3, 4, 6))]
    phases = progressive_shrinking(PROX, only="resolutions")
    assert [phase.space.resolutions for phase in phases] == [(224,), (192, 224), (160, 192, 224)]
    [full, level] = progressive_shrinking(
        ofav2_space({"paths": (1, 4, 5)}, HEIGHTS), only="paths", fixed={"heights": 5}
    )[-2:]
    assert {path_code(names) for names in level.space.paths} == {1, 4, 5} and level.space.depths == (4,)
    assert {path_code(names) for names in full.space.paths} == {5}


def test_one_factor_of_a_trained_network_grows_beside_what_it_has():
    start = PROX.restrict(depths=(1, 2), kernel_sizes=(3, 5), resolutions=(160, 192), expand_ratios=(3, 4))
    phases = progressive_expansion(PROX, start=start, only="depths")
    assert [expansion_row(phase) for phase in phases] == [("depth", (1, 2, 3), (3, 4), (3, 5), (160, 192))]
    with pytest.raises(UserError, match="fixed .*: a network that is trained already keeps"):
        progressive_expansion(PROX, start=start, only="depths", fixed={"kernel_sizes": 3})


@pytest.mark.parametrize("make", [progressive_shrinking, progressive_expansion])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"only": "depth"}, "Did you mean 'depths'"),
        ({"only": "widths"}, "widths"),
        ({"fixed": {"depths": 1}}, "fixed depths: goes with only"),
        ({"only": "depths", "fixed": {"depths": 1}}, "fixed depths 1: this is the factor that only leaves elastic"),
        ({"only": "depths", "fixed": {"kernel_sizes": 9}}, "kernel_sizes 9: not among the present choices 3, 5"),
        ({"only": "depths", "fixed": {"kernel_sizes": "5"}}, "kernel_size '5'"),
        ({"only": "depths", "fixed": {"kernel_size": 5}}, "Did you mean 'kernel_sizes'"),
        ({"only": "depths", "fixed": 5}, "fixed 5: give one choice a factor"),
        ({"only": "depths", "fixed": {"widths": 0.5}}, "no such factor"),
    ],
)
def test_wrong_factors(make, arguments, expected):
    with pytest.raises(UserError, match=expected) as error:
        make(SMALL, **arguments)
    assert "\n" not in str(error.value)
