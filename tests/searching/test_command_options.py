"""What commands share, as it is typed."""

import click
import pytest
from click.testing import CliRunner

from onceforall.errors import UserError
from onceforall.searching.command_options import factors, interruptible, numbers, read_table, spreading_options
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


def test_a_table_of_another_machine_predicts_and_times_nothing(tmp_path, capsys):
    from onceforall.evaluation.engines import EngineSettings
    from onceforall.searching.latency_measuring import identity_of
    from onceforall.searching.latency_table import LatencyTable
    from tiny_search import small_network

    network, settings = small_network(), EngineSettings("onnxruntime")
    identity = identity_of(network, settings)
    LatencyTable(identity, {}).save(tmp_path / "own.json")
    LatencyTable(identity | {"machine": "A"}, {}).save(tmp_path / "other.json")
    assert read_table(None, network, None, False) == (None, None)
    assert read_table(tmp_path / "own.json", network, None, False)[1] == settings
    table, engine = read_table(tmp_path / "other.json", network, None, True)
    assert table is not None and engine is None
    assert "latencies are predictions only: machine A, here " in capsys.readouterr().err
