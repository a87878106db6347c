"""The command `onceforall latency`. Nothing heavy is imported before it begins."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onceforall.console import NetworkProgress, print_table
from onceforall.searching.command_options import interruptible

if TYPE_CHECKING:
    from onceforall.searching.latency_table import LatencyTable

__all__ = ["latency"]

_RUN = click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
_BACKEND = click.option("--backend", default="onnxruntime", show_default=True, help="onnxruntime, openvino or pytorch.")
_THREADS = click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
_BATCH = click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Inputs at once.")
_PRECISION = click.option("--precision", default="float32", show_default=True, help="Of openvino also bfloat16.")
_DEVICE = click.option("--device", default="cpu", show_default=True, help="Of pytorch also cuda.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.group()
def latency() -> None:
    """Measure on this machine how long sub-networks take, or what any of them will take.

    \b
    Example:
      onceforall latency build runs/photos --backend onnxruntime --out cpu.json
      onceforall latency show cpu.json
    """


@latency.command()
@_RUN
@_BACKEND
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The table, a JSON file.")
@_THREADS
@_BATCH
@_PRECISION
@_DEVICE
@click.option("-n", "networks", type=click.IntRange(8), default=150, show_default=True, help="Networks to fit it to.")
@click.option("--held-out", type=click.IntRange(5), default=50, show_default=True, help="Others, to check it on.")
@_JSON
def build(
    run_dir: Path,
    backend: str,
    out: Path,
    threads: int,
    batch: int,
    precision: str,
    device: str,
    networks: int,
    held_out: int,
    as_json: bool,
) -> None:
    """Build a table from which the latency of every sub-network of RUN is known.

    Weights do not matter. What was measured is kept beside the table: an interrupted build goes on, and a larger -n
    adds to it.

    \b
    Example:
      onceforall latency build runs/photos --backend openvino --out cpu.json
    """
    from onceforall.evaluation.engines import EngineSettings
    from onceforall.runs import find_weights, read_run
    from onceforall.searching.latency_build import build_table
    from onceforall.searching.latency_measuring import measuring
    from onceforall.training.checkpoint import load_network

    settings = EngineSettings(backend, threads, batch, precision, device)
    settings.check_installed()
    supernet = load_network(find_weights(run_dir, read_run(run_dir)[0])[1])
    progress = None if as_json else NetworkProgress(f"groups of networks on {backend}")
    with interruptible(), measuring(supernet, settings) as measure:
        table = build_table(supernet, settings, out, measure, networks=networks, held_out=held_out, progress=progress)
    if as_json:
        click.echo(json.dumps({"identity": table.identity, "check": table.check}))
        return
    _tell(table)
    click.echo(f"written: {out}")


@latency.command()
@click.argument("table", type=click.Path(path_type=Path))
@_JSON
def show(table: Path, as_json: bool) -> None:
    """Show what a table was measured on, how well it predicts, and its entries.

    \b
    Example:
      onceforall latency show cpu.json
    """
    from onceforall.searching.latency_table import LatencyTable

    found = LatencyTable.load(table)
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    _tell(found)
    print_table(["entry", "ms"], [[key, f"{ms:.4f}"] for key, ms in found.entries.items()])


@latency.command()
@_RUN
@click.argument("arch")
@_BACKEND
@_THREADS
@_BATCH
@_PRECISION
@_DEVICE
@_JSON
def measure(
    run_dir: Path, arch: str, backend: str, threads: int, batch: int, precision: str, device: str, as_json: bool
) -> None:
    """Measure one whole sub-network of RUN. ARCH is 'largest', 'smallest', JSON, or a JSON file.

    \b
    Example:
      onceforall latency measure runs/photos largest --backend onnxruntime
    """
    from onceforall.evaluation.engines import EngineSettings
    from onceforall.runs import find_architecture, open_run
    from onceforall.searching.latency_measuring import measuring

    settings = EngineSettings(backend, threads, batch, precision, device)
    settings.check_installed()
    run = open_run(run_dir)
    architecture = find_architecture(run, arch)
    with measuring(run.supernet, settings, warmup_seconds=0.3, min_runs=20, max_seconds=1.0) as measure_them:
        [found] = measure_them([architecture])
    if as_json:
        click.echo(json.dumps(asdict(found) | {"architecture": architecture.to_dict()}))
        return
    click.echo(f"architecture: {architecture}")
    click.echo(
        f"{found.median_ms:.3f} ms, interquartile range {found.iqr_ms:.3f}, on the processor {found.processor_ms:.3f} "
        f"({found.runs} runs; {backend} {settings.version}, {precision}, batch {batch}, threads {threads}, {device})"
    )
    if found.noisy:
        click.echo("note: other programs disturbed this; trust the time on the processor, or measure again.", err=True)


def _tell(table: "LatencyTable") -> None:
    check = table.check or {}
    click.echo(f"{table.identity['network']} on {table.measured_on}: {len(table.entries)} entries")
    if check:
        click.echo(
            f"fitted to {check['fitted']} networks in {check['seconds']:.0f} s; on {check['networks']} others of "
            f"{check['from_ms']:.3g} to {check['to_ms']:.3g} ms: mean error {check['mape']:.1%}, rank correlation "
            f"{check['spearman']:.3f} (Spearman), {check['kendall']:.3f} (Kendall)"
        )
        if check["noisy"] > 0.5:
            click.echo("note: other programs ran meanwhile; on a quiet machine the table will be better.", err=True)
