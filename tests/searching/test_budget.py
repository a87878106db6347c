"""Which network answers a budget."""

import pytest

from onceforall.searching.budget import amount, choose, distances, nearest_in_cost, nothing_fits
from onceforall.searching.problem import Constraint, Measures
from onceforall.searching.rounds import Member, SearchResult
from tiny_search import small_network

SPACE = small_network().space
POINTS = [(0.80, 10, 5), (0.90, 20, 4), (0.95, 30, 9), (0.85, 25, 3)]  # accuracy, macs, params; the last is beaten


def result(*constraints, front=(0, 1, 2), metric="accuracy"):
    members = [
        Member(
            SPACE.smallest(),
            dict(zip(("accuracy", "macs", "params"), map(float, point), strict=True)),
            None,
            None,
            True,
        )
        for point in POINTS
    ]
    front = tuple(members[i] for i in front)
    return SearchResult(("accuracy", "macs"), constraints, metric, True, front, members[0], tuple(members), (), 1.0)


def test_a_limit_of_cost_takes_the_best_and_one_of_quality_the_cheapest():
    assert choose(result()).values["accuracy"] == 0.95
    assert choose(result(Constraint("macs", "max", 20), front=(0, 1))).values["accuracy"] == 0.90
    assert choose(result(Constraint("accuracy", "min", 0.85), front=(1, 2))).values["macs"] == 20
    both = Constraint("accuracy", "min", 0.7), Constraint("macs", "max", 50)
    assert choose(result(*both)).values["accuracy"] == 0.95


def test_distances_are_to_the_front_in_each_measure():
    found = result()
    assert distances(found, found.archive[3]) == pytest.approx({"accuracy": 0.05, "macs": 5, "params": 0})
    assert distances(found, found.archive[2]) == {"accuracy": 0, "macs": 0, "params": 0}
    assert distances(found, found.archive[0])["params"] == 2  # the beaten one has 3 at a better accuracy


def test_impossible_costs_are_known_before_anything_is_measured():
    pytest.importorskip("pymoo")
    net = small_network()
    measures = Measures(net)
    least = measures.row(SPACE.smallest())["macs"]
    assert nearest_in_cost(measures, [Constraint("macs", "max", least)], SPACE) is None
    assert nearest_in_cost(measures, [Constraint("macs", "max", least - 1)], SPACE) == SPACE.smallest()


def test_the_refusal_says_what_there_is():
    asked = Constraint("macs", "max", 1e6), Constraint("accuracy", "min", 0.99)
    values = {"accuracy": 0.912, "macs": 2.5e6, "params": 1e5, "activations": 1.0, "weight_bytes": 1.0}
    text = nothing_fits(asked, values, "r32", "onceforall export RUN FILE", False)
    assert text == (
        "no network that was found has macs of at most 1M and accuracy of at least 0.99. The nearest one has accuracy "
        "0.912, macs 2.5M (predicted): r32. Take it: onceforall export RUN FILE"
    )


def test_amounts_are_short():
    assert [amount("macs", 123), amount("params", 1.234e6), amount("latency_ms", 12.0)] == ["123", "1.234M", "12 ms"]
