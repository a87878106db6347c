"""Scales on which metrics are predicted: where a metric is bounded, equal steps of it are not equally hard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from onceforall.errors import check_choice

__all__ = ["Scale", "scale_of"]


@final
@dataclass(frozen=True)
class Scale:
    """One strictly increasing function of the metric.

    Args:
        name: "plain" for the metric itself, "log" for its logarithm, "logit" for log(share / (1 - share)).
        margin: with "logit", shares from 0 to 1 are first shrunk to lie between margin and 1 - margin.
    """

    name: Literal["plain", "log", "logit"]
    margin: float = 0.0

    def __post_init__(self) -> None:
        check_choice("scale", self.name, ("plain", "log", "logit"))

    def forward(self, metric: np.ndarray) -> np.ndarray:
        """The metric on this scale."""
        if self.name == "logit":
            shares = self.margin + (1 - 2 * self.margin) * metric
            return np.log(shares / (1 - shares))
        return np.log(metric) if self.name == "log" else metric

    def back(self, values: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The metric that has these values, and its standard deviations for small ones on this scale."""
        if self.name == "logit":
            shares, room = 1 / (1 + np.exp(-values)), 1 - 2 * self.margin
            return np.clip((shares - self.margin) / room, 0, 1), deviations * shares * (1 - shares) / room
        return (np.exp(values), deviations * np.exp(values)) if self.name == "log" else (values, deviations)


def scale_of(metric: str, scores: Sequence[float], images: int) -> Scale:
    """The scale for scores that were measured on so many images.

    The logarithm for a log-loss; the logit for numbers that all lie from 0 to 1, half an image away from the ends.
    """
    values = np.asarray(scores)
    if metric == "log_loss" and (values > 0).all():
        return Scale("log")
    if ((values >= 0) & (values <= 1)).all():
        return Scale("logit", 0.5 / (images + 1))
    return Scale("plain")
