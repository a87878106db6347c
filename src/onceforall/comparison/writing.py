"""What a comparison leaves in its folder: tables as Markdown, CSV and JSON, three pictures, and one offline page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onceforall.comparison.pictures import PICTURES, page_figures, write_pictures
from onceforall.errors import UserError
from onceforall.evaluation.results import format_count
from onceforall.files import write_json, write_text
from onceforall.report.page import Section, Table, render_page
from onceforall.report.tables import csv_text, markdown_table
from onceforall.report.wording import MISSING, SHARES, show_duration, show_number, show_range, words
from onceforall.training.ledger import PARTS

__all__ = ["bucket_table", "equal_time_table", "short_table", "single_tables", "write_comparison"]

CSV, JSON, MARKDOWN, PAGE = "comparison.csv", "comparison.json", "comparison.md", "comparison.html"
READING = {
    "paired": "Intervals hold 95 % and are for other test images or volumes of the same kind: they are drawn with "
    "replacement, for a difference the same ones for both runs (paired bootstrap).",
    "unpaired": "Intervals hold 95 %. The runs have different test images, so those of differences are not paired.",
    "networks": "Intervals hold 95 % and are those of a mean over networks, for images have no scores here.",
}
VERDICTS = (
    "A run is better or worse than the first where the interval of the difference lies above or below zero, and "
    "undecided where it holds zero; no correction is made for the number of buckets and runs. Each run is one "
    "training: nothing here says how much another seed would change."
)

Contents = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]


def write_comparison(contents: Contents, out: str | Path) -> tuple[list[Path], list[str]]:
    """Write what `compare_runs` found; returns the files, and a line for each that could not be made."""
    folder, missing = Path(out), []
    write_json(folder / JSON, contents)
    write_text(folder / CSV, csv_text(_csv_rows(contents)))
    paths = [folder / JSON, folder / CSV, folder / MARKDOWN]
    try:
        paths += write_pictures(contents, folder)
    except UserError as error:
        missing.append(str(error))
    sections = _sections(contents)
    write_text(folder / MARKDOWN, _markdown(contents, sections, pictures=not missing))
    try:
        write_text(folder / PAGE, render_page(_title(contents), contents["equal"].capitalize(), [], sections))
        paths.append(folder / PAGE)
    except UserError as error:
        missing.append(f"no page: {error}")
    return paths, missing


def short_table(contents: Contents) -> tuple[list[str], list[list[str]]]:
    """Head and rows for the terminal: a run on a line."""
    table = _overall_table(contents)
    cost = {run["name"]: run for run in contents["runs"]}
    rows = []
    metric, with_loss = contents["metric"], _has_loss(contents["overall"])
    for row in [*table.rows, *(_cells(single["rows"][0], metric, with_loss) for single in contents["singles"])]:
        run = cost[str(row[0])]
        own = [show_duration(run["seconds"]["total"]), format_count(run["macs"]), str(run["epochs"])]
        rows.append([str(row[0]), *own, *(cell if isinstance(cell, str) else str(cell[0]) for cell in row[1:])])
    return ["run", "time", "macs", "epochs", *table.head[1:]], rows


def _title(contents: Contents) -> str:
    return "Comparison of " + ", ".join(run["name"] for run in contents["runs"])


def _sections(contents: Contents) -> list[Section]:
    figures = page_figures(contents)
    kinds = {row.get("interval") for row in contents["overall"][1:]}
    reading = " ".join([*(text for kind, text in READING.items() if kind in kinds), VERDICTS])
    images = " or ".join(str(count) for count in sorted(set(contents["images"])))
    inputs = contents["inputs"]
    measured = (
        f"{len(contents['networks'])} random sub-networks, the same for every run, on {images} {contents['split']} "
        f"{inputs}, each with its batch normalisation re-estimated on training {inputs}; cost is "
        f"{words(contents['cost'])} of the first run's networks. {reading}"
    )
    ends = [
        _rows_table(f"The {name} sub-network that all share", rows, contents["metric"])
        for name, rows in contents["ends"].items()
    ]
    curves = (
        "Validation of the smallest and the largest sub-network of each phase while training; dotted lines: a phase "
        "begins. With a teacher the training loss includes the distance to it, so levels of losses compare only within "
        "a run. Multiply-adds within a phase are spread evenly over its steps."
    )
    scores = [_overall_table(contents), bucket_table(contents), *ends, *single_tables(contents)]
    tables = [_training_table(contents), equal_time_table(contents)]
    training = "Seconds of waiting, whatever for; multiply-adds of students and teachers, forward and backward."
    return [
        Section("Differences between the runs", notices=list(contents["warnings"]), text=_equal(contents)),
        Section("Training", training, figures=figures["training"], tables=tables),
        Section("Scores", measured, figures=figures["scores"], tables=scores),
        Section("Convergence", curves, figures=figures["convergence"]),
    ]


def _equal(contents: Contents) -> str:
    return f"The comparison is {contents['equal']} Ratios and differences are to {contents['runs'][0]['name']}."


def _training_table(contents: Contents) -> Table:
    head = ["run", "schedule", "network", "phase", "epochs", "steps", "multiply-adds", "time", *PARTS]
    head += ["multiply-adds, ratio", "time, ratio", "calibration images"]
    rows = []
    for run in contents["runs"]:
        phase = run["phase"] if run["finished"] else f"{run['phase']} (unfinished)"
        row: list[Any] = [run["name"], str(run["schedule"]), run["network"], phase]
        row += [(str(run[name]), run[name]) for name in ("epochs", "steps")]
        row += [(format_count(run["macs"]), run["macs"])]
        row += [(show_duration(run["seconds"][part]), run["seconds"][part]) for part in ("total", *PARTS)]
        for name in ("macs", "seconds"):
            ratio = run["ratio"][name]
            row.append((MISSING if ratio is None else f"{ratio:.2f}", "" if ratio is None else ratio))
        rows.append([*row, (str(run["calibration_images"]), run["calibration_images"])])
    return Table(head, rows, "What training cost")


def equal_time_table(contents: Contents) -> Table:
    """How far the runs had come when the quickest ended, by what they validated while training."""
    metric, equal = contents["metric"], contents["equal_time"]
    rows = []
    for name, point in equal["reached"].items():
        if point is None:
            rows.append([name, "not yet validated", *[(MISSING, "")] * 3])
            continue
        scores = [(show_number(metric, point[kind]), point[kind]) for kind in ("smallest", "largest")]
        rows.append([name, point["phase"], (str(point["step"]), point["step"]), *scores])
    head = ["run", "phase", "step", f"smallest, validation {words(metric)}", f"largest, validation {words(metric)}"]
    after = f"At equal time: the last validation before {equal['run']} ended, after {show_duration(equal['seconds'])}"
    return Table(head, rows, f"{after}. Smallest and largest are those of the phase")


def _overall_table(contents: Contents) -> Table:
    return _rows_table("All measured sub-networks", contents["overall"], contents["metric"])


def single_tables(contents: Contents) -> list[Table]:
    """Each network that a run holds alone, and the same taken from the other runs; differences are to the former."""
    return [
        _rows_table(f"The network of {single['run']}, and the same taken from the others", single["rows"], metric)
        for metric in [contents["metric"]]
        for single in contents["singles"]
    ]


def _rows_table(caption: str, rows: Rows, metric: str) -> Table:
    """The rows of one group; log loss stands in it only where the task has one."""
    unit = ", points" if metric in SHARES else ""
    loss, loss_difference = (["log loss"], ["log loss, difference"]) if _has_loss(rows) else ([], [])
    head = ["run", words(metric), "95 % interval", *loss, f"difference{unit}", "95 % interval", *loss_difference]
    return Table([*head, "verdict"], [_cells(row, metric, _has_loss(rows)) for row in rows], caption)


def _has_loss(rows: Rows) -> bool:
    return any(row["log_loss"] is not None for row in rows)


def _cells(row: Mapping[str, Any], metric: str, with_loss: bool) -> list[Any]:
    interval = MISSING if row["low"] is None else show_range(metric, row["low"], row["high"])
    cells: list[Any] = [row["run"], (show_number(metric, row["score"]), row["score"]), interval]
    cells += [(_number(row["log_loss"]), row["log_loss"])] if with_loss else []
    if "verdict" not in row:
        return [*cells, (MISSING, ""), MISSING, *([(MISSING, "")] if with_loss else []), MISSING]
    factor, digits = (100, 2) if metric in SHARES else (1, 4)
    ends = [row["difference_low"], row["difference_high"]]
    shown = MISSING if None in ends else " to ".join(f"{factor * end:+.{digits}f}" for end in ends)
    cells += [(f"{factor * row['difference']:+.{digits}f}", row["difference"]), shown]
    loss = row["log_loss_difference"]
    losses = [(MISSING if loss is None else f"{loss:+.4f}", loss)] if with_loss else []
    return [*cells, *losses, row["verdict"]]


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4f}"


def bucket_table(contents: Contents) -> Table:
    """Scores by latency, or by multiply-adds."""
    metric, latency = contents["metric"], contents["cost"] == "latency_ms"
    head, with_loss = _rows_table("", contents["overall"], metric).head, _has_loss(contents["overall"])
    rows = []
    for bucket in contents["buckets"]:
        ends = [f"{bucket[end]:.3g}" if latency else format_count(round(bucket[end])) for end in ("low", "high")]
        shown = f"{ends[0]} to {ends[1]}{' ms' if latency else ''}"
        for row in bucket["rows"]:
            rows.append([shown, (str(bucket["networks"]), bucket["networks"]), *_cells(row, metric, with_loss)])
    return Table([words(contents["cost"]), "networks", *head], rows, "By cost")


def _csv_rows(contents: Contents) -> list[dict[str, Any]]:
    """A row for each run and group: all networks, each bucket, the smallest, the largest, networks of single runs."""
    groups: list[tuple[str, Any, Any, Rows]] = [("all", None, None, contents["overall"])]
    for number, bucket in enumerate(contents["buckets"], start=1):
        groups.append((f"bucket {number}", bucket["low"], bucket["high"], bucket["rows"]))
    groups += [(name, None, None, rows) for name, rows in contents["ends"].items()]
    groups += [(f"network of {single['run']}", None, None, single["rows"]) for single in contents["singles"]]
    columns = ["run", "networks", "score", "low", "high", "log_loss", "macs", "difference", "difference_low"]
    columns += ["difference_high", "log_loss_difference", "interval", "verdict"]
    cost = {run["name"]: run for run in contents["runs"]}
    out = []
    for name, low, high, rows in groups:
        for row in rows:
            run = cost[row["run"]]
            line = {"group": name, "cost": contents["cost"], "cost_low": low, "cost_high": high}
            line |= {"metric": contents["metric"], **{column: row.get(column) for column in columns}}
            line |= {f"train_{name}": run[name] for name in ("epochs", "steps", "samples")}
            line |= {"train_macs": run["macs"], **{f"train_seconds_{k}": v for k, v in run["seconds"].items()}}
            out.append({key: "" if value is None else value for key, value in line.items()})
    return out


def _markdown(contents: Contents, sections: Sequence[Section], pictures: bool) -> str:
    parts = [f"# {_title(contents)}", ""]
    shown = dict(zip(("Training", "Scores", "Convergence"), PICTURES, strict=True)) if pictures else {}
    for section in sections:
        parts += [f"## {section.title}", "", *([section.text, ""] if section.text else [])]
        parts += [*(f"- {notice}" for notice in section.notices), *([""] if section.notices else [])]
        parts += [f"![{section.title}]({shown[section.title]})", ""] if section.title in shown else []
        parts += [markdown_table(table) for table in section.tables]
    return "\n".join(parts)
