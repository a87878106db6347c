"""Runs of some seconds on small volumes, by the recipe that ships made tiny."""

from pathlib import Path

from click.testing import CliRunner

from onceforall.cli import main

TINY = ("network.width_mult=0.25", "network.poolings=1", "network.kernel_sizes=[3]", "network.widths=[0.5,1.0]")
TINY += ("network.resolutions=[[8,8,8],[12,12,12]]", "data.test_fraction=0.4", "schedule.total_epochs=4")
TINY += ("phases.all.validate_every=1", "run.calibration_images=4", "run.random_validation=0", "run.threads=1")


def train_volumes(volumes: Path, out: Path, *more: str, resume: bool = False) -> Path:
    """A run of `hippocampus-quick` made tiny, on a folder of volumes of at most 12 x 12 x 12 voxels."""
    options = [word for text in (*TINY, *more) for word in ("--set", text)]
    words = ["train", "hippocampus-quick", "--data", str(volumes), "--out", str(out), *options]
    result = CliRunner().invoke(main, [*words, "--resume"] if resume else words)
    assert result.exit_code == 0, result.output
    return out
