"""Entries of a latency table from times of whole networks.

Times are explained in two steps. A cost model, a constant for each piece and a rate for each multiply-add, each
activation and each byte of weights (none below zero), says what a piece should take. Then groups of pieces that have a
place, a kernel size, a resolution, ... in common are made faster or slower together, by ridge regression on relative
errors, whose strength is chosen by leaving one network out. So a few hundred networks determine thousands of entries,
and an entry that was never measured is what its relatives are.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy import sparse
from scipy.optimize import nnls

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.searching.latency_pieces import all_pieces, count_pieces, split_costs
from onceforall.supernets.supernet import Supernet

__all__ = ["Fitted", "fit_entries", "linear_correction", "mape"]

STRENGTHS = np.geomspace(1e-4, 1e3, 22)
FEWEST = 8


@final
@dataclass(frozen=True)
class Fitted:
    """What was fitted.

    Args:
        entries: milliseconds by key of a piece.
        left_out: for each network its time, as it is predicted without it.
    """

    entries: dict[str, float]
    left_out: np.ndarray


def fit_entries(
    supernet: Supernet, networks: Sequence[Architecture], times_ms: np.ndarray, *, dense: bool = False, seed: int = 0
) -> Fitted:
    """Entries for every piece of the space, from the times of some networks.

    Raises `UserError` for fewer than 8 networks, or times that are not above 0.
    """
    if len(networks) < FEWEST:
        raise UserError(f"{len(networks)} networks: a latency table is fitted to {FEWEST} or more.")
    if not (np.isfinite(times_ms) & (times_ms > 0)).all():
        raise UserError("the times of the networks must be numbers above 0; remove the measurements and begin anew.")
    found = all_pieces(supernet.space, dense, random.Random(f"{seed}:pieces"))
    index = {piece: i for i, piece in enumerate(found)}
    costs = split_costs(supernet, found, dense, random.Random(f"{seed}:costs"))
    counts = count_pieces(networks, index, dense)
    expected = _cost_model(counts, costs, times_ms)  # (pieces,) milliseconds
    groups: dict[tuple, int] = {}
    rows, columns = [], []
    for piece, i in index.items():
        for group in piece.groups():
            rows.append(i)
            columns.append(groups.setdefault(group, len(groups)))
    member = sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(index), len(groups))).tocsr()
    features = (counts @ sparse.diags_array(expected) @ member).toarray() / times_ms[:, None]  # (networks, groups)
    base = counts @ expected / times_ms
    effects, residuals = _ridge(features, 1 - base)
    entries = expected * (1 + member @ effects)
    return Fitted(
        {piece.key: float(max(0.0, ms)) for piece, ms in zip(index, entries, strict=True)}, times_ms * (1 - residuals)
    )


def _cost_model(counts: sparse.csr_array, costs: np.ndarray, times_ms: np.ndarray) -> np.ndarray:
    """Milliseconds of each piece by constants and rates that are not below zero; relative errors count."""
    own = np.concatenate([np.ones((len(costs), 1)), costs], axis=1)  # (pieces, 1 + factors)
    whole = counts @ own / times_ms[:, None]
    scale = np.maximum(whole.mean(axis=0), 1e-12)
    rates = nnls(whole / scale, np.ones(len(times_ms)))[0] / scale
    expected = own @ rates
    return np.maximum(expected, 1e-3 * expected.mean())


def _ridge(features: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients, and for each row the error of a fit without it, at the best of `STRENGTHS`."""
    kernel = features @ features.T  # (networks, networks)
    values, vectors = np.linalg.eigh(kernel)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for strength in STRENGTHS * values.mean():
        inverse = (vectors / (np.maximum(values, 0) + strength)) @ vectors.T
        weights = inverse @ target
        residuals = weights / np.diag(inverse)  # left out one by one
        error = float(np.median(np.abs(residuals)) + np.abs(residuals).mean())
        if best is None or error < best[0]:
            best = error, features.T @ weights, residuals
    assert best is not None
    return best[1], best[2]


def linear_correction(predicted: np.ndarray, times_ms: np.ndarray) -> tuple[float, float]:
    """(constant, factor) that bring predictions nearest to times, by relative errors; the factor is above 0.

    >>> constant, factor = linear_correction(np.array([1.0, 2.0, 4.0]), np.array([2.5, 4.5, 8.5]))
    >>> round(constant, 6), round(factor, 6)
    (0.5, 2.0)
    """
    rows = np.stack([np.ones_like(predicted), predicted], axis=1) / times_ms[:, None]
    (constant, factor), *_ = np.linalg.lstsq(rows, np.ones(len(times_ms)))
    return (float(constant), float(factor)) if factor > 0 else (0.0, float(np.median(times_ms / predicted)))


def mape(predicted: np.ndarray, times_ms: np.ndarray) -> float:
    """Mean absolute error as a part of the true time.

    >>> mape(np.array([1.1, 1.8]), np.array([1.0, 2.0]))
    0.1
    """
    return float(round(np.mean(np.abs(predicted / times_ms - 1)), 12))
