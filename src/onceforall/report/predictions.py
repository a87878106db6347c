"""What each phase should have cost, computed from the run's own description, beside what its ledger counted."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from onceforall.choices import listed
from onceforall.errors import UserError
from onceforall.report.page import Table
from onceforall.report.wording import MISSING, show_amount
from onceforall.search_space import SearchSpace
from onceforall.supernets.registry import NETWORK_CLASSES
from onceforall.training.plan import PhaseCost, phase_to_cost, predict_costs

__all__ = ["prediction_table"]


def prediction_table(ledger: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> Table:
    """Prediction and count of every phase that is done, side by side.

    Args:
        ledger: entries of ledger.json.
        run: of run.json.

    Raises `UserError` where the network or a teacher cannot be built again here.
    """
    parts = run["options"].get("micro_batches") or 1
    known = {cost.name: cost for cost in _predicted(run)}
    ledger = [entry for entry in ledger if entry["phase"] in known]
    costs = [known[entry["phase"]] for entry in ledger]
    work = sum(cost.student_macs + cost.teacher_macs for cost in costs)
    time = sum(map(_seconds, ledger))
    rows = []
    for cost, entry in zip(costs, ledger, strict=True):
        macs = cost.student_macs + cost.teacher_macs
        pairs = [
            (macs, entry["macs"], ""),
            (cost.activation_bytes / parts, entry.get("activation_bytes"), "B"),
            (cost.parameter_bytes, entry.get("parameter_bytes"), "B"),
            (cost.optimizer_bytes, entry.get("optimizer_bytes"), "B"),
        ]
        amounts = [show_amount(value, unit) for *both, unit in pairs for value in both]
        shares = [_share(macs, work), _share(_seconds(entry), time)]
        rows.append([cost.name, *amounts[:2], *shares, *amounts[2:]])
    head = ["phase", "multiply-adds, predicted", "counted", "share of them, predicted", "share of time, counted"]
    for name in ("kept for backward", "parameters", "optimiser"):
        head += [f"{name}, predicted", "counted"]
    caption = (
        "Predicted and counted. Time is that of student and teacher; kept for backward is what one part of a batch of "
        "the largest sub-network keeps; parameters and the optimiser's moments are those that the phase has in memory."
    )
    return Table(head, rows, caption)


def _predicted(run: Mapping[str, Any]) -> list[PhaseCost]:
    network = run["network"]
    if network["class"] not in NETWORK_CLASSES:
        raise UserError(f"network {network['class']!r} is none of {listed(sorted(NETWORK_CLASSES))}.")
    with torch.device("meta"):  # nothing is computed
        supernet = NETWORK_CLASSES[network["class"]](SearchSpace.from_dict(network["space"]), **network["options"])
    supernet = supernet.double() if run["options"].get("precision") == "fp64" else supernet
    return predict_costs(supernet, [phase_to_cost(values) for values in run["phases"]], run["data"]["counts"]["train"])


def _seconds(entry: Mapping[str, Any]) -> float:
    return entry["seconds"].get("student", 0.0) + entry["seconds"].get("teacher", 0.0)


def _share(part: float, whole: float) -> tuple[str, Any]:
    return (f"{100 * part / whole:.1f} %", part / whole) if whole else (MISSING, "")
