"""Tables of a study as CSV and Markdown, and the table of its claims."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from onceforall.report.page import Table
from onceforall.report.wording import MISSING
from onceforall.studies.claims import Judgement

__all__ = ["NOT_RUN", "claim_rows", "claims_table", "csv_text", "markdown_table", "percent", "points"]

NOT_RUN = "not run"
INTERVALS = {
    "bootstrap": "paired bootstrap over test images and seeds",
    "widest": "widest that the number of test images allows, without the spread of seeds",
    "": "",
}
ONE_SEED = "one seed: the interval says nothing about another training"


def percent(value: float | None, missing: str = NOT_RUN) -> str:
    """A share in percent, as the papers print it."""
    return missing if value is None else f"{100 * value:.2f}"


def points(value: float | None, missing: str = NOT_RUN) -> str:
    """A difference of shares in percentage points, with its sign."""
    return missing if value is None else f"{100 * value:+.2f}"


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


def claim_rows(judgements: Sequence[Judgement]) -> list[dict[str, str]]:
    """A row of CSV for each claim; differences in percentage points."""
    out = []
    for found in judgements:
        claim, run = found.claim, found.ours is not None
        notes = [claim.note, ONE_SEED if len(found.seeds) == 1 else ""]
        row = {"claim": claim.name, "text": claim.text, "more_than": f"{100 * claim.more_than:g}"}
        row |= {"paper": points(found.paper, ""), "ours": points(found.ours), "low": points(found.low, "")}
        row |= {"high": points(found.high, ""), "verdict": found.verdict, "interval": INTERVALS[found.interval]}
        row |= {"best_on_test_inflated": points(found.best_on_test, "" if run else NOT_RUN)}
        row |= {"seeds": " ".join(map(str, found.seeds)), "note": "; ".join(filter(None, notes))}
        out.append(row)
    return out


def claims_table(judgements: Sequence[Judgement]) -> Table:
    """The claims as a table of the page."""
    head = ["claim", "paper", "ours", "95 % interval", "verdict", "best on test (inflated)", "note"]
    rows = []
    for found in judgements:
        run = found.ours is not None
        bounds = f"{points(found.low)} to {points(found.high)}" if run else MISSING
        wide = " (widest possible)" if found.interval == "widest" else ""
        least = f"claimed: more than {100 * found.claim.more_than:g}" if found.claim.more_than else ""
        rows.append(
            [
                found.claim.text,
                points(found.paper, MISSING),
                points(found.ours, MISSING),
                bounds + wide,
                found.verdict,
                points(found.best_on_test, MISSING),
                "; ".join(filter(None, [least, found.claim.note])) or MISSING,
            ]
        )
    return Table(head, rows, "Differences in percentage points")
