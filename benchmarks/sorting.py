"""What channel sorting is worth: accuracy of a trained network's sub-networks right before and after it.

    python benchmarks/sorting.py RUN            # a run of progressive shrinking

Takes the weights after the last phase before the first width phase, and compares, on the validation split and with
calibration: the largest, and the smallest whose width was never trained, with the channels as they are and sorted.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from onceforall.evaluation.evaluate import evaluate
from onceforall.layers.channels import sort_channels
from onceforall.runs import open_run
from onceforall.search_space import SearchSpace


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/quickstart"), help="default: %(default)s")
    folder = parser.parse_args().run
    described = json.loads((folder / "run.json").read_text())
    names = [phase["name"] for phase in described["phases"]]
    before = names[names.index(next(name for name in names if name.startswith("expand"))) - 1]
    run = open_run(folder, phase=before)
    kept = SearchSpace.from_dict(described["phases"][names.index(before)]["space"])
    space = run.supernet.space
    chosen = {
        "largest": kept.largest(),
        "smallest trained so far": kept.smallest(),
        "same, narrowest": space.smallest(),
    }
    images = torch.from_numpy(
        np.random.default_rng(0).standard_normal((4, run.data.channels, 64, 64)).astype(np.float32)
    )
    with torch.no_grad():
        outputs = run.supernet.double()(images.double(), kept.largest())
        scores = [_scores(run, chosen)]
        sort_channels(run.supernet.double().channel_groups(), kept)
        difference = (run.supernet(images.double(), kept.largest()) - outputs).abs().max().item()
    scores.append(_scores(run, chosen))
    print(f"{run.folder.name}, weights after {before!r}; the largest's outputs move by {difference:.1e}")
    for name in chosen:
        print(f"{name:24}  accuracy {scores[0][name]:.4f} unsorted, {scores[1][name]:.4f} sorted")


def _scores(run, chosen: dict) -> dict[str, float]:
    results = evaluate(run.supernet.float(), list(chosen.values()), run.task, run.data, split="validation")
    return {name: result.metrics["accuracy"] for name, result in zip(chosen, results, strict=True)}


if __name__ == "__main__":
    main()
