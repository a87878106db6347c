"""What early exits of a run are worth: costs, answers of all exits, the curve and its competitors."""

import csv
import json

import numpy as np
import pytest
import torch

from exit_runs import exit_run
from onceforall.deploying.exit_curve import (
    exit_curve,
    measure_exits,
    point_row,
    single_rows,
    with_all_exits,
    write_curve,
)
from onceforall.errors import UserError
from onceforall.evaluation.cost import cost
from onceforall.evaluation.evaluate import evaluate
from onceforall.runs import open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return open_run(exit_run(tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture(scope="module")
def measured(run):
    return measure_exits(run, with_all_exits(run, run.supernet.space.largest()))


def test_costs_add_up_to_those_of_whole_networks(run, measured):
    architecture, costs = measured.architecture, measured.costs
    assert architecture.exits == (1, 3, 5)
    assert costs.whole() == cost(run.supernet, architecture).macs
    for row, number in zip(single_rows(measured), architecture.exits, strict=True):
        alone = type(architecture)(16, architecture.stages[:number])
        assert row["macs"] == cost(run.supernet, alone).macs


def test_each_exit_answers_as_the_network_that_ends_there(run, measured):
    architecture = measured.architecture
    alone = [type(architecture)(16, architecture.stages[:number]) for number in architecture.exits]
    found = evaluate(run.supernet, alone, run.task, run.data, split="test", calibration_images=64)
    assert [row["test"] for row in single_rows(measured)] == pytest.approx([e.metrics["accuracy"] for e in found])
    assert measured.test.images == run.data.count("test") == len(found[0].correct)
    np.testing.assert_array_equal(measured.test.correct[1], found[1].correct)


def test_the_curve_is_written_with_fair_competitors(run, measured, tmp_path):
    points = exit_curve(run, measured)
    rows = [point_row(point) for point in points]
    assert [row["validation_macs"] for row in rows] == sorted(row["validation_macs"] for row in rows)
    compared = [row for row in rows if row["rival"] is not None]
    assert compared and all(row["rival_macs"] <= row["validation_macs"] for row in compared)
    assert all(
        row["gain_low"] <= row["test_accuracy"] - row["rival_test_accuracy"] <= row["gain_high"] for row in compared
    )
    assert all(row["latency_ms"] > 0 for row in rows)
    files = {file.name for file in write_curve(measured, points, tmp_path)}
    assert {"curve.csv", "curve.json", "curve.png", "curve.svg"} == files
    with (tmp_path / "curve.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(points)
    assert len(json.loads((tmp_path / "curve.json").read_text())["points"]) == len(points)


def test_networks_without_early_exits_are_refused(run):
    with pytest.raises(UserError, match="it has one exit; early exits need a network such as"):
        with_all_exits(run, type(run.supernet.space.largest())(16, run.supernet.space.largest().stages[:1]))
    chosen = type(run.supernet.space.largest())(16, run.supernet.space.largest().stages, exits=(1, 5))
    assert with_all_exits(run, chosen) is chosen
    assert torch.get_num_threads() == 1
