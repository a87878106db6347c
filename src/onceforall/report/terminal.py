"""What an evaluation found, for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from onceforall.console import print_table
from onceforall.evaluation.cases import case_table, worst_cases
from onceforall.evaluation.results import format_count
from onceforall.report.wording import MISSING, show_architecture, words

__all__ = ["print_evaluation"]


def print_evaluation(results: Mapping[str, Any], shown: Sequence[str]) -> None:
    """Print a line for each network with the numbers `shown`, cost and architecture; of volumes also the cases."""
    rows = results["rows"]
    latency = ["ms"] if "latency_ms" in rows[0] else []
    cells = [
        [
            row["name"],
            *(MISSING if row[name] is None else f"{row[name]:.4f}" for name in shown),
            *(format_count(row[name]) for name in ("params", "macs")),
            *(f"{row['latency_ms']:.2f}" for _ in latency),
            show_architecture(row),
        ]
        for row in rows
    ]
    head = ["name", *map(words, shown), "params", "macs", *latency, "architecture"]
    print_table(head, cells, words=["architecture"])
    if results["cases"]:
        click.echo("\nevery volume on the grid of its file:")
        print_table(*case_table(results["cases"]), words=["output"])
        for name, found in results["cases"].items():
            click.echo(f"lowest Dice of {name}: {worst_cases(found)}")
