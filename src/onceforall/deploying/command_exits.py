"""The commands `onceforall exits` and `onceforall export-exits`. Nothing heavy is imported before they begin."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onceforall.console import print_table

if TYPE_CHECKING:
    from onceforall.deploying.exit_curve import CurvePoint
    from onceforall.deploying.exit_export import ExitExport

__all__ = ["exits", "export_exits"]

_RUN = click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
_ARCH = click.argument("arch", default="largest")
_DATA = click.option("--data", type=click.Path(path_type=Path), help="Where the images are now.")
_PHASE = click.option("--phase", help="Weights after this phase; the newest by default.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
SHOWN = 12  # rows of a printed curve


@click.command()
@_RUN
@_ARCH
@_DATA
@_PHASE
@click.option("--out", type=click.Path(path_type=Path), help="Folder; RUN/results/exits by default.")
@_JSON
def exits(run_dir: Path, arch: str, data: Path | None, phase: str | None, out: Path | None, as_json: bool) -> None:
    """Show what leaving at early exits is worth: accuracy against mean multiply-adds and time.

    ARCH is as for `export`; all its exits are tried. Thresholds are chosen on validation, the numbers are of test. Each
    is compared with the best network of one exit, of those that were evaluated, that costs no more.

    \b
    Example:
      onceforall exits runs/photos
      onceforall exits runs/photos best
    """
    from onceforall.deploying.exit_curve import exit_curve, measure_exits, point_row, single_rows, with_all_exits
    from onceforall.deploying.exit_curve import write_curve as write
    from onceforall.runs import find_architecture, open_run

    run = open_run(run_dir, data, phase)
    measured = measure_exits(run, with_all_exits(run, find_architecture(run, arch)))
    points = exit_curve(run, measured)
    files = write(measured, points, out or run_dir / "results" / "exits")
    if as_json:
        click.echo(json.dumps({"exits": single_rows(measured), "points": [point_row(point) for point in points]}))
        return
    click.echo(f"{measured.architecture}\n")
    singles = [
        [str(row["exit"]), f"{row['macs'] / 1e6:.2f}M", f"{row['validation']:.4f}", f"{row['test']:.4f}"]
        for row in single_rows(measured)
    ]
    print_table(["one exit alone", "macs", "validation", "test"], singles)
    click.echo()
    step = -(-len(points) // SHOWN)
    print_table(
        ["exits: thresholds", "mean macs", "ms", "validation", "test", "one exit, no dearer", "difference"],
        [_row(point) for point in points[::step]],
    )
    click.echo(f"\nwritten: {', '.join(map(str, files))}")


@click.command("export-exits")
@_RUN
@_ARCH
@_DATA
@_PHASE
@click.option("--min-accuracy", type=float, help="Keep this accuracy on validation at the least cost, such as 0.9.")
@click.option("--max-macs", help="Be as accurate as possible within these mean multiply-adds, such as 10M.")
@click.option("--format", "file_format", default="onnx", show_default=True, help="onnx or openvino, in fp32.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; RUN/bundle-exits-FORMAT by default.")
def export_exits(
    run_dir: Path,
    arch: str,
    data: Path | None,
    phase: str | None,
    min_accuracy: float | None,
    max_macs: str | None,
    file_format: str,
    out: Path | None,
) -> None:
    """Export a network that images leave at the first exit that is sure enough, as a chain of model files.

    How sure is tuned on validation: to --min-accuracy at the least mean cost, or to the best accuracy within
    --max-macs; by default to the accuracy of the best exit alone. Later files run only for the images that need them.

    \b
    Example:
      onceforall export-exits runs/photos --min-accuracy 0.9
      onceforall export-exits runs/photos best --max-macs 10M --out device
      onceforall predict device photos/new
    """
    from onceforall.deploying.exit_curve import with_all_exits
    from onceforall.deploying.exit_export import export_exits as export
    from onceforall.errors import UserError
    from onceforall.evaluation.results import parse_budget
    from onceforall.runs import find_architecture, open_run

    if min_accuracy is not None and max_macs is not None:
        raise UserError("give --min-accuracy or --max-macs, not both.")
    if min_accuracy is not None and not 0 < min_accuracy <= 1:
        raise UserError(f"--min-accuracy {min_accuracy:g}: give a share between 0 and 1, such as 0.9.")
    limit = None if max_macs is None else parse_budget(max_macs)
    run = open_run(run_dir, data, phase)
    architecture = with_all_exits(run, find_architecture(run, arch))
    folder = out or run_dir / f"bundle-exits-{file_format}"
    _tell(export(run, architecture, folder, min_accuracy=min_accuracy, max_macs=limit, format=file_format))


def _row(point: "CurvePoint") -> list[str]:
    rival, difference = "", ""
    if point.gain is not None and point.rival_macs is not None:
        rival = f"{point.rival_accuracy:.4f} at {point.rival_macs / 1e6:.2f}M"
        difference = f"{100 * point.gain[0]:+.1f} to {100 * point.gain[1]:+.1f} points"
    return [
        _policy(point),
        f"{point.test.macs / 1e6:.2f}M",
        "" if point.latency_ms is None else f"{point.latency_ms:.3g}",
        f"{point.validation.accuracy:.4f}",
        f"{point.test.accuracy:.4f}",
        rival,
        difference,
    ]


def _policy(point: "CurvePoint") -> str:
    """As "1: 0.91, 3: 0.60, 5"."""
    *early, last = point.policy.exits
    return ", ".join([*(f"{e}: {t:.3f}" for e, t in zip(early, point.policy.thresholds, strict=True)), str(last)])


def _tell(done: "ExitExport") -> None:
    point = done.point
    click.echo(f"exits and the confidence from which on images leave there: {_policy(point)}")
    leaving = ", ".join(f"{share:.0%} at {n}" for n, share in zip(point.policy.exits, point.test.shares, strict=True))
    click.echo(
        f"accuracy on test: {done.accuracy:.4f} (in PyTorch {point.test.accuracy:.4f}, validation "
        f"{point.validation.accuracy:.4f}), mean multiply-adds {point.test.macs / 1e6:.2f}M; images leave: {leaving}"
    )
    if point.gain is not None and point.rival_macs is not None:
        low, high = (100 * bound for bound in point.gain)
        click.echo(
            f"the best known network of one exit that costs no more ({point.rival_macs / 1e6:.2f}M): "
            f"{point.rival_accuracy:.4f}; early exits are {low:+.1f} to {high:+.1f} points better (95 % interval)"
        )
    own, whole = (done.latency[name]["processor_ms"] for name in ("exported", "whole"))
    click.echo(f"mean time of an image on one thread: {own:.3g} ms, of the whole network {whole:.3g} ms")
    click.echo(
        f"exported {done.path} ({done.bytes / 1e6:.2f} MB): all exits differ from PyTorch by at most "
        f"{done.difference.largest:.2g} where outputs reach {done.difference.scale:.2g}"
    )
