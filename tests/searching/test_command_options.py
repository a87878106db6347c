"""What commands share, as it is typed."""

import click
import pytest
from click.testing import CliRunner

from onceforall.errors import UserError
from onceforall.searching.command_options import factors, interruptible, numbers, spreading_options
from onceforall.searching.executors import EXECUTORS


def test_workers_and_their_executor():
    @click.command()
    @spreading_options
    def command(**given):
        click.echo(f"{given['workers']} {given['executor']}")

    assert CliRunner().invoke(command, []).output == "1 loky\n"
    for name in EXECUTORS:
        assert CliRunner().invoke(command, ["--workers", "3", "--executor", name]).output == f"3 {name}\n"
    assert "'slurm' is not one of" in CliRunner().invoke(command, ["--executor", "slurm"]).output


def test_an_interruption_ends_with_130(capsys):
    with pytest.raises(SystemExit, match="130"), interruptible():
        raise KeyboardInterrupt
    assert "what was measured is kept" in capsys.readouterr().err


def test_numbers_and_factors():
    assert numbers("--curve", "100, 200") == [100, 200]
    assert factors("--only", ["kernel_sizes=3,5", "widths=0.5,1", "resolutions=32x32x16"]) == {
        "kernel_sizes": [3, 5],
        "widths": [0.5, 1],
        "resolutions": [(32, 32, 16)],
    }
    with pytest.raises(UserError, match="--curve '1,x': give whole numbers"):
        numbers("--curve", "1,x")
    for text in ("kernel_sizes", "kernel_sizes=big", "resolutions=3x"):
        with pytest.raises(UserError, match="give a factor and numbers"):
            factors("--only", [text])
