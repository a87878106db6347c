"""One offline HTML page about a run: what was trained and how, curves, results, costs, machine.

The page is a list of sections, each of facts, figures and tables: to add to it is to add a value. It asks the network
for nothing: plotly.js is inside, and a content security policy forbids the rest. Names of classes, files and recipes
are other people's text: jinja2 escapes them in the page, `_plain` in figures, and the policy lets no script run but
the page's own two.
"""

import html
import json
import secrets
from collections.abc import Mapping, Sequence
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
BLUE, RED, GREY = "#0072B2", "#D55E00", "#8A8A8A"  # Okabe and Ito's palette, as in the other pictures
PART_COLOURS = dict(zip(PARTS, (BLUE, "#56B4E9", "#009E73", "#E69F00", RED, "#CC79A7", GREY), strict=True))
MISSING = "–"
SHARES = ("accuracy", "sensitivity", "specificity")  # shown in percent
UNLISTED = ("architecture", "accuracy_low", "accuracy_high", "on_front", "activations", "calibration_images", "digest")
COUNTED_CLASSES = 12  # up to so many, a confusion matrix shows its counts
SPLITS = ("test", "validation", "train")
FACTORS = ("resolutions", "kernel_sizes", "depths", "expand_ratios", "widths", "heights", "paths")
TEACHERS = {
    "none": "none",
    "first": "largest, as phase 1 left it",
    "previous_phase": "largest of the phase before",
    "in_place": "largest of the same step",
}


@final
@dataclass(frozen=True)
class Table:
    """Rows under a head; a cell is what is shown, or a pair of that and the number by which it is sorted."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    sortable: bool = False
    folded: bool = False


@final
@dataclass(frozen=True)
class Section:
    """A part of the page; what it lacks is not shown. A figure holds plotly's data and layout, and a caption."""

    title: str
    text: str = ""
    notices: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def write_report(run_dir: str | Path) -> Path:
    """Write `report.html` into a run directory, finished or not, and return its path. What is missing is said.

    Raises `UserError` where the folder holds no run or a damaged file, and without plotly and jinja2 (extra `report`).
    """
    folder = Path(run_dir)
    try:
        import jinja2
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UserError(f"a report needs {error.name}: pip install 'onceforall[report]'.") from error
    if not (folder / SETTINGS).is_file():
        raise UserError(f"{folder} holds no run: {SETTINGS} is missing.")
    run, lines, ledger = _read(folder / SETTINGS), read_lines(folder / METRICS), _read(folder / "ledger.json") or []
    results = [read_results(folder, split) for split in SPLITS if (folder / RESULTS / f"{split}.json").is_file()]
    missing = Section("Results", notices=["Nothing was evaluated yet: that is what onceforall evaluate does."])
    sections = [_about(run), _schedule(run), _curves(lines), *(map(_results, results) if results else [missing])]
    sections += [_costs(ledger, run), _machine(run)]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(PAGE).render(
        title=_title(run),
        status=_status(run, lines),
        tiles=_tiles(results, ledger),
        sections=sections,
        figures=json_types([figure for section in sections for figure in section.figures]),
        plotly=Markup(get_plotlyjs()),
        nonce=secrets.token_urlsafe(16),
    )
    write_text(folder / REPORT, page)
    return folder / REPORT


