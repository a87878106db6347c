"""The command: what it prints and writes, and its one-line refusals."""

import json
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from onceforall.cli import main
from onceforall.comparison import comparing


def invoke(*words):
    return CliRunner().invoke(main, ["compare", *map(str, words)])


def test_it_prints_a_table_and_writes_files(two_runs, contents, tmp_path):
    done = invoke(*two_runs, "--macs", "-n", 6, "--buckets", 2, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("run") and lines[1].startswith("ps") and lines[2].startswith("sandwich")
    assert lines[2].endswith(contents["overall"][1]["verdict"]) and "equal in epochs" in lines[3]
    assert lines[-1].startswith("written: ") and "comparison.md" in lines[-1]
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["networks"] == contents["networks"]


def test_warnings_have_a_line_each_and_edges_are_read(two_runs, contents, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    costs = sorted(network["cost"] for network in contents["networks"])
    edges = f"{costs[0] / 1000}K,{costs[-1] / 1000}K"
    done = invoke(*two_runs, "--macs", "--edges", edges, "--per-bucket", 1, "--split", "validation")
    assert done.exit_code == 0, done.output
    assert "warning: scores on validation images are too good" in done.stdout
    assert (tmp_path / "runs" / "compare-ps-sandwich" / "comparison.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--edges", "1,2"], "--edges needs --latency"),
        (["--edges", "1,2", "--buckets", "3", "--macs"], "exclude each other"),
        (["--edges", "a,b", "--macs"], "give numbers with commas"),
        (["--edges", "1,x", "--latency"], "give numbers with commas"),
        (["--edges", "2,1", "--macs"], "from small to large"),
    ],
)
def test_wrong_words_are_refused(two_runs, tmp_path, words, message):
    done = invoke(*two_runs, *words, "--out", tmp_path)
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_wrong_runs_are_refused(two_runs, tmp_path):
    begun = tmp_path / "begun"
    shutil.copytree(two_runs[0], begun, ignore=shutil.ignore_patterns("checkpoints"))
    for words, message in (
        ([two_runs[0]], "1 run: give at least two"),
        ([two_runs[0], two_runs[0]], "is given twice"),
        ([two_runs[0], tmp_path], "holds no run"),
        ([two_runs[0], begun], "has no trained weights yet"),
    ):
        done = invoke(*words)
        assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_an_interruption_says_how_to_go_on(two_runs, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing, "compare_runs", stop)
    done = invoke(*two_runs, "--out", tmp_path)
    assert done.exit_code == 130 and "the same command goes on" in done.stderr


def test_help_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None\n"
    code += "from onceforall.comparison.command import compare; print(compare.name)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout.strip() == "compare", done.stderr


def test_an_unfinished_run_is_measured_and_said_to_be_unfinished(two_runs, tmp_path):
    begun = tmp_path / "begun"
    last = ["*expand*", "resume*", "cache"]
    shutil.copytree(two_runs[0], begun, ignore=shutil.ignore_patterns(*last))
    ledger = json.loads((begun / "ledger.json").read_text())
    (begun / "ledger.json").write_text(json.dumps([e for e in ledger if not e["phase"].startswith("expand")]))
    done = invoke(two_runs[1], begun, "--macs", "-n", 2, "--buckets", 1, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "warning: begun is unfinished: measured after its phase 'depth'" in done.stdout
