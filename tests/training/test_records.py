"""What a run writes and says: files that hold together, lines that can be cut, progress that tells what it should."""

import csv
import io
import json
import re
import sys
import time
from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from onceforall import __version__
from onceforall.errors import UserError
from onceforall.training import records as module
from onceforall.training.distributed import World
from onceforall.training.records import FREE, FREE_OPTIONS, Records, describe_run, read_lines
from tiny_runs import OPTIONS, one_phase, run, striped, two_stages

DATA, CPU = striped(), torch.device("cpu")
SPACE = two_stages().space
PHASES = [one_phase(SPACE, name="full", epochs=3, warmup_epochs=1), one_phase(SPACE, name="kernel")]
ALONE = World(0, 1, CPU)


def described(phases=PHASES, options=OPTIONS, settings=None):
    return describe_run(phases, options, DATA, {"class": "OFAMobileNetV3"}, settings or {})


def records(folder, resume=False, world=ALONE, run=None, work=(300.0, 100.0)):
    return Records(folder, PHASES, run or described(), list(work), DATA, world, resume)


def scores(**values):
    return {"train_loss": 1.25, "validation": {"smallest": values, "largest": values | {"accuracy": 0.75}}, "mean": 0.5}


# -- the folder --------------------------------------------------------------------------------------------------------


def test_a_run_begins_with_what_it_is_and_its_splits(tmp_path):
    with records(tmp_path / "deep/run") as kept:
        kept.say("here")
    folder = tmp_path / "deep/run"
    settings = json.loads((folder / "run.json").read_text())
    assert set(settings) == {"settings", "network", "phases", "options", "data", "environment"}
    assert [phase["name"] for phase in settings["phases"]] == ["full", "kernel"]
    assert settings["options"]["seed"] == 0 and settings["environment"]["onceforall"] in (__version__, None)
    assert settings["data"]["fingerprint"] == DATA.fingerprint
    rows = list(csv.DictReader((folder / "splits.csv").read_text().splitlines()))
    assert len(rows) == 96 and {row["split"] for row in rows} == {"train", "validation", "test"}
    assert [row["file"] for row in rows if row["split"] == "test"] == DATA.files("test")


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("x")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.png").write_text("x")
    (tmp_path / "empty").mkdir()
    for folder, resume, expected in (
        ("file", False, "is a file"),
        ("file", True, "is a file"),
        ("photos", False, "not empty; choose another folder, or go on with its run by --resume"),
        ("photos", True, "holds no run to resume"),
        ("empty", True, "holds no run to resume"),
        ("none", True, "holds no run to resume"),
    ):
        with pytest.raises(UserError, match=expected), records(tmp_path / folder, resume):
            pass
    assert [path.name for path in photos.iterdir()] == ["cat.png"] and not (tmp_path / "none").exists()
    with records(tmp_path / "empty"):
        pass
    with pytest.raises(UserError, match="not empty"), records(tmp_path / "empty"):
        pass


def test_a_folder_in_which_a_run_had_just_begun_can_be_resumed(tmp_path):
    """Killed between the lock and the settings, or between the splits and the settings."""
    for number, left in enumerate((".lock", "splits.csv", ".run.json.17.part")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / left).write_text("")
        with records(folder, resume=True):
            assert json.loads((folder / "run.json").read_text())["phases"]


def test_two_cannot_train_in_one_folder(tmp_path):
    with records(tmp_path / "run"):
        with (
            pytest.raises(UserError, match="another process is training in this folder"),
            records(tmp_path / "run", True),
        ):
            pass
        with pytest.raises(UserError, match="another process is training"):
            run(tmp_path / "run", PHASES, supernet=two_stages(), data=DATA, resume=True)
    with records(tmp_path / "run", resume=True):  # the lock ends with its holder
        pass


def test_half_written_files_of_a_killed_process_are_removed(tmp_path):
    with records(tmp_path / "run"):
        pass
    checkpoints = tmp_path / "run/checkpoints"
    checkpoints.mkdir()
    for name in (".resume.pt.17.part", "1-full-best.safetensors", "resume.pt"):
        (checkpoints / name).write_text("x")
    with records(tmp_path / "run", resume=True):
        assert sorted(path.name for path in checkpoints.iterdir()) == ["1-full-best.safetensors", "resume.pt"]


