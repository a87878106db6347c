"""The command line: one verb for each job. What a command does is in the module of that job; here is only the talking.

Nothing heavy is imported before a command needs it, so `--help` answers at once.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onceforall import __version__
from onceforall.comparison.command import compare
from onceforall.console import Commands, NetworkProgress, print_table, reading_progress
from onceforall.deploying.command_exits import exits, export_exits
from onceforall.deploying.command_export import export, tell_export
from onceforall.deploying.command_finetune import finetune
from onceforall.deploying.command_import import export_mit, import_mit
from onceforall.deploying.command_inspect import inspect
from onceforall.deploying.command_package import package, unpack
from onceforall.errors import UserError
from onceforall.growing.command import grow
from onceforall.predict.command import predict
from onceforall.searching.command_latency import latency as latency_commands
from onceforall.searching.command_options import numbers
from onceforall.searching.command_predictor import predictor
from onceforall.searching.command_search import search
from onceforall.studies.command import study

if TYPE_CHECKING:
    from onceforall.runs import Run

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="onceforall")
def main() -> None:
    """Train one elastic network once, then take from it an ordinary network for any device and budget.

    \b
    Example:
      onceforall quickstart
      onceforall train images-ps --data photos --out runs/photos
      onceforall evaluate runs/photos
      onceforall export runs/photos best --max-macs 5M
    """


main.add_command(study)
main.add_command(compare)
main.add_command(grow)
main.add_command(export)
main.add_command(inspect)
main.add_command(predict)
main.add_command(latency_commands)
main.add_command(predictor)
main.add_command(search)
main.add_command(finetune)
main.add_command(import_mit)
main.add_command(export_mit)
main.add_command(exits)
main.add_command(export_exits)
main.add_command(package)
main.add_command(unpack)

_SET = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a field of the recipe; may be repeated."
)
_DATA = click.option("--data", type=click.Path(path_type=Path), help="Folder of images.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
_RUN = click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/quickstart"), show_default=True)
@_SET
def quickstart(out: Path, overrides: tuple[str, ...]) -> None:
    """Train on built-in digits, compare sub-networks, draw the picture, export one and verify it.

    Interrupted, the same command goes on.

    \b
    Example:
      onceforall quickstart --out runs/quickstart
    """
    from onceforall.deploying.export_run import bundle_folder, export_run
    from onceforall.exporting import ExportOptions
    from onceforall.recipes import make_recipe
    from onceforall.runs import find_architecture, open_run, train_run
    from onceforall.training.records import SETTINGS

    train_run(make_recipe("digits-ps", overrides), out, resume=(out / SETTINGS).is_file())
    run = open_run(out)
    _evaluate(run, split="validation", random_ones=8, latency=False, calibration=None, quiet=True)
    results = _evaluate(run, split="test", random_ones=8, latency=True, calibration=None, quiet=False)
    largest = next(row for row in results["rows"] if row["name"] == "largest")
    budget = largest["macs"] // 2
    architecture = find_architecture(run, "best", max_macs=budget)
    click.echo(f"\nbest on validation within half the largest's multiply-adds: {architecture}")
    tell_export(export_run(run, architecture, bundle_folder(out, ExportOptions())))
    page = _report(out)
    click.echo(f"picture: {out / 'results' / 'test-front.png'}\nreport:  {page}")


@main.command()
@click.argument("recipe")
@_DATA
@click.option("--out", type=click.Path(path_type=Path), help="Run directory; runs/RECIPE by default.")
@_SET
@click.option("--resume", is_flag=True, help="Go on with the run in --out, exactly where it was.")
@click.option("--max-minutes", type=float, help="Stop after this time; go on later with --resume.")
@click.option("--until", metavar="PHASE", help="Stop after this phase; go on later with --resume.")
def train(
    recipe: str,
    data: Path | None,
    out: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    max_minutes: float | None,
    until: str | None,
) -> None:
    """Train the elastic network of RECIPE; `onceforall recipes` lists them.

    \b
    Example:
      onceforall train images-ps --data photos --out runs/photos --set network.width_mult=0.5
      torchrun --nproc-per-node 2 -m onceforall train images-ps --data photos --set run.micro_batches=2
    """
    from onceforall.recipes import make_recipe
    from onceforall.runs import is_finished, train_run

    limit = () if max_minutes is None else (f"run.max_minutes={max_minutes}",)
    folder = out or Path("runs") / recipe
    made = make_recipe(recipe, (*overrides, *limit), data)
    train_run(made, folder, resume=resume, until=until, progress=reading_progress())
    if is_finished(folder) and os.environ.get("RANK", "0") == "0":  # one of several processes speaks
        click.echo(f"done: {folder}\nnext: onceforall evaluate {folder}")


@main.command()
@click.argument("recipe")
@_DATA
@_SET
@_JSON
def plan(recipe: str, data: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show the phases of RECIPE with their cost, memory and time on this machine; train nothing.

    \b
    Example:
      onceforall plan images-ps --data photos
    """
    from dataclasses import asdict

    from onceforall.evaluation.results import format_count
    from onceforall.recipes import build_data, build_phases, build_supernet, make_recipe
    from onceforall.training.distributed import pick_device
    from onceforall.training.growing import beginning
    from onceforall.training.plan import plan_schedule

    made = make_recipe(recipe, overrides, data)
    images = build_data(made, reading_progress())
    supernet = build_supernet(made, images)
    phases = build_phases(made, supernet, images.count("train"))
    first, device = beginning(supernet, phases, made.run.seed), pick_device(made.run.device)
    plans = plan_schedule(first, phases, images.count("train"), device, NetworkProgress("speed of phases"))
    if as_json:
        rest = [{"seconds": p.seconds, "micro_batches": p.micro_batches} for p in plans]
        click.echo(json.dumps([asdict(p.cost) | more for p, more in zip(plans, rest, strict=True)], indent=2))
        return
    rows = []
    for phase, planned in zip(phases, plans, strict=True):
        cost = planned.cost
        row = [phase.name, f"{phase.epochs}+{phase.warmup_epochs}", f"{phase.learning_rate:g}", str(cost.steps)]
        row += [str(phase.batch_size), str(phase.subnets_per_step), phase.teacher.source]
        row += [format_count(cost.student_macs), format_count(cost.teacher_macs), f"{planned.seconds / 60:.1f}"]
        sizes = (cost.parameter_bytes, cost.optimizer_bytes, cost.activation_bytes)
        rows.append([*row, *(f"{size / 2**20:.1f}" for size in sizes)])
    header = ["phase", "epochs", "rate", "steps", "batch", "subnets", "teacher", "macs", "teacher macs", "min"]
    print_table([*header, "weights MiB", "optimizer", "kept"], rows)
    total = sum(p.seconds for p in plans) / 60
    parts = max(p.micro_batches for p in plans)
    click.echo(
        f"{images.count('train')} training {images.inputs}, {phases[-1].space.size():.3g} architectures; "
        f"about {total:.0f} min for students and teacher at this machine's present speed; validation comes on top."
    )
    click.echo(f"kept: of a whole batch, for the backward pass. Proposed: --set run.micro_batches={parts}")


