"""The tables of the OFAv2 study: IV and V beside ours, accuracy by height and level, gains over the baseline."""

from typing import Any

from onceforall.report.page import Table
from onceforall.report.wording import MISSING
from onceforall.studies.claims import Claim, judge
from onceforall.studies.ofav2 import BASELINE, NETWORKS, STEP_NAMES, STEPS, SUSPECT, TABLES, TEACHERS, WIDTHS
from onceforall.studies.ofav2 import paper_number as paper
from onceforall.studies.results import Results, Side, Value
from onceforall.studies.tables import NOT_RUN, percent, points

__all__ = ["factor_tables", "gains_table", "paper_table", "table_rows"]

LAST = list(STEPS)[-1]
FACTORS = {"height": "height", "level": "level code (4 inverted residual + 2 pointwise + 1 norm)"}


def _numbers(results: Results, side: Side) -> list[float | None]:
    """Mean, best and chosen of a step."""
    names: tuple[Value, ...] = ("mean", "best", "chosen")
    return [results.mean(Side(side.network, side.teacher, side.width, side.step, name)) for name in names]


def table_rows(results: Results, width: str) -> list[dict[str, Any]]:
    """A row for each network, teacher and step that the paper has of a width; accuracies in percent."""
    out = []
    for network in NETWORKS:
        for teacher in TEACHERS:
            for step, numbers in TABLES[width, network, teacher].items():
                side = Side(network, teacher, float(width), step)
                mean, best, chosen = _numbers(results, side)
                row: dict[str, Any] = {"width": width, "network": network, "teacher": teacher, "step": step}
                row |= {"paper_avg": f"{numbers[0]:.2f}", "paper_best_on_test": f"{numbers[1]:.2f}"}
                row |= {"ours_chosen_on_validation": percent(chosen), "ours_avg": percent(mean)}
                row |= {"ours_best_on_test_inflated": percent(best)}
                row |= {"seeds": " ".join(map(str, results.of(side)))}
                row |= {"paper_suspect": SUSPECT.get((width, network, teacher, step), "")}
                out.append(row)
    return out


def paper_table(results: Results, width: str) -> Table:
    """One of the paper's tables; in a cell ours, and the paper's average and best in brackets."""
    rows = []
    for network in NETWORKS:
        for teacher, shown in TEACHERS.items():
            cells = [_cell(results, Side(network, teacher, float(width), step)) for step in STEPS]
            rows.append([network, shown, *cells])
    caption = (
        f"Table {WIDTHS[width]} (width {width}), test accuracy in percent: ours, of the sub-network that is best on "
        "validation (average / best on test); average / best on test of the paper. X: no such step. *: suspect"
    )
    return Table(["network", "teacher", *(f"{step} ({STEP_NAMES[step]})" for step in STEPS)], rows, caption)


def _cell(results: Results, side: Side) -> str:
    stated = TABLES[str(side.width), side.network, side.teacher].get(side.step)
    if stated is None:
        return "X"
    mean, best, chosen = _numbers(results, side)
    star = "*" if (str(side.width), side.network, side.teacher, side.step) in SUSPECT else ""
    ours = NOT_RUN if chosen is None else f"{percent(chosen)} ({percent(mean)} / {percent(best)})"
    return f"{ours}; paper {stated[0]:.2f} / {stated[1]:.2f}{star}"


def factor_tables(results: Results) -> list[Table]:
    """Average and best on test by height and by level code, after the last step that was run."""
    out = []
    for factor, words in FACTORS.items():
        found = {}
        for cell, steps in results.grids.items():
            done = [step for step in STEPS if step in steps]
            by = steps[done[-1]].by(factor) if done else {}
            if len(by) > 1:
                found[cell] = done[-1], by
        values = sorted({value for _, by in found.values() for value in by})
        rows = [
            [cell.network, f"{cell.width:g}", TEACHERS[cell.teacher], str(cell.seed), step]
            + [f"{percent(by[v][0])} / {percent(by[v][1])}" if v in by else MISSING for v in values]
            for cell, (step, by) in sorted(found.items())
        ]
        if rows:
            head = ["network", "width", "teacher", "seed", "step", *(f"{factor} {value}" for value in values)]
            out.append(Table(head, rows, f"Average / best on test by {words}, in percent"))
    return out


def gains_table(results: Results) -> Table:
    """Every run against the baseline with the fixed teacher of the same width, after the last step."""
    rows = []
    for width in WIDTHS:
        other = Side(BASELINE, "fixed", float(width), LAST)
        for network in NETWORKS:
            for teacher, shown in TEACHERS.items():
                side = Side(network, teacher, float(width), LAST)
                if side == other:
                    continue
                found = judge(Claim("gain", "", side, (other,)), results, paper)
                stated = points(found.paper) + ("*" if (width, BASELINE, "fixed", LAST) in SUSPECT else "")
                bounds = MISSING if found.ours is None else f"{points(found.low)} to {points(found.high)}"
                inflated = points(found.best_on_test, MISSING)
                rows.append([network, shown, width, stated, points(found.ours), bounds, inflated])
    head = ["network", "teacher", "width", "paper", "ours", "95 % interval", "best on test (inflated)"]
    return Table(head, rows, "Gain over the fixed-teacher baseline of the same width, in percentage points")