def test_other_processes_write_nothing_and_keep_silent(tmp_path, capsys):
    with records(tmp_path / "run", world=World(1, 2, CPU)) as kept:
        kept.begin_phase(0, 0.0)
        kept.advance(PHASES[0], 0, 0.5, 1.0, 16)
        kept.end_epoch(0, 0, 4, scores(accuracy=0.5), "accuracy")
        kept.end_phase([])
        kept.rewind(0)
        kept.say("here")
    assert not (tmp_path / "run").exists() and capsys.readouterr() == ("", "")


# -- going on ----------------------------------------------------------------------------------------------------------


def test_what_differs_is_said(tmp_path):
    settings = {"recipe": {"name": "own", "task": {"temperature": 1}}}
    with records(tmp_path / "run", run=described(settings=settings)):
        pass
    changed = [replace(PHASES[0], learning_rate=0.1, epochs=4), PHASES[1]]
    other = described(changed, replace(OPTIONS, seed=7), {"recipe": {"name": "own", "task": {}}})
    with pytest.raises(UserError) as error, records(tmp_path / "run", True, run=other):
        pass
    assert str(error.value) == (
        f"{tmp_path / 'run'} cannot go on: the run differs in settings.recipe.task.temperature: 1 before, absent now; "
        "phases.0.epochs: 3 before, 4 now; phases.0.learning_rate: 0.05 before, 0.1 now; options.seed: 0 before, 7 now."
    )
    fewer = described(PHASES[:1], settings=settings)
    expected = r"phases\.1\.name: kernel before, absent now; .* and \d+ more"
    with pytest.raises(UserError, match=expected), records(tmp_path / "run", True, run=fewer):
        pass
    with records(tmp_path / "run", True, run=described(settings=settings)):  # a refusal keeps no lock
        pass
    newer = {"recipe": {"name": "own", "task": {"temperature": 1, "later": None}}}
    with records(tmp_path / "run", True, run=described(settings=newer)):  # a field that did not exist is none
        pass


def test_what_may_differ(tmp_path):
    with records(tmp_path / "run"):
        pass
    before = (tmp_path / "run/run.json").read_bytes()
    options = replace(OPTIONS, device="auto", max_minutes=3.0, threads=2, checkpoint_every=5)
    with records(tmp_path / "run", True, run=described(options=options)):
        pass
    assert (tmp_path / "run/run.json").read_bytes() == before
    assert {name.rpartition(".")[2] for name in FREE} == {*FREE_OPTIONS, "path"}


