"""The sections of the page, made of what a run directory holds: to add one is to add a function here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onceforall.errors import UserError
from onceforall.evaluation.results import format_count
from onceforall.report.figures import (
    Span,
    confusion_figure,
    cost_figure,
    front_figure,
    loss_figure,
    validation_figure,
)
from onceforall.report.page import Section, Table
from onceforall.report.predictions import prediction_table
from onceforall.report.wording import (
    MISSING,
    inputs_of,
    sentence,
    show,
    show_amount,
    show_architecture,
    show_choices,
    show_duration,
    show_items,
    show_number,
    show_range,
    show_size,
    words,
)
from onceforall.search_space import SearchSpace
from onceforall.training.ledger import PARTS

UNLISTED = ("architecture", "on_front", "activations", "calibration_images", "digest")
INTERVALS = {"accuracy": "Wilson's at 95 %, for independent images"}  # of other metrics: Student's t over the inputs
FACTORS = ("resolutions", "kernel_sizes", "depths", "expand_ratios", "widths", "heights", "paths")
TEACHERS = {
    "none": "none",
    "first": "largest, as phase 1 left it",
    "previous_phase": "largest of the phase before",
    "in_place": "largest of the same step",
}


def about_section(run: Mapping[str, Any]) -> Section:
    """Network, data and recipe, as run.json describes them."""
    network, data, options = run["network"], run["data"], run["options"]
    space = SearchSpace.from_dict(network["space"])
    counts = data["counts"]
    facts = [
        ("Network", f"{network['class']} ({show_items(network['options'])})"),
        ("Search space", f"{show_size(space.size())} different sub-networks; {_elastic(space, space.resolutions)}"),
        ("Data", f"{data['name']}: {len(data['classes'])} classes, {data['channels']} channel(s)"),
        (sentence(inputs_of(run)), ", ".join(f"{count} {split}" for split, count in counts.items())),
    ]
    if "groups" in data:
        facts.append(("Groups", ", ".join(f"{count} {split}" for split, count in data["groups"].items())))
    facts += [(words(name), show_items(data[name])) for name in ("preparation", "augmentation") if name in data]
    facts.append(("Options", show_items(options)))
    counted = {"counts_per_class": "Images", "voxels_per_class": "Voxels"}
    found, per_class = next(((what, data[key]) for key, what in counted.items() if key in data), ("", {}))
    rows = [[name, *((per_class[split].get(name, 0),) * 2 for split in per_class)] for name in data["classes"]]
    tables = (
        [Table(["class", *per_class], rows, f"{found} of each class", sortable=True, folded=True)] if per_class else []
    )
    recipe = [[name, show(value)] for name, value in _flat(run["settings"]).items()]
    tables += [Table(["key", "value"], recipe, "The whole recipe", folded=True)] if recipe else []
    return Section("What was trained", facts=facts, tables=tables)


def schedule_section(run: Mapping[str, Any]) -> Section:
    """The phases, a row each."""
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
    open_ones = [f"{words(name)} {show_choices(values)}" for name, values in choices.items() if len(values) > 1]
    return "; ".join(open_ones) or "nothing"


def curves_section(lines: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> Section:
    """Losses and validations of metrics.jsonl over steps."""
    if not lines:
        return Section("Curves", notices=["No epoch is done yet."])
    kept = {phase["name"] for phase in run["phases"]}
    spans: dict[str, Span] = {}
    for before, line in zip([{"step": 0}, *lines], lines, strict=False):
        start = spans[line["phase"]][0] if line["phase"] in spans else before["step"]
        spans[line["phase"]] = (start, line["step"], line["phase"] not in kept)
    figures = [loss_figure(lines, spans)]
    validated = [line for line in lines if line.get("validation")]
    names = list(next(iter(validated[0]["validation"].values()))) if validated else []
    figures += [
        validation_figure(validated, name, spans) for name in dict.fromkeys([*names[:1], "log_loss"]) if name in names
    ]
    rolled_back = " Shaded: it did not pay and was rolled back." if any(back for *_, back in spans.values()) else ""
    text = (
        "Validated are the smallest and the largest sub-network of each phase and a few others, random or extreme, "
        f"always the same, each with its batch normalisation re-estimated on training {inputs_of(run)}. With a "
        f"teacher, the training loss includes the distance to it. Dotted lines: a phase begins.{rolled_back}"
    )
    return Section("Curves", text, [] if validated else ["No validation was done yet."], figures=figures)


def results_section(contents: Mapping[str, Any]) -> Section:
    """A split's results: the table, quality against each cost, and details of the largest network."""
    rows, metric = contents["rows"], contents["metric"]
    first = ["name", metric, "macs", "params", "latency_ms"]
    present = dict.fromkeys(
        name for row in rows for name in row if name not in UNLISTED and not name.endswith(("_low", "_high"))
    )
    columns = [name for name in first if name in present] + [name for name in present if name not in first]
    head = [*map(words, columns), "front", "architecture"]
    cells = [
        [
            *(_result_cell(row, name) for name in columns),
            ("●", 1) if row["on_front"] else ("", 0),
            show_architecture(row),
        ]
        for row in rows
    ]
    facts = [(words(name), show_items(value)) for name, value in contents["facts"].items() if name != "environment"]
    mean = contents["random"].get(metric)
    if mean:
        spread = "" if mean["low"] is None else f" (95 % interval {show_range(metric, mean['low'], mean['high'])})"
        value = f"{show_number(metric, mean['mean'])}{spread} over {contents['random']['count']} networks"
        facts.insert(0, (f"Mean {words(metric)} of random sub-networks", value))
    figures = [
        front_figure(rows, cost, metric, contents["higher_is_better"])
        for cost in ("macs", "latency_ms")
        if any(row.get(cost) is not None for row in rows)
    ]
    tables = [Table(head, cells, "Sub-networks (a click on a heading sorts them)", sortable=True)]
    details = contents["details"]
    for name in sorted(details, key=lambda name: name != "largest")[:1]:
        figures.append(confusion_figure(name, details[name]["confusion_matrix"], contents["classes"]))
        tables.append(_class_table(name, details[name]["per_class"]))
    inputs = contents.get("inputs", "images")
    interval = INTERVALS.get(metric, f"Student's t over the {inputs} at 95 %")
    text = (
        f"{len(rows)} sub-networks on {contents['images']} {inputs} of the {contents['split']} split. Intervals of "
        f"{words(metric)} are {interval}. On the front are those that no other one beats in {words(metric)} at the "
        "same or lower multiply-adds."
    )
    return Section(f"Results: {contents['split']}", text, facts=facts, figures=figures, tables=tables)


