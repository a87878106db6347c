"""Tables as CSV and Markdown."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from onceforall.report.page import Table

__all__ = ["csv_text", "markdown_table"]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def markdown_table(table: Table) -> str:
    """A table of the page as Markdown; of a cell what is shown."""
    shown = [[cell if isinstance(cell, str) else str(cell[0]) for cell in row] for row in [table.head, *table.rows]]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in shown]
    lines.insert(1, "|" + "---|" * len(table.head))
    return "\n".join([*([f"**{table.caption}**", ""] if table.caption else []), *lines, ""])
