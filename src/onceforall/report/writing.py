"""From a run directory to its page: what is read, and what stands at the head."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onceforall.errors import UserError
from onceforall.evaluation.results import RESULTS, format_count, read_results
from onceforall.files import write_text
from onceforall.report.cases import cases_section
from onceforall.report.growing import growing_section
from onceforall.report.page import Section, render_page
from onceforall.report.sections import (
    about_section,
    costs_section,
    curves_section,
    machine_section,
    results_section,
    schedule_section,
)
from onceforall.report.wording import show_duration, show_number, words
from onceforall.training.records import FAMILY, METRICS, SETTINGS, read_lines

REPORT = "report.html"
SPLITS = ("test", "validation", "train")


def write_report(run_dir: str | Path) -> Path:
    """Write `report.html` into a run directory, finished or not, and return its path. What is missing is said.

    Raises `UserError` where the folder holds no run or a damaged file, and without plotly and jinja2 (extra `report`).
    """
    folder = Path(run_dir)
    if not (folder / SETTINGS).is_file():
        raise UserError(f"{folder} holds no run: {SETTINGS} is missing.")
    run, lines, ledger = _read(folder / SETTINGS), read_lines(folder / METRICS), _read(folder / "ledger.json") or []
    results = [read_results(folder, split) for split in SPLITS if (folder / RESULTS / f"{split}.json").is_file()]
    missing = Section("Results", notices=["Nothing was evaluated yet: that is what onceforall evaluate does."])
    packaged = (folder / FAMILY).is_file()  # without curves and costs of the training
    sections = [about_section(run), schedule_section(run)]
    sections += [] if packaged else [curves_section(lines, run)]
    if run.get("verdicts"):
        sections.append(growing_section(run, _metric(results, lines)))
    for contents in results:
        sections.append(results_section(contents))
        if contents.get("cases"):  # results of an older version have none
            sections.append(cases_section(contents, folder))
    sections += [] if results else [missing]
    sections += [] if packaged else [costs_section(ledger, run)]
    sections.append(machine_section(run))
    status = "A family: trained elsewhere and packaged." if packaged else _status(run, lines)
    page = render_page(_title(run), status, _tiles(results, ledger), sections)
    write_text(folder / REPORT, page)
    return folder / REPORT


def _read(path: Path) -> Any:
    """The JSON of a file; None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {error}.") from error


def _title(run: Mapping[str, Any]) -> str:
    recipe = run["settings"].get("recipe") or {}
    return f"{recipe.get('name') or run['network']['class']} on {run['data']['name']}"


def _metric(results: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]]) -> str:
    """The metric by which networks are chosen: the first of a validation."""
    validated = [kind for line in lines for kind in line.get("validation", {}).values()]
    return results[0]["metric"] if results else next(iter(validated[0])) if validated else "metric"


def _status(run: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    phases, names = run["phases"], [phase["name"] for phase in run["phases"]]
    if not any(phase["epochs"] + phase["warmup_epochs"] for phase in phases):
        return "Imported: nothing was trained here."
    if not lines:
        return f"Unfinished: no epoch of {len(phases)} phases is done."
    rolled_back = len({line["phase"] for line in lines} - set(names))
    kept = [line for line in lines if line["phase"] in names]
    epoch, index = kept[-1]["epoch"], names.index(kept[-1]["phase"])
    epochs = phases[index]["epochs"] + phases[index]["warmup_epochs"]
    if index == len(phases) - 1 and epoch >= epochs:
        more = f" and {rolled_back} rolled back" if rolled_back else ""
        return f"Finished: {len(phases)} phases{more}, {len(lines)} epochs, {lines[-1]['step']} steps."
    return f"Unfinished: epoch {epoch} of {epochs} in phase {index + 1} of {len(phases)} ({names[index]}) is done."


def _tiles(results: Sequence[Mapping[str, Any]], ledger: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """The few numbers one looks for first: what, how much, more about it."""
    out = []
    for contents in results[:1]:
        metric, where = contents["metric"], f"{words(contents['metric'])}, {contents['split']}"
        for row in contents["rows"]:
            if row["name"] in ("largest", "smallest"):
                cost = f"{format_count(row['macs'])} MACs, {format_count(row['params'])} parameters"
                out.append((f"{row['name']}: {where}", show_number(metric, row[metric]), cost))
        mean = contents["random"].get(metric)
        if mean:
            more = f"mean of {contents['random']['count']}, lowest {show_number(metric, mean['minimum'])}"
            out.append((f"random: {where}", show_number(metric, mean["mean"]), more))
    if ledger:
        seconds = sum(sum(entry["seconds"].values()) for entry in ledger)
        macs = sum(entry["macs"] for entry in ledger)
        out.append(("training", show_duration(seconds), f"{format_count(macs)} multiply-adds"))
    return out
