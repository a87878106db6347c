"""Phases that are left out because they do not pay, and what remains of the run.

Oracles: phase lists and architectures written by hand, scores given by hand with the interval from scipy, and a run
that was planned without what another run left out.
"""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from onceforall.choices import BlockChoices, StageChoices
from onceforall.errors import UserError
from onceforall.runs import find_weights
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.training import stopping
from onceforall.training.checkpoint import load_network
from onceforall.training.records import Records
from onceforall.training.schedules import progressive_expansion, progressive_shrinking
from onceforall.training.stop_rule import StopRule
from onceforall.training.stopping import apply_verdict, judge, opened_by, pairs_of_sizes
from tiny_runs import run, striped

FACTORS = {"resolutions": (16, 24), "depths": (1, 2, 3), "kernel_sizes": (3, 5), "expand_ratios": (3, 4)}
SPACE = SearchSpace.build(2, **FACTORS)
DATA = striped(60)
QUICK: dict[str, Any] = {"random_validation": 0, "validation_images": 6, "calibration_images": 8, "threads": 1}


def schedule(rule=None, space=SPACE, **options):
    phases = progressive_expansion(space, epochs_per_phase=1, batch_size=14, **options)
    return [replace(phase, stop_rule=rule) for phase in phases]


def names(phases):
    return [phase.name for phase in phases]


# -- which phases remain ------------------------------------------------------------------------------------------


def test_the_schedule_of_these_tests():
    assert names(schedule()) == ["smallest", "depth_1", "depth_2", "expand", "kernel"]


@pytest.mark.parametrize(
    ("at", "action", "remaining"),
    [
        (1, "continue", ["smallest", "depth_1", "depth_2", "expand", "kernel"]),
        (1, "stop", ["smallest"]),
        (3, "stop", ["smallest", "depth_1", "depth_2"]),
        (1, "skip", ["smallest", "expand", "kernel"]),
        (2, "skip", ["smallest", "depth_1", "expand", "kernel"]),
        (4, "skip", ["smallest", "depth_1", "depth_2", "expand"]),
    ],
)
def test_what_a_verdict_leaves(at, action, remaining):
    left = apply_verdict(schedule(), {"at": at, "action": action})
    assert names(left) == remaining


def test_what_was_favoured_is_left_out_with_its_phase():
    left = apply_verdict(schedule(newest_probability=0.5), {"at": 1, "action": "skip"})
    assert names(left) == ["smallest", "expand", "kernel"] and {phase.space.depths for phase in left} == {(1,)}


def test_later_phases_lose_what_was_left_out_and_nothing_else():
    left = apply_verdict(schedule(newest_probability=0.5), {"at": 2, "action": "skip"})
    assert [phase.space.depths for phase in left] == [(1,), (1, 2), (1, 2), (1, 2)]
    assert [phase.space.kernel_sizes for phase in left] == [(3,), (3,), (3,), (3, 5)]
    assert [phase.space.expand_ratios for phase in left] == [(3,), (3,), (3, 4), (3, 4)]
    favoured = left[-1].favoured
    assert favoured is not None and (favoured.kernel_sizes, favoured.depths) == ((5,), (1, 2))
    assert len(left[-1].space.stages[0].blocks) == 2  # blocks that nothing runs are gone


def test_a_phase_that_never_opened_anything_stays():
    """Written by hand, to train all of the space once more."""
    phases = schedule()
    again = replace(phases[-1], name="again", epochs=3)
    assert names(apply_verdict([*phases, again], {"at": 2, "action": "skip"}))[-2:] == ["kernel", "again"]
    left = apply_verdict([*phases, again], {"at": 4, "action": "skip"})
    assert names(left)[-2:] == ["expand", "again"] and left[-1].space == left[-2].space


def test_choices_that_differ_between_stages():
    one, two = (StageChoices(depths, (BlockChoices((3, 5), (3,)),) * depths[-1]) for depths in ((1,), (1, 2, 3)))
    phases = schedule(space=SearchSpace((16,), (one, two)))
    assert names(phases) == ["smallest", "depth_1", "depth_2", "kernel"]
    for larger, smaller in pairs_of_sizes(phases[1].space, phases[0].space, 3, seed=0):
        assert [len(stage.blocks) for stage in larger.stages] == [1, 2]
        assert [len(stage.blocks) for stage in smaller.stages] == [1, 1]
    left = apply_verdict(phases, {"at": 2, "action": "skip"})
    assert [stage.depths for stage in left[-1].space.stages] == [(1,), (1, 2)]


