"""`onceforall exits` and `export-exits` as they are typed."""

import json

import pytest
from click.testing import CliRunner

from exit_runs import exit_run
from onceforall.cli import main


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return exit_run(tmp_path_factory.mktemp("runs") / "run")


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_curve_is_shown_and_written(run_dir, tmp_path):
    result = invoke("exits", run_dir, "--out", tmp_path / "curve", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [row["exit"] for row in told["exits"]] == [1, 3, 5]
    written = json.loads((tmp_path / "curve" / "curve.json").read_text())
    assert [point["exits"] for point in written["points"]] == [point["exits"] for point in told["points"]]


def test_a_chain_is_exported_and_told(run_dir, tmp_path):
    result = invoke("export-exits", run_dir, "--max-macs", "180K", "--out", tmp_path / "bundle")
    assert result.exit_code == 0, result.output
    assert "accuracy on test: " in result.output and "images leave: " in result.output
    assert (tmp_path / "bundle" / "model-1.onnx").is_file()
    shown = invoke("inspect", tmp_path / "bundle")
    assert shown.exit_code == 0 and "an answer is final from a certainty of" in shown.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--min-accuracy", "1.5"), "give a share between 0 and 1"),
        (("--min-accuracy", "0.5", "--max-macs", "1M"), "not both"),
        (("--max-macs", "10"), "are not enough"),
        (("--format", "torch"), "format of a chain 'torch'"),
    ],
)
def test_what_makes_no_sense_is_refused(run_dir, words, expected):
    result = invoke("export-exits", run_dir, *words)
    assert result.exit_code == 2 and expected in result.output and result.output.count("\n") == 1
    assert not list(run_dir.glob("bundle*"))
