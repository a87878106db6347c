"""The commands `onceforall study ...`. Nothing heavy is imported before a study begins."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onceforall.console import NetworkProgress
from onceforall.errors import UserError

if TYPE_CHECKING:
    from onceforall.recipes import Recipe
    from onceforall.studies.cells import Cell
    from onceforall.studies.claims import Judgement
    from onceforall.studies.prox_cells import ProxCell
    from onceforall.studies.study import Job, Scale
    from onceforall.training.phases import Phase

__all__ = ["study"]

SCALE_NAMES = ("tiny", "small", "paper")


@click.group()
def study() -> None:
    """Make the tables of a paper again, and judge its claims.

    \b
    Example:
      onceforall study ofav2 --scale tiny --out runs/ofav2-tiny --workers 2
      onceforall study prox --scale small --data images=photos --workers 2
    """


@study.command()
@click.option("--scale", "scale_name", type=click.Choice(SCALE_NAMES), default="tiny", show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of Tiny ImageNet; the scale tiny needs none.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the study; runs/ofav2-SCALE by default.")
@click.option("--networks", metavar="NAMES", help="Names with commas between them; all eight by default.")
@click.option("--teachers", metavar="NAMES", help="fixed, previous_phase, or both (the default).")
@click.option("--widths", metavar="NUMBERS", default="1.0", show_default=True, help="1.0 (Table IV), 1.2 (Table V).")
@click.option("--seeds", metavar="NUMBERS", default="0", show_default=True, help="With commas between them.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Runs at the same time.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a field of every recipe.")
@click.option("--dry-run", is_flag=True, help="List the runs with their phases and epochs; train nothing.")
def ofav2(
    scale_name: str,
    data: Path | None,
    out: Path | None,
    networks: str | None,
    teachers: str | None,
    widths: str,
    seeds: str,
    workers: int,
    overrides: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Train and measure the networks of OFAv2 (2023), and write its Tables IV and V, a chart and its claims.

    Each network, width, teacher and seed is one run. A study that was stopped goes on where it was; networks,
    teachers, widths and seeds can be added later to the same folder.

    \b
    Example:
      onceforall study ofav2 --scale tiny --dry-run
      onceforall study ofav2 --scale small --data tiny-imagenet-200 --networks ofa_mbv3,ee_d_ofa_mbv3 --workers 2
    """
    from onceforall.studies import ofav2 as paper
    from onceforall.studies.cells import Cell, cell_recipe, study_jobs
    from onceforall.studies.study import check_study, keep_study, parse_list

    scale = paper.SCALES[scale_name]
    folder = out or Path("runs") / f"ofav2-{scale.name}"
    names = parse_list("network", networks, paper.NETWORKS)
    choices = parse_list("teacher", teachers, list(paper.TEACHERS))
    sizes = parse_list("width", widths, list(paper.WIDTHS))
    cells = [Cell(n, float(w), t, s) for s, w, n, t in itertools.product(_numbers(seeds), sizes, names, choices)]
    if data is not None and scale_name == "tiny":
        raise UserError("the scale tiny trains on the built-in digits; leave --data out, or choose another --scale.")
    kept = check_study(folder, "ofav2", scale, overrides)
    data = Path(kept) if data is None and kept else data
    jobs = study_jobs(cells, folder, scale, steps=paper.STEPS, shared=paper.SHARED, overrides=overrides, data=data)
    if dry_run:
        _list_cells(cells, jobs, scale, overrides, data)
        return

    from onceforall.studies.ofav2_report import scale_note, write_ofav2

    click.echo(scale_note(scale, overrides))
    failures = _run(
        jobs,
        workers,
        len(cells),
        lambda: [cell_recipe(cells[0], scale, overrides, data)],
        lambda: keep_study(folder, "ofav2", scale, overrides, None if data is None else str(data)),
    )
    judgements = write_ofav2(folder, scale, overrides)
    _tell_claims(judgements)
    if judgements[0].ours is None:
        click.echo("the headline needs ofa_mbv3 with the teacher fixed and ee_d_ofa_mbv3 with previous_phase.")
    click.echo(f"written: {folder / 'study.html'}, study.md, claims.csv, table4.csv, table5.csv")
    _tell_failures(failures)


