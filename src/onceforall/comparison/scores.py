"""How good the same architectures are in each run, and which differences are more than chance."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onceforall.evaluation.evaluate import Evaluation
from onceforall.evaluation.metrics import mean_interval, paired_bootstrap

__all__ = ["compare_group", "difference_interval", "image_sums", "verdict"]

CONFIDENCE = 0.95

Kind = Literal["paired", "unpaired", "networks"]
"""How an interval of a difference was found: by a bootstrap over test images that both runs answer; from test images
that differ; or, without scores of images, from the differences of the networks."""


def compare_group(
    found: Mapping[str, Sequence[Evaluation]], metric: str, higher_is_better: bool, same_images: bool
) -> list[dict[str, Any]]:
    """A row for each run about the same architectures; differences are to the first run.

    The score is the mean over the networks. Its interval, and that of a difference, is for other test images of the
    same kind, with these networks and these trainings.

    Args:
        found: by run, of each run the results of the same architectures in the same order.
        metric: which number of a result.
        higher_is_better: whether a larger one is better.
        same_images: whether all runs answered the same images.
    """
    first: Sequence[Evaluation] | None = None
    rows = []
    for name, results in found.items():
        values = np.array([result.metrics[metric] for result in results])
        low, high, _ = difference_interval(results, None, metric, same_images)
        row: dict[str, Any] = {"run": name, "networks": len(results), "score": float(values.mean())}
        row |= {"low": low, "high": high, "macs": float(np.mean([result.cost.macs for result in results]))}
        losses = np.array([result.metrics.get("log_loss", np.nan) for result in results])
        row["log_loss"] = float(losses.mean())
        if first is not None:
            base = np.array([result.metrics[metric] for result in first])
            other_losses = np.array([result.metrics.get("log_loss", np.nan) for result in first])
            low, high, kind = difference_interval(results, first, metric, same_images)
            row |= {"difference": float((values - base).mean()), "difference_low": low, "difference_high": high}
            row |= {"log_loss_difference": float((losses - other_losses).mean())}
            row |= {"interval": kind, "verdict": verdict(low, high, higher_is_better)}
        first = results if first is None else first
        rows.append(row)
    return rows


def difference_interval(
    results: Sequence[Evaluation], first: Sequence[Evaluation] | None, metric: str, same_images: bool
) -> tuple[float, float, Kind]:
    """The interval for the mean score, or for its difference to that of `first`."""
    own, base = image_sums(results), None if first is None else image_sums(first)
    count = len(results)
    if own is None or (first is not None and base is None):
        values = np.array([result.metrics[metric] for result in results])
        if first is not None:
            values -= np.array([result.metrics[metric] for result in first])
        low, high = mean_interval(values, CONFIDENCE) if np.isfinite(values).all() else (np.nan, np.nan)
        return float(low), float(high), "networks"
    if base is not None and not (same_images and len(base) == len(own)):
        own, base = own[~np.isnan(own)], base[~np.isnan(base)]  # without images that are not judged
        half = 1.959964 * np.sqrt(own.var(ddof=1) / len(own) + base.var(ddof=1) / len(base)) / count
        middle = (own.mean() - base.mean()) / count
        return float(middle - half), float(middle + half), "unpaired"
    base = np.zeros_like(own) if base is None else base
    judged = np.isfinite(own) & np.isfinite(base)  # an image that shows nothing of any class has no score
    low, high = paired_bootstrap(own[judged], base[judged], CONFIDENCE)
    return low / count, high / count, "paired"


def image_sums(results: Sequence[Evaluation]) -> NDArray[np.float64] | None:
    """(images,) each image's score added up over the networks (whole numbers stay whole); None where one has none."""
    scores = [result.correct for result in results if result.correct is not None]
    return np.stack(scores).sum(axis=0, dtype=np.float64) if len(scores) == len(results) else None


def verdict(low: float, high: float, higher_is_better: bool = True) -> str:
    """Whether a difference to the first run is "better", "worse" or "undecided", for its interval holds zero.

    >>> verdict(0.01, 0.03), verdict(0.01, 0.03, higher_is_better=False), verdict(-0.01, 0.03)
    ('better', 'worse', 'undecided')
    """
    above, below = low > 0, high < 0
    if above or below:
        return "better" if above == higher_is_better else "worse"
    return "undecided"