def _read(path: Path) -> Any:
    """The JSON of a file; None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {error}.") from error


# -- the head of the page -----------------------------------------------------------------------------------------


def _title(run: Mapping[str, Any]) -> str:
    recipe = run["settings"].get("recipe") or {}
    return f"{recipe.get('name') or run['network']['class']} on {run['data']['name']}"


def _status(run: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    phases = run["phases"]
    if not lines:
        return f"Unfinished: no epoch of {len(phases)} phases is done."
    index, epoch = lines[-1]["index"], lines[-1]["epoch"]
    epochs = phases[index]["epochs"] + phases[index]["warmup_epochs"]
    if index == len(phases) - 1 and epoch >= epochs:
        return f"Finished: {len(phases)} phases, {len(lines)} epochs, {lines[-1]['step']} steps."
    name = phases[index]["name"]
    return f"Unfinished: epoch {epoch} of {epochs} in phase {index + 1} of {len(phases)} ({name}) is done."


def _tiles(results: Sequence[Mapping[str, Any]], ledger: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """The few numbers one looks for first: what, how much, more about it."""
    out = []
    for contents in results[:1]:
        metric, where = contents["metric"], f"{_words(contents['metric'])}, {contents['split']}"
        for row in contents["rows"]:
            if row["name"] in ("largest", "smallest"):
                cost = f"{format_count(row['macs'])} MACs, {format_count(row['params'])} parameters"
                out.append((f"{row['name']}: {where}", _number(metric, row[metric]), cost))
        mean = contents["random"].get(metric)
        if mean:
            more = f"mean of {contents['random']['count']}, lowest {_number(metric, mean['minimum'])}"
            out.append((f"random: {where}", _number(metric, mean["mean"]), more))
    if ledger:
        seconds = sum(sum(entry["seconds"].values()) for entry in ledger)
        macs = sum(entry["macs"] for entry in ledger)
        out.append(("training", _duration(seconds), f"{format_count(macs)} multiply-adds"))
    return out


# -- sections -----------------------------------------------------------------------------------------------------


def _about(run: Mapping[str, Any]) -> Section:
    network, data, options = run["network"], run["data"], run["options"]
    space = SearchSpace.from_dict(network["space"])
    counts = data["counts"]
    facts = [
        ("Network", f"{network['class']} ({_listed(network['options'])})"),
        ("Search space", f"{_size(space.size())} different sub-networks; {_elastic(space, space.resolutions)}"),
        ("Data", f"{data['name']}: {len(data['classes'])} classes, {data['channels']} channel(s)"),
        ("Images", ", ".join(f"{count} {split}" for split, count in counts.items())),
    ]
    if "groups" in data:
        facts.append(("Groups", ", ".join(f"{count} {split}" for split, count in data["groups"].items())))
    facts += [(_words(name), _listed(data[name])) for name in ("preparation", "augmentation") if name in data]
    facts.append(("Options", _listed(options)))
    per_class = data.get("counts_per_class", {})
    rows = [[name, *((per_class[split].get(name, 0),) * 2 for split in per_class)] for name in data["classes"]]
    tables = (
        [Table(["class", *per_class], rows, "Images of each class", sortable=True, folded=True)] if per_class else []
    )
    recipe = [[name, _text(value)] for name, value in _flat(run["settings"]).items()]
    tables += [Table(["key", "value"], recipe, "The whole recipe", folded=True)] if recipe else []
    return Section("What was trained", facts=facts, tables=tables)


def _schedule(run: Mapping[str, Any]) -> Section:
    head = ["phase", "epochs", "learning rate", "batch", "elastic", "networks a step", "teacher", "optimiser"]
    rows = []
    for phase in run["phases"]:
        space, source = SearchSpace.from_dict(phase["space"]), phase["teacher"]["source"]
        warmup = f" + {phase['warmup_epochs']} warm-up" if phase["warmup_epochs"] else ""
        factors = () if phase["sampler"] == "largest" else FACTORS
        optimizer = f"{phase['optimizer'].upper()}, momentum {phase['momentum']:g}, decay {phase['weight_decay']:g}"
        rows.append(
            [
                phase["name"],
                (f"{phase['epochs']}{warmup}", phase["epochs"] + phase["warmup_epochs"]),
                (f"{phase['learning_rate']:g}, {phase['decay']}", phase["learning_rate"]),
                (phase["batch_size"], phase["batch_size"]),
                _elastic(space, phase["resolutions"] or space.resolutions, factors),
                (f"{phase['subnets_per_step']} ({phase['sampler']})", phase["subnets_per_step"]),
                TEACHERS.get(source) or f"file {Path(source).name}",
                optimizer,
            ]
        )
    text = "Each phase starts from the weights of the one before it." if len(rows) > 1 else ""
    return Section("Schedule", text, tables=[Table(head, rows)])


def _elastic(space: SearchSpace, resolutions: Sequence[Any], factors: Sequence[str] = FACTORS) -> str:
    """The factors of which there is more than one choice."""
    choices = {name: getattr(space, name) for name in factors} | {"resolutions": resolutions}
    open_ones = [f"{_words(name)} {_choices(values)}" for name, values in choices.items() if len(values) > 1]
    return "; ".join(open_ones) or "nothing"


def _curves(lines: Sequence[Mapping[str, Any]]) -> Section:
    if not lines:
        return Section("Curves", notices=["No epoch is done yet."])
    starts: dict[str, int] = {}  # phase -> step before its first
    for before, line in zip([{"step": 0}, *lines], lines, strict=False):
        starts.setdefault(line["phase"], before["step"])
    steps, losses = [line["step"] for line in lines], [line["train_loss"] for line in lines]
    figures = [_curve_figure([_curve("training", steps, losses, GREY)], "training loss", starts)]
    validated = [line for line in lines if line.get("validation")]
    names = list(next(iter(validated[0]["validation"].values()))) if validated else []
    figures += [
        _curve_figure(_validation_curves(validated, name), f"validation {_words(name)}", starts, name in SHARES)
        for name in dict.fromkeys([*names[:1], "log_loss"])
        if name in names
    ]
    text = (
        "Validated are the smallest and the largest sub-network of each phase and a few random ones, always the same, "
        "each with its batch normalisation re-estimated on training images. With a teacher, the training loss includes "
        "the distance to it. Dotted lines: a phase begins."
    )
    return Section("Curves", text, [] if validated else ["No validation was done yet."], figures=figures)


def _results(contents: Mapping[str, Any]) -> Section:
    """A split's results: the table, quality against each cost, and details of the largest network."""
    rows, metric = contents["rows"], contents["metric"]
    first = ["name", metric, "macs", "params", "latency_ms"]
    present = dict.fromkeys(name for row in rows for name in row if name not in UNLISTED)
    columns = [name for name in first if name in present] + [name for name in present if name not in first]
    head = [*map(_words, columns), "front", "architecture"]
    cells = [
        [*(_result_cell(row, name) for name in columns), ("●", 1) if row["on_front"] else ("", 0), _architecture(row)]
        for row in rows
    ]
    facts = [(_words(name), _listed(value)) for name, value in contents["facts"].items() if name != "environment"]
    mean = contents["random"].get(metric)
    if mean:
        spread = "" if mean["low"] is None else f" (95 % interval {_range(metric, mean['low'], mean['high'])})"
        value = f"{_number(metric, mean['mean'])}{spread} over {contents['random']['count']} networks"
        facts.insert(0, (f"Mean {_words(metric)} of random sub-networks", value))
    figures = [
        _front_figure(rows, cost, metric, contents["higher_is_better"])
        for cost in ("macs", "latency_ms")
        if any(row.get(cost) is not None for row in rows)
    ]
    tables = [Table(head, cells, "Sub-networks (a click on a heading sorts them)", sortable=True)]
    details = contents["details"]
    for name in sorted(details, key=lambda name: name != "largest")[:1]:
        figures.append(_confusion_figure(name, details[name]["confusion_matrix"], contents["classes"]))
        tables.append(_class_table(name, details[name]["per_class"]))
    text = (
        f"{len(rows)} sub-networks on {contents['images']} images of the {contents['split']} split. Intervals of "
        "accuracy are Wilson's at 95 %, for independent images. On the front are those that no other one beats in "
        f"{_words(metric)} at the same or lower multiply-adds."
    )
    return Section(f"Results: {contents['split']}", text, facts=facts, figures=figures, tables=tables)


