"""`onceforall study` from the outside: what it lists, refuses, trains; and that it goes on after being killed."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from onceforall.cli import main
from onceforall.evaluation.result_cache import digest_of_weights
from onceforall.runs import evaluate_grid, open_run, train_run
from onceforall.studies import running
from onceforall.studies.cells import Cell, cell_recipe
from onceforall.studies.ofav2 import SCALES
from onceforall.studies.prox import SCALES as PROX_SCALES
from onceforall.studies.prox_cells import ProxCell, prox_recipe
from volume_files import make_volumes

SHORT = (  # three phases of one epoch on two digits: full, kernel, depth
    "schedule.total_epochs=3",
    "network.resolutions=[16]",
    "network.kernel_sizes=[3,5]",
    "network.depths=[2,3]",
    "network.expand_ratios=[3]",
    "data.classes=2",
    "data.validation_fraction=0.1",
    "data.test_fraction=0.7",
    "phases.all.batch_size=24",
    "run.calibration_images=16",
)
SET = [word for text in SHORT for word in ("--set", text)]


PROX_SHORT = (  # three phases of one epoch on two digits: the resolution or the kernel grows, or shrinks
    "schedule.total_epochs=3",
    "network.depths=[1]",
    "network.expand_ratios=[3]",
    "data.classes=2",
    "data.test_fraction=0.7",
    "phases.all.batch_size=24",
    "run.calibration_images=16",
    "run.checkpoint_every=4",
)
PROX_SET = [word for text in PROX_SHORT for word in ("--set", text)]


def invoke(*words):
    return CliRunner().invoke(main, ["study", "ofav2", *map(str, words)])


def prox(*words):
    return CliRunner().invoke(main, ["study", "prox", *map(str, words)])


def test_a_dry_run_lists_the_cells(tmp_path):
    done = invoke("--dry-run", "--out", tmp_path, "--networks", "ee_dp_ofa_mbv3,ofa_mbv3", "--seeds", "0,1")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("Scale tiny: the built-in digits")
    cells = [line.split(":")[0] for line in lines[1:-1]]
    assert len(cells) == len(set(cells)) == 8 and cells[0] == "ee_dp_ofa_mbv3-w1.0-fixed-s0"
    assert re.fullmatch(r".*: 28 epochs: full \d+, kernel \d+, level_1 \d+, .*height_4 \d+, .*expand_2 \d+", lines[1])
    assert sum(int(phase.split()[1]) for phase in lines[1].split("epochs: ")[1].split(", ")) == 28
    assert "8 runs" in lines[-1]
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_the_paper_needs_no_images(tmp_path):
    done = invoke("--dry-run", "--scale", "paper", "--networks", "ofa_mbv3", "--out", tmp_path / "new")
    assert "605 epochs: full 180, kernel 125" in done.output
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--networks", "ee_x"], "network 'ee_x' is not one of: 'ofa_mbv3', 'se_d_ofa_mbv3', "),
        (["--teachers", "progressive"], "teacher 'progressive' is not one of: 'fixed', 'previous_phase'."),
        (["--widths", "1.1"], "width '1.1' is not one of: '1.0', '1.2'."),
        (["--seeds", "0,x"], "seeds '0,x': give whole numbers"),
        (["--set", "network.width_mult=1"], "choose cells by its options"),
        (["--set", "network.widht=1"], "key 'network.widht'"),
        (["--data", "photos"], "scale tiny trains on the built-in digits"),
        (["--scale", "small"], "give their folder by --data"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, words, message):
    done = invoke("--out", tmp_path / "new", *words)
    assert done.exit_code == 2
    assert done.output.splitlines()[-1].startswith("error: ") and message in done.output.splitlines()[-1]
    assert not any(path.name.endswith("s0") for path in tmp_path.rglob("*"))


def test_a_mistake_leaves_the_folder_free(tmp_path):
    assert invoke("--out", tmp_path / "new", "--set", "network.widht=1").exit_code == 2
    assert not (tmp_path / "new").exists()


def test_failures_are_told_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "COMMAND", (sys.executable, "-c", "import sys; sys.exit('out of memory')"))
    done = invoke("--out", tmp_path, "--networks", "ofa_mbv3", "--teachers", "fixed", *SET)
    assert done.exit_code == 1
    assert "failed: ofa_mbv3-w1.0-stem-s0: out of memory" in done.output
    assert "failed: 2; the same command tries them again:" in done.output
    assert (tmp_path / "claims.csv").is_file()


def test_an_interruption_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_jobs", interrupted)
    done = invoke("--out", tmp_path, "--networks", "ofa_mbv3", *SET)
    assert done.exit_code == 130
    assert "the same command goes on from there" in done.output
    other = invoke("--out", tmp_path, "--networks", "ofa_mbv3", *SET, "--set", "run.checkpoint_every=7")
    assert other.exit_code == 2 and "choose another --out" in other.output


def processes_of(folder):
    """Command lines of running processes that hold a file of `folder` open, by /proc."""
    out = []
    for entry in os.listdir("/proc"):
        try:
            files = [os.readlink(f"/proc/{entry}/fd/{name}") for name in os.listdir(f"/proc/{entry}/fd")]
        except (OSError, NotADirectoryError):
            continue
        out += [entry] if any(file.startswith(str(folder)) for file in files) else []
    return out


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_study_killed_and_gone_on_with_is_the_same(tmp_path):
    folder, network = tmp_path / "study", "se_d_ofa_mbv3"
    command = [sys.executable, "-m", "onceforall", "study", "ofav2", "--out", str(folder), "--networks", network, *SET]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: list(folder.glob("*/results/grids/full.json")) or first.poll() is not None)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert first.returncode == -signal.SIGKILL, "the study ended before it could be killed"
    if sys.platform == "linux":
        wait_for(lambda: not processes_of(folder), 20)
    assert not (folder / "study.html").exists()

    done = invoke("--out", folder, "--networks", network, "--workers", 2, *SET)
    assert done.exit_code == 0, done.output
    assert ": full in" not in done.output and ": depth in" in done.output
    rows = {
        (row["teacher"], row["step"]): row
        for row in csv.DictReader(io.StringIO((folder / "table4.csv").read_text()))
        if row["network"] == network
    }
    assert {step for (_, step), row in rows.items() if row["seeds"] == "0"} == {"ER", "EKS", "ED"}
    for step in ("ER", "EKS"):
        ours = [[v for k, v in rows[t, step].items() if k.startswith("ours")] for t in ("fixed", "previous_phase")]
        assert ours[0] == ours[1]

    # a run trained whole, without a stem and without being killed, has the same grids
    cell = Cell(network, 1.0, "previous_phase", 0)
    recipe = cell_recipe(cell, SCALES["tiny"], SHORT, None)
    train_run(recipe, tmp_path / "whole")
    for phase in ("kernel", "depth"):
        evaluate_grid(open_run(tmp_path / "whole", phase=phase), limit=24)
        grids = [
            json.loads((run / f"results/grids/{phase}.json").read_text())
            for run in (tmp_path / "whole", folder / cell.name)
        ]
        assert grids[0]["rows"] == grids[1]["rows"]
        assert grids[0]["summary"] == grids[1]["summary"]

    again = invoke("--out", folder, "--networks", network, *SET)
    assert again.exit_code == 0 and "all runs are done." in again.output


# -- ProX -----------------------------------------------------------------------------------------------------------


def test_prox_lists_its_runs(tmp_path):
    done = prox("--dry-run", "--out", tmp_path / "new", "--seeds", "0,1")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("Scale tiny: five of the built-in digits") and lines[-1] == "14 runs"
    assert lines[1].startswith("digits-ps-s0: 6 epochs: full ") and lines[2].startswith("digits-ps-s1: ")
    assert "digits-single-largest-s1: 6 epochs: full 6" in lines
    assert not (tmp_path / "new").exists()


def test_digits_go_on_beside_other_data(tmp_path, monkeypatch):
    """A study of the digits to which another data set was added, and one that never had them."""
    monkeypatch.setattr("onceforall.studies.study.check_study", lambda *_: {"brats": "heads"})
    for folder, begun in (("with", True), ("without", False)):
        (tmp_path / folder / ("digits-ps-s0" if begun else "brats-ps-s0")).mkdir(parents=True)
        lines = prox("--dry-run", "--out", tmp_path / folder).output.splitlines()
        assert any(line.startswith("brats-ps-s0") for line in lines)
        assert any(line.startswith("digits-ps-s0") for line in lines) == begun


def test_prox_at_the_papers_scale(tmp_path):
    done = prox("--dry-run", "--scale", "paper", "--out", tmp_path / "new", "--methods", "ps,prox-mr,prox-ir")
    assert re.search(r"oct-ps-s0: 70 epochs: full \d+, kernel", done.output)
    assert "oct-prox-mr-s0: 70 epochs: smallest 10, depth_1 10" in done.output
    assert "oct-prox-ir-s0: 90 epochs: smallest 10" in done.output and "resolution_2 10" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "ps,fast"], "method 'fast' is not one of: 'ps', 'prox-mr', 'prox-ir', 'sandwich', 'separate'."),
        (["--data", "images=photos"], "leave --data out for the built-in digits, or give --data hippocampus=PATH or"),
        (["--data", "photos"], "give it as NAME=PATH, where NAME is one of oct, hippocampus, brats, images"),
        (["--scale", "small"], "the scale small has nothing to run: give --data oct=PATH or --data hippocampus"),
        (["--scale", "paper", "--data", "images=x"], "the scale paper has nothing to run: give --data oct=PATH or"),
        (["--scale", "small", "--data", "images=nowhere"], "nowhere"),
        (["--set", "schedule.mode=mixed"], "choose runs by its options"),
        (["--set", "network.widht=1"], "key 'network.widht'"),
        (["--seeds", "-1"], "seeds '-1': give whole numbers"),
    ],
)
def test_prox_tells_mistakes_in_one_line(tmp_path, words, message):
    done = prox("--out", tmp_path / "new", *words)
    assert done.exit_code == 2
    assert done.output.splitlines()[-1].startswith("error: ") and message in done.output.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_prox_says_what_cannot_be_run(tmp_path):
    done = prox("--scale", "small", "--dry-run", "--data", "images=photos", "--data", "brats=x", "--out", tmp_path)
    assert done.exit_code == 0 and done.output.startswith("brats: not run; there is no recipe for it at scale small.")
    assert "images-ps-s0" in done.output and "brats-" not in done.output


@pytest.mark.slow
def test_prox_on_volumes(tmp_path):
    folder, heads = tmp_path / "study", make_volumes(tmp_path / "heads", 14)
    short = ("phases.all.batch_size=8", "data.test_fraction=0.3")
    words = [word for text in short for word in ("--set", text)]
    done = prox("--out", folder, "--data", f"brats={heads}", "--methods", "ps,prox-mr,separate", "--macs", *words)
    assert done.exit_code == 0, done.output
    found = json.loads((folder / "comparison-brats-s0" / "comparison.json").read_text())
    assert found["metric"] == "dice" and [row["run"] for row in found["overall"]] == ["ps", "prox-mr"]
    assert [single["run"] for single in found["singles"]] == ["single-smallest", "single-middle", "single-largest"]
    claims = {row["claim"]: row for row in csv.DictReader(io.StringIO((folder / "claims.csv").read_text()))}
    assert claims["brats-macs-prox-mr"]["verdict"] in ("holds", "fails")
    assert "by at most 0.01 of Dice on BRATS" in done.output
    assert "0.3792" in (folder / "study.md").read_text()


@pytest.mark.slow
def test_prox_killed_and_gone_on_with(tmp_path):
    folder = tmp_path / "study"
    words = ["--out", str(folder), "--methods", "ps,prox-ir,separate", "--macs", *PROX_SET]
    command = [sys.executable, "-m", "onceforall", "study", "prox", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ps = folder / "digits-ps-s0"
    try:
        wait_for(lambda: (ps / "checkpoints" / "resume.pt").is_file() or first.poll() is not None)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert first.returncode == -signal.SIGKILL and not (ps / "results").exists(), "it was too quick to be killed"
    if sys.platform == "linux":
        wait_for(lambda: not processes_of(folder), 20)

    done = prox(*words, "--workers", 2)
    assert done.exit_code == 0, done.output
    assert "5 runs, 5 to do or to go on with" in done.output and "digits-ps-s0: kernel in" in done.output
    assert "ProX-IR is no worse than progressive shrinking, by at most 1 point on the built-in digits" in done.output
    claims = {row["claim"]: row for row in csv.DictReader(io.StringIO((folder / "claims.csv").read_text()))}
    assert claims["digits-macs-prox-ir"]["verdict"] in ("holds", "fails")
    assert claims["digits-leader"]["verdict"] == claims["oct-leader"]["verdict"] == "not run"
    found = json.loads((folder / "comparison-digits-s0" / "comparison.json").read_text())
    assert [row["run"] for row in found["overall"]] == ["ps", "prox-ir"] and len(found["networks"]) == 12
    assert [single["run"] for single in found["singles"]] == ["single-smallest", "single-middle", "single-largest"]
    assert all(len({row["macs"] for row in single["rows"]}) == 1 for single in found["singles"])
    assert "kernel_rule" in found["warnings"][0], "the methods differ in how smaller kernels are made"

    # a run trained whole, without being killed, has the same results
    recipe = prox_recipe(ProxCell("digits", "ps", 0), PROX_SCALES["tiny"], PROX_SHORT, {})
    train_run(recipe, tmp_path / "whole")
    assert digest_of_weights(open_run(ps).supernet) == digest_of_weights(open_run(tmp_path / "whole").supernet)

    again = prox(*words)
    assert again.exit_code == 0 and "all runs are done." in again.output
    compared = CliRunner().invoke(
        main, ["compare", str(folder / "digits-prox-ir-s0"), str(ps), "--macs", "-n", "4", "--out", str(tmp_path / "c")]
    )
    assert compared.exit_code == 0, compared.output
