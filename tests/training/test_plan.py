"""Cost of a schedule before it runs, counted by hand from the cost of its sub-networks, and against a run's ledger."""

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from onceforall.errors import UserError
from onceforall.training import checkpoint, plan
from onceforall.training.checkpoint import save_network
from onceforall.training.growing import without_weights
from onceforall.training.phases import Teacher
from onceforall.training.plan import (
    expected_step_macs,
    expected_work,
    phase_to_cost,
    plan_schedule,
    predict_costs,
    steps_per_epoch,
    student_macs,
    teacher_macs,
)
from tiny_runs import one_phase, run, striped, two_stages

CPU = torch.device("cpu")
SUPERNET = two_stages()
SPACE = SUPERNET.space
AT_16 = SPACE.restrict(resolutions=(16,))


def macs(architecture):
    return SUPERNET.measure(architecture).macs


@pytest.mark.parametrize(
    ("images", "batch", "steps"), [(64, 16, 4), (66, 16, 4), (79, 16, 4), (80, 16, 5), (16, 16, 1), (5, 16, 1)]
)
def test_steps_of_an_epoch(images, batch, steps):
    assert steps_per_epoch(images, one_phase(SPACE, batch_size=batch)) == steps


def test_a_student_costs_three_passes():
    """Torch counts two operations for a multiply-add, and 2 backward passes' worth less the image's own gradient."""
    architecture = replace(SPACE.smallest(), resolution=24)
    net = SUPERNET.subnet(architecture).eval()
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, 24, 24))
    assert student_macs(SUPERNET, [architecture]) == 3 * counter.get_total_flops() // 2
    assert student_macs(SUPERNET, [architecture] * 2) == 3 * counter.get_total_flops()


@pytest.mark.parametrize(
    ("teacher", "index", "expected"),
    [
        (Teacher(), 1, lambda _: 0),
        (Teacher("first"), 2, lambda size: macs(replace(AT_16.largest(), resolution=size))),
        (Teacher("first", input="native"), 2, lambda _: macs(AT_16.largest())),
        (
            Teacher("previous_phase"),
            2,
            lambda size: macs(replace(SPACE.restrict(depths=(1,)).largest(), resolution=size)),
        ),
        (Teacher("in_place"), 2, lambda size: macs(replace(SPACE.largest(), resolution=size))),
    ],
)
def test_what_a_teacher_costs(teacher, index, expected):
    phases = [
        one_phase(AT_16, name="full"),
        one_phase(SPACE.restrict(depths=(1,)), name="flat", teacher=teacher if index == 1 else Teacher()),
        one_phase(SPACE, name="all", teacher=teacher),
    ]
    assert teacher_macs(SUPERNET, phases, index) == {size: expected(size) for size in phases[index].space.resolutions}


def test_a_teacher_from_a_file(tmp_path):
    other = two_stages(depths=(1, 2, 3))
    save_network(other, tmp_path / "other.safetensors", {})
    phases = [one_phase(SPACE, teacher=Teacher(str(tmp_path / "other.safetensors")))]
    expected = other.measure(replace(other.space.largest(), resolution=16)).macs
    assert teacher_macs(SUPERNET, phases, 0)[16] == expected > macs(replace(SPACE.largest(), resolution=16))
    with pytest.raises(UserError, match="no such file"):
        teacher_macs(SUPERNET, [one_phase(SPACE, teacher=Teacher("frist"))], 0)


def test_the_file_of_a_teacher_is_read_once_a_phase_and_without_its_weights(tmp_path, monkeypatch):
    path, read = tmp_path / "other.safetensors", []
    save_network(two_stages(depths=(1, 2, 3)), path, {})
    built = plan.described_network
    monkeypatch.setattr(plan, "described_network", lambda *arguments: read.append(arguments) or built(*arguments))
    monkeypatch.setattr(checkpoint, "load_file", None)
    phases = [one_phase(SPACE, name=name, teacher=Teacher(str(path))) for name in ("first", "next")]
    assert min(expected_work(SUPERNET, phases, 66)) > 0
    assert read == [(path,)] * 2


def test_expected_cost_of_a_step():
    big, small = macs(AT_16.largest()), macs(AT_16.smallest())
    [full] = [one_phase(AT_16, sampler="largest")]
    assert expected_step_macs(SUPERNET, [full], 0) == (3 * big, 0)
    both = one_phase(AT_16, sampler="sandwich", subnets_per_step=2, teacher=Teacher("in_place"))
    assert expected_step_macs(SUPERNET, [both], 0) == (3 * (big + small), 0)  # its teacher is a student of the step
    turn = one_phase(AT_16.restrict(depths=(2,)), sampler="sandwich_in_turn", teacher=Teacher("in_place"))
    students, teachers = expected_step_macs(SUPERNET, [turn], 0)
    assert teachers == pytest.approx(0.75 * big)  # three steps of four need a pass of their own
    assert 3 * macs(AT_16.restrict(depths=(2,)).smallest()) < students < 3 * big
    twice = replace(full, name="next", teacher=Teacher("first"))
    assert expected_step_macs(SUPERNET, [full, twice], 1) == (3 * big, big)


