"""One offline HTML page about a run: what was trained and how, curves, results, costs, machine.

The page is made of sections (`Section`), each made of facts, tables and figures, so that adding to it is adding a
value. It asks the network for nothing: plotly.js is inside, and a content security policy forbids the rest. Names of
classes, files and recipes are text of others: jinja2 escapes them, figures get them escaped, and the policy lets no
script run but the page's own.
"""

import html
import json
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.evaluation.pareto import pareto_front
from onceforall.evaluation.results import RESULTS, format_count, json_types, read_results
from onceforall.files import write_text
from onceforall.search_space import SearchSpace
from onceforall.training.ledger import PARTS
from onceforall.training.records import METRICS, SETTINGS, read_lines

__all__ = ["Section", "Table", "write_report"]

REPORT = "report.html"
BLUE, RED, GREY = "#0072B2", "#D55E00", "#8A8A8A"  # Okabe and Ito's palette, as in the pictures
KIND_COLOURS = {"largest": BLUE, "smallest": RED}
PART_COLOURS = (BLUE, "#56B4E9", "#009E73", "#E69F00", RED, "#CC79A7", GREY)
SHARES = ("accuracy", "sensitivity", "specificity")  # shown in percent
WRITTEN_NUMBERS = 12  # up to so many classes, a confusion matrix shows its counts

Cell = str | int | float | bool | None
Figure = dict[str, Any]


@final
@dataclass(frozen=True)
class Table:
    """Rows of cells under a head. A cell is text, or a pair (what is shown, the number by which it is sorted)."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    sortable: bool = False
    folded: bool = False


@final
@dataclass
class Section:
    """A part of the page; what it lacks is not shown."""

    title: str
    text: str = ""
    notices: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def write_report(run_dir: str | Path) -> Path:
    """Write `report.html` into a run directory, finished or not, and return its path. What is missing is said.

    Raises `UserError` where the folder holds no run, and without plotly and jinja2 (extra `report`).
    """
    folder = Path(run_dir)
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UserError(f"a report needs {error.name}: pip install 'onceforall[report]'.") from error
    if not (folder / SETTINGS).is_file():
        raise UserError(f"{folder} holds no run: {SETTINGS} is missing.")
    run, lines = _read_json(folder / SETTINGS), read_lines(folder / METRICS)
    ledger = _read_json(folder / "ledger.json") if (folder / "ledger.json").is_file() else []
    results = [read_results(folder, path.stem) for path in sorted((folder / RESULTS).glob("*.json"))]
    sections = [_about(run), _schedule(run, lines), _curves(lines), *map(_results, results)]
    if not results:
        missing = f"Nothing was evaluated yet: onceforall evaluate {folder.name}"
        sections.append(Section("Results", notices=[missing]))
    sections += [_costs(ledger), _machine(run)]
    figures = [figure for section in sections for figure in section.figures]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(PAGE).render(
        title=_title(run),
        status=_status(run, lines),
        tiles=_tiles(results, ledger),
        sections=sections,
        figures=json_types(figures),
        plotly=jinja2.utils.markupsafe.Markup(get_plotlyjs()),
        nonce=secrets.token_urlsafe(16),
    )
    path = folder / REPORT
    write_text(path, page)
    return path


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {error}.") from error
