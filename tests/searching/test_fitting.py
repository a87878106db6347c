"""From a run to its predictor, and how the result is told."""

import json
from dataclasses import replace

import numpy as np
import pytest

from onceforall.errors import UserError
from onceforall.runs import open_run
from onceforall.searching import predictor as predictors
from onceforall.searching.fitting import FittedRun, ceiling_text, fit_run, tables, tau_of_halves
from onceforall.searching.predictor import CandidateScore, Fitting, Predictor
from onceforall.searching.scales import Scale


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(predictors, "CANDIDATES", {"ridge": predictors.CANDIDATES["ridge"]})


def test_a_run_gets_its_predictor(finished, quick):
    run = open_run(finished)
    fitted = fit_run(run, 14, metric="log_loss", calibration_images=16, folds=3)
    predictor = Predictor.load(finished / "search" / "predictor.json")
    assert predictor == fitted.fitting.predictor
    assert predictor.space == run.supernet.space and predictor.metric == "log_loss" and not predictor.higher_is_better
    assert len(set(predictor.architectures)) == 14 and run.supernet.space.largest() in predictor.architectures
    [file] = (finished / "results" / "cache").glob("*.jsonl")
    kept = {line["digest"]: line["metrics"] for line in map(json.loads, file.read_text().splitlines())}
    assert list(predictor.scores) == [kept[each.digest()]["log_loss"] for each in predictor.architectures]
    assert predictor.facts["images"] == run.data.count("validation") and predictor.facts["calibration_images"] == 16
    assert fitted.ceiling is None and "no log_loss of single images" in ceiling_text(fitted)
    assert {path.name for path in fitted.files} == {
        "predictor.json", "predictor.md", "predictor.png", "predictor.svg"
    }  # fmt: skip
    text = (finished / "search" / "predictor.md").read_text()
    assert "14 architectures after the phase" in text and "| ridge (chosen) |" in text
    before = file.read_text()
    with pytest.raises(UserError, match="metric 'acuracy' is not one of.*Did you mean 'accuracy'"):
        fit_run(run, 14, metric="acuracy", calibration_images=16)
    assert file.read_text() == before, "nothing is measured again"


def test_fewer_architectures_than_folds_are_refused_before_anything_is_measured(finished):
    with pytest.raises(UserError, match="4 architectures and 5 folds"):
        fit_run(open_run(finished), 4)
    with pytest.raises(
        UserError, match="curve at 50 architectures: of 60 a fifth is held out, give 2 to 48 or measure 63"
    ):
        fit_run(open_run(finished), 60, curve=[20, 50])
    assert not (finished / "results" / "cache").exists()


def test_two_halves_agree_as_much_as_chance_lets_them():
    rng = np.random.default_rng(0)
    quality = np.linspace(0.5, 0.9, 30)[:, None]
    assert tau_of_halves((rng.random((30, 4000)) < quality).astype(float)) > 0.9
    few = tau_of_halves((rng.random((30, 60)) < quality).astype(float))
    assert 0.2 < few < 0.9
    assert abs(tau_of_halves((rng.random((60, 400)) < 0.7).astype(float))) < 0.2, (
        "all equally good: nothing to agree on"
    )
    steps = np.repeat(np.arange(8.0)[:, None], 10, axis=1)  # every image says the same
    assert tau_of_halves(steps) == pytest.approx(1)


def test_tables_and_words():
    space = open_space()
    predictor = Predictor(
        space, "accuracy", True, tuple(grid(space)), (0.5, 0.6, 0.7, 0.8), Scale("plain"), "ridge", {"alpha": 1.0}, 0.1
    )
    scores = (CandidateScore("ridge", 0.5, 0.0123456, 0.7, 0.95, ()), CandidateScore("network", 0.25, 0.1, 1, 1, ()))
    curve = [{"architectures": 50, "tau": 0.61, "low": 0.5, "high": 0.7, "rmse": 0.0321}]
    fitted = FittedRun(Fitting(predictor, scores), 0.8126, curve, 450, ())
    assert tables(fitted) == [
        (
            ["candidate", "tau", "RMSE", "within 1 SD", "within 2 SD"],
            [["ridge (chosen)", "0.500", "0.01235", "70%", "95%"], ["network", "0.250", "0.1", "100%", "100%"]],
        ),
        (["architectures", "tau", "of five parts", "RMSE"], [["50", "0.610", "0.500 to 0.700", "0.0321"]]),
    ]
    assert ceiling_text(fitted) == "Ceiling: tau 0.813 between two halves of the 450 images."
    assert ceiling_text(replace(fitted, inputs="volumes")).endswith("two halves of the 450 volumes.")


def open_space():
    from onceforall.search_space import SearchSpace

    return SearchSpace.build(1, resolutions=[32], depths=[1], kernel_sizes=[3, 5], expand_ratios=[3, 4])


def grid(space):
    return [architecture for architecture, _ in space.grid()]


def test_an_unknown_metric_is_told_after_one_architecture(finished):
    with pytest.raises(UserError, match="Did you mean 'accuracy'"):
        fit_run(open_run(finished), 14, metric="acuracy", calibration_images=16)
    [file] = (finished / "results" / "cache").glob("*.jsonl")
    assert len(file.read_text().splitlines()) == 1
