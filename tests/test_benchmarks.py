"""Every benchmark can be read, explains itself, and runs; no time is a test."""

import ast
import json
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py"))
QUICK = (
    "common.py",
    "data_loading.py",
    "freezing.py",
    "grid_evaluation.py",
    "growth_optimizer.py",
    "search_space.py",
    "search_speed.py",
    "start_up.py",
    "step_against_mit.py",
    "volume_steps.py",
)  # with --smoke


@pytest.fixture
def run(monkeypatch):
    """Run a script of the folder with arguments, as the command line would."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [str(FOLDER / name), *arguments])
        runpy.run_path(str(FOLDER / name), run_name="__main__")

    monkeypatch.syspath_prepend(FOLDER)
    yield call
    sys.modules.pop("common", None)


@pytest.mark.parametrize("name", SCRIPTS)
def test_docstring_gives_an_example(name):
    text = ast.get_docstring(ast.parse((FOLDER / name).read_text()))
    assert text and f"python benchmarks/{name}" in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name, run, capsys):
    with pytest.raises(SystemExit) as stop:
        run(name, "--help")
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("name", QUICK)
def test_smoke(name, run, capsys, tmp_path):
    run(name, "--smoke", "--out", str(tmp_path / "numbers.json"))
    report = json.loads((tmp_path / "numbers.json").read_text())
    assert report.keys() == {"date", "command", "environment", "numbers"}
    assert str(FOLDER) not in json.dumps(report), "a report names no folder of this machine"
    assert capsys.readouterr().out.startswith(report["date"])


def test_missing_peer_is_named(run, tmp_path):
    with pytest.raises(SystemExit, match="no package `ofa`.*pip install --no-deps"):
        run("step_against_mit.py", "--peer", str(tmp_path))
