"""Several processes do what one does. Two real ones are started (gloo); the oracle is one process."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from onceforall.errors import UserError
from onceforall.training.checkpoint import load_network
from onceforall.training.distributed import World, connect, pick_device
from onceforall.training.phases import Teacher
from tiny_runs import one_phase, run, striped, two_stages

ALONE = World(0, 1, torch.device("cpu"))


# -- one process -------------------------------------------------------------------------------------------------------


def test_parts_are_shared_whole_and_in_order():
    parts = list("abcdef")
    shared = [World(rank, 3, torch.device("cpu")).share(parts) for rank in range(3)]
    assert shared == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert ALONE.share(parts) == parts
    assert ALONE.is_first and not World(1, 2, torch.device("cpu")).is_first


def test_alone_nothing_is_exchanged():
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.arange(3.0)
    ALONE.sum_gradients([parameter])
    assert torch.equal(parameter.grad, torch.arange(3.0))
    assert ALONE.sum([0.1, 2.0]) == [0.1, 2.0]
    assert ALONE.merge({"a": {"x": 1.0}, "b": {"x": 2.0}}, ["b", "a"]) == {"b": {"x": 2.0}, "a": {"x": 1.0}}
    ALONE.wait()


def test_connecting_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with connect("cpu") as world:
        assert world == ALONE and not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gpu", "not known"), ("mps", "Apple GPU.*'cpu'"), ("meta", "'auto', 'cpu' or 'cuda'"), ("cuda", "no CUDA GPU")],
)
def test_devices_that_are_refused(name, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=expected):
        pick_device(name)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")


# -- two processes -----------------------------------------------------------------------------------------------------

DATA = striped(90)  # 62 images to train: 5 steps an epoch
SPACE = two_stages().space
OPTIONS = {"precision": "fp64", "micro_batches": 2, "validation_images": 8, "calibration_images": 8, "threads": 1}


def phases():
    """50 steps: labels, a fixed teacher, a sandwich; with dropout, augmentation and several sub-networks."""
    fields = {"batch_size": 12, "dropout": 0.3, "learning_rate": 0.05}
    narrow = SPACE.restrict(expand_ratios=(6,))
    return [
        one_phase(narrow, name="full", epochs=4, sampler="largest", **fields),
        one_phase(SPACE, name="taught", epochs=3, subnets_per_step=2, teacher=Teacher("first"), **fields),
        one_phase(
            SPACE,
            name="sandwich",
            epochs=3,
            subnets_per_step=3,
            sampler="sandwich",
            teacher=Teacher("in_place"),
            task_weight=0.0,
            **fields,
        ),
    ]


PROGRAM = """
import os, sys
from pathlib import Path
from test_distributed import DATA, OPTIONS, phases
from tiny_runs import run, two_stages
folder = Path(sys.argv[1])
run(folder, phases(), supernet=two_stages(), data=DATA, max_minutes=0, **OPTIONS)  # stops after its first step
os.environ["MASTER_PORT"] = os.environ["NEXT_PORT"]  # as if the processes had been started again
run(folder, phases(), supernet=two_stages(), data=DATA, resume=True, **OPTIONS)
"""


def two_processes(folder):
    """Train in two processes, which stop once and go on."""
    with socket.socket() as first, socket.socket() as second:
        ports = []
        for free in (first, second):
            free.bind(("127.0.0.1", 0))
            ports.append(str(free.getsockname()[1]))
    path = [os.path.dirname(__file__), *filter(None, sys.path)]
    own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": ports[0], "NEXT_PORT": ports[1], "WORLD_SIZE": "2"}
    own |= {"PYTHONPATH": ":".join(path), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder)],
            env=os.environ | own | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)
    return errors


def test_two_processes_with_one_part_each_are_one_with_two(tmp_path):
    said = two_processes(tmp_path / "two")
    assert "stopped after 0 minutes" in said[0] and "full 4/4" in said[0]
    assert "full" not in said[1] and "stopped" not in said[1], "the second process speaks"
    run(tmp_path / "one", phases(), supernet=two_stages(), data=DATA, **OPTIONS)
    assert sum(entry["steps"] for entry in json.loads((tmp_path / "one/ledger.json").read_text())) == 50
    name = "checkpoints/3-sandwich-last.safetensors"
    one, two = (load_network(tmp_path / folder / name) for folder in ("one", "two"))
    start = two_stages().double()
    apart, moved = 0.0, 0.0
    for own, other, before in zip(
        *(list(net.requires_grad_(False).parameters()) for net in (one, two, start)), strict=True
    ):
        apart = max(apart, float((own - other).abs().max()))
        moved = max(moved, float((own - before).abs().max()))
    assert apart <= 1e-9, f"parameters differ by {apart:.2g}"
    assert moved > 0.1
    print(f"two processes and one differ by at most {apart:.2g} after 50 steps; parameters moved by up to {moved:.2g}")
    lines = [
        [json.loads(line) for line in (tmp_path / f / "metrics.jsonl").read_text().splitlines()] for f in ("one", "two")
    ]
    for line, other in zip(*lines, strict=True):
        assert line["train_loss"] == pytest.approx(other["train_loss"], rel=1e-9)
        assert list(line.get("validation", {})) == list(other.get("validation", {}))
        assert (line["step"], line["epoch"], line["phase"]) == (other["step"], other["epoch"], other["phase"])
