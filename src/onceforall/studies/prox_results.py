"""What the runs of the ProX study measured: their comparisons, by data set and seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from onceforall.errors import UserError
from onceforall.studies.prox import DATA_SETS

__all__ = ["ProxNumber", "ProxResults", "Quantity", "comparison_folder", "read_prox_results"]

Quantity = Literal["score", "seconds", "learning_seconds", "macs"]
"""Mean score over the sub-networks on test; time of training, all of it; that of students and teachers; their
multiply-adds."""


@final
@dataclass(frozen=True)
class ProxNumber:
    """One number of the study."""

    data: str
    run: str
    quantity: Quantity


def comparison_folder(folder: Path, data: str, seed: int) -> Path:
    """Where the runs of a data set and seed are compared."""
    return folder / f"comparison-{data}-s{seed}"


@final
@dataclass(frozen=True)
class ProxResults:
    """All comparisons of a study.

    Args:
        comparisons: (data set, seed) -> what `compare_runs` found there, runs by the names of `METHODS`.
    """

    comparisons: Mapping[tuple[str, int], Mapping[str, Any]]

    def of(self, data: str) -> dict[int, Mapping[str, Any]]:
        """Seed -> comparison of a data set."""
        return {seed: contents for (name, seed), contents in self.comparisons.items() if name == data}

    def runs(self, data: str) -> list[str]:
        """Runs of a data set of any seed, those of many networks first."""
        return list(dict.fromkeys(run["name"] for contents in self.of(data).values() for run in contents["runs"]))

    def values(self, number: ProxNumber) -> dict[int, float]:
        """Seed -> the number, where it was measured."""
        out = {}
        for seed, contents in self.of(number.data).items():
            for row in _rows(contents, number.quantity):
                if row["name"] == number.run:
                    out[seed] = row["value"]
        return out

    def mean(self, number: ProxNumber) -> float | None:
        """The number, averaged over the seeds; None where nothing was run."""
        values = list(self.values(number).values())
        return float(np.mean(values)) if values else None

    def answers(self, data: str, run: str, seeds: Sequence[int]) -> NDArray[np.float64] | None:
        """(seeds, images) each test image's score, a mean over the sub-networks; None where they are not known."""
        found = [(self.of(data)[seed]["answers"] or {}).get(run) for seed in seeds]
        known = [np.asarray(row, np.float64) for row in found if row is not None]  # a score that is none is nan
        same = len(known) == len(found) and len({len(row) for row in known}) == 1
        return np.stack(known) if same else None


def _rows(contents: Mapping[str, Any], quantity: Quantity) -> list[dict[str, Any]]:
    """Name and value of each run that has such a number; a single network's score is its own."""
    if quantity == "score":
        rows = [*contents["overall"], *(single["rows"][0] for single in contents["singles"])]
        return [{"name": row["run"], "value": row["score"]} for row in rows]
    out = []
    for run in contents["runs"]:
        seconds = run["seconds"]
        values = {"macs": run["macs"], "seconds": seconds["total"]}
        values["learning_seconds"] = seconds["student"] + seconds["teacher"]
        out.append({"name": run["name"], "value": values[quantity]})
    return out


def read_prox_results(folder: Path) -> ProxResults:
    """Everything compared so far in the folder of a study. Raises `UserError` where a file is damaged."""
    found = {}
    for data in DATA_SETS:
        for path in sorted(folder.glob(f"{comparison_folder(folder, data, 0).name[:-1]}*/comparison.json")):
            seed = path.parent.name.rpartition("s")[2]
            try:
                found[data, int(seed)] = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise UserError(
                    f"{path} is damaged ({error}); remove it, and the same command makes it anew."
                ) from error
    return ProxResults(dict(sorted(found.items(), key=lambda item: (list(DATA_SETS).index(item[0][0]), item[0][1]))))