def test_lines_after_a_step_are_cut(tmp_path):
    with records(tmp_path / "run") as kept:
        kept.begin_phase(0, 0.0)
        for epoch in range(3):
            kept.end_epoch(0, epoch, 4 * (epoch + 1), scores(accuracy=0.5), "accuracy")
        path = tmp_path / "run/metrics.jsonl"
        whole = path.read_text().splitlines(keepends=True)
        kept.rewind(12)
        assert path.read_text() == "".join(whole)
        kept.rewind(11)
        assert path.read_text() == "".join(whole[:2])
        with path.open("a") as file:
            file.write(whole[2][: len(whole[2]) // 2])  # killed while it was written
        assert [line["step"] for line in read_lines(path)] == [4, 8]
        kept.rewind(8)
        assert path.read_text() == "".join(whole[:2])
        kept.rewind(-1)
        assert path.read_text() == ""
    assert read_lines(tmp_path / "none.jsonl") == []


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_metrics_are_json_also_where_a_number_is_not_defined(tmp_path):
    with records(tmp_path / "run") as kept:
        kept.begin_phase(1, 0.0)
        kept.end_epoch(1, 0, 16, scores(accuracy=0.5, auc=float("nan"), log_loss=float("inf")), "accuracy")
    text = (tmp_path / "run/metrics.jsonl").read_text()

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    line = json.loads(text, parse_constant=refuse)
    assert line["validation"]["smallest"] == {"accuracy": 0.5, "auc": None, "log_loss": None}
    assert {name: line[name] for name in ("phase", "index", "epoch", "step", "train_loss", "mean")} == {
        "phase": "kernel",
        "index": 1,
        "epoch": 1,
        "step": 16,
        "train_loss": 1.25,
        "mean": 0.5,
    }
    assert text.count("\n") == 1


def test_tensorboard_has_a_curve_for_each_kind(tmp_path):
    run(tmp_path / "run", [one_phase(SPACE, epochs=2, batch_size=32)], supernet=two_stages(), data=DATA)
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    lines = read_lines(tmp_path / "run/metrics.jsonl")
    tags = events.Tags()["scalars"]
    assert {"train/loss", *(f"validation_accuracy/{kind}" for kind in ("smallest", "largest", "random_1"))} <= set(tags)
    for kind in ("smallest", "largest"):
        for name in ("accuracy", "log_loss"):
            found = [(event.step, event.value) for event in events.Scalars(f"validation_{name}/{kind}")]
            assert found == [(line["step"], pytest.approx(line["validation"][kind][name])) for line in lines]
    assert [event.step for event in events.Scalars("train/loss")] == [2, 4]


def test_a_full_disk_is_one_line(tmp_path):
    with records(tmp_path / "run") as kept:
        kept.begin_phase(0, 0.0)
        (tmp_path / "run/metrics.jsonl").mkdir()  # as good a reason as a full disk
        with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: .*; go on with --resume"):
            kept.end_epoch(0, 0, 4, scores(accuracy=0.5), "accuracy")


def test_the_ledger_is_kept(tmp_path):
    with records(tmp_path / "run") as kept:
        kept.end_phase([{"phase": "full", "steps": 3}])
    assert json.loads((tmp_path / "run/ledger.json").read_text()) == [{"phase": "full", "steps": 3}]


# -- what is said ------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def advance(kept, clock, steps=4):
    for _ in range(steps):
        clock(2)
        kept.advance(PHASES[0], 0, share=1 / 16, loss=1.25, images=16)


def test_each_epoch_says_phase_loss_accuracy_speed_and_time_left(tmp_path, clock, capsys):
    """A step of 16 images takes 2 seconds; 4 of 16 steps of a phase with 3/4 of all work are done."""
    with records(tmp_path / "run") as kept:
        kept.begin_phase(0, 0.0)
        advance(kept, clock)
        kept.end_epoch(0, 0, 4, scores(accuracy=0.5), "accuracy")
        said = capsys.readouterr().err
        assert said == "full 1/4  loss 1.250  smallest 0.5000  largest 0.7500  8 images/s  35 s left\n"
        assert kept.minutes() == pytest.approx(8 / 60)  # 75 of 400 parts took 8 s: 325 more take 34.7 s
        clock(30)
        kept.begin_phase(1, 0.0)
        kept.end_epoch(1, 0, 20, {"train_loss": 0.5}, "accuracy")
        assert capsys.readouterr().err.startswith("kernel 1/1  loss 0.500")


def test_a_resumed_run_counts_only_its_own_time(tmp_path, clock, capsys):
    with records(tmp_path / "run") as kept:
        kept.begin_phase(0, 0.5)  # 150 of 400 parts were done before
        advance(kept, clock)  # 75 parts in 8 seconds: 175 more take 18.7
        kept.end_epoch(0, 2, 12, {"train_loss": 1.0}, "accuracy")
    assert capsys.readouterr().err.endswith("19 s left\n")


def test_long_times_are_minutes(tmp_path, clock, capsys):
    with records(tmp_path / "run") as kept:
        kept.begin_phase(0, 0.0)
        clock(600)
        advance(kept, clock)
        kept.end_epoch(0, 0, 4, {"train_loss": 1.0}, "accuracy")
    assert capsys.readouterr().err.endswith("44 min left\n")  # 608 s for 75 parts, 325 are left: 2635 s


def test_on_a_terminal_there_is_a_bar(tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "150")
    with records(tmp_path / "run") as kept:
        kept.begin_phase(0, 0.0)
        kept.end_epoch(0, 0, 4, scores(accuracy=0.5), "accuracy")
        time.sleep(0.01)
        kept.advance(PHASES[0], 1, share=0.5, loss=1.25, images=16)
        [task] = kept.progress.tasks
        assert task.description == "full 2/4" and task.percentage == pytest.approx(100 * 150 / 400)
        shown = task.fields["facts"]
        assert re.fullmatch(r"loss 1\.250  smallest 0\.5000  largest 0\.7500  \d+ images/s  \d+ s left", shown)
    assert "full 2/4" in terminal.getvalue() and "images/s" in terminal.getvalue()


def test_a_line_is_told_plainly(tmp_path, capsys):
    with records(tmp_path / "run") as kept:
        kept.say("[bold]no markup[/bold] " + "x" * 300)
    assert capsys.readouterr().err == "[bold]no markup[/bold] " + "x" * 300 + "\n"