def _result_cell(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    if not isinstance(value, int | float | None):
        return _text(value)
    if value is None:
        return (MISSING, "")
    if name in ("params", "macs", "weight_bytes"):
        return (format_count(value), value)
    interval = f" ({_range(name, row['accuracy_low'], row['accuracy_high'])})" if name == "accuracy" else ""
    return (f"{_number(name, value)}{interval}", value)


def _architecture(row: Mapping[str, Any]) -> str:
    return str(Architecture.from_dict(row["architecture"]))


def _class_table(name: str, per_class: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("images", "sensitivity", "specificity", "auc")
    rows = [[row["class"], *((_number(column, row[column]), row[column]) for column in columns)] for row in per_class]
    return Table(["class", *map(_words, columns)], rows, f"Each class against all others: {name}", sortable=True)


def _costs(ledger: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> Section:
    if not ledger:
        return Section("What it cost", notices=["No phase is done yet."])
    head = ["phase", "time", *PARTS, "steps", "images", "multiply-adds", "peak memory", "kept for backward", "energy"]
    rows = []
    for entry in ledger:
        seconds = [entry["seconds"].get(part, 0.0) for part in PARTS]
        counts = [(f"{entry[name]:,}", entry[name]) for name in ("steps", "samples")]
        rest = [
            (entry["macs"], ""),
            (entry.get("peak_memory_bytes"), "B"),
            (entry.get("activation_bytes"), "B"),
            (entry.get("joules"), "J"),
        ]
        amounts = [_amount(value, unit) for value, unit in rest]
        rows.append(
            [entry["phase"], *((_duration(value), value) for value in (sum(seconds), *seconds)), *counts, *amounts]
        )
    open_phases = len(run["phases"]) - len(ledger)
    notices = [f"{open_phases} of {len(run['phases'])} phases are not done."] if open_phases > 0 else []
    text = (
        "Seconds of waiting, whatever for; multiply-adds of student and teacher, forward and backward. Memory is the "
        "peak of the process until then; kept for backward is what one part of a batch keeps for its gradients."
    )
    return Section("What it cost", text, notices, figures=[_cost_figure(ledger)], tables=[Table(head, rows)])


def _amount(value: float | None, unit: str) -> tuple[str, Any]:
    if value is None:
        return (MISSING, "")
    return (f"{value:.4g} J" if unit == "J" else f"{format_count(value)}{unit}", value)


def _machine(run: Mapping[str, Any]) -> Section:
    known = run.get("environment", {}).items()
    facts = [
        (_words(name), _amount(value, "B")[0] if name == "memory_bytes" else _text(value)) for name, value in known
    ]
    return Section("Machine and software", facts=facts, notices=[] if facts else ["Not recorded."])


# -- figures, as values that plotly.js draws ----------------------------------------------------------------------


def _figure(data: Sequence[Mapping[str, Any]], caption: str, height: int = 340, **layout: Any) -> dict[str, Any]:
    return {"data": list(data), "layout": {"height": height, **layout}, "caption": caption}


def _curve(name: str, x: Sequence[Any], y: Sequence[Any], colour: str, **more: Any) -> dict[str, Any]:
    line = {"color": colour, "width": 1.2 if colour == GREY else 2}
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": x,
        "y": y,
        "line": line,
        "marker": {"size": 4},
    } | more


def _validation_curves(lines: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """One line for each kind of sub-network; the random ones share their entry in the legend."""
    kinds = dict.fromkeys(kind for line in lines for kind in line["validation"])
    out = []
    for kind in sorted(kinds, key=lambda kind: (not kind.startswith("random"), kind)):
        points = [(line["step"], line["validation"][kind].get(metric)) for line in lines if kind in line["validation"]]
        colour = {"largest": BLUE, "smallest": RED}.get(kind, GREY)
        group = "random" if kind.startswith("random") else _plain(kind, 24)
        shown = group not in {curve["legendgroup"] for curve in out}
        x, y = zip(*points, strict=True)
        rank = {"largest": 1, "smallest": 2}.get(kind, 3)
        out.append(_curve(group, x, y, colour, legendgroup=group, showlegend=shown, legendrank=rank))
    return out


def _curve_figure(
    curves: Sequence[Mapping[str, Any]], name: str, starts: Mapping[str, int], share: bool = False
) -> dict[str, Any]:
    """Curves over steps, with a dotted line and its name where a phase begins."""
    place = {
        "yref": "paper",
        "xanchor": "left",
        "showarrow": False,
        "textangle": -90,
        "font": {"size": 10, "color": GREY},
    }
    top = not share  # names stand where the curves are not: a loss falls, a share rises
    place |= {"y": 1 if top else 0, "yanchor": "top" if top else "bottom"}
    marks = [{"x": step, "text": _plain(phase, 24), **place} for phase, step in starts.items()]
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": {"color": GREY, "width": 1, "dash": "dot"}}
    shapes = [{"x0": step, "x1": step, **line} for step in starts.values() if step]
    axes = {
        "xaxis": {"title": {"text": "step"}, "rangemode": "tozero"},
        "yaxis": {"tickformat": ".1~%" if share else ""},
    }
    return _figure(curves, name.capitalize(), shapes=shapes, annotations=marks, **axes)


def _front_figure(rows: Sequence[Mapping[str, Any]], cost: str, metric: str, higher_is_better: bool) -> dict[str, Any]:
    """Quality against a cost; the architecture shows under the pointer."""
    rows = sorted((row for row in rows if row.get(cost) is not None and row[metric] is not None), key=lambda r: r[cost])
    sign = 1 if higher_is_better else -1
    front = pareto_front([(row[cost], sign * row[metric]) for row in rows])
    groups = [(f"off the front ({len(rows) - len(front)})", sorted(set(range(len(rows))) - set(front)), GREY)]
    groups += [(f"Pareto front ({len(front)})", front, BLUE)]
    data = []
    for name, indices, colour in groups:
        chosen = [rows[i] for i in indices]
        ends = [(row.get(f"{metric}_low"), row.get(f"{metric}_high")) for row in chosen]
        up = [0 if high is None else high - row[metric] for row, (_, high) in zip(chosen, ends, strict=True)]
        down = [0 if low is None else row[metric] - low for row, (low, _) in zip(chosen, ends, strict=True)]
        error = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 0.8, "width": 0}
        more = {"text": [_hover(row, metric) for row in chosen], "hoverinfo": "text", "error_y": error}
        curve = _curve(name, [row[cost] for row in chosen], [row[metric] for row in chosen], colour, **more)
        data.append(curve | {"mode": "markers" if colour == GREY else "lines+markers", "marker": {"size": 8}})
        data[-1]["line"] |= {"shape": "hv"}
    yaxis = {"title": {"text": _words(metric)}, "tickformat": ".1~%" if metric in SHARES else ""}
    xaxis = {"title": {"text": _words(cost)}, "rangemode": "tozero"}
    return _figure(data, f"{_words(metric)} against {_words(cost)}", 420, xaxis=xaxis, yaxis=yaxis, hovermode="closest")


def _hover(row: Mapping[str, Any], metric: str) -> str:
    cost = f"{format_count(row['macs'])} MACs, {format_count(row['params'])} parameters"
    lines = [row["name"], f"{_words(metric)} {_number(metric, row[metric])}", cost, *_architecture(row).split(" | ")]
    return "<br>".join(map(_plain, lines))


def _confusion_figure(name: str, matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> dict[str, Any]:
    """Rows are the truth; colours are shares of the row, for classes differ in size."""
    shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
    labels = [_plain(name, 18) for name in classes]
    ticks = {"tickvals": list(range(len(labels))), "ticktext": labels} if len(labels) <= 60 else {}
    heat = {
        "type": "heatmap",
        "z": shares,
        "text": matrix,
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "#FFFFFF"], [1, BLUE]],
    }
    heat |= {"showscale": False, "xgap": 1, "ygap": 1, "hoverongaps": False}
    heat |= {"texttemplate": "%{text}"} if len(labels) <= COUNTED_CLASSES else {}
    heat |= {"customdata": [[f"{true} taken for {taken}" for taken in labels] for true in labels]}
    heat |= {"hovertemplate": "%{customdata}<br>%{text} images, %{z:.1%}<extra></extra>"}
    xaxis = {"constrain": "domain", "showgrid": False, **ticks}
    yaxis = {
        "autorange": "reversed",
        "scaleanchor": "x",
        "constraintoward": "top",
        "constrain": "domain",
        "showgrid": False,
        **ticks,
    }
    height = min(900, 280 + 22 * len(labels))
    return _figure(
        [heat], f"Confusion matrix of {name}: row the truth, column the prediction", height, xaxis=xaxis, yaxis=yaxis
    )


def _cost_figure(ledger: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A bar for each phase, stacked by what the time was spent on."""
    total = max(sum(entry["seconds"].values()) for entry in ledger)
    unit, factor = ("hours", 3600) if total > 7200 else ("minutes", 60) if total > 120 else ("seconds", 1)
    phases = [_plain(entry["phase"], 24) for entry in ledger]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": part,
            "y": phases,
            "x": [entry["seconds"].get(part, 0) / factor for entry in ledger],
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}}, {part}: %{{x:.3~g}} {unit}<extra></extra>",
        }
        for part, colour in PART_COLOURS.items()
    ]
    axes = {"xaxis": {"title": {"text": unit}}, "yaxis": {"autorange": "reversed", "automargin": True}}
    return _figure(data, "Time by phase", 150 + 34 * len(ledger), barmode="stack", bargap=0.35, **axes)


# -- words and numbers --------------------------------------------------------------------------------------------


def _plain(text: str, longest: int = 60) -> str:
    """Text for a figure, shortened in the middle; plotly reads a few HTML tags, so it is escaped."""
    text, half = str(text), longest // 2
    short = text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"
    return html.escape(short, quote=False)


def _words(name: str) -> str:
    known = {
        "macs": "multiply-adds",
        "params": "parameters",
        "auc": "AUC",
        "macro_f1": "macro F1",
        "latency_ms": "latency (ms)",
        "cpu": "processor",
        "os": "operating system",
        "gpus": "accelerators",
        "memory_bytes": "memory",
    }
    return known.get(name, name.replace("_", " "))


def _number(name: str, value: Any) -> str:
    if value is None:
        return MISSING
    return f"{100 * value:.2f} %" if name in SHARES else f"{value:.4g}"


def _range(name: str, low: float, high: float) -> str:
    return f"{100 * low:.1f}–{100 * high:.1f}" if name in SHARES else f"{low:.4g}–{high:.4g}"


def _size(count: int) -> str:
    if count < 10**6:
        return f"{count:,}"
    exponent = len(str(count)) - 1
    power = str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{count // 10 ** (exponent - 2) / 100:.2g} × 10{power}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _choices(values: Sequence[Any]) -> str:
    return ", ".join(
        "+".join(value) if isinstance(value, tuple) and value and isinstance(value[0], str) else _text(value)
        for value in values
    )


def _text(value: Any) -> str:
    """A JSON value for people."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: MISSING}[value]
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or MISSING
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listed(values: Any) -> str:
    """A dictionary on one line, without what is not set."""
    if not isinstance(values, Mapping):
        return _text(values)
    return "; ".join(f"{_words(name)} {_listed(value)}" for name, value in values.items() if value is not None)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    out: dict[str, Any] = {}
    for name, item in value.items():
        out |= _flat(item, f"{prefix}.{name}" if prefix else str(name))
    return out


# -- the page -----------------------------------------------------------------------------------------------------

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'nonce-{{ nonce }}'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{{ title }}</title>
<style>
:root { --ink: #1d2129; --soft: #5c6470; --line: #dfe3e8; --wash: #f6f7f9; --blue: #0072B2; --red: #B34700 }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 64rem; color: var(--ink); background: #fff;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 3rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line) }
p { max-width: 46rem; margin: .5rem 0 1rem; color: var(--soft) }
nav { margin: 1rem 0 0; font-size: .9rem } nav a { margin-right: 1rem; color: var(--blue); white-space: nowrap }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .75rem; margin: 1.5rem 0 0 }
.tiles div { padding: .75rem 1rem; background: var(--wash); border-radius: 6px }
.tiles span { display: block; font-size: .85rem; color: var(--soft) }
.tiles strong { display: block; font-size: 1.6rem; font-weight: 600; line-height: 1.3 }
.notice { padding: .5rem .9rem; border-left: 3px solid var(--red); background: var(--wash); color: var(--ink) }
dl { display: grid; grid-template-columns: minmax(7rem, 12rem) 1fr; gap: .3rem 1.25rem; margin: 0; font-size: .93rem }
dt { color: var(--soft) } dt::first-letter, th::first-letter, th button::first-letter { text-transform: uppercase }
dd { margin: 0; overflow-wrap: anywhere }
figure { margin: 1.5rem 0 0 } figcaption, caption, summary { font-size: .9rem; font-weight: 600; text-align: left }
figcaption::first-letter { text-transform: uppercase }
caption { padding: .25rem 0 .4rem; caption-side: top } summary { cursor: pointer; padding: .25rem 0 }
.scroll { overflow-x: auto; margin: 1.25rem 0 0; -webkit-overflow-scrolling: touch }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; vertical-align: top; white-space: nowrap }
th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--ink) }
td { border-bottom: 1px solid var(--line) } td.long { white-space: normal; min-width: 13rem }
[data-sortable] td.long { white-space: nowrap }
.number { text-align: right }
th button { all: unset; display: inline-block; cursor: pointer }
th button:focus-visible { outline: 2px solid var(--blue) }
th[aria-sort] button::after { content: " ▲" } th[aria-sort=descending] button::after { content: " ▼" }
@media (max-width: 40rem) { body { padding: 1.25rem 1rem 3rem } dl { grid-template-columns: 1fr; gap: 0 }
  dd { margin-bottom: .5rem } h1 { font-size: 1.4rem } }