@study.command()
@click.option("--scale", "scale_name", type=click.Choice(SCALE_NAMES), default="tiny", show_default=True)
@click.option("--data", "data", multiple=True, metavar="NAME=PATH", help="oct, images, hippocampus or brats.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the study; runs/prox-SCALE by default.")
@click.option("--methods", metavar="NAMES", help="ps, prox-mr, prox-ir, sandwich, separate; all by default.")
@click.option("--seeds", metavar="NUMBERS", default="0", show_default=True, help="With commas between them.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Runs at the same time.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a field of every recipe.")
@click.option("--macs", is_flag=True, help="Buckets of multiply-adds; no latency is measured.")
@click.option("--dry-run", is_flag=True, help="List the runs with their phases and epochs; train nothing.")
def prox(
    scale_name: str,
    data: tuple[str, ...],
    out: Path | None,
    methods: str | None,
    seeds: str,
    workers: int,
    overrides: tuple[str, ...],
    macs: bool,
    dry_run: bool,
) -> None:
    """Train and measure ProX (2022) beside progressive shrinking, the sandwich rule and networks trained by themselves.

    Each data set, method and seed is one run; those of a data set and seed are compared. A study that was stopped goes
    on where it was; data sets, methods and seeds can be added later to the same folder.

    \b
    Example:
      onceforall study prox --scale tiny --workers 2
      onceforall study prox --scale small --data images=photos --methods ps,prox-mr,prox-ir --seeds 0,1
      onceforall study prox --scale small --data hippocampus=Task04_Hippocampus --methods ps,prox-mr,prox-ir
      onceforall study prox --scale paper --data oct=OCT2017 --dry-run
    """
    from onceforall.studies import prox as paper
    from onceforall.studies.prox_cells import ProxCell, finished_cells, parse_places, prox_job, prox_recipe
    from onceforall.studies.study import check_study, keep_study, parse_list
    from onceforall.studies.tables import scale_text

    scale = paper.SCALES[scale_name]
    folder = out or Path("runs") / f"prox-{scale.name}"
    names = parse_list("method", methods, list(paper.METHODS))
    runs = [run for name in names for run in paper.METHODS[name]]
    given = parse_places(data)
    places = {**(check_study(folder, "prox", scale, overrides) or {}), **given}
    digits = scale_name == "tiny" and (not places or (not given and any(folder.glob("digits-*"))))
    sets = _data_sets(scale_name, [*places, *(["digits"] if digits else [])], any_place=dry_run)
    cells = [ProxCell(*each) for each in itertools.product(sets, runs, _numbers(seeds))]
    jobs = [prox_job(cell, folder, scale, overrides=overrides, places=places) for cell in cells]
    click.echo(scale_text(scale, overrides))
    if dry_run:
        _list_prox_cells(cells, jobs)
        return

    from onceforall.studies.prox_report import compare_cells, write_prox

    first = {cell.data: cell for cell in reversed(cells)}
    failures = _run(
        jobs,
        workers,
        len(cells),
        lambda: [prox_recipe(cell, scale, overrides, places) for cell in first.values()],
        lambda: keep_study(folder, "prox", scale, overrides, places),
    )
    with _interruptible():
        compare_cells(
            finished_cells(folder),
            folder,
            scale,
            places=places,
            by="macs" if macs else "auto",
            progress=NetworkProgress,
            say=click.echo,
        )
    judgements = write_prox(folder, scale, overrides)
    _tell_claims(judgements)
    click.echo(f"written: {folder / 'study.html'}, study.md, claims.csv, training.csv, scores.csv, comparison-...")
    _tell_failures(failures)


def _data_sets(scale: str, wanted: Sequence[str], any_place: bool) -> list[str]:
    """Those of the `wanted` data sets that can be run at a scale; of another one a line says so.

    `any_place`: where none is wanted, take all that can be run.
    """
    from onceforall.studies.prox import DATA_SETS

    known = [name for name, data_set in DATA_SETS.items() if scale in data_set.recipes]
    for name in wanted:
        if name not in known:
            click.echo(f"{name}: not run; there is no recipe for it at scale {scale}.")
    found = [name for name in known if name in wanted] or (known if any_place and not wanted else [])
    if not found:
        examples = " or ".join(f"--data {name}=PATH" for name in known if name != "digits")
        instead = "leave --data out for the built-in digits, or " if scale == "tiny" else ""
        raise UserError(f"the scale {scale} has nothing to run: {instead}give {examples}.")
    return found


