"""Predicted beside counted: what stands in the cells, counted by hand, and what is said where it cannot be known."""

from dataclasses import asdict
from itertools import accumulate

import pytest

from onceforall.errors import UserError
from onceforall.report.predictions import prediction_table
from onceforall.report.sections import costs_section
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.training.phases import Phase, Teacher
from report_runs import SPACE

SMALL = SPACE.restrict(depths=(1,), resolutions=(24,))
DEEP = SMALL.extend(depths=(1, 2))
FIELDS = {"epochs": 3, "batch_size": 10, "optimizer": "adam", "sampler": "largest"}
PHASES = [Phase("small", SMALL, **FIELDS), Phase("deep", DEEP, teacher=Teacher("previous_phase"), **FIELDS)]


def described(phases=PHASES, **network):
    given = {"class": "OFAMobileNetV3", "options": {"num_classes": 3}, "space": SMALL.to_dict()} | network
    return {
        "network": given,
        "phases": [phase.to_dict() for phase in phases],
        "options": {"micro_batches": 2},
        "data": {"counts": {"train": 25}},
    }


def entry(name, seconds, **further):
    parts = {"student": 0.75 * seconds, "teacher": 0.25 * seconds, "data": 50.0}
    return {"phase": name, "seconds": parts, "macs": 10**9, "samples": 60, "steps": 6} | further


LEDGER = [entry("small", 1.0, parameter_bytes=7), entry("deep", 3.0, optimizer_bytes=9, activation_bytes=8)]


def values(table, column):
    return [row[column][1] for row in table.rows]


def test_what_is_predicted_and_what_was_counted():
    table = prediction_table(LEDGER, described())
    assert len(table.head) == len(table.rows[0]) == 11
    assert [row[0] for row in table.rows] == ["small", "deep"]
    nets = [OFAMobileNetV3(space, num_classes=3).initialise() for space in (SMALL, DEEP)]
    small, deep = (net.measure(net.space.largest()).macs for net in nets)
    macs = [3 * small * 10 * 2 * 3, (3 * deep + small) * 10 * 2 * 3]  # 2 steps of 10 images in each of 3 epochs
    assert values(table, 1) == macs and values(table, 2) == [10**9] * 2
    assert values(table, 3) == [part / sum(macs) for part in macs] and values(table, 4) == [0.25, 0.75]
    kept = values(table, 5)
    assert 0 < kept[0] < kept[1] and values(table, 6) == ["", 8]
    counts = [4 * sum(parameter.numel() for parameter in net.parameters()) for net in nets]
    assert values(table, 7) == counts and values(table, 8) == [7, ""]
    assert values(table, 9) == [2 * count for count in counts] and values(table, 10) == ["", 9]
    assert list(accumulate(counts, max)) == counts, "the network grows"


def test_phases_that_are_not_done_have_no_row():
    assert [row[0] for row in prediction_table(LEDGER[:1], described()).rows] == ["small"]


def test_what_cannot_be_known_is_said():
    own = described(**{"class": "MyNetwork"})
    taught = described([PHASES[0], Phase("deep", DEEP, teacher=Teacher("gone/teacher.safetensors"), **FIELDS)])
    for run in (own, taught):
        with pytest.raises(UserError):
            prediction_table(LEDGER, run)
        section = costs_section(LEDGER, run)
        assert len(section.tables) == 1 and "not known" in section.notices[-1]
        assert "gone" not in str(asdict(section))
    assert len(costs_section(LEDGER, described()).tables) == 2