@main.command()
@_RUN
@_DATA
@click.option("--split", type=click.Choice(["validation", "test"]), default="test", show_default=True)
@click.option("--phase", help="Weights after this phase; the newest by default. With --grid also 'all'.")
@click.option("-n", "random_ones", type=click.IntRange(0), default=20, show_default=True, help="Random architectures.")
@click.option(
    "--grid", is_flag=True, help="All networks of the phase with factors constant over the network, on both splits."
)
@click.option("--resolutions", metavar="48,56,64", help="Only these resolutions of the grid.")
@click.option("--limit", type=int, help="At most so many networks of the grid, drawn by the seed.")
@click.option("--latency", is_flag=True, help="Measure each on this machine: one thread, one image.")
@click.option("--calibration-images", type=click.IntRange(0), help="0 shows what leaving calibration out does.")
@_JSON
def evaluate(
    run_dir: Path,
    data: Path | None,
    split: str,
    phase: str | None,
    random_ones: int,
    grid: bool,
    resolutions: str | None,
    limit: int | None,
    latency: bool,
    calibration_images: int | None,
    as_json: bool,
) -> None:
    """Measure sub-networks of RUN on data that training never saw; write tables and pictures into RUN/results.

    What was measured before is kept and not measured again, but for latency and the tables of single volumes.

    \b
    Example:
      onceforall evaluate runs/photos -n 50
      onceforall evaluate runs/photos --grid --phase all --resolutions 48,64
    """
    from onceforall.runs import open_run

    if grid and latency:
        raise UserError("--latency goes with -n: the grid is about accuracy.")
    if not grid and (resolutions is not None or limit is not None or phase == "all"):
        raise UserError("--resolutions, --limit and --phase all go with --grid.")
    sizes = None if resolutions is None else numbers("--resolutions", resolutions)
    run = open_run(run_dir, data, None if phase == "all" else phase)
    if grid:
        results = _evaluate_grids(run, phase == "all", sizes, limit, calibration_images, quiet=as_json)
    else:
        results = _evaluate(run, split, random_ones, latency, calibration_images, quiet=as_json)
    if as_json:
        click.echo(json.dumps(results))


