"""Processes that only pretend to work: order, failures, time, and that none outlives an interruption."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from onceforall.studies import running
from onceforall.studies.running import accelerators, run_jobs
from onceforall.studies.study import Job, Piece

# A worker that writes what it was told, and a grid for each piece; recipe["does"] says what else happens.
WORKER = """
import json, os, sys, time
from pathlib import Path
job = json.loads(sys.stdin.readline())
folder, does = Path(job["folder"]), job["recipe"].get("does")
(folder / "results" / "grids").mkdir(parents=True, exist_ok=True)
(folder / "begun").write_text(json.dumps([os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), time.time()]))
if does == "fail":
    sys.exit("the loss became nan")
if does == "die":
    os.abort()
if does == "wait":
    sys.stdin.read()
for piece in job["pieces"]:
    print("chatter of a library")
    (folder / "results" / "grids" / f"{piece['phase']}.json").write_text("{}")
    print(f"piece done: {piece['phase']}", flush=True)
"""


@pytest.fixture(autouse=True)
def pretend(monkeypatch):
    monkeypatch.setattr(running, "COMMAND", (sys.executable, "-c", WORKER))


def job(folder, name, *phases, after=None, does=None):
    pieces = tuple(Piece(phase, 2.0) for phase in phases or ("full",))
    return Job(folder / name, {"does": does}, pieces, None if after is None else folder / after)


def begun(folder, name):
    return (folder / name / "begun").is_file()


def test_every_piece_is_said_with_the_time_left(tmp_path):
    said: list[str] = []
    jobs = [job(tmp_path, "stem", "full", "kernel"), job(tmp_path, "a", after="stem"), job(tmp_path, "b", after="stem")]
    assert run_jobs(jobs, workers=2, say=said.append) == []
    assert [line.split(" in ")[0] for line in said[:2]] == ["1/4 stem: full", "2/4 stem: kernel"]
    assert {line.split(" in ")[0].split(" ")[1] for line in said[2:]} == {"a:", "b:"}
    assert all(line.endswith(" left") for line in said[:3]) and "left" not in said[3]
    assert run_jobs(jobs, workers=2, say=said.append) == []
    assert len(said) == 4  # all is done


def test_what_waits_begins_after_what_it_waits_for(tmp_path):
    jobs = [job(tmp_path, "a", after="stem"), job(tmp_path, "stem")]
    assert run_jobs(jobs, workers=2, say=lambda _: None) == []
    times = [(tmp_path / name / "begun").stat().st_mtime_ns for name in ("stem", "a")]
    assert times == sorted(times)


@pytest.mark.parametrize(("does", "why"), [("fail", "the loss became nan"), ("die", "ended by signal 6")])
def test_a_failure_is_told_in_one_line_and_the_others_go_on(tmp_path, does, why):
    jobs = [job(tmp_path, "bad", does=does), job(tmp_path, "child", after="bad"), job(tmp_path, "good")]
    said: list[str] = []
    failures = run_jobs(jobs, workers=1, say=said.append)
    assert len(failures) == 2
    assert failures[0].startswith("bad: ") and why in failures[0] and str(tmp_path / "logs" / "bad.log") in failures[0]
    assert failures[1].startswith("child: not begun")
    assert "\n" not in "".join(failures)
    assert begun(tmp_path, "good") and not begun(tmp_path, "child")
    assert said[0] == f"failed: {failures[0]}"
    jobs[0] = job(tmp_path, "bad")
    assert run_jobs(jobs, workers=1, say=said.append) == []
    assert begun(tmp_path, "child")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interruption_ends_the_processes(tmp_path):
    jobs = [job(tmp_path, "quick"), job(tmp_path, "slow", does="wait")]
    pids: list[int] = []

    def interrupt(_: str) -> None:
        deadline = time.monotonic() + 60
        while not begun(tmp_path, "slow") and time.monotonic() < deadline:
            time.sleep(0.02)
        pids.append(int((tmp_path / "slow" / "begun").read_text().strip("[").split(",")[0]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, workers=2, say=interrupt)
    assert pids and not alive(pids[0])
    assert threading.active_count() < 10


def test_accelerators_are_taken_in_turn(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    jobs = [job(tmp_path, str(number)) for number in range(4)]
    run_jobs(jobs, workers=2, devices=["3", "5"], say=lambda _: None)
    texts = {(tmp_path / str(number) / "begun").read_text().split('"')[1] for number in range(4)}
    assert texts == {"3", "5"}


def test_named_accelerators_are_kept(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    assert accelerators() == ["4", "6"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert accelerators() == ["0", "1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert accelerators() == []


def test_the_package_is_found_by_the_process():
    assert Path(running.onceforall.__file__).parents[1].joinpath("onceforall", "studies", "worker.py").is_file()