def test_a_resolution_is_left_out():
    left = apply_verdict(schedule(mode="increasing"), {"at": 5, "action": "skip"})
    assert names(left)[-1] == "kernel" and left[-1].space.resolutions == (16,)


# -- which networks are compared ----------------------------------------------------------------------------------


def test_pairs_differ_in_the_newest_choice_only():
    phases = schedule()
    before, space = phases[1].space, phases[2].space
    assert opened_by(space, before) == {"depths": (3,)}
    pairs = pairs_of_sizes(space, before, 6, seed=0)
    assert len(set(pairs)) == len(pairs) > 1
    for larger, smaller in pairs:
        assert larger in space and smaller in before and larger.resolution == smaller.resolution
        for deep, shallow in zip(larger.stages, smaller.stages, strict=True):
            assert len(deep.blocks) == 3 and len(shallow.blocks) == 2 and deep.blocks[:2] == shallow.blocks
    assert pairs[0] == (space.largest(), before.largest())


def test_pairs_for_each_factor():
    wide = SPACE.restrict(expand_ratios=(3,), kernel_sizes=(3,))
    for factor in ("expand_ratios", "kernel_sizes"):
        larger_space = wide.extend(**{factor: FACTORS[factor]})
        for larger, smaller in pairs_of_sizes(larger_space, wide, 8, seed=3):
            assert {block.kernel_size for stage in smaller.stages for block in stage.blocks} == {3}
            attribute = factor.removesuffix("s")
            new = {getattr(block, attribute) for stage in larger.stages for block in stage.blocks}
            assert new == {FACTORS[factor][-1]}
            assert [len(s.blocks) for s in larger.stages] == [len(s.blocks) for s in smaller.stages]


def test_gain_and_interval_from_scores_by_hand():
    before, space = SPACE.restrict(depths=(1, 2)), SPACE
    pairs = pairs_of_sizes(space, before, 4, seed=1)
    gains = [0.03, -0.01, 0.02, 0.04]
    found = {smaller: 0.5 for _, smaller in pairs} | {
        larger: 0.5 + gain for (larger, _), gain in zip(pairs, gains, strict=True)
    }

    def scores(architectures, split):
        return {a: found[a] + (0.1 if split == "train" else 0.0) for a in architectures}

    verdict = judge(StopRule(min_gain=0.019, pairs=4), space, before, scores, True, 1)
    assert verdict["gain"] == pytest.approx(0.02) and verdict["pays"] is True
    low, high = stats.t.interval(0.95, 3, loc=np.mean(gains), scale=stats.sem(gains))
    assert verdict["interval"] == pytest.approx([low, high])
    assert verdict["gap"] == pytest.approx({"new": 0.1, "old": 0.1})
    assert judge(StopRule(min_gain=0.021, pairs=4), space, before, scores, True, 1)["pays"] is False
    loss = judge(StopRule(pairs=4), space, before, scores, False, 1)  # of a loss the same numbers are a worsening
    assert loss["gain"] == pytest.approx(-0.02) and not loss["pays"]


# -- whole runs ---------------------------------------------------------------------------------------------------


def supernet():
    smallest = schedule()[0].space
    return OFAMobileNetV3(smallest, num_classes=3, in_channels=1, width_mult=0.25).initialise(3)


def carried_out(folder, rule, phases=None, **options):
    return run(folder, phases or schedule(rule), supernet=supernet(), data=DATA, **(QUICK | options))


ALWAYS, NEVER = -2.0, 2.0  # gains of accuracy that every phase and no phase reaches


