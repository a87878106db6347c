"""`onceforall predictor` as it is typed."""

import pytest
from click.testing import CliRunner

from onceforall.cli import main
from onceforall.searching import measuring
from onceforall.searching import predictor as predictors


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(predictors, "CANDIDATES", {"ridge": predictors.CANDIDATES["ridge"]})


def test_an_interrupted_fit_goes_on_where_it_was(finished, monkeypatch):
    words = ("predictor", "fit", finished, "-n", "26", "--calibration-images", "16", "--folds", "3")
    whole = measuring.evaluate_each

    def interrupted(*given, **how):
        for number, evaluation in enumerate(whole(*given, **how)):
            if number == 8:
                raise KeyboardInterrupt
            yield evaluation

    monkeypatch.setattr(measuring, "evaluate_each", interrupted)
    stopped = invoke(*words)
    assert stopped.exit_code == 130 and "what was measured is kept, the same command goes on" in stopped.output
    [file] = (finished / "results" / "cache").glob("*.jsonl")
    assert len(file.read_text().splitlines()) == 8
    monkeypatch.setattr(measuring, "evaluate_each", whole)
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert "8 of 26 results are there from before; going on with the rest." in result.output
    assert "ridge (chosen)" in result.output and "architectures  " in result.output
    assert "Ceiling: tau" in result.output and f"written: {finished / 'search' / 'predictor.json'}" in result.output
    assert len(file.read_text().splitlines()) == 26


def test_help_has_an_example():
    for words in (("predictor", "--help"), ("predictor", "fit", "--help")):
        assert invoke(*words).exit_code == 0
    assert "onceforall predictor fit runs/photos -n 200" in invoke("predictor", "fit", "--help").output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-n", "4"), "4 architectures and 5 folds"),
        (("--phase", "nothing"), "phase 'nothing' is not one of"),
    ],
)
def test_mistakes_are_one_line(finished, words, expected):
    result = invoke("predictor", "fit", finished, *words)
    assert result.exit_code == 2 and expected in result.stderr and result.stderr.count("\n") == 1
    assert not (finished / "search").exists()
