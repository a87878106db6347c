"""The command `onceforall grow`. Nothing heavy is imported before it begins."""

import os
from pathlib import Path

import click

from onceforall.console import reading_progress

__all__ = ["grow"]


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="All choices of a factor (depths=1,2,3), or a field of the recipe; may be repeated.",
)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Images or volumes to go on with; those of RUN by default."
)
@click.option("--out", type=click.Path(path_type=Path), help="Run directory of the new run; RUN-grown by default.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, exactly where it was.")
@click.option("--max-minutes", type=float, help="Stop after this time; go on later with --resume.")
def grow(
    run_dir: Path,
    changes: tuple[str, ...],
    data: Path | None,
    out: Path | None,
    resume: bool,
    max_minutes: float | None,
) -> None:
    """Grow a finished RUN into more depths, widths, kernels, expansions or resolutions, in a run directory of its own.

    The new run begins with the weights of RUN and trains what is new by progressive expansion. With --data it also
    learns from new images; those that RUN knew keep their splits, and all others are for training.

    \b
    Example:
      onceforall grow runs/photos --set depths=2,3,4,5 --out runs/photos-deeper
      onceforall grow runs/photos --set resolutions=48,56,64,72 --set schedule.epochs_per_phase=5 --data photos
    """
    from onceforall.growing.grown_runs import grow_run, plan_growth
    from onceforall.runs import is_finished

    limit = () if max_minutes is None else (f"run.max_minutes={max_minutes}",)
    folder = out or run_dir.with_name(f"{run_dir.resolve().name}-grown")
    grown = plan_growth(run_dir, (*changes, *limit), data, reading_progress())
    speaks = os.environ.get("RANK", "0") == "0"  # one of several processes
    if speaks:
        for factor, (before, now) in grown.opened.items():
            click.echo(f"{factor}: {', '.join(map(str, before))} -> {', '.join(map(str, now))}")
        phases = ", ".join(f"{phase.name} ({phase.total_epochs} epochs)" for phase in grown.phases)
        click.echo(f"{grown.data.count('train')} training {grown.data.inputs}; phases: {phases}")
    grow_run(grown, folder, resume=resume)
    if speaks and is_finished(folder):
        click.echo(f"done: {folder}\nnext: onceforall evaluate {folder}")
