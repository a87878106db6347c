"""The section of the page about what each phase of growth gained, and which were rolled back (ProX, Fig. 6)."""

from collections.abc import Mapping
from typing import Any

from onceforall.report.page import Section, Table
from onceforall.report.wording import MISSING, SHARES, show_choices, words

__all__ = ["growing_section"]

VERDICTS = {"stop": "does not pay: rolled back, the run ended", "skip": "does not pay: rolled back and left out"}
UNPAID = {"stop": "not begun, the run ended", "skip": "left out", "continue": "too much, begun all the same"}


def growing_section(run: Mapping[str, Any], metric: str) -> Section:
    """The verdicts of the stop rule in run.json; `metric` is the one by which networks are chosen."""
    unit = ", points" if metric in SHARES else ""
    head = ["phase", "opened", f"gain{unit}", "95 % interval", "pairs", f"gap before{unit}", f"gap after{unit}"]
    rows = [_row(verdict, metric) for verdict in run["verdicts"]]
    text = (
        "After a phase that opens larger choices, pairs of networks that differ in nothing else are compared: gain is "
        f"the mean by which the larger choices are better in validation {words(metric)}, with its 95 % interval over "
        "the pairs. The gap is by how much the largest network, before and after the new choices, is better on data it "
        "was trained on than on validation data. The curves above show the spikes of the loss where a phase begins, "
        "and shaded what was rolled back."
    )
    reasons = [(verdict["phase"], verdict["reason"]) for verdict in run["verdicts"]]
    return Section("What growing gained", text, facts=reasons, tables=[Table([*head, "verdict"], rows)])


def _row(verdict: Mapping[str, Any], metric: str) -> list[Any]:
    if "gain" not in verdict:  # a phase that was not judged by its gain, but by what it would cost
        blank = (MISSING, "")
        cells = [verdict["phase"], MISSING, blank, MISSING, blank, blank, blank]
        return [*cells, UNPAID[verdict["action"]]]
    opened = "; ".join(f"{words(name)} {show_choices(choices)}" for name, choices in verdict["opened"].items())
    low, high = verdict["interval"]
    interval = MISSING if low is None or high is None else f"{_signed(low, metric)} to {_signed(high, metric)}"
    gain, gap, pairs = verdict["gain"], verdict["gap"], len(verdict["pairs"])
    numbers = [(_signed(value, metric), value) for value in (gap["old"], gap["new"])]
    said = "pays" if verdict["pays"] else VERDICTS.get(verdict["action"], "does not pay: went on all the same")
    cells = [verdict["phase"], opened, (_signed(gain, metric), gain), interval, (str(pairs), pairs), *numbers]
    return [*cells, said]


def _signed(value: float, metric: str) -> str:
    return f"{100 * value:+.2f}" if metric in SHARES else f"{value:+.4f}"
