"""The command `onceforall search`. Nothing heavy is imported before it begins."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from onceforall.console import NetworkProgress, print_table
from onceforall.errors import UserError, check_choice
from onceforall.searching.command_options import factors, interruptible, read_table, spreading_options

if TYPE_CHECKING:
    from onceforall.searching.run_search import BudgetAnswer

__all__ = ["search"]

COUNTS = {
    "--max-macs": "At most so many multiply-adds, such as 50M.",
    "--max-params": "At most so many parameters, such as 2M.",
    "--max-weight-bytes": "At most so many bytes of weights, such as 8M.",
    "--max-peak-bytes": "At most so many bytes that one layer reads and writes, such as 500K.",
}
NEEDS_DATA = ("phase", "samples", "rounds", "members", "compare", "workers", "executor")


def _count_options(command: Callable) -> Callable:
    for name, text in reversed(COUNTS.items()):
        command = click.option(name, help=text)(command)
    return command


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@_count_options
@click.option("--max-latency-ms", type=float, help="At most so long, as --latency-table predicts it.")
@click.option("--min-accuracy", type=float, help="At least so much of the run's metric (accuracy, Dice), such as 0.9.")
@click.option(
    "--objectives", metavar="NAME,NAME", help="What to trade off; the metric and latency_ms or macs if left out."
)
@click.option("--predictor", "predictor_file", type=click.Path(path_type=Path), help="From `predictor fit`.")
@click.option("--latency-table", "table_file", type=click.Path(path_type=Path), help="From `latency build`.")
@click.option("--backend", help="The engine that the latency table must be of, such as onnxruntime.")
@click.option(
    "--samples", type=click.IntRange(10), default=100, show_default=True, help="To fit a predictor, if none is given."
)
@click.option("--rounds", type=click.IntRange(1), default=4, show_default=True, help="Of search, measurement and fit.")
@click.option(
    "--members", type=click.IntRange(2), default=10, show_default=True, help="Networks to measure in a round."
)
@click.option("--candidates", type=click.IntRange(100), default=5_000, show_default=True, help="To judge in a round.")
@click.option("--only", multiple=True, metavar="FACTOR=N,N", help="Search among these, as resolutions=48,64.")
@click.option(
    "--compare", type=click.IntRange(0), default=0, help="Also measure so many random networks and of the grid."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@spreading_options
@click.option("--data", type=click.Path(path_type=Path), help="Where the images are now.")
@click.option("--force", is_flag=True, help="Take a latency table of another machine or engine version too.")
@click.option("--phase", help="Weights after this phase; the newest by default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def search(
    run_dir: Path,
    max_latency_ms: float | None,
    min_accuracy: float | None,
    objectives: str | None,
    predictor_file: Path | None,
    table_file: Path | None,
    backend: str | None,
    samples: int,
    rounds: int,
    members: int,
    candidates: int,
    only: tuple[str, ...],
    compare: int,
    seed: int,
    workers: int,
    executor: str,
    data: Path | None,
    force: bool,
    phase: str | None,
    as_json: bool,
    **counts: str | None,
) -> None:
    """Find the sub-network of RUN for a budget; write the front of all that are worth having into RUN/search.

    RUN may be an archive of `onceforall package`; without --data its own predictor answers, and nothing is measured.

    Without --predictor some networks are measured first, on validation, and a predictor is fitted. The networks that
    the search finds are measured too; the one that answers is chosen by that, and it alone is measured on test. What
    was measured before is not measured again.

    \b
    Example:
      onceforall search runs/photos --max-macs 50M
      onceforall search family.zip --max-macs 50M
      onceforall search runs/photos --min-accuracy 0.9 --predictor runs/photos/search/predictor.json
      onceforall search runs/photos --max-latency-ms 20 --latency-table cpu.json --backend onnxruntime
    """
    from onceforall.evaluation.engines import BACKENDS
    from onceforall.evaluation.results import parse_budget
    from onceforall.families import is_family, open_family
    from onceforall.runs import open_run
    from onceforall.searching.command_family import own_table, tell_family
    from onceforall.searching.predictor import Predictor
    from onceforall.searching.run_search import answer_row, search_run

    if backend is not None:
        check_choice("backend", backend, BACKENDS)
    if is_family(run_dir) and data is None:
        _refuse_what_needs_data()
    family = open_family(run_dir) if is_family(run_dir) else None
    goals = None if objectives is None else [name.strip() for name in objectives.split(",")]
    if family is not None:
        predictor_file = predictor_file or family.predictor
        if table_file is None and (max_latency_ms is not None or "latency_ms" in (goals or ())):
            table_file, force = own_table(family), True  # which may be of any machine, and says so
    if max_latency_ms is not None and table_file is None:
        raise UserError(
            "--max-latency-ms needs --latency-table, which says how long networks take on the device. Make it with: "
            f"onceforall latency build {run_dir} --backend {backend or 'onnxruntime'} --out latency.json"
        )
    for option, given in ((f"--backend {backend}", backend is not None), ("--force", force)):
        if given and table_file is None:
            raise UserError(f"{option} goes with --latency-table and --max-latency-ms.")
    limits: dict[str, float] = {name: parse_budget(text) for name, text in counts.items() if text is not None}
    limits |= {} if max_latency_ms is None else {"max_latency_ms": max_latency_ms}
    how = {"objectives": goals, "candidates": candidates, "only": factors("--only", only), "seed": seed}
    if family is not None and data is None:
        limits |= _limit_of_metric(min_accuracy, family.metric, family.higher_is_better)
        tell_family(
            family, limits, predictor_file, read_table(table_file, family.supernet, backend, force)[0], as_json, **how
        )
        return
    run = open_run(run_dir if family is None else family.folder, data, phase)
    limits |= _limit_of_metric(min_accuracy, run.task.metric, run.task.higher_is_better)
    table, engine = read_table(table_file, run.supernet, backend, force)
    with interruptible():
        answer = search_run(
            run,
            limits,
            predictor=None if predictor_file is None else Predictor.load(predictor_file),
            latency_table=table,
            engine=engine,
            samples=samples,
            rounds=rounds,
            members=members,
            compare=compare,
            workers=workers,
            executor=executor,
            progress=None if as_json else NetworkProgress(run.phase),
            **how,
        )
    if answer.note:
        click.echo(f"note: {answer.note}", err=True)
    if as_json:
        click.echo(json.dumps(answer_row(answer)))
    else:
        _tell(answer, "" if table is None else table.measured_on)


def _limit_of_metric(limit: float | None, metric: str, higher_is_better: bool) -> dict[str, float]:
    return {} if limit is None else {f"{'min' if higher_is_better else 'max'}_{metric}": limit}


def _refuse_what_needs_data() -> None:
    context = click.get_current_context()
    for name in NEEDS_DATA:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise UserError(
                f"--{name} goes with --data PATH: without data the predictor of the family answers, and nothing is "
                "measured. Leave it out, or say where the data are."
            )


def _tell(answer: "BudgetAnswer", latency_on: str) -> None:
    """The network, its measures beside what was predicted and asked, and what to do next."""
    from onceforall.searching.archive import front_file
    from onceforall.searching.budget import amount
    from onceforall.searching.latency_measuring import best_estimate_ms

    result, chosen = answer.result, answer.chosen
    asked = {limit.measure: f"{limit.sense} {amount(limit.measure, limit.limit)}" for limit in result.constraints}
    rows = []
    for name, value in chosen.values.items():
        predicted, measured = "", amount(name, value)
        if name == result.metric:
            predicted = "" if chosen.predicted is None else f"{chosen.predicted:.4f} +- {chosen.deviation:.4f}"
        elif name == "latency_ms":
            predicted, measured = (
                measured,
                "" if answer.latency is None else amount(name, best_estimate_ms(answer.latency)),
            )
        gap = answer.distances[name]
        rows.append([name, asked.get(name, ""), predicted, measured, amount(name, gap) if gap else "on it"])
    click.echo(f"{chosen.architecture}\n")
    print_table(["measure", "asked", "predicted", "measured", "from the front"], rows)
    click.echo(f"\n{result.metric} on test: {answer.test:.4f}")
    if latency_on:
        click.echo(f"latency on {latency_on}")
    if answer.latency is not None and answer.latency.noisy:
        click.echo("the machine was busy while latency was measured: take it again when nothing else runs.")
    judged, measured = (sum(getattr(each, what) for each in result.rounds) for what in ("candidates", "measured"))
    if answer.comparison:
        rows = [[row.name, str(row.networks), str(row.front), f"{row.hypervolume:.4f}"] for row in answer.comparison]
        print_table(["way", "measured", "on its front", "hypervolume"], rows)
    click.echo(
        f"{judged} candidates judged, {measured} measured, {len(result.front)} on the front; {result.seconds:.0f} s"
    )
    click.echo(f"front: {front_file(answer.folder)}\nexport it: {answer.command}")
