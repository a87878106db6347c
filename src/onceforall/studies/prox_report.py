"""What the ProX study leaves in its folder: comparisons, tables, claims and one page that works offline."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onceforall.comparison.comparing import CostKind, Progress, compare_runs
from onceforall.comparison.pictures import PICTURES, page_figures
from onceforall.comparison.writing import bucket_table, equal_time_table, single_tables, write_comparison
from onceforall.files import write_text
from onceforall.report.page import Section, Table, render_page
from onceforall.report.tables import csv_text, markdown_table
from onceforall.studies.claims import Judgement, counts
from onceforall.studies.prox import DATA_SETS, SINGLES, scale_of
from onceforall.studies.prox_cells import ProxCell
from onceforall.studies.prox_claims import judge_prox, prox_claims
from onceforall.studies.prox_results import ProxResults, comparison_folder, read_prox_results
from onceforall.studies.prox_tables import score_rows, score_table, training_rows, training_table
from onceforall.studies.study import Scale
from onceforall.studies.tables import claim_rows, claims_table, scale_text

__all__ = ["compare_cells", "write_prox"]

READING = (
    "Scores are means over random sub-networks, the same for every run of a data set, each calibrated and measured on "
    "test images or volumes. Intervals hold 95 %: of scores and their differences a bootstrap over these, the same for "
    "both sides, and over seeds where there are several; of ratios over the seeds. With one seed a ratio is judged as "
    "it is, and nothing is said of another training. A claim about scores holds where the interval lies above what is "
    "claimed, fails where it lies below, and is undecided between; no correction is made for the number of claims. "
    "Progressive shrinking is here the faithful one, with the kernel matrices trained and channels sorted, not that of "
    "the paper's code. The paper's numbers are of other hardware, networks and numbers of sub-networks."
)


def compare_cells(
    cells: Sequence[ProxCell],
    folder: Path,
    scale: Scale,
    *,
    places: dict[str, str],
    by: CostKind = "auto",
    progress: Progress | None = None,
    say: Callable[[str], object] = print,
) -> None:
    """Compare the finished runs `cells` of each data set and seed, where there are at least two, into their folder."""
    for data, seed in dict.fromkeys((cell.data, cell.seed) for cell in cells):
        runs = [cell for cell in cells if (cell.data, cell.seed) == (data, seed)]
        if len(runs) < 2 or all(cell.run in SINGLES for cell in runs):
            alone = ", ".join(cell.name for cell in runs)
            say(f"{alone}: nothing to compare it with; a comparison takes two runs, one of them of a family.")
            continue
        out = comparison_folder(folder, data, seed)
        contents = compare_runs(
            [folder / cell.name for cell in runs],
            out,
            networks=scale_of(data, scale).drawn or 60,
            by=by,
            data=places.get(data),
            names=[cell.run for cell in runs],
            progress=progress,
        )
        for line in write_comparison(contents, out)[1]:
            say(line)


def write_prox(folder: Path, scale: Scale, overrides: Sequence[str]) -> list[Judgement]:
    """Write tables, claims and the page of what was compared so far, and return the judged claims."""
    results = read_prox_results(folder)
    shown = [data for data, known in DATA_SETS.items() if known.scores or results.of(data)]
    judgements = [judge_prox(claim, results) for claim in prox_claims(shown)]
    note = _note(scale, overrides, results)
    tables = {
        "training": training_rows(results),
        "scores": score_rows(results),
        "claims": claim_rows(judgements, inflated=False),
    }
    for name, rows in tables.items():
        cells = [{key: "" if value is None else value for key, value in row.items()} for row in rows]
        write_text(folder / f"{name}.csv", csv_text([row | {"scale": scale.name} for row in cells]))
    sections = _sections(results, judgements)
    write_text(folder / "study.md", _markdown(note, sections, results, folder))
    write_text(folder / "study.html", render_page(f"ProX at scale {scale.name}", note, _tiles(judgements), sections))
    return judgements


def _note(scale: Scale, overrides: Sequence[str], results: ProxResults) -> str:
    seeds = sorted({seed for _, seed in results.comparisons})
    return f"{scale_text(scale, overrides)} Seeds: {', '.join(map(str, seeds)) or 'none; nothing was run yet'}."


def _sections(results: ProxResults, judgements: Sequence[Judgement]) -> list[Section]:
    out = [
        Section("How to read this", READING),
        Section("Claims", tables=[claims_table(judgements, inflated=False)]),
        Section("Training", tables=[training_table(results)]),
        Section("Scores", tables=[score_table(results)]),
    ]
    for (data, seed), contents in results.comparisons.items():
        figures = page_figures(contents)
        tables = [bucket_table(contents), *single_tables(contents), equal_time_table(contents)]
        out.append(
            Section(
                _title(data, seed),
                f"The comparison is {contents['equal']} The whole of it: {_page(data, seed)}.",
                notices=list(contents["warnings"]),
                figures=[figure for name in ("training", "scores", "convergence") for figure in figures[name]],
                tables=[_named(table, data, seed) for table in tables],
            )
        )
    return out


def _title(data: str, seed: int) -> str:
    return f"{DATA_SETS[data].title}, seed {seed}"


def _page(data: str, seed: int) -> str:
    return f"{comparison_folder(Path(), data, seed)}/comparison.html"


def _named(table: Table, data: str, seed: int) -> Table:
    return replace(table, caption=f"{table.caption} ({data}, seed {seed})")


def _tiles(judgements: Sequence[Judgement]) -> list[tuple[str, str, str]]:
    found: dict[str, Any] = counts(list(judgements))
    return [(f"claims: {name}", str(count), f"of {len(judgements)}") for name, count in found.items()]


def _markdown(note: str, sections: Sequence[Section], results: ProxResults, folder: Path) -> str:
    parts = ["# ProX", "", note, ""]
    places = {_title(*key): comparison_folder(folder, *key) for key in results.comparisons}
    pictures = {
        title: [place / name for name in PICTURES if (place / name).is_file()] for title, place in places.items()
    }
    for section in sections:
        parts += [f"## {section.title}", "", *([section.text, ""] if section.text else [])]
        parts += [*(f"- {notice}" for notice in section.notices), *([""] if section.notices else [])]
        parts += [f"![{path.stem}]({path.relative_to(folder)})\n" for path in pictures.get(section.title, [])]
        parts += [markdown_table(table) for table in section.tables]
    return "\n".join(parts)
