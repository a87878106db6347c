"""A trained run of a few seconds whose network has early exits, and answers of exits that were made up."""

from functools import cache
from pathlib import Path
from shutil import copytree
from tempfile import mkdtemp

import numpy as np

from onceforall.deploying.exit_thresholds import ExitAnswers, ExitCosts
from onceforall.recipes import make_recipe
from onceforall.runs import train_run

SETTINGS = (
    "network.name=ee_d_ofa_mbv3",
    "network.width_mult=0.25",
    "network.kernel_sizes=[3]",
    "network.expand_ratios=[3]",
    "network.depths=[1,2]",
    "network.heights=[1,3,5]",
    "network.resolutions=[16]",
    "data.validation_fraction=0.1",
    "data.test_fraction=0.8",
    "data.augmentation.scale=[0.95,1.0]",
    "schedule.total_epochs=4",
    "phases.all.batch_size=40",
    "phases.all.validate_every=4",
    "run.calibration_images=64",
    "run.random_validation=0",
)


@cache
def _trained() -> Path:
    folder = Path(mkdtemp()) / "run"
    train_run(make_recipe("digits-sandwich", SETTINGS), folder)
    return folder


def exit_run(folder: Path) -> Path:
    """A copy of the run in `folder`; it is trained once for all tests."""
    return Path(copytree(_trained(), folder))


def made_up(seed: int, images: int = 10, exits: int = 3) -> tuple[ExitAnswers, ExitCosts]:
    """Exits of which later ones are surer, and right as often as they are sure; what they cost."""
    rng = np.random.default_rng(seed)
    sure = np.sort(rng.uniform(0.2, 1, (exits, images)), axis=0)
    confidence = np.clip(sure + rng.normal(0, 0.15, (exits, images)), 0.1, 0.999)
    correct = rng.random((exits, images)) < confidence
    trunk, heads = np.cumsum(rng.integers(5, 20, exits)), rng.integers(1, 4, exits)
    return ExitAnswers(tuple(range(1, exits + 1)), confidence, correct), ExitCosts(
        tuple(trunk.tolist()), tuple(heads.tolist())
    )
