"""What an evaluation leaves in a run directory, reading it again, and choosing a network from it.

    results/<split>.json             everything: a row for each network, the classes, the summary, what it was made from
    results/<split>.csv              the rows as a table
    results/<split>-predictions.csv  file, label, prediction and probabilities, for the networks that kept them
    results/<split>-front.png, .svg  quality against multiply-adds
    results/<split>-<name>-cases.*   of volumes: each case on the grid of its file; see `cases`

A row holds the columns of `COLUMNS` as far as they are known, then any further ones; a number that the data do not
determine is null in the JSON and empty in the CSV. Intervals are at 95 %: Wilson's for an accuracy, Student's t over
the images for a mean of their scores.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np

from onceforall.errors import UserError, check_choice, suggestion
from onceforall.evaluation.evaluate import Evaluation
from onceforall.evaluation.metrics import (
    confusion_matrix,
    mean_interval,
    per_class_auc,
    per_class_sensitivity,
    per_class_specificity,
    wilson_interval,
)
from onceforall.evaluation.pareto import pareto_front, plot_front
from onceforall.files import write_json, write_text

__all__ = [
    "RESULTS",
    "best_architecture",
    "format_count",
    "json_types",
    "parse_budget",
    "read_results",
    "write_results",
]

RESULTS = "results"
"""The folder of a run directory that holds them."""

COLUMNS = (
    *("name", "digest", "resolution", "params", "macs", "activations", "weight_bytes"),
    *("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "auc", "sensitivity", "specificity", "log_loss"),
)
RANDOM = "random_"  # how the names of randomly drawn architectures begin
BUDGETS = ("macs", "params", "latency_ms")
SUFFIXES = {"K": 10**3, "M": 10**6, "G": 10**9}


# -- writing ------------------------------------------------------------------------------------------------------


def write_results(
    folder: Path,
    evaluations: Sequence[Evaluation],
    names: Sequence[str],
    *,
    split: str,
    labels: np.ndarray | None,
    files: Sequence[str],
    classes: Sequence[str],
    facts: Mapping[str, Any],
    columns: Sequence[Mapping[str, Any]] | None = None,
    metric: str = "accuracy",
    higher_is_better: bool = True,
    inputs: str = "images",
    cases: Mapping[str, Any] | None = None,
) -> Path:
    """Write what was measured on `split` into `<folder>/results` and return the path of the JSON file.

    Args:
        folder: the run directory.
        evaluations: one for each network.
        names: a different one for each, as "largest", "grid_3"; those that begin with "random_" are summed up.
        split: the name of the files.
        labels: (N,) true class of each image; None where an image has no class but a map.
        files: (N,) name of each image.
        classes: names of the classes.
        facts: anything JSON can hold that tells where the numbers come from.
        columns: further columns of each row, as {"latency_ms": 3.1}.
        metric: the number that is drawn against multiply-adds.
        higher_is_better: whether a larger one is better.
        inputs: what the files hold, for words: "images" or "volumes".
        cases: by names of networks, what `evaluate_cases` found.

    Where the picture cannot be drawn, as without matplotlib, it is left out and the JSON says so. Raises `UserError`
    where lengths do not agree or two names are equal.
    """
    further = [{} for _ in evaluations] if columns is None else columns
    _check_lengths(evaluations, names, further, labels, files)
    check_choice("metric", metric, evaluations[0].metrics)
    rows = [
        _row(name, evaluation, len(files), metric, more)
        for name, evaluation, more in zip(names, evaluations, further, strict=True)
    ]
    _mark_front(rows, metric, higher_is_better)
    kept = {name: e.probabilities for name, e in zip(names, evaluations, strict=True) if e.probabilities is not None}
    details = {} if labels is None else {name: _details(answers, labels, classes) for name, answers in kept.items()}
    results = folder / RESULTS
    contents = {
        "split": split,
        "images": len(files),
        "inputs": inputs,
        "classes": list(classes),
        "metric": metric,
        "higher_is_better": higher_is_better,
        "facts": dict(facts),
        "rows": rows,
        "details": details,
        "random": _summary([row for row in rows if row["name"].startswith(RANDOM)]),
        "cases": dict(cases or {}),
        "picture": _picture(rows, results / f"{split}-front", (split, len(files), inputs), metric, higher_is_better),
    }
    write_text(results / f"{split}.csv", _table(rows))
    predictions = results / f"{split}-predictions.csv"
    predictions.unlink(missing_ok=True)  # those of an earlier evaluation would not belong to the rows
    if kept and labels is not None:
        write_text(predictions, _predictions(kept, labels, files, classes))
    path = results / f"{split}.json"
    write_json(path, json_types(contents))
    return path


def _check_lengths(
    evaluations: Sequence[Evaluation],
    names: Sequence[str],
    further: Sequence[Mapping[str, Any]],
    labels: np.ndarray | None,
    files: Sequence[str],
) -> None:
    if not evaluations:
        raise UserError("there are no results to write: nothing was evaluated.")
    if len(names) != len(evaluations) or len(set(names)) < len(names):
        raise UserError(f"names {list(names)!r}: give a different one to each of the {len(evaluations)} evaluations.")
    if len(further) != len(evaluations):
        raise UserError(f"columns for {len(further)} rows: there are {len(evaluations)} evaluations.")
    if labels is None:
        return
    if len(files) != len(labels):
        raise UserError(f"{len(files)} files and {len(labels)} labels: there must be as many.")
    for name, evaluation in zip(names, evaluations, strict=True):
        if evaluation.probabilities is not None and len(evaluation.probabilities) != len(labels):
            raise UserError(f"{name}: {len(evaluation.probabilities)} rows of probabilities for {len(labels)} labels.")


def _row(name: str, evaluation: Evaluation, images: int, metric: str, further: Mapping[str, Any]) -> dict[str, Any]:
    architecture, cost, metrics = evaluation.architecture, evaluation.cost, dict(evaluation.metrics)
    if "accuracy" in metrics:
        low, high = wilson_interval(round(metrics["accuracy"] * images), images)
        metrics |= {"accuracy_low": low, "accuracy_high": high}
    elif evaluation.correct is not None:
        scores = evaluation.correct[~np.isnan(evaluation.correct)]
        low, high = mean_interval(scores) if len(scores) else (math.nan, math.nan)
        metrics = {metric: metrics[metric], f"{metric}_low": low, f"{metric}_high": high} | metrics
    known = {
        "name": name,
        "digest": architecture.digest(),
        "resolution": architecture.resolution,
        "params": cost.params,
        "macs": cost.macs,
        "activations": cost.activations,
        "weight_bytes": cost.weight_bytes,
        **metrics,
    }
    ordered = {column: known[column] for column in COLUMNS if column in known}
    ordered |= {column: value for column, value in known.items() if column not in ordered}
    ordered |= {**further, "calibration_images": evaluation.calibration_images, "on_front": False}
    return ordered | {"architecture": architecture.to_dict()}


def _mark_front(rows: list[dict[str, Any]], metric: str, higher_is_better: bool) -> None:
    """Set `on_front` of the rows that no other dominates in multiply-adds and `metric`."""
    drawable = [row for row in rows if math.isfinite(row[metric])]
    sign = 1 if higher_is_better else -1
    for index in pareto_front([(row["macs"], sign * row[metric]) for row in drawable]):
        drawable[index]["on_front"] = True


def _details(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """The confusion matrix (row: truth, column: prediction), and the numbers of each class against all others."""
    matrix = confusion_matrix(labels, probabilities.argmax(1), len(classes))
    sensitivity, specificity = per_class_sensitivity(matrix), per_class_specificity(matrix)
    auc = per_class_auc(probabilities, labels)
    per_class = [
        {
            "class": name,
            "images": int(matrix[i].sum()),
            "sensitivity": float(sensitivity[i]),
            "specificity": float(specificity[i]),
            "auc": float(auc[i]),
        }
        for i, name in enumerate(classes)
    ]
    return {"confusion_matrix": matrix.tolist(), "per_class": per_class}


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean, its 95 % t-interval and the range of every number over the randomly drawn architectures.

    The interval speaks of other random architectures on the same images, not of other images.
    """
    if not rows:
        return {"count": 0}
    out: dict[str, Any] = {"count": len(rows)}
    for column, value in rows[0].items():
        values = [row.get(column) for row in rows]
        if isinstance(value, float) and not column.endswith(("_low", "_high")) and all(map(_is_finite, values)):
            numbers = np.asarray(values, dtype=np.float64)
            low, high = mean_interval(numbers)
            out[column] = {"mean": float(numbers.mean()), "low": low, "high": high}
            out[column] |= {"minimum": float(numbers.min()), "maximum": float(numbers.max())}
    return out


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _picture(
    rows: Sequence[Mapping[str, Any]], path: Path, about: tuple[str, int, str], metric: str, higher_is_better: bool
) -> dict[str, Any]:
    """Draw the picture, or say why there is none. `about`: split, how many inputs, what they are."""
    drawable = [row for row in rows if math.isfinite(row[metric])]
    if not drawable:
        return {"files": [], "note": f"no picture was drawn: no network has a finite {metric}."}
    split, count, inputs = about
    title = f"{len(drawable)} sub-networks, {count} {inputs} of the {split} split"
    try:
        drawn = plot_front(drawable, path, y=metric, title=title, higher_is_better=higher_is_better)
    except UserError as error:  # the numbers are kept
        return {"files": [], "note": f"no picture was drawn: {error}"}
    return {"files": [file.name for file in drawn]}


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as CSV; the architecture is its JSON text."""
    columns = list(dict.fromkeys(column for row in rows for column in row if column != "architecture"))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*columns, "architecture"])
    for row in rows:
        architecture = json.dumps(row["architecture"], separators=(",", ":"))
        writer.writerow([*(_cell(row.get(column)) for column in columns), architecture])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return "x".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def _predictions(
    kept: Mapping[str, np.ndarray], labels: np.ndarray, files: Sequence[str], classes: Sequence[str]
) -> str:
    """One line for each network and image; the prediction is the class of the largest probability."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["name", "file", "label", "prediction", *(f"probability_{name}" for name in classes)])
    for name, probabilities in kept.items():
        for file, label, row in zip(files, labels, probabilities, strict=True):
            numbers = (f"{probability:.6g}" for probability in row)
            writer.writerow([name, file, classes[label], classes[int(row.argmax())], *numbers])
    return out.getvalue()


