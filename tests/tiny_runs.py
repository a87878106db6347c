"""Runs of a second or less for the tests of training: striped images, a small elastic network, short phases."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onceforall.data import Augmentation, ImageData, from_arrays
from onceforall.evaluation.tasks import Task, classification
from onceforall.search_space import SearchSpace
from onceforall.supernets import Supernet
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.supernets.registry import create_supernet
from onceforall.training.loop import RunOptions, train
from onceforall.training.phases import Phase
from onceforall.training.rows import Row

CLASSES = 3
OPTIONS = RunOptions(device="cpu", calibration_images=32, random_validation=1)
ROW = Row(epochs=1, warmup_epochs=0, learning_rate=0.05)
ROWS = {"full": replace(ROW, epochs=2), "kernel": ROW, "depth": ROW, "expand": ROW}


def striped(count: int = 96, size: int = 20, seed: int = 0, augmentation: Augmentation | None = None) -> ImageData:
    """Noisy grey images of three kinds of bars (across, upright, both); of 96, 66 are to train, 15 to validate."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    bars = np.arange(size) // 3 % 2 * 120
    patterns = np.stack([np.tile(bars[:, None], size), np.tile(bars, (size, 1)), bars[:, None] / 2 + bars / 2])
    images = np.clip(patterns[labels] + rng.normal(60, 25, (count, size, size)), 0, 255).astype(np.uint8)
    return from_arrays(images, labels, max_resolution=24, augmentation=augmentation, crop_ratio=1.0)


def small_supernet(seed: int = 0, **options: Any) -> Supernet:
    """OFA-MobileNetV3 of width 0.25 with every factor elastic."""
    given = {"num_classes": CLASSES, "in_channels": 1, "width_mult": 0.25, "resolutions": (16, 24)}
    given |= {"kernel_sizes": (3, 5), "expand_ratios": (3, 4, 6), "depths": (1, 2)}
    return create_supernet("ofa_mbv3", seed=seed, **(given | options))


def two_stages(seed: int = 0, **options: Any) -> Supernet:
    """Its first two stages with an exit: less than half the time."""
    space = SearchSpace.build(
        2, resolutions=(16, 24), kernel_sizes=(3, 5), expand_ratios=(3, 4, 6), depths=options.pop("depths", (1, 2))
    )
    given = {"num_classes": CLASSES, "in_channels": 1, "width_mult": 0.25} | options
    return OFAMobileNetV3(space, **given).initialise(seed)


def one_phase(space: SearchSpace, **fields: Any) -> Phase:
    """A phase of one epoch and batches of 16, as `fields` change it."""
    return Phase(**({"name": "only", "space": space, "epochs": 1, "batch_size": 16, "learning_rate": 0.05} | fields))


def run(
    folder: Path,
    phases: Sequence[Phase],
    *,
    supernet: Supernet | None = None,
    data: ImageData | None = None,
    task: Task | None = None,
    resume: bool = False,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> Supernet:
    """`train` with everything small that is not given."""
    return train(
        supernet or small_supernet(),
        phases,
        task or classification(),
        data or striped(),
        run_dir=folder,
        options=replace(OPTIONS, **options),
        resume=resume,
        settings=settings,
    )
