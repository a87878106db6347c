"""The ledger: its seconds are all the time there was; multiply-adds and bytes as counted by hand."""

import json
import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from onceforall.training import ledger as module
from onceforall.training.ledger import BACKWARD_FACTOR, PARTS, Ledger, bytes_kept_for_backward
from onceforall.training.phases import Teacher
from tiny_runs import one_phase, run, striped, two_stages

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still until it is moved."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_every_second_goes_to_one_part(clock):
    ledger = Ledger(CPU)
    clock(5)  # before the phase
    ledger.begin_phase("full")
    clock(1)
    with ledger.time("data"):
        clock(2)
    with ledger.time("validation"):
        clock(4)
        with ledger.time("calibration"):  # a part within a part is taken out of it
            clock(8)
        clock(16)
    with pytest.raises(ZeroDivisionError), ledger.time("student"):
        clock(32)
        raise ZeroDivisionError
    clock(64)
    ledger.end_phase()
    [entry] = ledger.entries
    # what went before an inner part began is settled as "other": 1 + 4 + 64
    expected = {"data": 2, "calibration": 8, "validation": 16, "student": 32, "other": 69}
    assert entry["seconds"] == dict.fromkeys(PARTS, 0.0) | expected
    assert sum(entry["seconds"].values()) == 127


def test_phases_have_entries_of_their_own_and_an_interrupted_one_goes_on(clock):
    first = Ledger(CPU)
    first.begin_phase("full")
    first.count(samples=64, macs=1000)
    with first.time("student"):
        clock(3)
    resumed = Ledger(CPU)
    resumed.entries = json.loads(json.dumps(first.entries))
    resumed.begin_phase("full")
    resumed.count(samples=64, macs=500)
    with resumed.time("student"):
        clock(4)
    resumed.end_phase()
    resumed.begin_phase("kernel")
    resumed.note(activation_bytes=7)
    assert [entry["phase"] for entry in resumed.entries] == ["full", "kernel"]
    full, kernel = resumed.entries
    assert (full["samples"], full["macs"], full["steps"], full["seconds"]["student"]) == (128, 1500, 2, 7.0)
    assert full["peak_memory_bytes"] > 10**7 and kernel["activation_bytes"] == 7 and kernel["steps"] == 0


def test_energy_is_read_often_enough_and_summed(clock, monkeypatch):
    readings = []
    monkeypatch.setattr(module, "energy_joules_counter", lambda: lambda: readings.append(1) or 10.0 * len(readings))
    ledger = Ledger(CPU)
    ledger.begin_phase("full")
    for _ in range(5):
        clock(module.METER_SECONDS + 1)
        ledger.count(1, 1)
    clock(1)
    ledger.count(1, 1)  # too soon
    assert len(readings) == 5 and ledger.entries[0]["joules"] == 50
    ledger.end_phase()
    ledger.begin_phase("kernel")
    ledger.end_phase()
    assert [entry["joules"] for entry in ledger.entries] == [60, 10]


def test_a_run_accounts_for_its_time_and_its_work(tmp_path, monkeypatch):
    """Two steps of 20 images: the largest alone; then two sub-networks, taught by the largest."""
    supernet, data = two_stages(), striped(60)
    space = supernet.space.restrict(resolutions=(16,))
    small = space.restrict(kernel_sizes=(3,), depths=(1,), expand_ratios=(3,))
    phases = [
        one_phase(space, name="full", sampler="largest", batch_size=20),
        one_phase(small, name="small", subnets_per_step=2, batch_size=20, teacher=Teacher("first")),
    ]
    moments = []
    for name in ("begin_phase", "end_phase"):
        own = getattr(Ledger, name)
        noted = lambda *arguments, own=own: (moments.append(time.perf_counter()), own(*arguments))  # noqa: E731
        monkeypatch.setattr(Ledger, name, noted)
    run(tmp_path / "run", phases, supernet=supernet, data=data)
    wall = moments[-1] - moments[0]
    full, taught = json.loads((tmp_path / "run/ledger.json").read_text())
    big, little = (supernet.measure(architecture).macs for architecture in (space.largest(), small.largest()))
    assert (full["samples"], full["steps"], full["macs"]) == (40, 2, 40 * 3 * big)
    assert (taught["samples"], taught["steps"], taught["macs"]) == (40, 2, 40 * (2 * 3 * little + big))
    assert BACKWARD_FACTOR == 3
    seconds = {part: full["seconds"][part] + taught["seconds"][part] for part in PARTS}
    assert sum(seconds.values()) == pytest.approx(wall, rel=0.02)
    assert all(seconds[part] > 0 for part in ("student", "data", "validation", "calibration", "checkpoint"))
    assert full["seconds"]["teacher"] < 0.1 * taught["seconds"]["teacher"]
    assert full["activation_bytes"] > taught["activation_bytes"] > 0


# -- memory ------------------------------------------------------------------------------------------------------------


def kept(function):
    with bytes_kept_for_backward() as total:
        function()
    return total[0]


IMAGES = torch.ones(2, 4, 6, 6, requires_grad=True)  # 2 * 4 * 6 * 6 * 4 = 1152 bytes
ROWS = torch.ones(5, 8, requires_grad=True)  # 160 bytes
WEIGHT, BIAS = nn.Parameter(torch.ones(3, 8)), nn.Parameter(torch.ones(3))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda: ROWS * ROWS, 160),  # the same memory twice
        (ROWS.exp, 160),  # its result
        (lambda: ROWS.exp().exp(), 320),
        (ROWS.sum, 0),
        (lambda: ROWS.detach() + 1, 0),
        (lambda: F.linear(ROWS, WEIGHT, BIAS), 160),  # the input; the weight is a parameter, also transposed
        (lambda: F.linear(ROWS[:, :4], WEIGHT[:, :4]), 160),  # slices: the whole input, no parameter
        (lambda: F.linear(ROWS.detach(), WEIGHT.detach()), 0),
        (lambda: F.linear(ROWS, 2 * WEIGHT), 160 + 96),  # a weight that was made is kept
        (lambda: F.relu(F.conv2d(IMAGES, torch.ones(4, 4, 1, 1))), 1152 + 64 + 1152),
        (lambda: F.conv2d(IMAGES, nn.Parameter(torch.ones(4, 1, 5, 5))[:, :, 1:4, 1:4], padding=1, groups=4), 1152),
        (lambda: F.hardswish(IMAGES), 1152),
    ],
)
def test_bytes_kept_by_hand(function, expected):
    assert kept(function) == expected


def test_counting_ends_with_the_body():
    with bytes_kept_for_backward() as total:
        ROWS.exp()
    ROWS.exp()
    assert total == [160]


def test_frozen_parameters_are_told_by_their_memory():
    weight = nn.Parameter(torch.ones(3, 8))
    for known, expected in (((), 96), ((weight,), 0)):
        with bytes_kept_for_backward(known) as total:
            F.linear(ROWS, weight.detach())
        assert total == [expected]
    with bytes_kept_for_backward() as total:
        F.linear(ROWS.to("meta"), nn.Parameter(torch.ones(3, 8, device="meta"))).relu()
    assert total == [160 + 60]
