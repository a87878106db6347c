"""The search in a run, with what is slow replaced: measuring, and fitting by cross-validation."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("pymoo")
pytest.importorskip("plotly")

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.files import write_text
from onceforall.searching import run_search
from onceforall.searching.predictor import Predictor
from onceforall.searching.scales import scale_of
from tiny_search import Additive, small_network

NET = small_network()
TRUE = Additive(NET.space)


def ridge(architectures, scores, facts):
    how = {"candidate": "ridge", "parameters": {"alpha": 0.1}, "deviation": 0.01, "facts": facts}
    scale = scale_of("accuracy", np.array(scores), 40)
    return Predictor(NET.space, "accuracy", True, tuple(architectures), tuple(scores), scale, **how)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that measures by formula and notes what it measured; a predictor is a ridge."""
    measured = []

    def measure_all(_, architectures, *, split="validation", **__):
        measured.extend((each, split) for each in architectures)
        return [SimpleNamespace(metrics={"accuracy": TRUE.score(each)}) for each in architectures]

    def fit_predictor(space, architectures, scores, *, metric, images, higher_is_better, seed, facts):
        assert (metric, images, higher_is_better) == ("accuracy", 40, True)
        return SimpleNamespace(predictor=ridge(architectures, scores, facts))

    monkeypatch.setattr(run_search, "measure_all", measure_all)
    monkeypatch.setattr(run_search, "fit_predictor", fit_predictor)
    task = SimpleNamespace(metric="accuracy", higher_is_better=True)
    recipe = SimpleNamespace(run=SimpleNamespace(calibration_images=32))
    data = SimpleNamespace(count={"validation": 40}.get)
    for name in ("1-first", "2-last"):
        write_text(tmp_path / "checkpoints" / f"{name}-best.safetensors", "")
    described = {"phases": [{"name": "first"}, {"name": "last"}]}
    facts = {"recipe": recipe, "data": data, "task": task, "supernet": NET, "phase": "last", "measured": measured}
    facts |= {"described": described, "space": NET.space}
    return SimpleNamespace(folder=tmp_path, **facts)


def without(monkeypatch, package):
    """As where it is not installed."""
    for name in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


QUICK = {"samples": 20, "rounds": 2, "members": 4, "candidates": 200}


def test_the_budget_is_kept_and_only_the_chosen_one_sees_test(run, monkeypatch):
    search = run_search.search
    monkeypatch.setattr(run_search, "search", lambda *given, **more: search(*given, **more, population=40))
    answer = run_search.search_run(run, {"max_macs": 2e6}, **QUICK)
    chosen = answer.chosen
    assert chosen.values["macs"] <= 2e6 and chosen.measured
    assert [each for each, split in run.measured if split == "test"] == [chosen.architecture]
    assert answer.test == pytest.approx(TRUE.score(chosen.architecture)) and set(answer.distances) == set(chosen.values)
    assert len({each for each, _ in run.measured}) <= 20 + 2 * 4
    within = [m.values["accuracy"] for m in answer.result.archive if m.values["macs"] <= 2e6]
    assert chosen.values["accuracy"] == max(within)
    assert Architecture.from_json(answer.network.read_text()) == chosen.architecture
    assert json.loads((answer.folder / "chosen.json").read_text())["limits"] == {"max_macs": 2e6}
    assert "--phase" not in answer.command and answer.note == ""


def test_the_impossible_is_refused_before_anything_is_measured(run):
    with pytest.raises(UserError, match="no network that was found has macs of at most 1K.*onceforall export"):
        run_search.search_run(run, {"max_macs": 1000}, **QUICK)
    assert run.measured == []


def test_a_predictor_of_other_weights_is_refused(run):
    facts = {"split": "validation", "calibration_images": 32, "weights": "others"}
    other = ridge([NET.space.smallest(), NET.space.largest()], [0.4, 0.9], facts)
    with pytest.raises(UserError, match="other weights"):
        run_search.search_run(run, {}, predictor=other, **QUICK)


@pytest.mark.parametrize(
    ("limits", "objectives", "message"),
    [
        ({"min_accuracy": 90}, None, "at most 1"),
        ({}, ["acuracy", "macs"], "Did you mean 'accuracy'"),
        ({}, ["accuracy", "latency_ms"], "latency_ms needs a latency table"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(run, limits, objectives, message):
    with pytest.raises(UserError, match=message):
        run_search.search_run(run, limits, objectives=objectives, **QUICK)
    assert run.measured == []


def test_without_pymoo_nothing_is_measured(run, monkeypatch):
    monkeypatch.delitem(sys.modules, "onceforall.searching.operators", raising=False)
    without(monkeypatch, "pymoo")
    with pytest.raises(UserError, match=r"pip install 'onceforall\[search\]'"):
        run_search.search_run(run, {}, **QUICK)
    assert run.measured == []


def test_an_older_phase_is_in_the_command_and_missing_pictures_do_not_cost_the_answer(run, monkeypatch):
    run.phase = "first"
    without(monkeypatch, "plotly")
    search = run_search.search
    monkeypatch.setattr(run_search, "search", lambda *given, **more: search(*given, **more, population=40))
    answer = run_search.search_run(run, {}, **(QUICK | {"rounds": 1}))
    assert answer.command.endswith(f"{answer.network} --phase first") and "needs plotly" in answer.note
    assert json.loads((answer.folder / "chosen.json").read_text())["export"] == answer.command
