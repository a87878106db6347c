"""A study of which a part was run, written by hand."""

import numpy as np
import pytest

from onceforall.studies.cells import Cell
from study_runs import grid_row, write_cell, write_grid


@pytest.fixture
def part(tmp_path):
    """The folder of a study with the baseline, the winner and one parallel network at width 1.0."""
    for teacher, gain in (("fixed", 0.0), ("previous_phase", 0.02)):
        write_cell(
            tmp_path, Cell("ofa_mbv3", 1.0, teacher, 0), {"ER": 0.27, "EKS": 0.37, "ED": 0.37, "EW": 0.38 + gain}
        )
        steps = {"ER": 0.17, "EKS": 0.38, "EH": 0.46, "ED": 0.47, "EW": 0.48 + gain}
        write_cell(tmp_path, Cell("ee_d_ofa_mbv3", 1.0, teacher, 0), steps)
    cell = Cell("ee_p_ofa_mbv3", 1.0, "fixed", 0)
    write_cell(tmp_path, cell, {"ER": 0.16, "EKS": 0.37})
    rows = [
        grid_row("a", 0.45, 0.9, height=3, level=7, multiplicity=3),
        grid_row("b", 0.35, 0.8, height=5, level=7),
        grid_row("c", 0.05, 0.1, height=5, level=1),
    ]
    write_grid(tmp_path / cell.name, "expand_2", np.arange(1000) < 450, rows)
    return tmp_path
