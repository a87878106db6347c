"""The tables of the ProX study: what training cost, and how good the sub-networks are, the paper's beside ours."""

from typing import Any

from onceforall.evaluation.results import format_count
from onceforall.report.page import Table
from onceforall.report.wording import MISSING, show_duration
from onceforall.studies.prox import BASELINE, DATA_SETS, SINGLES
from onceforall.studies.prox_claims import difference_to
from onceforall.studies.prox_results import ProxNumber, ProxResults, Quantity
from onceforall.studies.tables import NOT_RUN, percent, points, signed, times
from onceforall.training.ledger import PARTS

__all__ = ["score_rows", "score_table", "training_rows", "training_table"]

COSTS: tuple[Quantity, ...] = ("seconds", "learning_seconds", "macs")


def _wanted(results: ProxResults) -> list[tuple[str, str]]:
    """Data set and run of each row: what was run, and what the paper has."""
    out = []
    for data, known in DATA_SETS.items():
        out += [(data, run) for run in dict.fromkeys([*known.scores, *results.runs(data)])]
    return out


def training_rows(results: ProxResults) -> list[dict[str, Any]]:
    """A row for each data set and run: seconds by what they were spent on, multiply-adds, and their ratios."""
    out = []
    for data, run in _wanted(results):
        hours = DATA_SETS[data].hours
        row: dict[str, Any] = {"data": data, "run": run, "seeds": _seeds(results, ProxNumber(data, run, "macs"))}
        found = [each for c in results.of(data).values() for each in c["runs"] if each["name"] == run]
        row["epochs"] = " ".join(dict.fromkeys(str(each["epochs"]) for each in found)) or NOT_RUN
        for part in ("total", *PARTS):
            row[f"seconds_{part}"] = sum(each["seconds"][part] for each in found) / len(found) if found else None
        row["macs"] = results.mean(ProxNumber(data, run, "macs"))
        row |= {f"{name}_ratio": _ratio(results, data, run, name) for name in COSTS}
        row["paper_hours"] = hours.get(run)
        row["paper_seconds_ratio"] = hours[run] / hours[BASELINE] if run in hours else None
        out.append(row)
    return out


def _seeds(results: ProxResults, number: ProxNumber) -> str:
    return " ".join(map(str, results.values(number)))


def _ratio(results: ProxResults, data: str, run: str, quantity: Quantity) -> float | None:
    """To the baseline, averaged over the seeds that both have."""
    ours, base = (results.values(ProxNumber(data, each, quantity)) for each in (run, BASELINE))
    ratios = [ours[seed] / base[seed] for seed in ours if base.get(seed)]
    return sum(ratios) / len(ratios) if ratios else None


def training_table(results: ProxResults) -> Table:
    """`training_rows` to read."""
    rows = []
    for row in training_rows(results):
        if row["macs"] is None:
            cells = [NOT_RUN, *[MISSING] * (len(PARTS) + 5)]
        else:
            cells = [(show_duration(row[f"seconds_{part}"]), row[f"seconds_{part}"]) for part in ("total", *PARTS)]
            cells += [(format_count(round(row["macs"])), row["macs"]), row["epochs"]]
            cells += [times(row[f"{name}_ratio"], MISSING) for name in COSTS]
        paper = MISSING if row["paper_hours"] is None else f"{row['paper_hours']:g} h"
        rows.append([row["data"], row["run"], *cells, paper, times(row["paper_seconds_ratio"], MISSING)])
    head = ["data", "run", "time", *PARTS, "multiply-adds", "epochs", "time, ratio", "student + teacher, ratio"]
    head += ["multiply-adds, ratio", "paper: time", "paper: ratio"]
    return Table(head, rows, f"What training cost; means over seeds, ratios to {BASELINE}")


def score_rows(results: ProxResults) -> list[dict[str, Any]]:
    """A row for each data set and run: mean score over the sub-networks with its interval, and the paper's."""
    out = []
    for data, run in _wanted(results):
        number = ProxNumber(data, run, "score")
        values = results.values(number)
        row: dict[str, Any] = {"data": data, "run": run, "networks": "", "seeds": _seeds(results, number)}
        row |= dict.fromkeys(("score", "low", "high", "difference", "difference_low", "difference_high"))
        if values:
            counts = {len(results.of(data)[seed]["networks"]) for seed in values}
            row["networks"] = "1" if run in SINGLES else " ".join(map(str, sorted(counts)))
            row["score"], row["low"], row["high"] = difference_to(results, number, None, list(values))
        base = ProxNumber(data, BASELINE, "score")
        common = [seed for seed in values if seed in results.values(base)]
        if common and run != BASELINE and run not in SINGLES:  # one network is not compared with a mean over many
            names = ("difference", "difference_low", "difference_high")
            row |= dict(zip(names, difference_to(results, number, base, common), strict=True))
        row["paper"] = DATA_SETS[data].scores.get(run)
        out.append(row)
    return out


def score_table(results: ProxResults) -> Table:
    """`score_rows` to read."""
    rows = []
    for row in score_rows(results):
        missing = NOT_RUN if row["score"] is None else MISSING
        images = DATA_SETS[row["data"]].task == "classification"
        score, difference = (percent, points) if images else (_dice, signed)
        interval = MISSING if row["low"] is None else f"{score(row['low'], '')} to {score(row['high'], '')}"
        apart = MISSING
        if row["difference_low"] is not None:
            apart = f"{difference(row['difference_low'], '')} to {difference(row['difference_high'], '')}"
        cells = [row["networks"] or MISSING, score(row["score"], missing), interval]
        cells += [difference(row["difference"], MISSING), apart, score(row["paper"], MISSING)]
        rows.append([row["data"], row["run"], *cells])
    head = ["data", "run", "sub-networks", "mean score", "95 % interval", f"above {BASELINE}"]
    caption = (
        "Mean score of the sub-networks on test: accuracy in percent with differences in points, of segmentation Dice "
        "as it is; of single networks their own"
    )
    return Table([*head, "95 % interval", "paper"], rows, caption)


def _dice(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.4f}"
