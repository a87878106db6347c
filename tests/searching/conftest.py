"""A trained run that the tests of searching share; each takes a copy."""

import shutil

import pytest
from click.testing import CliRunner

from onceforall.cli import main

TINY = (
    "network.width_mult=0.25",
    "network.resolutions=[16,24]",
    "network.depths=[1]",
    "network.kernel_sizes=[3,5]",
    "network.expand_ratios=[3,4]",
    "data.classes=4",
    "phases.all.batch_size=64",
    "schedule.total_epochs=4",
    "run.calibration_images=32",
    "run.random_validation=0",
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "small"
    words = ["train", "digits-prox", "--out", str(folder), *(word for text in TINY for word in ("--set", text))]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def finished(trained, tmp_path):
    """The folder of a run with nothing measured yet."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"
