"""Two short runs on the same pictures, by progressive shrinking and by the sandwich rule, and their comparison."""

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from onceforall.cli import main
from onceforall.comparison.comparing import compare_runs

SMALL = ("network.width_mult=0.25", "network.resolutions=[16,24]", "network.depths=[1,2]", "network.kernel_sizes=[3,5]")
SMALL += ("network.expand_ratios=[3,4]", "phases.all.batch_size=16", "phases.all.validate_every=1")
SMALL += ("schedule.total_epochs=6", "run.calibration_images=16", "run.random_validation=0")


def train(recipe: str, photos: Path, out: Path, *more: str) -> Path:
    """A run of a recipe made small."""
    options = [word for text in (*SMALL, *more) for word in ("--set", text)]
    result = CliRunner().invoke(main, ["train", recipe, "--data", str(photos), "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory) -> list[Path]:
    """Folders `ps` and `sandwich`."""
    root = tmp_path_factory.mktemp("comparison")
    photos, rng = root / "photos", np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (photos / name).mkdir(parents=True)
        for i in range(40):
            pixels = (rng.integers(0, 200, (20, 20)) + 55 * label).astype(np.uint8)
            Image.fromarray(pixels).save(photos / name / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "ONCEFORALL_CACHE", str(root / "cache"))
        one = train("images-ps", photos, root / "ps")
        return [one, train("images-sandwich", photos, root / "sandwich", "schedule.subnets_per_step=1")]


@pytest.fixture(scope="session")
def contents(two_runs, tmp_path_factory) -> dict:
    """What the comparison of the two finds."""
    return compare_runs(two_runs, tmp_path_factory.mktemp("out"), networks=6, buckets=2, by="macs")