def json_types(value: Any) -> Any:
    """`value` as JSON has it: NaN and infinities are None, numpy numbers plain ones, tuples lists."""
    if isinstance(value, Mapping):
        return {str(key): json_types(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_types(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -- reading and choosing -----------------------------------------------------------------------------------------


def read_results(folder: Path, split: str, phase: str | None = None) -> dict[str, Any]:
    """What `write_results` wrote of `split` in the run directory `folder`, with the weights after `phase` if given.

    Raises `UserError` where it was not evaluated, not with these weights, or the file is damaged.
    """
    path = folder / RESULTS / f"{split}.json"
    if not path.is_file():
        present = sorted(file.stem for file in (folder / RESULTS).glob("*.json"))
        known = f"there are results of {', '.join(present)}" if present else "nothing was evaluated yet"
        command = f"onceforall evaluate {folder} --split {split}"
        raise UserError(f"{folder} has no results of the split {split!r}: {known}. Run: {command}")
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); evaluate again.") from error
    if not isinstance(contents, dict) or not isinstance(contents.get("rows"), list):
        raise UserError(f"{path} holds no results that this package wrote; evaluate again.")
    measured = contents.get("facts", {}).get("phase")
    if phase not in (None, measured):
        command = f"onceforall evaluate {folder} --split {split} --phase {phase}"
        raise UserError(f"{path} is of the weights after {measured!r}, not after {phase!r}. Run: {command}")
    return contents


def best_architecture(
    rows: Sequence[Mapping[str, Any]],
    *,
    max_macs: float | None = None,
    max_params: float | None = None,
    max_latency_ms: float | None = None,
    metric: str = "accuracy",
    higher_is_better: bool = True,
) -> dict[str, Any]:
    """The evaluated row with the best `metric` that keeps every budget; of equal ones the cheapest in multiply-adds.

    Raises `UserError` where nothing was evaluated, no row has the metric or the latency, or nothing fits; it then
    says what the cheapest evaluated network costs.
    """
    judged = [row for row in rows if row.get(metric) is not None and math.isfinite(row[metric])]
    if not judged:
        numbers = [column for column, value in (rows[0].items() if rows else ()) if isinstance(value, float)]
        known = f"; known are {', '.join(numbers)}.{suggestion(metric, numbers)}" if numbers else "."
        raise UserError(f"no evaluated architecture has a {metric!r}{known}")
    limits = zip(BUDGETS, (max_macs, max_params, max_latency_ms), strict=True)
    budgets = {name: limit for name, limit in limits if limit is not None}
    if "latency_ms" in budgets and not any(row.get("latency_ms") is not None for row in judged):
        raise UserError("no latency was measured for the evaluated architectures; measure it, or use max_macs.")
    fitting = [row for row in judged if all(_within(row, name, limit) for name, limit in budgets.items())]
    if not fitting:
        raise UserError(_nothing_fits(judged, budgets))
    sign = -1 if higher_is_better else 1
    return dict(min(fitting, key=lambda row: (sign * row[metric], row["macs"])))


def _within(row: Mapping[str, Any], name: str, limit: float) -> bool:
    return row.get(name) is not None and row[name] <= limit


def _nothing_fits(rows: Sequence[Mapping[str, Any]], budgets: Mapping[str, float]) -> str:
    asked = " and ".join(f"{name} <= {_amount(name, limit)}" for name, limit in budgets.items())
    cheapest = []
    for name in budgets:
        row = min((row for row in rows if row.get(name) is not None), key=lambda row: row[name])
        cheapest.append(f"{row['name']} with {name} {_amount(name, row[name])}")
    return f"no evaluated architecture has {asked}; the cheapest evaluated: {', '.join(cheapest)}."


def _amount(name: str, value: float) -> str:
    return f"{value:g}" if name == "latency_ms" else format_count(value)


def format_count(value: float) -> str:
    """A count for people, with at most four digits.

    >>> [format_count(n) for n in (950, 12_345, 5_000_000, 1_230_000_000)]
    ['950', '12.35K', '5M', '1.23G']
    """
    for suffix, factor in reversed(SUFFIXES.items()):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{suffix}"
    return f"{value:g}"


def parse_budget(text: str | int) -> int:
    """A budget as a person writes it: a positive number, with K, M or G for thousands, millions and billions.

    >>> [parse_budget(text) for text in ("5M", "1.5k", "2_000", "3e6", "0.25G")]
    [5000000, 1500, 2000, 3000000, 250000000]
    """
    plain = str(text).strip().upper()
    factor = SUFFIXES.get(plain[-1:], 1)
    try:
        value = Decimal(plain[:-1] if factor > 1 else plain) * factor
        valid = value.is_finite() and 1 <= value < 10**18
    except InvalidOperation:
        valid = False
    if not valid:
        raise UserError(f"budget {str(text)!r}: give a number of at least 1, with K, M or G behind it, such as 5M.")
    return round(value)
