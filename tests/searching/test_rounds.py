"""Search, measure, fit again."""

import numpy as np
import pytest

pytest.importorskip("pymoo")

import onceforall
from onceforall.errors import UserError
from onceforall.searching.rounds import search, spread
from tiny_search import Additive, ClockTable, all_architectures, small_network

NET = small_network()
SPACE = NET.space
TRUE = Additive(SPACE, seed=1)
QUICK = {"candidates": 200, "population": 40}


def measure(architectures):
    return [TRUE.score(architecture) for architecture in architectures]


def test_without_measuring_the_front_is_the_predicted_one():
    result = search(NET, TRUE, constraints={"max_macs": 2.5e6}, **QUICK)
    assert result.objectives == ("accuracy", "macs") and len(result.front) > 3 and len(result.rounds) == 1
    for member in result.front:
        assert not member.measured and member.values["accuracy"] == pytest.approx(TRUE.score(member.architecture))
        assert member.values["macs"] <= 2.5e6
    assert onceforall.search is search


def test_rounds_measure_the_front_and_fit_again():
    wrong, fitted = Additive(SPACE, seed=2, noise=0.2), []

    def fit(scores):
        fitted.append(dict(scores))
        return TRUE

    known = {SPACE.smallest(): TRUE.score(SPACE.smallest())}
    result = search(NET, wrong, measure=measure, fit=fit, measured=known, rounds=2, members=6, **QUICK)
    first, second = result.rounds
    assert first.measured <= 6 and second.measured <= 6 and len(fitted) == 1 and len(fitted[0]) == 1 + first.measured
    assert first.bias < -0.05 and second.bias == pytest.approx(0) and second.error == pytest.approx(0)
    assert all(member.measured for member in result.front)
    for member in result.archive:
        assert member.values["accuracy"] == pytest.approx(TRUE.score(member.architecture))
        beaten = [m for m in result.archive if m.values["macs"] < member.values["macs"]]
        better = any(m.values["accuracy"] >= member.values["accuracy"] for m in beaten)
        assert not (better and member in result.front)
    assert result.front[-1].predicted is not None or result.front[-1].architecture in known


def test_seeds_decide():
    def run(seed):
        return search(NET, TRUE, latency_table=ClockTable(), measure=measure, rounds=2, members=4, seed=seed, **QUICK)

    one, other = run(0), run(0)
    assert one.front == other.front and one.archive == other.archive and one.objectives == ("accuracy", "latency_ms")


def test_the_impossible_has_no_front_and_a_nearest():
    def never(architectures):
        raise AssertionError("nothing needs to be measured")

    result = search(NET, TRUE, constraints={"min_accuracy": 0.999}, measure=never, rounds=5, **QUICK)
    assert result.front == () and result.nearest.architecture in SPACE and len(result.rounds) == 1
    assert np.isnan(result.rounds[0].error)


def test_the_nearest_is_the_one_that_measured_nearest():
    """A predictor that promises too much, and another order, does not decide where networks are measured."""
    most, least = 2.5e6, 0.9
    promising = Additive(SPACE, seed=2, noise=0.2)
    best = max((a for a in all_architectures(SPACE) if NET.measure(a).macs <= most), key=TRUE.score)
    how = {"measure": measure, "measured": {best: TRUE.score(best)}, "members": 5, **QUICK}
    result = search(NET, promising, constraints={"max_macs": most, "min_accuracy": least}, **how)

    def excess(architecture):
        macs, score = NET.measure(architecture).macs, TRUE.score(architecture)
        return max(0, macs / most - 1) + max(0, 1 - score / least)

    by_excess = sorted(excess(member.architecture) for member in result.archive)
    assert result.front == () and len(by_excess) == 6 and 0 < by_excess[0] < by_excess[1]
    assert result.nearest.measured and excess(result.nearest.architecture) == by_excess[0]


def test_what_was_measured_is_not_the_nearest_where_another_one_costs_less():
    known = {SPACE.largest(): TRUE.score(SPACE.largest())}
    how = {"measure": measure, "measured": known, **QUICK}
    result = search(NET, TRUE, constraints={"max_macs": 1000}, **how)
    assert result.front == () and result.nearest.architecture == SPACE.smallest() and not result.nearest.measured
    most = NET.measure(SPACE.largest()).macs
    result = search(NET, TRUE, constraints={"max_macs": most}, **how)
    assert result.nearest in result.front and result.nearest.architecture == SPACE.largest()


def test_spread_has_both_ends():
    assert spread(list(range(10)), 4) == [0, 3, 6, 9] and spread([1, 2], 5) == [1, 2] and spread([], 5) == []


def test_mistakes_are_named():
    with pytest.raises(UserError, match="rounds 0"):
        search(NET, TRUE, rounds=0)
    with pytest.raises(UserError, match="need a predictor"):
        search(NET, None, measure=measure)
