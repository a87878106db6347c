"""Comparisons of the ProX study written by hand: made-up scores and costs, so a test knows what has to come out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onceforall.studies.prox import SINGLES
from onceforall.studies.prox_results import comparison_folder
from onceforall.training.ledger import PARTS

NETWORKS = 4


def answers_of(score: float, images: int = 400, seed: int = 0) -> list[float]:
    """Each image's share of right answers, with this mean; the same images are hard for all runs."""
    hardness = np.random.default_rng(seed).permutation(images) / images
    return (hardness < score - 1e-9).astype(float).tolist()


def comparison_contents(runs: Mapping[str, tuple[float, float, int]]) -> dict[str, Any]:
    """What `compare_runs` would find. `runs`: name -> score, seconds (half student, a quarter teacher), macs."""
    families = [name for name in runs if name not in SINGLES]

    def row(name: str) -> dict[str, Any]:
        score = runs[name][0]
        low, high = score - 0.02, score + 0.02
        return {"run": name, "networks": NETWORKS, "score": score, "low": low, "high": high, "log_loss": 1 - score}

    def about(name: str) -> dict[str, Any]:
        _, seconds, macs = runs[name]
        parts = dict.fromkeys(PARTS, 0.0) | {"student": seconds / 2, "teacher": seconds / 4, "other": seconds / 4}
        counts = {"epochs": 28, "steps": 100, "samples": 6400, "macs": macs}
        facts = {"name": name, "schedule": "s", "network": "n", "phase": "p", "finished": True}
        ratio = {"epochs": 1.0, "macs": 1.0, "seconds": 1.0}
        return facts | counts | {"seconds": parts | {"total": seconds}, "ratio": ratio, "calibration_images": 64}

    point = {"phase": "p", "step": 100, "train_loss": 0.1, "macs": 1.0, "seconds": 1.0, "smallest": 0.5, "largest": 0.6}
    networks = [
        {
            "bucket": 1,
            "cost": 10.0 + i,
            "runs": {name: {"accuracy": runs[name][0], "log_loss": 0.1} for name in families},
        }
        for i in range(NETWORKS)
    ]
    return {
        "split": "test",
        "metric": "accuracy",
        "equal": "equal in epochs.",
        "warnings": ["the runs differ in something."],
        "cost": "latency_ms",
        "runs": [about(name) for name in runs],
        "equal_time": {"run": families[0], "seconds": 60.0, "reached": dict.fromkeys(families, point)},
        "overall": [row(name) for name in families],
        "answers": {name: answers_of(score) for name, (score, *_) in runs.items()},
        "buckets": [{"low": 10.0, "high": 13.0, "networks": NETWORKS, "rows": [row(name) for name in families]}],
        "singles": [
            {"run": name, "cost": 11.0, "rows": [row(name), row(families[0])]} for name in runs if name in SINGLES
        ],
        "networks": networks,
        "curves": {name: {"starts": [{"phase": "p", "step": 0, "macs": 0}], "points": [point]} for name in runs},
    }


def write_comparison(folder: Path, data: str, seed: int, runs: Mapping[str, tuple[float, float, int]]) -> None:
    """The same as a file in the folder of a study."""
    path = comparison_folder(folder, data, seed) / "comparison.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(comparison_contents(runs)))
