"""Folders of a study written by hand: grids with made-up accuracies, so that a test knows what has to come out."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from onceforall.studies.cells import Cell, last_phases
from onceforall.studies.ofav2 import STEPS

PHASES = {
    "se": ["full", "kernel", "depth_1", "depth_2", "expand_1", "expand_2"],
    "p": ["level_1", "level_2"],
    "ee": ["height_1", "height_2", "height_3", "height_4"],
}


def phases_of(network: str) -> list[str]:
    """Those of the paper's Table III that a network has."""
    names = PHASES["se"][:2] + (PHASES["p"] if "p_ofa" in network else [])
    return names + (PHASES["ee"] if network.startswith("ee") else []) + PHASES["se"][2:]


def write_grid(run: Path, phase: str, answers: np.ndarray, rows: list[dict[str, Any]] | None = None) -> None:
    """A grid of three networks, or of `rows`; the best on validation answers test images as `answers` say."""
    accuracy = float(answers.mean())
    if rows is None:
        triple = [("a", accuracy, 0.9, 2), ("b", accuracy + 0.01, 0.8, 1), ("c", accuracy - 0.1, 0.7, 1)]
        rows = [grid_row(name, test, validation, multiplicity=many) for name, test, validation, many in triple]
    scores = [row["test"]["accuracy"] for row in rows]
    weights = [row["multiplicity"] for row in rows]
    chosen = {"digest": "a", "validation": 0.9, "test": accuracy, "correct": np.packbits(answers).tobytes().hex()}
    summary = {"test": {"mean": float(np.average(scores, weights=weights)), "best": max(scores)}, "chosen": chosen}
    grid = {"phase": phase, "metric": "accuracy", "images": {"validation": 10, "test": len(answers)}, "drawn": None}
    path = run / "results" / "grids" / f"{phase}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(grid | {"rows": rows, "summary": summary}))


def grid_row(digest: str, test: float, validation: float, **more: Any) -> dict[str, Any]:
    """A row of a grid."""
    row = {"digest": digest, "multiplicity": 1, "height": 5, "level": None, "resolution": 64, "macs": 1000}
    return row | {"validation": {"accuracy": validation}, "test": {"accuracy": test}} | more


def write_cell(folder: Path, cell: Cell, accuracies: dict[str, float], images: int = 1000, seed: int = 0) -> None:
    """A run whose chosen networks have these accuracies at these steps; the same images are hard for all runs."""
    run, names = folder / cell.name, phases_of(cell.network)
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text(json.dumps({"phases": [{"name": name} for name in names]}))
    hardness = np.random.default_rng(seed).permutation(images) / images
    for step, phase in last_phases(names, STEPS).items():
        if step in accuracies:
            write_grid(run, phase, hardness < accuracies[step] - 1e-9)
