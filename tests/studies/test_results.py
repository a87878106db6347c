"""Grids are read back as they were written by hand, and damage is told."""

import json

import numpy as np
import pytest

from onceforall.errors import UserError
from onceforall.studies.cells import Cell
from onceforall.studies.ofav2 import SHARED, STEPS
from onceforall.studies.results import Results, Side, read_grid, read_results
from study_runs import grid_row, write_cell, write_grid

ANSWERS = np.arange(12) < 9  # 12 is no multiple of 8: the last byte of the packed bits is not full


def test_a_grid_is_read(tmp_path):
    rows = [
        grid_row("a", 0.75, 0.6, multiplicity=3, height=2, level=7),
        grid_row("b", 0.50, 0.5, height=5, level=7),
        grid_row("c", 0.80, 0.4, height=5, level=1),
        grid_row("d", 0.10, 0.1, height=1, level=1),
    ]
    write_grid(tmp_path, "expand_2", ANSWERS, rows)
    grid = read_grid(tmp_path / "results/grids/expand_2.json")
    assert grid.correct.tolist() == ANSWERS.tolist()
    assert grid.value("chosen") == 0.75
    assert grid.value("best") == 0.80
    assert grid.value("mean") == pytest.approx((3 * 0.75 + 0.5 + 0.8 + 0.1) / 6)
    assert grid.value("shallow") == 0.75  # the best on validation of those below the last stage
    assert grid.value("deepest") == 0.50  # 0.80 is better on test only
    assert grid.by("height") == {1: (0.1, 0.1), 2: (0.75, 0.75), 5: (pytest.approx(0.65), 0.8)}
    assert grid.by("level") == {1: (pytest.approx(0.45), 0.8), 7: (pytest.approx(2.75 / 4), 0.75)}


def test_one_height_has_no_shallow_networks(tmp_path):
    write_grid(tmp_path, "full", ANSWERS)
    grid = read_grid(tmp_path / "results/grids/full.json")
    assert grid.value("shallow") is None
    assert grid.by("level") == {}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:100],
        lambda text: text.replace('"summary"', '"other"'),
        lambda text: text.replace('"correct": "', '"correct": "zz'),
        lambda text: json.dumps({**json.loads(text), "images": {"test": 4}}),  # the answers are not those of the score
    ],
)
def test_damage_is_told(tmp_path, damage):
    write_grid(tmp_path, "full", ANSWERS)
    path = tmp_path / "results/grids/full.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=r"full\.json is damaged"):
        read_grid(path)


def test_numbers_are_found_by_cell_and_step(tmp_path):
    write_cell(tmp_path, Cell("ofa_mbv3", 1.0, "fixed", 0), {"ER": 0.2, "EKS": 0.3, "EW": 0.4})
    write_cell(tmp_path, Cell("ofa_mbv3", 1.0, "fixed", 2), {"ER": 0.3, "EW": 0.6})
    write_cell(tmp_path, Cell("ofa_mbv3", 1.0, "stem", 0), {"ER": 0.9})
    (tmp_path / "logs").mkdir()
    found = read_results(tmp_path, STEPS, SHARED)
    assert found.seeds() == [0, 2]
    assert found.widths() == [1.0]
    assert found.mean(Side("ofa_mbv3", "fixed", 1.0, "EW")) == pytest.approx(0.5)
    assert found.mean(Side("ofa_mbv3", "fixed", 1.0, "EW"), [2]) == pytest.approx(0.6)
    assert found.mean(Side("ofa_mbv3", "fixed", 1.0, "EW", "best")) == pytest.approx(0.51)
    assert found.mean(Side("ofa_mbv3", "fixed", 1.0, "ED")) is None
    assert found.mean(Side("ofa_mbv3", "fixed", 1.2, "EW")) is None
    assert found.mean(Side("ofa_mbv3", "previous_phase", 1.0, "EW")) is None
    # before the teachers differ the other teacher's run is the same one
    assert found.mean(Side("ofa_mbv3", "previous_phase", 1.0, "ER")) == pytest.approx(0.25)


def test_nothing_was_run(tmp_path):
    assert read_results(tmp_path / "absent", STEPS, SHARED) == Results({}, SHARED)