def _numbers(text: str) -> list[int]:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not items or not all(item.isdecimal() for item in items):
        raise UserError(f"seeds {text!r}: give whole numbers from 0 on with commas between them, such as 0,1.")
    return list(dict.fromkeys(map(int, items)))


def _run(
    jobs: "Sequence[Job]",
    workers: int,
    count: int,
    recipes: "Callable[[], Sequence[Recipe]]",
    begin: Callable[[], object],
) -> list[str]:
    """Do what is to do of `count` runs; an interruption says how to go on.

    `recipes` gives one of each data set: they are loaded first, so that a mistake is found now and caches are filled
    once; `begin` is called after that.
    """
    from onceforall.recipes import build_data
    from onceforall.studies.running import accelerators, run_jobs

    open_ones = [job for job in jobs if job.open_pieces()]
    for recipe in recipes() if open_ones else []:
        build_data(recipe)
    begin()
    if not open_ones:
        click.echo("all runs are done.")
        return []
    devices = accelerators()
    where = f"{len(devices)} accelerator(s)" if devices else "the processor, one thread each"
    click.echo(f"{count} runs, {len(open_ones)} to do or to go on with; {workers} at a time on {where}")
    say: Callable[[str], None] = click.echo
    with _interruptible():
        return run_jobs(jobs, workers=workers, devices=devices, say=say)


@contextmanager
def _interruptible() -> Iterator[None]:
    """An interruption of the body ends the command and says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopped; what was saved is kept, and the same command goes on from there.", err=True)
        click.get_current_context().exit(130)


def _tell_claims(judgements: "Sequence[Judgement]") -> None:
    """A line for each claim that could be judged: the verdict, and ours in points, of Dice or as a ratio."""
    from onceforall.studies.tables import shown_as

    for found in judgements:
        if found.ours is not None:
            click.echo(f"{found.verdict:9}  {shown_as(found.claim)(found.ours, ''):>7}  {found.claim.text}")


def _tell_failures(failures: Sequence[str]) -> None:
    """Why runs failed; the command then ends with 1."""
    if failures:
        click.echo(f"failed: {len(failures)}; the same command tries them again:", err=True)
        for line in failures:
            click.echo(f"  {line}", err=True)
        click.get_current_context().exit(1)


def _list_prox_cells(cells: "Sequence[ProxCell]", jobs: "Sequence[Job]") -> None:
    from onceforall.recipes import recipe_from_dict
    from onceforall.studies.cells import planned_phases

    for cell, job in zip(cells, jobs, strict=True):
        done = "" if job.open_pieces() else " (done)"
        click.echo(f"{cell.name}{done}: {_epochs(planned_phases(recipe_from_dict(job.recipe)))}")
    click.echo(f"{len(cells)} runs")


def _epochs(phases: "Sequence[Phase]") -> str:
    each = ", ".join(f"{phase.name} {phase.total_epochs}" for phase in phases)
    return f"{sum(phase.total_epochs for phase in phases)} epochs: {each}"


def _list_cells(
    cells: "Sequence[Cell]", jobs: "Sequence[Job]", scale: "Scale", overrides: tuple[str, ...], data: Path | None
) -> None:
    from onceforall.studies.cells import cell_recipe, planned_phases
    from onceforall.studies.ofav2_report import scale_note

    click.echo(scale_note(scale, overrides))
    done = {job.folder.name for job in jobs if not job.open_pieces()}
    shown: dict[tuple[str, float], str] = {}
    for cell in cells:
        key = (cell.network, cell.width)
        if key not in shown:
            shown[key] = _epochs(planned_phases(cell_recipe(cell, scale, overrides, data)))
        click.echo(f"{cell.name}{' (done)' if cell.name in done else ''}: {shown[key]}")
    click.echo(f"{len(cells)} runs; full and kernel are trained once for both teachers.")