</style>
</head>
<body>
<header>
<h1>{{ title }}</h1>
<p>{{ status }}</p>
<div class="tiles">
{% for what, value, more in tiles %}
<div><span>{{ what }}</span><strong>{{ value }}</strong><span>{{ more }}</span></div>
{% endfor %}
</div>
<nav>{% for section in sections %}<a href="#s{{ loop.index }}">{{ section.title }}</a> {% endfor %}</nav>
</header>
<main>
{% set counter = namespace(figure=0) %}
{% for section in sections %}
<section>
<h2 id="s{{ loop.index }}">{{ section.title }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% for notice in section.notices %}<p class="notice">{{ notice }}</p>{% endfor %}
{% if section.facts %}
<dl>{% for name, value in section.facts %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
{% endif %}
{% for figure in section.figures %}
<figure><figcaption>{{ figure.caption }}</figcaption>
<div data-figure="{{ counter.figure }}" style="min-height: {{ figure.layout.height }}px"></div></figure>
{% set counter.figure = counter.figure + 1 %}
{% endfor %}
{% for table in section.tables %}
{% if table.folded %}<details><summary>{{ table.caption }}</summary>{% endif %}
<div class="scroll"><table{% if table.sortable %} data-sortable{% endif %}>
{% if table.caption and not table.folded %}<caption>{{ table.caption }}</caption>{% endif %}
<thead><tr>
{% for name in table.head %}
{% set number = table.rows and table.rows[0][loop.index0] is not string %}
<th scope="col"{% if number %} class="number"{% endif %}>
{%- if table.sortable %}<button type="button">{{ name }}</button>{% else %}{{ name }}{% endif %}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in table.rows %}
<tr>{% for cell in row %}
{% if cell is string %}<td{% if cell|length > 40 %} class="long"{% endif %}>{{ cell }}</td>
{% else %}<td class="number" data-value="{{ cell[1] }}">{{ cell[0] }}</td>{% endif %}
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% if table.folded %}</details>{% endif %}
{% endfor %}
</section>
{% endfor %}
</main>
<script type="application/json" id="figures">{{ figures | tojson }}</script>
<script nonce="{{ nonce }}">{{ plotly }}</script>
<script nonce="{{ nonce }}">
const font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: "#1d2129" };
const axis = { automargin: true, gridcolor: "#e8ebef", zeroline: false };
const figures = JSON.parse(document.getElementById("figures").textContent);
for (const place of document.querySelectorAll("[data-figure]")) {
  const { data, layout } = figures[place.dataset.figure];
  const legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal" };
  const whole = { font, legend, margin: { l: 8, r: 8, t: 36, b: 8 }, hoverlabel: { align: "left" }, ...layout };
  for (const name of ["xaxis", "yaxis"]) whole[name] = { ...axis, ...layout[name] };
  Plotly.newPlot(place, data, whole, { responsive: true, displayModeBar: false, displaylogo: false });
}
for (const head of document.querySelectorAll("[data-sortable] th")) {
  head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending", column = head.cellIndex;
    const body = head.closest("table").tBodies[0], key = (row) => row.cells[column].dataset.value;
    const text = (row) => row.cells[column].textContent, number = (row) => parseFloat(key(row)) || 0;
    const words = (a, b) => text(a).localeCompare(text(b), undefined, { numeric: true });
    const order = (a, b) => key(a) === undefined ? words(a, b) : number(a) - number(b);
    const rows = [...body.rows].sort((a, b) => down ? order(b, a) : order(a, b));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  });
}
</script>
</body>
</html>
"""
