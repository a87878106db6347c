"""Oracles: times made from known costs of pieces, and least squares computed directly."""

import random

import numpy as np
import pytest

from onceforall.errors import UserError
from onceforall.searching.latency_fit import fit_entries, linear_correction, mape
from onceforall.searching.latency_pieces import pieces_of
from onceforall.supernets import create_supernet

SUPERNET = create_supernet("prox_mobilenet", width_mult=0.25, resolutions=(24, 32), depths=(1, 2), kernel_sizes=(3, 5))


def networks(count, key=0):
    rng = random.Random(key)
    return [SUPERNET.space.sample(rng) for _ in range(count)]


def true_ms(architecture):
    """A device on which kernels of 5 are slow and stage 2 is fast, whatever their multiply-adds."""
    total = 0.0
    for piece in pieces_of(architecture):
        area = piece.resolution**2 / 1000
        block = piece.block
        cost = 0.05 if block is None else 0.02 + 0.01 * area * block.expand_ratio * (3 if block.kernel_size == 5 else 1)
        total += cost * (0.3 if piece.place.startswith("stage 2") else 1)
    return total


def times(architectures, noise=0.0):
    values = np.array([true_ms(architecture) for architecture in architectures])
    return values * np.random.default_rng(0).normal(1, noise, len(values))


def predict(entries, architectures):
    return np.array([sum(entries[piece.key] for piece in pieces_of(each)) for each in architectures])


def test_entries_predict_networks_that_were_not_seen():
    known, new = networks(120), networks(40, key=1)
    fitted = fit_entries(SUPERNET, known, times(known))
    by_macs = np.array([SUPERNET.measure(each).macs for each in new], dtype=float)
    rough = by_macs * np.median(times(new) / by_macs)
    assert mape(predict(fitted.entries, new), times(new)) < 0.01 < 0.08 < mape(rough, times(new))
    assert all(ms >= 0 for ms in fitted.entries.values())
    assert fitted.entries["stage 3 further k5e6 at 32"] > 1.5 * fitted.entries["stage 3 further k3e6 at 32"]


def test_few_noisy_times_are_enough_for_a_table_with_more_entries():
    known, new = networks(40), networks(40, key=1)
    fitted = fit_entries(SUPERNET, known, times(known, noise=0.03))
    assert len(fitted.entries) == 2 * (2 + 5 * 2 * 6) > 3 * len(known)
    assert mape(predict(fitted.entries, new), times(new)) < 0.06


def test_left_out_predictions_are_those_of_fits_without_the_network():
    known = networks(40)
    values = times(known, noise=0.05)
    fitted = fit_entries(SUPERNET, known, values)
    inside = mape(predict(fitted.entries, known), values)
    outside = mape(fitted.left_out, values)
    new = networks(40, key=1)
    assert inside < outside < 2 * mape(predict(fitted.entries, new), times(new, noise=0.05))


def test_equal_calls_give_equal_tables():
    known = networks(20)
    one, other = (fit_entries(SUPERNET, known, times(known)).entries for _ in range(2))
    assert one == other


def test_correction_is_relative_least_squares():
    rng = np.random.default_rng(0)
    predicted = rng.uniform(1, 5, 30)
    true = 0.3 + 1.2 * predicted * rng.normal(1, 0.02, 30)
    constant, factor = linear_correction(predicted, true)

    def error(a, b):
        return float((((a + b * predicted) / true - 1) ** 2).sum())

    best = error(constant, factor)
    assert all(best < error(constant + a, factor + b) for a in (-0.02, 0, 0.02) for b in (-0.01, 0.01))
    assert linear_correction(np.array([1.0, 2, 4]), np.array([4.0, 2, 1]))[1] > 0  # never turns the order round


def test_mistakes_are_named():
    with pytest.raises(UserError, match="7 networks"):
        fit_entries(SUPERNET, networks(7), np.ones(7))
    with pytest.raises(UserError, match="numbers above 0"):
        fit_entries(SUPERNET, networks(8), np.array([1.0] * 7 + [np.nan]))
