"""The golden runs give the losses that were kept, and compute them anew.

Kept losses are compared to 5e-4 of their value and not bit for bit: another processor adds in another order, and
training amplifies that. With other vector instructions than those that they were computed with (AVX2), and with MKL's
and oneDNN's plainest code, they moved by 1e-4 at most. Changes of what is computed move them by more than 1e-3, which
is tested below. On one machine nothing may differ: `compare.py` asks for that.
"""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from onceforall.training import loop
from onceforall.training.schedules import SCHEDULES

SPEC = importlib.util.spec_from_file_location("golden_runs", Path(__file__).with_name("runs.py"))
runs = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(runs)

TOLERANCE = 5e-4


def kept(schedule):
    path = Path(__file__).with_name(f"{schedule}.json")
    assert path.exists(), f"schedule {schedule} has no golden run: python tests/golden/runs.py --keep"
    return json.loads(path.read_text())["losses"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_losses_are_those_that_were_kept(schedule):
    expected = kept(schedule)
    assert len(expected) == runs.STEPS
    assert runs.losses(schedule) == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize(
    "change",
    [{"momentum": 0.89}, {"dropout": 0.09}, {"weight_decay": 1e-3}, {"warmup_start": 0.2}, {"nesterov": False}],
    ids=str,
)
def test_a_small_change_is_noticed(monkeypatch, change):
    own = loop.train

    def train(supernet, phases, *arguments, **keywords):
        return own(supernet, [replace(phase, **change) for phase in phases], *arguments, **keywords)

    monkeypatch.setattr(runs, "train", train)
    assert runs.losses("progressive_shrinking") != pytest.approx(kept("progressive_shrinking"), rel=TOLERANCE)


def test_one_file_for_all(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "losses", lambda schedule: [float(len(schedule))] * 20)
    runs.main(["--out", str(tmp_path / "losses.json")])
    found = json.loads((tmp_path / "losses.json").read_text())
    assert found == {schedule: [float(len(schedule))] * 20 for schedule in SCHEDULES}
    monkeypatch.setattr(runs, "HERE", tmp_path)
    runs.main(["--keep"])
    assert json.loads((tmp_path / "sandwich.json").read_text()) == {"losses": found["sandwich"]}
