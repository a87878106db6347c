"""`onceforall search` as it is typed."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import onceforall.runs
from onceforall.cli import main
from onceforall.evaluation.engines import EngineSettings
from onceforall.searching import run_search
from onceforall.searching.comparison import FrontRow
from onceforall.searching.latency_measuring import identity_of
from onceforall.searching.latency_table import LatencyTable
from onceforall.searching.problem import Constraint
from onceforall.searching.rounds import Member, Round, SearchResult
from tiny_search import small_network

NET = small_network()


def invoke(*words):
    return CliRunner().invoke(main, ["search", *(str(word) for word in words)])


@pytest.fixture
def given(monkeypatch, tmp_path):
    """What the command hands on, with a run and an answer made up."""
    seen = {}

    def search_run(run, limits, **more):
        seen.update(limits=limits, **more)
        values = {"accuracy": 0.91, "macs": 1.9e6, "params": 3e4}
        chosen = Member(NET.space.smallest(), values, 0.9, 0.012, True)
        limit = (Constraint("macs", "max", 2e6),)
        rounds = (Round(200, 9, 5, 0.0, 0.01),)
        result = SearchResult(("accuracy", "macs"), limit, "accuracy", True, (chosen,), chosen, (chosen,), rounds, 3.0)
        ways = (FrontRow("search", 40, 9, 0.8123), FrontRow("random", 30, 5, 0.7))
        gaps = {"accuracy": 0.0, "macs": 0.0, "params": 1000.0}
        return run_search.BudgetAnswer(
            chosen, 0.88, None, gaps, tmp_path / "a.json", "export it", tmp_path, result, ways
        )

    task = SimpleNamespace(metric="dice", higher_is_better=True)
    monkeypatch.setattr(onceforall.runs, "open_run", lambda *_: SimpleNamespace(task=task, phase="last", supernet=NET))
    monkeypatch.setattr(run_search, "search_run", search_run)
    return seen


def test_budgets_are_handed_on_and_the_answer_is_told(given):
    result = invoke("run", "--max-macs", "2M", "--max-params", "50K", "--min-accuracy", "0.9", "--samples", 30)
    assert result.exit_code == 0, result.output
    assert given["limits"] == {"max_macs": 2_000_000, "max_params": 50_000, "min_dice": 0.9}
    assert given["samples"] == 30 and given["latency_table"] is None and given["engine"] is None
    lines = result.output.splitlines()
    assert lines[0] == str(NET.space.smallest()) and "accuracy on test: 0.8800" in lines
    row = next(line.split() for line in lines if line.startswith("accuracy "))
    assert row == ["accuracy", "0.9000", "+-", "0.0120", "0.91", "on", "it"]
    assert next(line.split() for line in lines if line.startswith("macs")) == ["macs", "max", "2M", "1.9M", "on", "it"]
    assert lines[-1] == "export it: export it"
    assert ["search", "40", "9", "0.8123"] in [line.split() for line in lines]


def test_where_to_search_and_how_to_measure_are_handed_on(given):
    words = ("--only", "resolutions=32,48x40", "--only", "expand_ratios=3,2.5", "--compare", 30)
    result = invoke("run", *words, "--workers", 4, "--executor", "dask")
    assert result.exit_code == 0, result.output
    assert given["only"] == {"resolutions": [32, (48, 40)], "expand_ratios": [3, 2.5]} and given["compare"] == 30
    assert given["workers"] == 4 and given["executor"] == "dask"


def test_an_interrupted_search_says_that_it_goes_on(given, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_search, "search_run", interrupted)
    result = invoke("run")
    assert result.exit_code == 130 and "what was measured is kept, the same command goes on" in result.output


@pytest.mark.parametrize(
    "words",
    [("--phase", "a"), ("--rounds", 2), ("--samples", 50), ("--members", 5), ("--compare", 3), ("--workers", 2)],
)
def test_what_needs_data_is_refused_of_a_family(given, tmp_path, monkeypatch, words):
    (tmp_path / "family.json").write_text("{}")
    family = SimpleNamespace(folder=tmp_path, predictor=None)
    monkeypatch.setattr("onceforall.families.open_family", lambda _: family)
    result = invoke(tmp_path, *words)
    assert result.exit_code == 2 and f"{words[0]} goes with --data PATH" in result.output, result.output
    assert invoke(tmp_path, *words, "--data", tmp_path).exit_code == 0


def test_with_data_a_family_brings_its_own_predictor_and_table(given, tmp_path, monkeypatch):
    """The predictor is handed on as one of --predictor is; the table of another machine is taken with a note."""
    (tmp_path / "family.json").write_text("{}")
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "latency-cpu.json"
    identity = identity_of(NET, EngineSettings("onnxruntime")) | {"machine": "Raspberry Pi"}
    LatencyTable(identity, {}).save(path)
    family = SimpleNamespace(folder=tmp_path, predictor=tmp_path / "own.json", latency_tables=[path])
    monkeypatch.setattr("onceforall.families.open_family", lambda _: family)
    monkeypatch.setattr("onceforall.searching.predictor.Predictor.load", staticmethod(lambda file: f"from {file}"))
    result = invoke(tmp_path, "--data", tmp_path, "--max-latency-ms", 5)
    assert result.exit_code == 0, result.output
    assert given["predictor"] == f"from {tmp_path / 'own.json'}"
    assert given["latency_table"].identity["machine"] == "Raspberry Pi" and given["engine"] is None
    assert "belongs elsewhere" in result.output and "latency on onnxruntime" in result.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--max-latency-ms", 20, "--backend", "onnxruntime"), "latency build run --backend onnxruntime"),
        (("--backend", "onnxruntim"), "Did you mean 'onnxruntime'?"),
        (("--backend", "openvino"), "goes with --latency-table"),
        (("--force",), "--force goes with --latency-table"),
        (("--only", "heights"), "--only 'heights': give a factor and numbers, as kernel_sizes=3,5"),
        (("--max-macs", "many"), "budget 'many'"),
        (("--predictor", "nowhere.json"), "nowhere.json does not exist"),
        (("--latency-table", "nowhere.json"), "nowhere.json is no latency table"),
    ],
)
def test_mistakes_are_one_line(given, words, expected):
    result = invoke("run", *words)
    assert result.exit_code == 2 and expected in result.output and result.output.count("\n") == 1, result.output