def _result_cell(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    if not isinstance(value, int | float | None):
        return show(value)
    if value is None:
        return (MISSING, "")
    if name in ("params", "macs", "weight_bytes"):
        return (format_count(value), value)
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    interval = "" if low is None or high is None else f" ({show_range(name, low, high)})"
    return (f"{show_number(name, value)}{interval}", value)


def _class_table(name: str, per_class: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("images", "sensitivity", "specificity", "auc")
    rows = [
        [row["class"], *((show_number(column, row[column]), row[column]) for column in columns)] for row in per_class
    ]
    return Table(["class", *map(words, columns)], rows, f"Each class against all others: {name}", sortable=True)


def costs_section(ledger: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> Section:
    """Time, work and memory of each phase that is done."""
    if not ledger:
        return Section("What it cost", notices=["No phase is done yet."])
    head = [
        "phase",
        "time",
        *PARTS,
        "steps",
        inputs_of(run),
        "multiply-adds",
        "peak memory",
        "kept for backward",
        "energy",
    ]
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
        amounts = [show_amount(value, unit) for value, unit in rest]
        rows.append(
            [entry["phase"], *((show_duration(value), value) for value in (sum(seconds), *seconds)), *counts, *amounts]
        )
    done = {entry["phase"] for entry in ledger}
    open_phases = sum(phase["name"] not in done for phase in run["phases"])
    notices = [f"{open_phases} of {len(run['phases'])} phases are not done."] if open_phases > 0 else []
    text = (
        "Seconds of waiting, whatever for; multiply-adds of student and teacher, forward and backward. Memory is the "
        "peak of the process until then; kept for backward is what one part of a batch keeps for its gradients."
    )
    tables = [Table(head, rows)]
    try:
        tables.append(prediction_table(ledger, run))
    except UserError:
        notices.append("What it should have cost is not known: its network, or a teacher's file, is not there.")
    return Section("What it cost", text, notices, figures=[cost_figure(ledger)], tables=tables)


def machine_section(run: Mapping[str, Any]) -> Section:
    """What the run was trained on and with."""
    known = run.get("environment", {}).items()
    facts = [
        (words(name), show_amount(value, "B")[0] if name == "memory_bytes" else show(value)) for name, value in known
    ]
    return Section("Machine and software", facts=facts, notices=[] if facts else ["Not recorded."])


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    out: dict[str, Any] = {}
    for name, item in value.items():
        out |= _flat(item, f"{prefix}.{name}" if prefix else str(name))
    return out
