"""The commands `onceforall study ...`. Nothing heavy is imported before a study begins."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onceforall.errors import UserError

if TYPE_CHECKING:
    from onceforall.studies.cells import Cell
    from onceforall.studies.study import Job, Scale

__all__ = ["study"]

SCALE_NAMES = ("tiny", "small", "paper")


@click.group()
def study() -> None:
    """Make the tables of a paper again, and judge its claims.

    \b
    Example:
      onceforall study ofav2 --scale tiny --out runs/ofav2-tiny --workers 2
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
    from onceforall.studies.cells import Cell, study_jobs
    from onceforall.studies.study import check_study, keep_study, parse_list

    scale = paper.SCALES[scale_name]
    folder = out or Path("runs") / f"ofav2-{scale.name}"
    names = parse_list("network", networks, paper.NETWORKS)
    choices = parse_list("teacher", teachers, list(paper.TEACHERS))
    sizes = parse_list("width", widths, list(paper.WIDTHS))
    cells = [Cell(n, float(w), t, s) for s, w, n, t in itertools.product(_numbers(seeds), sizes, names, choices)]
    if data is not None and scale_name == "tiny":
        raise UserError("the scale tiny trains on the built-in digits; leave --data out, or choose another --scale.")
    data = check_study(folder, "ofav2", scale, overrides, data)
    jobs = study_jobs(cells, folder, scale, steps=paper.STEPS, shared=paper.SHARED, overrides=overrides, data=data)
    if dry_run:
        _list_cells(cells, jobs, scale, overrides, data)
        return

    from onceforall.studies.ofav2_report import scale_note, write_ofav2

    keep_study(folder, "ofav2", scale, overrides, data)
    click.echo(scale_note(scale, overrides))
    failures = _run(jobs, workers, cells, scale, overrides, data)
    judgements = write_ofav2(folder, scale, overrides)
    head = judgements[0]
    for found in judgements:
        if found.ours is not None:
            click.echo(f"{found.verdict:9}  {100 * found.ours:+7.2f}  {found.claim.text}")
    if head.ours is None:
        click.echo("the headline needs ofa_mbv3 with the teacher fixed and ee_d_ofa_mbv3 with previous_phase.")
    click.echo(f"written: {folder / 'study.html'}, study.md, claims.csv, table4.csv, table5.csv")
    if failures:
        click.echo(f"failed: {len(failures)}; the same command tries them again:", err=True)
        for line in failures:
            click.echo(f"  {line}", err=True)
        click.get_current_context().exit(1)


def _numbers(text: str) -> list[int]:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not items or not all(item.isdecimal() for item in items):
        raise UserError(f"seeds {text!r}: give whole numbers from 0 on with commas between them, such as 0,1.")
    return list(dict.fromkeys(map(int, items)))


def _run(
    jobs: "Sequence[Job]",
    workers: int,
    cells: "Sequence[Cell]",
    scale: "Scale",
    overrides: tuple[str, ...],
    data: Path | None,
) -> list[str]:
    """Do what is to do; an interruption says how to go on."""
    from onceforall.recipes import build_data
    from onceforall.studies.cells import cell_recipe
    from onceforall.studies.running import accelerators, run_jobs

    open_ones = [job for job in jobs if job.open_pieces()]
    if not open_ones:
        click.echo("all runs are done.")
        return []
    build_data(cell_recipe(cells[0], scale, overrides, data))  # a mistake is found now, and the cache is filled once
    devices = accelerators()
    where = f"{len(devices)} accelerator(s)" if devices else "the processor, one thread each"
    click.echo(f"{len(cells)} runs, {len(open_ones)} to do or to go on with; {workers} at a time on {where}")
    say: Callable[[str], None] = click.echo
    try:
        return run_jobs(jobs, workers=workers, devices=devices, say=say)
    except KeyboardInterrupt:
        click.echo("stopped; what was saved is kept, and the same command goes on from there.", err=True)
        click.get_current_context().exit(130)


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
            phases = planned_phases(cell_recipe(cell, scale, overrides, data))
            epochs = ", ".join(f"{phase.name} {phase.total_epochs}" for phase in phases)
            shown[key] = f"{sum(phase.total_epochs for phase in phases)} epochs: {epochs}"
        click.echo(f"{cell.name}{' (done)' if cell.name in done else ''}: {shown[key]}")
    click.echo(f"{len(cells)} runs; full and kernel are trained once for both teachers.")
