"""A run that was interrupted anywhere and resumed leaves, bit for bit, what an undisturbed run leaves.

Oracle: the undisturbed run. Interrupted are calls of the loop at chosen moments, by an exception that nothing catches,
which leaves the folder as a killed process does; one test kills a process in earnest (benchmarks/kill_and_resume.py
does it at random moments).
"""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from onceforall.errors import UserError
from onceforall.evaluation.tasks import classification
from onceforall.training import checkpoint, loop
from onceforall.training.phases import Teacher
from onceforall.training.records import Records
from onceforall.training.schedules import progressive_shrinking
from onceforall.training.validation import Validator
from tiny_runs import ROWS, one_phase, run, striped, two_stages

SPACE = two_stages(depths=(1,)).space
QUICK = {"random_validation": 0, "validation_images": 8, "calibration_images": 8, "checkpoint_every": 2}
DATA = striped(60)  # 42 images to train: 3 steps an epoch


def supernet():
    return two_stages(depths=(1,))


def shrinking():
    """SGD through three phases with a teacher from the first one, channels sorted twice: 12 steps."""
    space = SPACE.restrict(kernel_sizes=(3,))
    return [replace(phase, batch_size=14, dropout=0.3) for phase in progressive_shrinking(space, rows=ROWS)]


def carrying():
    """Adam through three phases that hand on its moments, with a sandwich in turn: 12 steps."""
    fields = {"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 14, "dropout": 0.3, "optimizer_state": "carry"}
    narrow = SPACE.restrict(expand_ratios=(4, 6))
    return [
        one_phase(narrow, name="first", **fields, epochs=2, kernel_matrices="no_decay"),
        one_phase(narrow, name="next", **fields, teacher=Teacher("previous_phase"), start_from="last"),
        one_phase(SPACE, name="turn", **fields, teacher=Teacher("in_place"), sampler="sandwich_in_turn"),
    ]


SCHEDULES = {"shrinking": shrinking, "carrying": carrying}
ENTRIES = {"shrinking": 4, "carrying": 4}  # lines of metrics


def left_by(folder: Path) -> dict:
    """Everything that must be the same, times left out."""
    state, notice = checkpoint.read_state(folder / "checkpoints")
    assert not notice
    for entry in state.pop("ledger"):
        del entry["seconds"], entry["phase"]
    return {
        "state": state,
        "metrics": (folder / "metrics.jsonl").read_bytes(),
        "networks": {  # not their bytes: safetensors writes its metadata in no fixed order
            path.name: {"tensors": load_file(path), "info": checkpoint.read_info(path)}
            for path in sorted((folder / "checkpoints").glob("*.safetensors"))
        },
        "others": sorted(path.name for path in folder.rglob("*") if "tfevents" not in path.name),
        "work": [
            {name: entry[name] for name in ("phase", "samples", "macs", "steps")}
            for entry in json.loads((folder / "ledger.json").read_text())
        ],
    }


def check_same(one, other, place=""):
    """Bit for bit, through dictionaries and lists."""
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert list(one) == list(other), place
        for name in one:
            check_same(one[name], other[name], f"{place}.{name}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other) and one.dtype == other.dtype, place
    else:
        assert one == other, place


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What each schedule leaves when nothing happens, and the returned weights."""
    found = {}
    for name, phases in SCHEDULES.items():
        folder = tmp_path_factory.mktemp("undisturbed") / name
        trained = run(folder, phases(), supernet=supernet(), data=DATA, **QUICK)
        found[name] = left_by(folder), {key: tensor.clone() for key, tensor in trained.state_dict().items()}
        assert len(found[name][0]["metrics"].splitlines()) == ENTRIES[name]
        assert sum(entry["steps"] for entry in found[name][0]["work"]) == 12
    return found


class Kill(BaseException):
    """What no code catches."""


def interrupt(monkeypatch, owner, name, at_call, after=False):
    """Raise in the given call of `owner.name`, before or after it did its work."""
    own = getattr(owner, name)
    calls = []

    def interrupted(*arguments, **keywords):
        calls.append(1)
        if len(calls) == at_call and not after:
            raise Kill
        result = own(*arguments, **keywords)
        if len(calls) == at_call:
            raise Kill
        return result

    monkeypatch.setattr(owner, name, interrupted)


MOMENTS = {
    "in the first step, before any state": (Records, "advance", 1),
    "in the first epoch": (Records, "advance", 3),
    "in a later phase": (Records, "advance", 8),
    "before a validation": (Validator, "validate", 2),
    "before the best weights are written": (loop, "save_network", 2),
    "after the best weights, before the line": (Records, "end_epoch", 2),
    "after the line of an epoch, before its state": (Records, "end_epoch", 3, True),
    "before a state within an epoch": (loop, "write_state", 3),
    "after a state at the end of a phase": (loop, "write_state", 4, True),
    "at the end of a phase": (Records, "end_phase", 1),
    "while a teacher is read": (loop, "load_network", 2),
    "at the very end": (Records, "end_phase", 3, True),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch, undisturbed, schedule, moment):
    if schedule == "carrying" and moment == "while a teacher is read":
        moment_of = (loop, "load_network", 1)
    else:
        moment_of = MOMENTS[moment]
    phases = SCHEDULES[schedule]()
    with monkeypatch.context() as patch:
        interrupt(patch, *moment_of)
        with pytest.raises(Kill):
            run(tmp_path / "run", phases, supernet=supernet(), data=DATA, **QUICK)
    trained = run(tmp_path / "run", phases, supernet=supernet(), data=DATA, resume=True, **QUICK)
    files, weights = undisturbed[schedule]
    check_same(left_by(tmp_path / "run"), files)
    check_same(dict(trained.state_dict()), weights)


def test_several_interruptions(tmp_path, monkeypatch, undisturbed):
    for number in range(4):
        with monkeypatch.context() as patch:
            interrupt(patch, Records, "advance", 2 + number)
            with pytest.raises(Kill):
                run(tmp_path / "run", carrying(), supernet=supernet(), data=DATA, resume=number > 0, **QUICK)
    run(tmp_path / "run", carrying(), supernet=supernet(), data=DATA, resume=True, **QUICK)
    check_same(left_by(tmp_path / "run"), undisturbed["carrying"][0])


def test_a_finished_run_is_not_trained_again(tmp_path, undisturbed, monkeypatch):
    run(tmp_path / "run", shrinking(), supernet=supernet(), data=DATA, **QUICK)
    monkeypatch.setattr(Records, "advance", None)
    trained = run(tmp_path / "run", shrinking(), supernet=supernet(), data=DATA, resume=True, **QUICK)
    check_same(left_by(tmp_path / "run"), undisturbed["shrinking"][0])
    check_same(dict(trained.state_dict()), undisturbed["shrinking"][1])


def test_a_run_that_ended_goes_on_with_more_phases(tmp_path, undisturbed):
    """As if all had been asked for at once; the phases it had must be the same, what made them need not be."""
    phases = shrinking()

    def part(count, folder, name, resume=True, given=phases):
        settings = {"recipe": {"name": name, "schedule": {"rows": name}, "phases": {name: 1}}}
        return run(folder, given[:count], supernet=supernet(), data=DATA, settings=settings, resume=resume, **QUICK)

    part(1, tmp_path / "run", "short", resume=False)
    part(2, tmp_path / "run", "longer")
    shutil.copytree(tmp_path / "run", tmp_path / "branch")
    trained = part(3, tmp_path / "run", "whole")
    found, expected = left_by(tmp_path / "run"), undisturbed["shrinking"][0]
    check_same(found, expected)
    check_same(dict(trained.state_dict()), undisturbed["shrinking"][1])
    kept = json.loads((tmp_path / "run/run.json").read_text())
    assert [phase["name"] for phase in kept["phases"]] == [phase.name for phase in phases]
    assert kept["settings"]["recipe"]["name"] == "whole"
    before = (tmp_path / "branch/run.json").read_text()
    with pytest.raises(UserError, match=r"phases\.1\.learning_rate"):
        part(3, tmp_path / "branch", "other", given=[phases[0], replace(phases[1], learning_rate=0.5), phases[2]])
    with pytest.raises(UserError, match=r"phases\.1\..* before, absent now"):
        part(1, tmp_path / "branch", "shorter")
    assert (tmp_path / "branch/run.json").read_text() == before


def test_time_that_is_over_stops_after_each_step(tmp_path, undisturbed, capsys):
    """`max_minutes=0` makes one step at a time, also where it is the last one of an epoch or a phase."""
    folder = tmp_path / "run"
    for number in range(12):
        run(folder, shrinking(), supernet=supernet(), data=DATA, resume=number > 0, max_minutes=0, **QUICK)
        assert "stopped after 0 minutes as asked; go on with --resume" in capsys.readouterr().err or number == 11
    check_same(left_by(folder), undisturbed["shrinking"][0])


# -- the middle of writing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resume.pt", ".resume.previous.pt", "1-full-best.safetensors", "run.json"])
def test_killed_in_the_middle_of_writing_a_file(tmp_path, monkeypatch, undisturbed, name):
    """Half of the bytes are in the draft, and the draft stays: what kill -9 leaves behind."""
    replace_file, fsync = os.replace, os.fsync
    folder = tmp_path / "run"

    def halved(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.name.startswith(f".{name.strip('.')}."):
            os.ftruncate(descriptor, path.stat().st_size // 2)
            raise Kill
        fsync(descriptor)

    def stopped(source, target):
        if name.strip(".") == Path(target).name == "resume.previous.pt":
            raise Kill
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", halved)
        patch.setattr(os, "replace", stopped)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # a killed process does not tidy up
        with pytest.raises(Kill):
            run(folder, shrinking(), supernet=supernet(), data=DATA, **QUICK)
    run(folder, shrinking(), supernet=supernet(), data=DATA, resume=True, **QUICK)
    found = left_by(folder)
    found["others"] = [other for other in found["others"] if not other.startswith(".run.json.")]
    check_same(found, undisturbed["shrinking"][0])


def stopped_run(folder, **options):
    """A run of one phase that was stopped after four of six steps, with two states in it."""
    phase = one_phase(SPACE, epochs=2, batch_size=14)
    options = QUICK | {"checkpoint_every": 1} | options
    task = classification()
    calls = []

    def loss(outputs, labels):
        calls.append(1)
        if len(calls) == 5:
            raise Kill
        return task.loss(outputs, labels)

    with pytest.raises(Kill):
        run(folder, [phase], supernet=supernet(), data=DATA, task=replace(task, loss=loss), **options)
    return phase


@pytest.mark.parametrize("size", [0, 1, 1000, -1])
def test_a_truncated_state_falls_back_to_the_one_before_and_says_so(tmp_path, capsys, size):
    phase = stopped_run(tmp_path / "run")
    whole = run(tmp_path / "whole", [phase], supernet=supernet(), data=DATA, **QUICK)
    path = tmp_path / "run/checkpoints/resume.pt"
    assert torch.load(path, weights_only=True)["step"] == 4
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    capsys.readouterr()
    resumed = run(
        tmp_path / "run", [phase], supernet=supernet(), data=DATA, resume=True, **QUICK | {"checkpoint_every": 1}
    )
    said = capsys.readouterr().err
    assert "resume.pt is truncated or damaged" in said and "going on from the state before it" in said
    check_same(dict(resumed.state_dict()), dict(whole.state_dict()))
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("run", "whole")]
    assert metrics[0] == metrics[1]


def test_two_truncated_states_are_an_error(tmp_path):
    phase = stopped_run(tmp_path / "run")
    for name in ("resume.pt", "resume.previous.pt"):
        os.truncate(tmp_path / "run/checkpoints" / name, 100)
    with pytest.raises(UserError, match="no readable state to resume from"):
        run(tmp_path / "run", [phase], supernet=supernet(), data=DATA, resume=True, **QUICK)


class Evil:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("written", ["torch", "pickle"])
def test_a_state_that_holds_code_is_not_opened(tmp_path, written):
    phase = stopped_run(tmp_path / "run")
    trap = tmp_path / "executed"
    for name in ("resume.pt", "resume.previous.pt"):
        path = tmp_path / "run/checkpoints" / name
        if written == "torch":
            torch.save({"step": Evil(trap)}, path)
        else:
            path.write_bytes(pickle.dumps({"step": Evil(trap)}))
    with pytest.raises(UserError, match=r"resume.*\.pt.*(not opened|no readable state|damaged)"):
        run(tmp_path / "run", [phase], supernet=supernet(), data=DATA, resume=True, **QUICK)
    assert not trap.exists()
    torch.load(path, weights_only=False) if written == "torch" else pickle.loads(path.read_bytes())
    assert trap.exists(), "the trap does not work: the test would always pass"


# -- what must be the same ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"phase": {"learning_rate": 0.5}}, r"phases\.0\.learning_rate: 0\.05 before, 0\.5 now"),
        ({"phase": {"epochs": 9}}, r"phases\.0\.epochs: 2 before, 9 now"),
        ({"phase": {"teacher": Teacher("in_place")}}, r"phases\.0\.teacher\.source: none before, in_place now"),
        ({"options": {"seed": 1}}, r"options\.seed: 0 before, 1 now"),
        ({"options": {"micro_batches": 2}}, r"options\.micro_batches: 1 before, 2 now"),
        ({"data": striped(60, seed=1)}, r"data\.fingerprint"),
        (
            {"settings": {"recipe": {"task": {"temperature": 2}}}},
            r"settings\.recipe\.task\.temperature: 1 before, 2 now",
        ),
        ({"supernet": two_stages(depths=(1,), dropout=0.2)}, r"network\.options\.dropout"),
    ],
)
def test_another_run_cannot_go_on_here(tmp_path, change, expected):
    settings = {"recipe": {"task": {"temperature": 1}, "run": {"max_minutes": 1}, "data": {"path": "there"}}}
    phase = stopped_run(tmp_path / "run") if "settings" not in change else None
    if phase is None:
        phase = one_phase(SPACE, epochs=2, batch_size=14)
        run(tmp_path / "run", [phase], supernet=supernet(), data=DATA, settings=settings, **QUICK)
    with pytest.raises(UserError, match=expected) as error:
        run(
            tmp_path / "run",
            [replace(phase, **change.get("phase", {}))],
            supernet=change.get("supernet") or supernet(),
            data=change.get("data") or DATA,
            settings=change.get("settings"),
            resume=True,
            **(QUICK | change.get("options", {})),
        )
    assert "cannot go on" in str(error.value) and "\n" not in str(error.value)


def test_what_does_not_change_the_result_may_change(tmp_path):
    phase = one_phase(SPACE, epochs=1, batch_size=14)

    def settings(minutes, path):
        return {"recipe": {"run": {"max_minutes": minutes, "threads": minutes}, "data": {"path": path}}}

    run(tmp_path / "run", [phase], supernet=supernet(), data=DATA, settings=settings(0, "here"), max_minutes=0, **QUICK)
    options = QUICK | {"checkpoint_every": 1, "threads": 1}
    run(
        tmp_path / "run",
        [phase],
        supernet=supernet(),
        data=DATA,
        settings=settings(None, "there"),
        resume=True,
        **options,
    )
    assert (tmp_path / "run/checkpoints/1-only-last.safetensors").is_file()


# -- in earnest --------------------------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys
from pathlib import Path
from onceforall.training.records import Records
from tiny_runs import one_phase, run, two_stages
end_epoch = Records.end_epoch
def killed(self, index, epoch, *rest):
    end_epoch(self, index, epoch, *rest)
    if epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
Records.end_epoch = killed
phases = [one_phase(two_stages().space, epochs=3, batch_size=32)]
run(Path(sys.argv[1]), phases, supernet=two_stages(), random_validation=0)
"""


def test_a_process_that_is_killed(tmp_path):
    """SIGKILL after the line of the second epoch was written and before its state."""
    environment = os.environ | {"PYTHONPATH": ":".join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "run"], env=environment, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    phases = [one_phase(two_stages().space, epochs=3, batch_size=32)]
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 2
    run(tmp_path / "run", phases, supernet=two_stages(), random_validation=0, resume=True)
    run(tmp_path / "whole", phases, supernet=two_stages(), random_validation=0)
    check_same(left_by(tmp_path / "run"), left_by(tmp_path / "whole"))
