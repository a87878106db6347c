"""The command `onceforall predictor`. Nothing heavy is imported before it begins."""

from pathlib import Path

import click

from onceforall.console import NetworkProgress, print_table
from onceforall.searching.command_options import interruptible, numbers, spreading_options

__all__ = ["predictor"]


@click.group()
def predictor() -> None:
    """Predict how good a sub-network is without measuring it.

    \b
    Example:
      onceforall predictor fit runs/photos -n 200
    """


@predictor.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("-n", "count", type=click.IntRange(2), default=500, show_default=True, help="Architectures to measure.")
@click.option("--metric", help="A number of the run's task, as log_loss; the one that chooses networks by default.")
@click.option("--data", type=click.Path(path_type=Path), help="Where the images are now.")
@click.option("--phase", help="Weights after this phase; the newest by default.")
@click.option("--calibration-images", type=click.IntRange(1), help="Those of the recipe by default.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Parts of the cross-validation.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draws architectures and parts.")
@click.option("--curve", metavar="N,N", help="Sizes of the learning curve; by default four up to 80 % of -n.")
@spreading_options
def fit(
    run_dir: Path,
    count: int,
    metric: str | None,
    data: Path | None,
    phase: str | None,
    calibration_images: int | None,
    folds: int,
    seed: int,
    curve: str | None,
    workers: int,
    executor: str,
) -> None:
    """Measure random architectures of RUN and learn to predict the others; write RUN/search/predictor.json.

    The architectures are spread over the multiply-adds that RUN offers. What was measured before is kept and counts,
    also after an interruption: give the command again, or with a larger -n.

    \b
    Example:
      onceforall predictor fit runs/photos -n 200
      onceforall predictor fit runs/photos -n 500 --metric log_loss --workers 4
      onceforall predictor fit runs/photos -n 625 --curve 100,200,500
    """
    from onceforall.runs import open_run
    from onceforall.searching.fitting import ceiling_text, fit_run, tables

    run = open_run(run_dir, data, phase)
    images = f"{run.data.count('validation')} validation {run.data.inputs}"
    click.echo(f"{count} architectures after {run.phase!r} on {images}")
    with interruptible():
        fitted = fit_run(
            run,
            count,
            metric=metric,
            calibration_images=calibration_images,
            folds=folds,
            seed=seed,
            curve=None if curve is None else numbers("--curve", curve),
            workers=workers,
            executor=executor,
            progress=NetworkProgress(run.phase),
        )
    for header, rows in tables(fitted):
        print_table(header, rows)
        click.echo()
    click.echo(ceiling_text(fitted))
    for file in fitted.files:
        click.echo(f"written: {file}")
