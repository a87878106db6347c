"""The command `onceforall finetune`. Nothing heavy is imported before it begins."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onceforall.console import print_table, reading_progress

if TYPE_CHECKING:
    from onceforall.deploying.finetuning import FineTuning

__all__ = ["finetune"]


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("arch")
@click.option("--data", type=click.Path(path_type=Path), help="Other images or volumes; those of RUN by default.")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory of the new run; RUN-tuned by default.")
@click.option("--num-classes", type=click.IntRange(1), help="Draw the last layer anew; other classes do so too.")
@click.option("--epochs", type=int, help="20 by default.")
@click.option("--frozen-epochs", type=int, help="Before these, only the head and the last blocks of stages learn.")
@click.option("--learning-rate", type=float, help="0.001 by default.")
@click.option("--freeze-stem", is_flag=True, help="The stem learns nothing.")
@click.option("--distill", is_flag=True, help="The largest sub-network of RUN teaches.")
@click.option("--from-scratch", is_flag=True, help="Begin with untrained weights, to see what those of RUN are worth.")
@click.option(
    "--all-data", is_flag=True, help="Then train anew, for the best number of epochs, on validation data too."
)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a field of the recipe.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, exactly where it was.")
@click.option("--max-minutes", type=float, help="Stop after this time; go on later with --resume.")
def finetune(
    run_dir: Path,
    arch: str,
    data: Path | None,
    out: Path | None,
    num_classes: int | None,
    epochs: int | None,
    frozen_epochs: int | None,
    learning_rate: float | None,
    freeze_stem: bool,
    distill: bool,
    from_scratch: bool,
    all_data: bool,
    changes: tuple[str, ...],
    resume: bool,
    max_minutes: float | None,
) -> None:
    """Train one sub-network of RUN on as an ordinary network, in a run directory of its own.

    ARCH is 'largest', 'smallest', 'best', JSON, or a JSON file. With --data it learns from other images; where these
    have other classes, its last layer is drawn anew. Ends with the metric before and after.

    \b
    Example:
      onceforall finetune runs/photos smallest --epochs 30 --distill
      onceforall finetune runs/photos largest --data scans --frozen-epochs 3 --all-data --out runs/scans
    """
    from onceforall.deploying.finetuning import fine_tune, on_all_data, plan_fine_tuning
    from onceforall.runs import is_finished
    from onceforall.training.records import SETTINGS

    given = {"epochs": epochs, "frozen_epochs": frozen_epochs, "learning_rate": learning_rate}
    given |= {"freeze_stem": freeze_stem or None}
    options = [f"schedule.{name}={value}" for name, value in given.items() if value is not None]
    limit = [] if max_minutes is None else [f"run.max_minutes={max_minutes}"]
    parent = run_dir.resolve()
    folder = out or parent.with_name(f"{parent.name}-tuned")
    plan = plan_fine_tuning(
        run_dir,
        arch,
        [*options, *changes, *limit],
        data,
        num_classes=num_classes,
        distill=distill,
        from_scratch=from_scratch,
        progress=reading_progress(),
    )
    speaks = os.environ.get("RANK", "0") == "0"  # one of several processes
    if speaks:
        head = f"a head for {plan.data.num_classes} classes is new; " if plan.head_is_new else ""
        phases = ", ".join(f"{phase.name} ({phase.total_epochs} epochs)" for phase in plan.phases)
        click.echo(f"architecture: {plan.architecture}")
        click.echo(f"{head}{plan.data.count('train')} training {plan.data.inputs}; phases: {phases}")
    fine_tune(plan, folder, resume=resume)
    rows = [(plan, folder)]
    if all_data and is_finished(folder):
        second, own = on_all_data(plan, folder), folder.resolve()
        whole = own.with_name(f"{own.name}-all")
        if speaks:
            count, best = second.data.count("train"), second.phases[-1].total_epochs
            click.echo(f"on all data: {count} training {second.data.inputs}, {best} epochs")
        fine_tune(second, whole, resume=(whole / SETTINGS).is_file())
        rows.append((second, whole))
    if speaks and is_finished(rows[-1][1]):
        _tell(rows)


def _tell(trained: list[tuple["FineTuning", Path]]) -> None:
    """The table of the metric before and after."""
    from onceforall.deploying.finetuning import compare_fine_tuning

    found = [(folder, compare_fine_tuning(plan, folder)) for plan, folder in trained]
    splits, metric = list(found[0][1]["inputs"]), found[0][1]["metric"]

    def row(name: str, scores: Mapping[str, Any] | None) -> list[str]:
        return [name, *("none" if scores is None else f"{scores[split][metric]:.4f}" for split in splits)]

    rows = [row("before", found[0][1]["before"])]
    rows += [row(f"after: {folder.resolve().name}", result["after"]) for folder, result in found]
    click.echo()
    print_table([metric, *splits], rows)
    click.echo(f"done: {found[-1][0]}\nnext: onceforall export {found[-1][0]} largest")