def test_a_run_that_stops_ends_with_the_weights_before(tmp_path):
    folder = tmp_path / "run"
    trained = carried_out(folder, StopRule(min_gain=NEVER, pairs=2))
    first = load_network(folder / "checkpoints/1-smallest-best.safetensors")
    assert trained.space == first.space == schedule()[0].space
    for (name, tensor), before in zip(trained.state_dict().items(), first.state_dict().values(), strict=True):
        assert torch.equal(tensor, before), name
    described = json.loads((folder / "run.json").read_text())
    assert [phase["name"] for phase in described["phases"]] == ["smallest"]
    assert [phase["name"] for phase in described["planned"]] == names(schedule())
    [verdict] = described["verdicts"]
    assert verdict["phase"] == "depth_1" and verdict["action"] == "stop" and not verdict["pays"]
    assert "rolled back" in verdict["reason"] and "depths 2" in verdict["reason"]
    assert find_weights(folder, described) == ("smallest", folder / "checkpoints/1-smallest-best.safetensors")
    ledger = json.loads((folder / "ledger.json").read_text())
    assert [entry["phase"] for entry in ledger] == ["smallest", "depth_1"]  # what was tried was paid for


def test_one_pair_has_a_gain_and_no_interval(tmp_path):
    space = SearchSpace.build(2, resolutions=(16,), depths=(1, 2), kernel_sizes=(3,), expand_ratios=(3,))
    phases = schedule(StopRule("skip", min_gain=2), space)
    small = OFAMobileNetV3(phases[0].space, num_classes=3, in_channels=1, width_mult=0.25).initialise(3)
    run(tmp_path / "run", phases, supernet=small, data=DATA, **QUICK)
    [verdict] = json.loads((tmp_path / "run" / "run.json").read_text())["verdicts"]
    assert verdict["interval"] == [None, None] and len(verdict["pairs"]) == 1
    assert "accuracy over 1 pair of networks, 2 asked: it does not pay" in verdict["reason"]


def test_a_phase_that_is_skipped_leaves_what_a_run_without_it_leaves(tmp_path):
    """Depth does not pay; the run goes on as one in which nothing but expansion and kernels was planned."""
    rule = StopRule(action="skip", min_gain=NEVER, pairs=2)
    phases = [replace(phase, stop_rule=rule if phase.name == "depth_1" else None) for phase in schedule()]
    trained = carried_out(tmp_path / "skipping", None, phases)
    plain = carried_out(tmp_path / "plain", None, schedule(space=SPACE.restrict(depths=(1,))))
    assert trained.space == plain.space
    for (name, tensor), other in zip(trained.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name


def test_a_phase_that_pays_changes_nothing(tmp_path):
    judged = carried_out(tmp_path / "judged", StopRule(min_gain=ALWAYS, pairs=2))
    plain = carried_out(tmp_path / "plain", None)
    for (name, tensor), other in zip(judged.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
    assert [v["action"] for v in json.loads((tmp_path / "judged/run.json").read_text())["verdicts"]] == ["continue"] * 4


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [3, 4])
def test_resume_after_a_verdict(tmp_path, monkeypatch, at):
    """Killed at the end of the only epoch of the phase that is left out, before its verdict, and in the next one."""
    rule = StopRule(action="skip", min_gain=NEVER, pairs=2)
    phases = [replace(phase, stop_rule=rule if phase.name == "depth_2" else None) for phase in schedule()]
    whole = carried_out(tmp_path / "whole", None, phases)
    calls, end = [], Records.end_epoch

    def end_epoch(self, *arguments):
        end(self, *arguments)
        calls.append(arguments)
        if len(calls) == at:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Records, "end_epoch", end_epoch)
        with pytest.raises(Killed):
            carried_out(tmp_path / "run", None, phases)
    resumed = carried_out(tmp_path / "run", None, phases, resume=True)
    for (name, tensor), other in zip(resumed.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
    described = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("run", "whole")]
    assert described[0]["phases"] == described[1]["phases"] and described[0]["verdicts"] == described[1]["verdicts"]
    assert names(phases) == [phase["name"] for phase in described[0]["planned"]]


def test_a_phase_that_opens_smaller_choices_is_not_judged(tmp_path):
    """Nothing could be gained by what is smaller; it stays."""
    rule = StopRule(action="skip", min_gain=NEVER, pairs=2)
    phases = [replace(phase, stop_rule=rule) for phase in progressive_shrinking(SPACE, rows="even", total_epochs=5)]
    large = OFAMobileNetV3(SPACE, num_classes=3, in_channels=1, width_mult=0.25).initialise(3)
    run(tmp_path / "run", phases, supernet=large, data=DATA, **QUICK)
    described = json.loads((tmp_path / "run/run.json").read_text())
    assert "verdicts" not in described and len(described["phases"]) == len(phases) > 2


