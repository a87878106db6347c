"""The process of one job: it copies its stem whole, says its pieces, and ends when its standard input does."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from onceforall import runs
from onceforall.comparison.drawing import draw_buckets
from onceforall.search_space import SearchSpace
from onceforall.studies.cells import Cell, cell_recipe
from onceforall.studies.ofav2 import SCALES
from onceforall.studies.study import Job, Piece
from onceforall.studies.worker import DONE, do_job

RECIPE = cell_recipe(Cell("ofa_mbv3", 1.0, "fixed", 0), SCALES["tiny"], [], None).to_dict()


@pytest.fixture
def calls(monkeypatch):
    """What is asked of `runs`; a trained phase leaves its weights, an evaluated one its grid."""
    out = []

    def train_run(recipe, folder, *, resume, until):
        out.append(("train", until, resume))
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints" / f"1-{until}-last.safetensors").write_text("")

    def open_run(folder, data, phase):
        return folder, phase

    def evaluate_grid(run, *, resolutions, limit):
        folder, phase = run
        out.append(("evaluate", phase, resolutions, limit))
        (folder / "results" / "grids").mkdir(parents=True, exist_ok=True)
        (folder / "results" / "grids" / f"{phase}.json").write_text("{}")

    for function in (train_run, open_run, evaluate_grid):
        monkeypatch.setattr(runs, function.__name__, function)
    return out


def job(folder, *phases, after=None):
    return Job(folder, RECIPE, tuple(map(Piece, phases)), after, (24,), 8)


def test_a_job_is_done_piece_by_piece(tmp_path, calls):
    told = []
    do_job(job(tmp_path / "a", "full", "kernel"), told.append)
    assert calls == [
        ("train", "full", False),
        ("evaluate", "full", (24,), 8),
        ("train", "kernel", True),
        ("evaluate", "kernel", (24,), 8),
    ]
    assert told == [Piece("full"), Piece("kernel")]
    calls.clear()
    do_job(job(tmp_path / "a", "full", "kernel"), told.append)
    assert calls == []


def test_what_was_trained_is_only_evaluated(tmp_path, calls):
    do_job(job(tmp_path / "a", "full"), lambda _: None)
    (tmp_path / "a" / "results" / "grids" / "full.json").unlink()
    calls.clear()
    do_job(job(tmp_path / "a", "full"), lambda _: None)
    assert calls == [("evaluate", "full", (24,), 8)]


def test_a_job_goes_on_with_its_stem(tmp_path, calls):
    do_job(job(tmp_path / "stem", "full"), lambda _: None)
    (tmp_path / ".a.part").mkdir()
    (tmp_path / ".a.part" / "rubbish").write_text("of a copy that was killed")
    calls.clear()
    do_job(job(tmp_path / "a", "expand_2", after=tmp_path / "stem"), lambda _: None)
    assert calls[0] == ("train", "expand_2", True)
    assert sorted(path.name for path in (tmp_path / "a" / "results" / "grids").iterdir()) == [
        "expand_2.json",
        "full.json",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "stem"]
    (tmp_path / "a" / "mine").write_text("kept")
    do_job(job(tmp_path / "a", "expand_2", after=tmp_path / "stem"), lambda _: None)
    assert (tmp_path / "a" / "mine").is_file()


def test_drawn_networks_are_those_of_a_comparison(tmp_path, monkeypatch):
    space = SearchSpace.build(2, resolutions=[16, 24], depths=[1, 2], kernel_sizes=[3, 5], expand_ratios=[3])
    spaces, measured = [space], []

    def open_run(folder, data, phase):
        return SimpleNamespace(folder=folder, phase=phase, space=spaces[-1])

    monkeypatch.setattr(runs, "train_run", lambda *_, **__: None)
    monkeypatch.setattr(runs, "open_run", open_run)
    monkeypatch.setattr(runs, "evaluate_run", lambda _, architectures: measured.append(architectures))
    piece = Job(tmp_path / "a", RECIPE, (Piece("kernel"),), drawn=6, measures="drawn")
    do_job(piece, lambda _: None)
    found = measured[0]
    assert list(found) == ["largest", "smallest", *(f"random_{number}" for number in range(1, 7))]
    assert (found["largest"], found["smallest"]) == (space.largest(), space.smallest())
    [bucket] = draw_buckets(space, lambda _: 1.0, networks=6, buckets=1)
    assert set(bucket.members) == {found[name] for name in found if name.startswith("random")}

    spaces.append(SearchSpace.only(space.largest()))
    do_job(piece, lambda _: None)
    assert measured[1] == {"single": space.largest()}


def start():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "onceforall.studies.worker"], text=True, env=environment, **pipes)


def test_a_mistake_is_its_last_line(tmp_path):
    bad = Job(
        tmp_path / "a", {**RECIPE, "data": {**RECIPE["data"], "kind": "folder", "path": "nowhere"}}, (Piece("full"),)
    )
    with start() as worker:
        out, err = worker.communicate(bad.to_json() + "\n", timeout=120)
    # standard input has closed: it may have ended before it came to the mistake
    assert (worker.returncode, DONE in out) in ((1, False), (2, False))
    if worker.returncode == 2:
        assert "nowhere" in err.splitlines()[-1] and "Traceback" not in err


def test_it_ends_with_its_standard_input(tmp_path):
    with start() as worker:
        worker.stdin.write(job(tmp_path / "a", "full").to_json() + "\n")
        worker.stdin.close()
        assert worker.wait(timeout=120) == 1
