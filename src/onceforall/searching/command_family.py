"""What `onceforall search` does with a packaged family. Nothing heavy is imported before it begins."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onceforall.console import print_table
from onceforall.errors import UserError

if TYPE_CHECKING:
    from onceforall.families import Family
    from onceforall.searching.latency_table import LatencyTable

__all__ = ["own_table", "tell_family"]


def own_table(family: "Family") -> Path:
    """The one latency table of a family."""
    tables = family.latency_tables
    if len(tables) != 1:
        raise UserError(f"{family.folder} has {len(tables)} latency tables: say by --latency-table which one to use.")
    return tables[0]


def tell_family(
    family: "Family",
    limits: Mapping[str, float],
    predictor_file: Path | None,
    table: "LatencyTable | None",
    as_json: bool,
    **how: Any,
) -> None:
    """Search a family without data, and print the answer; `how` is for `search_family`."""
    from onceforall.searching.archive import front_file
    from onceforall.searching.budget import amount
    from onceforall.searching.family_search import family_row, search_family
    from onceforall.searching.predictor import Predictor

    predictor = None if predictor_file is None else Predictor.load(predictor_file)
    answer = search_family(family, limits, predictor=predictor, latency_table=table, **how)
    if answer.note:
        click.echo(f"note: {answer.note}", err=True)
    if as_json:
        click.echo(json.dumps(family_row(answer)))
        return
    result, chosen = answer.result, answer.chosen
    asked = {limit.measure: f"{limit.sense} {amount(limit.measure, limit.limit)}" for limit in result.constraints}
    rows = []
    for name, value in chosen.values.items():
        known = amount(name, value)
        if name == "latency_ms":
            known += " (predicted)"
        elif name == result.metric and chosen.deviation is not None:
            known = f"{value:.4f} +- {chosen.deviation:.4f} (predicted)"
        rows.append([name, asked.get(name, ""), known])
    click.echo(f"{chosen.architecture}\n")
    print_table(["measure", "asked", "value"], rows)
    if table is not None:
        click.echo(f"\nlatency on {table.measured_on}")
    click.echo(f"\nfront: {front_file(answer.folder)}\nexport it: {answer.command}")
