"""`onceforall grow` as it is typed."""

import json

import pytest
from click.testing import CliRunner

from onceforall.cli import main
from onceforall.growing import grown_runs
from volume_files import make_volumes

TINY = (
    "network.width_mult=0.25",
    "network.resolutions=[16]",
    "network.depths=[1]",
    "network.kernel_sizes=[3]",
    "network.expand_ratios=[3]",
    "data.classes=3",
    "phases.all.batch_size=128",
    "schedule.total_epochs=1",
    "run.calibration_images=64",
    "run.random_validation=0",
)


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    result = invoke("train", "digits-prox", "--out", folder, *(word for text in TINY for word in ("--set", text)))
    assert result.exit_code == 0, result.output
    return folder


def test_a_run_grows_stops_and_goes_on(finished):
    words = ("grow", finished, "--set", "depths=1,2", "--set", "kernel_sizes=3,5")
    stopped = invoke(*words, "--max-minutes", "0")
    assert stopped.exit_code == 0 and "stopped after 0 minutes" in stopped.output and "done" not in stopped.output
    result = invoke(*words, "--resume")
    assert result.exit_code == 0, result.output
    folder = finished.with_name("small-grown")
    for expected in ("depths: 1 -> 1, 2\n", "kernel_sizes: 3 -> 3, 5\n", "phases: depth (1 epochs), kernel (1 epochs)"):
        assert expected in result.output
    assert f"next: onceforall evaluate {folder}" in result.output
    assert invoke("evaluate", folder, "-n", "1").exit_code == 0
    assert json.loads((folder / "run.json").read_text())["settings"]["parent"]["folder"] == str(finished)
    again = invoke("grow", folder, "--set", "depths=1,2,3", "--out", finished.with_name("again"))
    assert again.exit_code == 0 and "phases: depth (1 epochs)" in again.output


def test_a_run_on_volumes_grows(tmp_path, monkeypatch):
    monkeypatch.setenv("ONCEFORALL_CACHE", str(tmp_path / "cache"))
    heads, run = make_volumes(tmp_path / "heads", 6), tmp_path / "run"
    tiny = ("network.poolings=1", "network.width_mult=0.25", "network.depths=[1]", "network.kernel_sizes=[3]")
    tiny += ("network.resolutions=[12]", "network.widths=[1.0]", "schedule.total_epochs=1", "run.calibration_images=4")
    made = invoke("train", "hippocampus-quick", "--data", heads, "--out", run, *(w for t in tiny for w in ("--set", t)))
    assert made.exit_code == 0, made.output
    result = invoke("grow", run, "--set", "depths=1,2,3", "--set", "widths=0.5,1.0")
    assert result.exit_code == 0, result.output
    assert "training volumes; phases: depth_1 (1 epochs), depth_2 (1 epochs), width (1 epochs)" in result.output
    before, after = (json.loads((each / "run.json").read_text())["data"] for each in (run, tmp_path / "run-grown"))
    assert before["preparation"] == after["preparation"] and before["counts"] == after["counts"]
    larger = invoke("grow", run, "--set", "resolutions=12,16", "--out", tmp_path / "larger")
    assert larger.exit_code == 2 and "larger than the box (12, 12, 12)" in larger.output
    assert not (tmp_path / "larger").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--set", "depths=2,3"), "1 is missing"),
        ((), "nothing to grow"),
        (("--set", "kernel_sizes=3,6"), "positive odd whole number"),
        (("--set", "depths=1,2", "--data", "nowhere"), "does not exist"),
    ],
)
def test_mistakes_are_one_line(finished, words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("grow", finished, "--out", tmp_path / "new", *words)
    assert result.exit_code == 2 and expected in result.output and result.output.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_only_the_first_process_speaks(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(grown_runs, "train", lambda *_, **__: (tmp_path / "new").mkdir())
    result = invoke("grow", finished, "--out", tmp_path / "new", "--set", "depths=1,2")
    assert result.exit_code == 0 and result.output == ""
