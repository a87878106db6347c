"""The golden runs: the losses of 20 steps of every schedule, on fixed synthetic images.

    python tests/golden/runs.py --out FILE        # one JSON object, schedule -> 20 losses
    python tests/golden/runs.py --keep            # replace the files beside this script; the commit says why

`test_runs.py` compares a run with the kept files, and `compare.py` compares two commits. Everything that decides the
losses is stated here, so that changing a recipe changes nothing: float32, one thread, the processor, all images in one
batch (so that an epoch is a step, and its line of metrics holds the loss of this step), 20 epochs over all phases. Two
stages and a tenth of the schedule's learning rates keep the losses nearly the same on another processor: with five
stages and the whole rates, other vector instructions change them by up to 0.16 of their value, so by 1e-4.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from onceforall.data import Augmentation, ImageData, from_arrays
from onceforall.evaluation.tasks import classification
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.training.growing import beginning
from onceforall.training.loop import RunOptions, train
from onceforall.training.schedules import SCHEDULES

STEPS = 20
FACTORS = {"resolutions": (16, 24), "kernel_sizes": (3, 5), "expand_ratios": (3, 4, 6), "depths": (1, 2)}
FURTHER = {"extended_progressive_shrinking": {"depths": (1, 3), "heights": (1, 2), "paths": (1, 2, 4, 3, 5, 6, 7)}}
HERE = Path(__file__).parent


def images() -> ImageData:
    """36 grey images of three classes, noisy gradients of brightness: across, down, and both."""
    rng = np.random.default_rng(0)
    labels = np.arange(36) % 3
    ramp = np.linspace(0, 120, 24)
    across, down = np.tile(ramp, (24, 1)), np.tile(ramp[:, None], 24)
    patterns = np.stack([across, down, (across + down) / 2])
    pixels = np.clip(patterns[labels] + rng.normal(60, 20, (36, 24, 24)), 0, 255).astype(np.uint8)
    return from_arrays(pixels, labels, max_resolution=24, augmentation=Augmentation(scale=(0.7, 1.0), brightness=0.2))


def losses(schedule: str) -> list[float]:
    """Loss of each of the 20 steps of a schedule."""
    data = images()
    factors = FACTORS | FURTHER.get(schedule, {})
    dense = factors["depths"][-1] > 2  # with two levels it would change nothing
    space = SearchSpace.build(2, **factors)
    supernet = OFAMobileNetV3(space, data.num_classes, data.channels, width_mult=0.25, dense=dense).initialise(0)
    phases = SCHEDULES[schedule](supernet.space, total_epochs=STEPS)
    phases = [
        replace(phase, batch_size=data.count("train"), learning_rate=0.1 * phase.learning_rate, validate_every=STEPS)
        for phase in phases
    ]
    supernet = beginning(supernet, phases, 0)
    options = RunOptions(device="cpu", threads=1, calibration_images=16, random_validation=0)
    with tempfile.TemporaryDirectory() as folder:
        train(supernet, phases, classification(), data, run_dir=Path(folder) / "run", options=options)
        lines = (Path(folder) / "run/metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["train_loss"] for line in lines]


def main(arguments: list[str] | None = None) -> None:
    """Run every schedule and write its losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="FILE", help="write all losses into one file")
    where.add_argument("--keep", action="store_true", help="write each schedule's losses beside this script")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = {schedule: losses(schedule) for schedule in SCHEDULES}
    if options.keep:
        for schedule, values in found.items():
            (HERE / f"{schedule}.json").write_text(json.dumps({"losses": values}, indent=1) + "\n")
    else:
        options.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