@main.command()
@_RUN
def report(run_dir: Path) -> None:
    """Write RUN/report.html: curves, phases, tables, pictures and the time ledger, in one file that works offline.

    \b
    Example:
      onceforall report runs/photos
    """
    click.echo(_report(run_dir))


@main.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes, or show one whole.

    \b
    Example:
      onceforall recipes digits-ps
    """
    from inspect import getdoc

    from onceforall.recipes import RECIPES, make_recipe

    if name is None:
        for key, function in RECIPES.items():
            click.echo(f"{key:18}  {(getdoc(function) or '').splitlines()[0]}")
        return
    made = make_recipe(name)
    click.echo(getdoc(RECIPES[name]))
    click.echo(json.dumps(made.to_dict(), indent=2))


@main.group()
def data() -> None:
    """Look at a data set before training on it."""


@data.command("check")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--recipe", help="Judge it as training by this recipe reads it: sizes, labels, classes, splits.")
@_SET
@_JSON
def data_check(path: Path, recipe: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Read every file of PATH once and tell what is there, and what is wrong; ends with 2 where it cannot be used.

    \b
    Example:
      onceforall data check photos
      onceforall data check tumours --recipe brats-prox-mr --set data.volumes.fit=crop
    """
    from onceforall.data import check_data
    from onceforall.recipes import make_recipe, reading_options

    if overrides and recipe is None:
        raise UserError("--set goes with --recipe.")
    options = None if recipe is None else reading_options(make_recipe(recipe, overrides, path), overrides)
    found = check_data(path, options, reading_progress())
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.text())
    if found.errors:
        click.get_current_context().exit(2)


# -- what several commands do -------------------------------------------------------------------------------------


def _evaluate(
    run: "Run", split: str, random_ones: int, latency: bool, calibration: int | None, quiet: bool
) -> Mapping[str, Any]:
    from onceforall.report.terminal import print_evaluation
    from onceforall.runs import chosen_architectures, evaluate_run

    architectures = chosen_architectures(run.space, random_ones=random_ones, seed=run.recipe.run.seed)
    if not quiet:
        inputs = f"{run.data.count(split)} {split} {run.data.inputs}"
        click.echo(f"{inputs}, {len(architectures)} sub-networks after {run.phase!r}")
    results = evaluate_run(
        run,
        architectures,
        split=split,
        calibration_images=calibration,
        latency=latency,
        progress=None if quiet else NetworkProgress(run.phase),
    )
    if quiet:
        return results
    print_evaluation(results, run.task.shown)
    click.echo(f"written: {run.folder / 'results'}")
    return results


def _evaluate_grids(
    run: "Run",
    every_phase: bool,
    resolutions: list[int] | None,
    limit: int | None,
    calibration: int | None,
    quiet: bool,
) -> list[dict[str, Any]]:
    from onceforall.evaluation.grid import grid_tables
    from onceforall.runs import evaluate_grid, phase_runs

    grids = [
        evaluate_grid(
            each,
            resolutions=resolutions,
            limit=limit,
            calibration_images=calibration,
            progress=None if quiet else NetworkProgress(each.phase),
        )
        for each in (phase_runs(run) if every_phase else [run])
    ]
    if not quiet:
        for header, rows in grid_tables(grids):
            print_table(header, rows)
            click.echo()
        click.echo(f"written: {run.folder / 'results' / 'grids'}")
    return grids


def _report(run_dir: Path) -> Path:
    from onceforall.report import write_report

    return write_report(run_dir)
