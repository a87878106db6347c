"""What the runs of a study measured: the grids in their folders, by cell and step."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from onceforall.errors import UserError
from onceforall.evaluation.result_cache import unpack_scores
from onceforall.studies.cells import Cell, cells_in, last_phases

__all__ = ["Grid", "Results", "Side", "Value", "read_grid", "read_results"]

Value = Literal["chosen", "mean", "best", "shallow", "deepest"]
"""Test accuracy of the network that is best on validation ("chosen"; "shallow" among those that end before the last
stage, "deepest" among those that do not), the mean of the grid, and its best on test, which is too good to be true."""


@final
@dataclass(frozen=True)
class Side:
    """One number of a table: a step of the runs of a network, teacher and width, and what is asked of its grid."""

    network: str
    teacher: str
    width: float
    step: str
    value: Value = "chosen"


@final
@dataclass(frozen=True)
class Grid:
    """The sub-networks measured after one phase. Accuracies are shares.

    Args:
        rows: of the file.
        metric: which number of a row is meant.
        mean: on test, weighted by multiplicity.
        best: on test.
        chosen: on test, of the best on validation.
        correct: (images,) whether that one answers each test image rightly.
    """

    rows: Sequence[Mapping[str, Any]]
    metric: str
    mean: float
    best: float
    chosen: float
    correct: NDArray[np.bool_]

    def value(self, name: Value) -> float | None:
        """One number of the grid; None where it has no such network."""
        if name in ("mean", "best", "chosen"):
            return {"mean": self.mean, "best": self.best, "chosen": self.chosen}[name]
        heights = [row["height"] for row in self.rows]
        members = [row for row in self.rows if (row["height"] == max(heights)) == (name == "deepest")]
        if not members or min(heights) == max(heights):
            return None
        return max(members, key=lambda row: (row["validation"][self.metric], -row["macs"]))["test"][self.metric]

    def by(self, factor: str) -> dict[Any, tuple[float, float]]:
        """Mean and best on test for each value of a column of the rows; None is left out."""
        groups: dict[Any, list[Mapping[str, Any]]] = {}
        for row in self.rows:
            if row.get(factor) is not None:
                groups.setdefault(row[factor], []).append(row)
        out = {}
        for value, members in sorted(groups.items()):
            scores = [row["test"][self.metric] for row in members]
            out[value] = (float(np.average(scores, weights=[row["multiplicity"] for row in members])), max(scores))
        return out


def read_grid(path: Path) -> Grid:
    """The grid of a file that `evaluate_grid` wrote. Raises `UserError` where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        summary, chosen, metric = found["summary"], found["summary"]["chosen"], found["metric"]
        correct = unpack_scores(chosen["correct"], found["images"]["test"])
        score = _score(chosen["test"], metric)
        if abs(correct.mean() - score) > 1e-6:
            raise ValueError(f"{correct.mean()} of the answers are right and the accuracy is {score}")
        test = summary["test"]
        mean, best = (_score(test[name], metric) for name in ("mean", "best"))
        return Grid(found["rows"], metric, mean, best, score, correct)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it, and it is measured again.") from error


def _score(value: Any, metric: str) -> float:
    return float(value[metric] if isinstance(value, Mapping) else value)


@final
@dataclass(frozen=True)
class Results:
    """All grids of a study, by cell and step.

    Args:
        grids: cell -> step -> grid.
        shared: steps that are the same for every teacher; there the runs of any of them will do.
    """

    grids: Mapping[Cell, Mapping[str, Grid]]
    shared: Sequence[str] = ()

    def of(self, side: Side) -> dict[int, Grid]:
        """Seed -> the grid from which the number is taken."""
        out = {}
        for cell, steps in sorted(self.grids.items()):
            own = cell.teacher == side.teacher or side.step in self.shared
            if own and (cell.network, cell.width) == (side.network, side.width) and side.step in steps:
                out[cell.seed] = steps[side.step]
        return out

    def mean(self, side: Side, seeds: Sequence[int] | None = None) -> float | None:
        """The number, averaged over the seeds; None where nothing was run."""
        grids = self.of(side)
        values = [grid.value(side.value) for seed, grid in grids.items() if seeds is None or seed in seeds]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known and len(known) == len(values) else None

    def widths(self) -> list[float]:
        """Widths of which something was run."""
        return sorted({cell.width for cell, steps in self.grids.items() if steps})

    def seeds(self) -> list[int]:
        """Seeds of which something was run."""
        return sorted({cell.seed for cell, steps in self.grids.items() if steps})


def read_results(folder: Path, steps: Mapping[str, str], shared: Sequence[str]) -> Results:
    """Everything measured so far in the folder of a study; `steps` and `shared` as in `study_jobs`."""
    grids: dict[Cell, dict[str, Grid]] = {}
    for cell in cells_in(folder):
        run = folder / cell.name
        if not (run / "run.json").is_file():
            continue
        names = [phase["name"] for phase in json.loads((run / "run.json").read_text())["phases"]]
        files = {step: run / "results" / "grids" / f"{name}.json" for step, name in last_phases(names, steps).items()}
        grids[cell] = {step: read_grid(path) for step, path in files.items() if path.is_file()}
    return Results(grids, tuple(shared))