def test_a_phase_that_opens_nothing_is_not_judged(tmp_path):
    """The same networks trained on, as in fine-tuning, have nothing to be compared with."""
    rule = StopRule(action="skip", min_gain=NEVER, pairs=2)
    first = schedule(rule)[0]
    carried_out(tmp_path / "run", None, [first, replace(first, name="more")])
    described = json.loads((tmp_path / "run/run.json").read_text())
    assert "verdicts" not in described and [phase["name"] for phase in described["phases"]] == ["smallest", "more"]


def test_limits_are_asked_before_the_first_phase_and_the_second(tmp_path):
    carried_out(tmp_path / "free", None)
    macs = [entry["macs"] for entry in json.loads((tmp_path / "free/ledger.json").read_text())]
    trained = carried_out(tmp_path / "run", StopRule(max_macs=macs[0] * 1.05))
    assert trained.space.depths == (1,)
    [verdict] = json.loads((tmp_path / "run/run.json").read_text())["verdicts"]
    assert (verdict["phase"], verdict["at"]) == ("depth_1", 1) and "the run ends before it" in verdict["reason"]
    with pytest.raises(UserError, match=r"max_macs .*: smallest would bring it to .*, and there is nothing before it"):
        carried_out(tmp_path / "none", StopRule(max_macs=macs[0] * 0.5))
    assert not (tmp_path / "none").exists()


def test_limits_are_asked_before_a_phase(tmp_path):
    """The multiply-adds of two phases: the third does not begin, and nothing is rolled back."""
    carried_out(tmp_path / "free", None)
    macs = [entry["macs"] for entry in json.loads((tmp_path / "free/ledger.json").read_text())]
    rule = StopRule(min_gain=ALWAYS, pairs=2, max_macs=sum(macs[:2]) * 1.2)
    trained = carried_out(tmp_path / "run", rule)
    assert trained.space.depths == (1, 2)
    described = json.loads((tmp_path / "run/run.json").read_text())
    assert [v["action"] for v in described["verdicts"]] == ["continue", "stop"]
    assert "max_macs" in described["verdicts"][1]["reason"]
    assert [entry["phase"] for entry in json.loads((tmp_path / "run/ledger.json").read_text())] == [
        "smallest",
        "depth_1",
    ]


def test_all_processes_ask_the_clock_of_the_first():
    """A process that has waited 1 second follows the first one, which has waited 100."""
    world = SimpleNamespace(is_first=False, sum=lambda values: [value + 100.0 for value in values])
    ledger = SimpleNamespace(entries=[{"seconds": {"student": 1.0}, "macs": 10**12}])
    validator: Any = SimpleNamespace(data=DATA, ledger=ledger, world=world)
    phases = schedule(StopRule(max_seconds=50.0))
    assert "max_seconds" in stopping._over_budget(StopRule(max_seconds=50.0), phases, 1, supernet(), validator)
    ledger.entries[0]["seconds"]["student"] = 1000.0
    world.sum = lambda values: [value + 1.0 for value in values]
    assert stopping._over_budget(StopRule(max_seconds=50.0), phases, 1, supernet(), validator) == ""


def test_too_much_memory_skips_one_factor_after_another(tmp_path):
    """A limit that depth 2 keeps; what the ledger of a run without a limit says tells which other phases keep it."""
    carried_out(tmp_path / "free", None)
    entries = json.loads((tmp_path / "free/ledger.json").read_text())
    held = [2 * e["parameter_bytes"] + e["optimizer_bytes"] + e["activation_bytes"] for e in entries]
    assert held[0] < held[1] < min(held[2:4])
    rule = StopRule("skip", min_gain=ALWAYS, pairs=2, max_memory=held[1])
    trained = carried_out(tmp_path / "run", rule)
    assert (trained.space.depths, trained.space.expand_ratios) == ((1, 2), (3,))
    verdicts = json.loads((tmp_path / "run/run.json").read_text())["verdicts"]
    assert [verdict["phase"] for verdict in verdicts[:3]] == ["depth_1", "depth_2", "expand"]
    assert all("max_memory" in verdict["reason"] for verdict in verdicts[1:3])
