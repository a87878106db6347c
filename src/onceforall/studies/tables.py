"""Numbers of a study as people read them, and the table of its claims."""

from collections.abc import Callable, Sequence
from typing import Any

from onceforall.report.page import Table
from onceforall.report.wording import MISSING
from onceforall.studies.claims import Claim, Judgement
from onceforall.studies.study import Scale

__all__ = [
    "NOT_RUN",
    "claim_rows",
    "claims_table",
    "percent",
    "points",
    "scale_text",
    "shown_as",
    "signed",
    "times",
]

NOT_RUN = "not run"
INTERVALS = {
    "bootstrap": "paired bootstrap over test images and seeds",
    "widest": "widest that the number of test images allows, without the spread of seeds",
    "seeds": "of a mean over the seeds",
    "": "",
}
ONE_SEED = "one seed: the interval says nothing about another training"


def percent(value: float | None, missing: str = NOT_RUN) -> str:
    """A share in percent, as the papers print it."""
    return missing if value is None else f"{100 * value:.2f}"


def points(value: float | None, missing: str = NOT_RUN) -> str:
    """A difference of shares in percentage points, with its sign."""
    return missing if value is None else f"{100 * value:+.2f}"


def signed(value: float | None, missing: str = NOT_RUN) -> str:
    """A difference as it is, with its sign."""
    return missing if value is None else f"{value:+.4f}"


def times(value: float | None, missing: str = NOT_RUN) -> str:
    """A ratio."""
    return missing if value is None else f"{value:.3f}"


def scale_text(scale: Scale, overrides: Sequence[str]) -> str:
    """The sentence that stands on every output: in what this is smaller than the paper."""
    changed = f" Changed by --set: {', '.join(overrides)}." if overrides else ""
    return f"Scale {scale.name}: {scale.differs or 'as in the paper'}.{changed}"


def shown_as(claim: Claim[Any]) -> Callable[[float | None, str], str]:
    """How numbers of a claim are shown: as percentage points, as they are, or as a ratio."""
    return times if claim.at_most is not None else points if claim.in_points else signed


def _least(claim: Claim[Any]) -> str:
    return f"{100 * claim.more_than if claim.in_points else claim.more_than:g}"


def claim_rows(judgements: Sequence[Judgement], inflated: bool = True) -> list[dict[str, str]]:
    """A row of CSV for each claim; differences in percentage points, of Dice and ratios as they are.

    `inflated`: with a column for the best on test.
    """
    out = []
    for found in judgements:
        claim, run = found.claim, found.ours is not None
        show = shown_as(claim)
        notes = [claim.note, ONE_SEED if len(found.seeds) == 1 else ""]
        bounds = ("", f"{claim.at_most:g}") if claim.at_most is not None else (_least(claim), "")
        row = {"claim": claim.name, "text": claim.text, "more_than": bounds[0], "at_most": bounds[1]}
        row |= {"paper": show(found.paper, ""), "ours": show(found.ours, NOT_RUN), "low": show(found.low, "")}
        row |= {"high": show(found.high, ""), "verdict": found.verdict, "interval": INTERVALS[found.interval]}
        row |= {"best_on_test_inflated": points(found.best_on_test, "" if run else NOT_RUN)} if inflated else {}
        row |= {"seeds": " ".join(map(str, found.seeds)), "note": "; ".join(filter(None, notes))}
        out.append(row)
    return out


def claims_table(judgements: Sequence[Judgement], inflated: bool = True) -> Table:
    """The claims as a table of the page; `inflated`: with a column for the best on test."""
    head = ["claim", "paper", "ours", "95 % interval", "verdict", *(["best on test (inflated)"] * inflated), "note"]
    rows = []
    for found in judgements:
        claim = found.claim
        show = shown_as(claim)
        bounds = MISSING if found.low is None else f"{show(found.low, MISSING)} to {show(found.high, MISSING)}"
        wide = " (widest possible)" if found.interval == "widest" else ""
        least = f"claimed: more than {_least(claim)}" if claim.more_than else ""
        least = least if claim.at_most is None else f"claimed: at most {claim.at_most:g} times"
        row = [claim.text, show(found.paper, MISSING), show(found.ours, MISSING), bounds + wide, found.verdict]
        row += [points(found.best_on_test, MISSING)] if inflated else []
        rows.append([*row, "; ".join(filter(None, [least, claim.note])) or MISSING])
    kinds = [(signed, ", of Dice as they are"), (times, "; ratios as they are")]
    there = [text for kind, text in kinds if any(shown_as(found.claim) is kind for found in judgements)]
    return Table(head, rows, f"Differences in percentage points{''.join(there)}")