def test_expected_work_of_a_schedule():
    big = macs(AT_16.largest())
    phases = [
        one_phase(AT_16, name="full", sampler="largest", epochs=3, warmup_epochs=1),
        one_phase(AT_16, name="next", sampler="largest", epochs=2, batch_size=100, teacher=Teacher("first")),
    ]
    # 66 images: 4 steps of 16 in each of 4 epochs; then one step of all in each of 2
    assert expected_work(SUPERNET, phases, 66) == [3 * big * 16 * 4 * 4, 4 * big * 66 * 2]


def test_a_plan_is_what_the_ledger_will_say(tmp_path):
    phases = [
        one_phase(AT_16, name="full", sampler="largest", epochs=2),
        one_phase(AT_16, name="same", sampler="largest", teacher=Teacher("first")),
    ]
    before, told = {name: tensor.clone() for name, tensor in SUPERNET.state_dict().items()}, []
    plans = plan_schedule(SUPERNET, phases, striped().count("train"), CPU, lambda *counts: told.append(counts))
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert all(torch.equal(tensor, before[name]) for name, tensor in SUPERNET.state_dict().items())
    run(tmp_path / "run", phases, supernet=two_stages(), random_validation=0)
    for planned, entry in zip(plans, json.loads((tmp_path / "run/ledger.json").read_text()), strict=True):
        cost = planned.cost
        assert (cost.name, cost.steps) == (entry["phase"], entry["steps"])
        assert cost.student_macs + cost.teacher_macs == entry["macs"]
        assert cost.activation_bytes == pytest.approx(entry["activation_bytes"], rel=1e-3)
        assert 0 < planned.seconds < 60  # what it is depends on what else runs here


def test_a_network_that_grows_needs_what_its_phases_need():
    """Counted by hand: parameters of networks built for each space, moments of the optimiser; nothing is computed."""
    start = SPACE.restrict(depths=(1,), expand_ratios=(3,), kernel_sizes=(3,), resolutions=(16,))
    spaces = [start, start.extend(depths=(1, 2)), start.extend(depths=(1, 2), kernel_sizes=(3, 5)), start]
    kinds = ("adam", "sgd", "sgd", "adamw")
    phases = [
        one_phase(space, name=f"phase_{i}", optimizer=kind, momentum=0.0 if i == 2 else 0.9)
        for i, (space, kind) in enumerate(zip(spaces, kinds, strict=True))
    ]
    costs = predict_costs(without_weights(SUPERNET, start), phases, 66)
    nets = [type(SUPERNET)(space, **SUPERNET.options) for space in (*spaces[:3], spaces[2])]
    counts = [sum(parameter.numel() for parameter in net.parameters()) for net in nets]
    assert counts[0] < counts[1] < counts[2]
    assert [cost.parameter_bytes for cost in costs] == [4 * count for count in counts]
    assert [cost.optimizer_bytes for cost in costs] == [8 * counts[0], 4 * counts[1], 0, 8 * counts[3]]
    assert costs[0].activation_bytes == costs[3].activation_bytes < costs[1].activation_bytes


def test_costs_of_phases_that_were_written_down():
    """What run.json keeps of a phase is enough to compute its cost again."""
    teacher = Teacher("previous_phase", "calibrated", "native")
    phases = [
        one_phase(SPACE.restrict(depths=(1,)), name="flat", warmup_epochs=1, optimizer="adam", resolutions=(24,)),
        one_phase(SPACE, name="all", teacher=teacher, favoured=AT_16, favoured_probability=0.5, subnets_per_step=2),
    ]
    again = [phase_to_cost(json.loads(json.dumps(phase.to_dict()))) for phase in phases]
    assert again != phases, "learning rates are not taken over"
    assert predict_costs(SUPERNET, again, 66) == predict_costs(SUPERNET, phases, 66)


@pytest.mark.parametrize(("share", "parts"), [(1.1, 1), (0.6, 2), (0.26, 4), (0.001, 16)])
def test_micro_batches_are_proposed_for_the_memory_at_hand(monkeypatch, share, parts):
    phase = one_phase(AT_16, sampler="largest")
    [cost] = predict_costs(SUPERNET, [phase], 66)
    monkeypatch.setattr(plan, "_free_memory", lambda _: share * cost.activation_bytes / plan.MEMORY_SHARE)
    [planned] = plan_schedule(SUPERNET, [phase], 66, CPU)
    assert planned.micro_batches == parts and planned.cost == cost


def test_free_memory_is_told():
    assert 10**7 < plan._free_memory(CPU) < 10**14
