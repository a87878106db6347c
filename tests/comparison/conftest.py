"""Short runs on the same pictures, by progressive shrinking, by the sandwich rule and of one network alone."""

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
def photos(tmp_path_factory) -> Path:
    """Dark and light pictures."""
    folder, rng = tmp_path_factory.mktemp("comparison") / "photos", np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (folder / name).mkdir(parents=True)
        for i in range(40):
            pixels = (rng.integers(0, 200, (20, 20)) + 55 * label).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def two_runs(photos) -> list[Path]:
    """Folders `ps` and `sandwich`."""
    root = photos.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "ONCEFORALL_CACHE", str(root / "cache"))
        one = train("images-ps", photos, root / "ps")
        return [one, train("images-sandwich", photos, root / "sandwich", "schedule.subnets_per_step=1")]


@pytest.fixture(scope="session")
def single_run(photos) -> Path:
    """The largest network by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "ONCEFORALL_CACHE", str(photos.parent / "cache"))
        one = (
            "network.resolutions=[24]",
            "network.depths=[2]",
            "network.kernel_sizes=[5]",
            "network.expand_ratios=[4]",
        )
        return train("images-ps", photos, photos.parent / "alone", *one)


@pytest.fixture(scope="session")
def contents(two_runs, tmp_path_factory) -> dict:
    """What the comparison of the two finds."""
    return compare_runs(two_runs, tmp_path_factory.mktemp("out"), networks=6, buckets=2, by="macs")


@pytest.fixture(scope="session")
def with_single(two_runs, single_run, tmp_path_factory) -> dict:
    """What the comparison of the two and the network alone finds, which was given first."""
    folders = [single_run, *two_runs]
    return compare_runs(folders, tmp_path_factory.mktemp("out"), networks=4, buckets=2, by="macs")
