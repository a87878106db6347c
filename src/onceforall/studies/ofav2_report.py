"""What the OFAv2 study leaves in its folder: tables, claims, charts and one page that works offline."""

from pathlib import Path

from onceforall.files import write_text
from onceforall.report.page import Section, render_page
from onceforall.report.tables import csv_text, markdown_table
from onceforall.studies.claims import Judgement, counts, judge
from onceforall.studies.ofav2 import SHARED, STEPS, WIDTHS, paper_number
from onceforall.studies.ofav2_claims import ofav2_claims
from onceforall.studies.ofav2_figure import bar_figures, write_chart
from onceforall.studies.ofav2_tables import factor_tables, gains_table, paper_table, table_rows
from onceforall.studies.results import Results, read_results
from onceforall.studies.study import Scale
from onceforall.studies.tables import claim_rows, claims_table, points, scale_text

__all__ = ["scale_note", "write_ofav2"]

TABLE_FILES = {"1.0": "table4.csv", "1.2": "table5.csv"}
READING = (
    "Our number is the test accuracy of the sub-network that is best on validation. The paper's best is the best on "
    "test, which is too good for any network one could choose; ours of that kind is given for comparison and marked as "
    "inflated. The first two steps do not depend on the teacher, so both teachers share one training of them. "
    "Intervals hold 95 %: for differences of two chosen networks a paired bootstrap over test images and seeds; for "
    "averages, of which no image's answers are kept, the widest interval that the number of test images allows, "
    "without the spread of seeds. A claim holds where the interval lies above what is claimed, fails where it lies "
    "below, and is undecided between; no correction is made for the number of claims."
)


def write_ofav2(folder: Path, scale: Scale, overrides: tuple[str, ...] = ()) -> list[Judgement]:
    """Write tables, claims, charts and the page of what was measured so far, and return the judged claims."""
    results = read_results(folder, STEPS, SHARED)
    judgements = [judge(claim, results, paper_number) for claim in ofav2_claims()]
    note = scale_note(scale, overrides, results)
    for width, name in TABLE_FILES.items():
        rows = [row | {"scale": scale.name} for row in table_rows(results, width)]
        write_text(folder / name, csv_text(rows))
    write_text(folder / "claims.csv", csv_text([row | {"scale": scale.name} for row in claim_rows(judgements)]))
    sections = _sections(results, judgements)
    write_text(folder / "study.md", _markdown(note, sections))
    for width in _shown_widths(results):
        write_chart(results, width, folder / f"best-by-step-w{width}.png", note)
    write_text(folder / "study.html", render_page(f"OFAv2 at scale {scale.name}", note, _tiles(judgements), sections))
    return judgements


def scale_note(scale: Scale, overrides: tuple[str, ...], results: Results | None = None) -> str:
    """The sentences that stand on every output: in what this is smaller than the paper, seeds and images."""
    text = scale_text(scale, overrides)
    if results is not None:
        seeds = results.seeds()
        images = {len(grid.correct) for steps in results.grids.values() for grid in steps.values()}
        text += f" Seeds: {', '.join(map(str, seeds)) or 'none'}."
        text += f" {' or '.join(map(str, sorted(images)))} test images." if images else " Nothing was run yet."
    return text


def _shown_widths(results: Results) -> list[str]:
    """Widths of the charts: those that were run, or all."""
    return [width for width in WIDTHS if float(width) in results.widths()]


def _sections(results: Results, judgements: list[Judgement]) -> list[Section]:
    figures = [figure for width in _shown_widths(results) for figure in bar_figures(results, width)]
    tables = [paper_table(results, width) for width in WIDTHS]
    factors = factor_tables(results)
    missing = [] if factors else ["No run has got so far that there is more than one height or level."]
    light = "Shallow exits and light blocks: whether a gain comes from better weights or from better places to end."
    return [
        Section("How to read this", READING),
        Section("Claims", "", figures=[], tables=[claims_table(judgements)]),
        Section("Best of each step", figures=figures, tables=tables),
        Section("Gains", tables=[gains_table(results)]),
        Section("By height and level", light, missing, tables=factors),
    ]


def _tiles(judgements: list[Judgement]) -> list[tuple[str, str, str]]:
    tiles = [(f"claims: {name}", str(count), f"of {len(judgements)}") for name, count in counts(judgements).items()]
    head = judgements[0]
    more = f"paper {points(head.paper)}; 95 % {points(head.low, '')} to {points(head.high, '')}"
    if head.ours is None:
        more = f"paper {points(head.paper)}"
    return [("headline, points", points(head.ours), more), *tiles]


def _markdown(note: str, sections: list[Section]) -> str:
    parts = ["# OFAv2", "", note, ""]
    for section in sections:
        parts += [f"## {section.title}", "", *([section.text, ""] if section.text else []), *section.notices]
        parts += [markdown_table(table) for table in section.tables]
    return "\n".join(parts)
