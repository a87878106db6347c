"""The command `onceforall compare`. Nothing heavy is imported before it begins."""

from collections.abc import Sequence
from pathlib import Path

import click

from onceforall.console import NetworkProgress, print_table
from onceforall.errors import UserError

__all__ = ["compare"]


@click.command()
@click.argument("run_dirs", metavar="RUN RUN ...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Folder of images, where it has moved.")
@click.option("--split", type=click.Choice(["validation", "test"]), default="test", show_default=True)
@click.option("-n", "networks", type=click.IntRange(1), default=60, show_default=True, help="Networks in all.")
@click.option("--buckets", type=click.IntRange(1), help="Buckets of equal numbers of networks; 5 by default.")
@click.option("--edges", metavar="1,2,4", help="Edges of buckets: milliseconds, or multiply-adds such as 1M,2M,5M.")
@click.option("--per-bucket", type=click.IntRange(1), help="Networks for each bucket, in place of -n.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for tables and pictures; runs/compare-... by default."
)
@click.option("--latency", "by", flag_value="latency", help="Buckets of latency, however noisy this machine is.")
@click.option("--macs", "by", flag_value="macs", help="Buckets of multiply-adds; no latency is measured.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the architectures drawn.")
@click.option("--calibration-images", type=click.IntRange(1), help="For all runs; each run's own number by default.")
def compare(
    run_dirs: tuple[Path, ...],
    data: Path | None,
    split: str,
    networks: int,
    buckets: int | None,
    edges: str | None,
    per_bucket: int | None,
    out: Path | None,
    by: str | None,
    seed: int,
    calibration_images: int | None,
) -> None:
    """Compare runs: what their training cost, how good the same sub-networks are in each, and how they converged.

    Differences are to the first run. What was measured is kept: interrupt it, and the same command goes on.

    \b
    Example:
      onceforall compare runs/ps runs/prox-mr runs/prox-ir --out runs/methods
      onceforall compare runs/ps runs/prox-mr --macs --edges 1M,2M,5M --per-bucket 30
    """
    if edges is not None and buckets is not None:
        raise UserError("--edges and --buckets exclude each other: edges say how many buckets there are.")
    if edges is not None and by is None:
        raise UserError("--edges needs --latency (milliseconds) or --macs (multiply-adds).")
    bounds = None if edges is None else _edges(edges, latency=by == "latency")

    from onceforall.comparison.comparing import compare_runs
    from onceforall.comparison.writing import short_table, write_comparison

    folder = out or Path("runs") / ("compare-" + "-".join(path.resolve().name for path in run_dirs))
    try:
        contents = compare_runs(
            run_dirs,
            folder,
            split=split,
            networks=networks,
            buckets=buckets or 5,
            edges=bounds,
            per_bucket=per_bucket,
            by="latency" if by == "latency" else "macs" if by == "macs" else "auto",
            seed=seed,
            calibration_images=calibration_images,
            data=data,
            progress=NetworkProgress,
        )
    except KeyboardInterrupt:
        click.echo("stopped; what was measured is kept, and the same command goes on from there.", err=True)
        click.get_current_context().exit(130)
    paths, missing = write_comparison(contents, folder)
    print_table(*short_table(contents))
    click.echo(f"{len(contents['networks'])} networks on {contents['split']}; {contents['equal']}")
    for line in (*contents["warnings"], *missing):
        click.echo(f"warning: {line}")
    click.echo(f"written: {folder} ({', '.join(path.name for path in paths)})")


def _edges(text: str, latency: bool) -> Sequence[float]:
    from onceforall.evaluation.results import parse_budget

    try:
        parts = [part.strip() for part in text.split(",")]
        return [float(part) for part in parts] if latency else [parse_budget(part) for part in parts]
    except ValueError as error:
        raise UserError(
            f"--edges {text!r}: give numbers with commas between them, such as 1,2,4 or 1M,2M,5M."
        ) from error
