"""What `onceforall search` says of a packaged family. Nothing heavy is imported before it begins."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from onceforall.console import print_table
from onceforall.searching.command_options import read_table

__all__ = ["tell_family"]


def tell_family(
    path: Path,
    limits: Mapping[str, float],
    min_metric: float | None,
    predictor_file: Path | None,
    as_json: bool,
    *,
    table_file: Path | None = None,
    backend: str | None = None,
    force: bool = False,
    **how: Any,
) -> None:
    """Search the family at `path`, an archive or its folder, and print the answer.

    `table_file`, `backend` and `force` are as for `read_table`, `how` is for `search_family`.
    """
    from onceforall.families import open_family
    from onceforall.searching.archive import front_file
    from onceforall.searching.budget import amount
    from onceforall.searching.family_search import family_row, search_family
    from onceforall.searching.predictor import Predictor

    family = open_family(path)
    sides = {f"{'min' if family.higher_is_better else 'max'}_{family.metric}": min_metric}
    answer = search_family(
        family,
        {**limits, **{name: limit for name, limit in sides.items() if limit is not None}},
        predictor=None if predictor_file is None else Predictor.load(predictor_file),
        latency_table=read_table(table_file, family.supernet, backend, force)[0],
        **how,
    )
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
    click.echo(f"\nfront: {front_file(answer.folder)}\nexport it: {answer.command}")
