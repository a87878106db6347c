"""Measures by name, objectives and constraints as values."""

import numpy as np
import pytest

from onceforall.errors import UserError
from onceforall.evaluation.cost import cost
from onceforall.searching.problem import Constraint, Measures, read_constraints, read_objectives
from tiny_search import Additive, ClockTable, small_network

NET = small_network()
SPACE = NET.space
PAIR = [SPACE.smallest(), SPACE.largest()]


def test_costs_are_those_of_the_network():
    measures = Measures(NET)
    assert measures.names == ("macs", "params", "activations", "weight_bytes", "peak_bytes") and measures.metric is None
    for name in measures.names:
        assert measures.values(name, PAIR).tolist() == [getattr(cost(NET, each), name) for each in PAIR]


def test_metric_and_latency_come_from_their_models_once_each():
    model = Additive(SPACE)
    measures = Measures(NET, model, ClockTable())
    assert measures.names[0] == "accuracy" and measures.names[-1] == "latency_ms"
    for _ in range(2):
        assert np.allclose(measures.values("accuracy", PAIR), [model.score(each) for each in PAIR])
    assert model.calls == 2 and measures.values("deviation", PAIR).tolist() == [0.01, 0.01]
    assert measures.values("latency_ms", PAIR).tolist() == [3.2, 4.8]
    assert measures.row(PAIR[0])["macs"] == cost(NET, PAIR[0]).macs
    assert measures.higher_is_better("accuracy") and not measures.higher_is_better("macs")


def test_a_predictor_of_another_space_is_refused():
    with pytest.raises(UserError, match="another search space"):
        Measures(NET, Additive(SPACE.restrict(resolutions=(32,))))


def test_excess_is_relative_and_has_a_side():
    assert Constraint("macs", "max", 200).excess(np.array([100, 200, 300])).tolist() == [-0.5, 0, 0.5]
    assert np.allclose(Constraint("accuracy", "min", 0.8).excess(np.array([0.9, 0.8, 0.6])), [-0.125, 0, 0.25])


def test_objectives_have_a_default_and_the_metric_first():
    with_table = Measures(NET, Additive(SPACE), ClockTable())
    assert read_objectives(with_table.directions, None) == ("accuracy", "latency_ms")
    assert read_objectives(Measures(NET, Additive(SPACE)).directions, None) == ("accuracy", "macs")
    assert read_objectives(with_table.directions, ["params", "accuracy", "macs"]) == ("accuracy", "params", "macs")


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["accuracy", "latency_ms"], "latency_ms needs a latency table"),
        (["acuracy", "macs"], "Did you mean 'accuracy'"),
        (["macs"], "two or more"),
        (["macs", "macs"], "two or"),
    ],
)
def test_impossible_objectives_are_named(names, complaint):
    with pytest.raises(UserError, match=complaint):
        read_objectives(Measures(NET, Additive(SPACE)).directions, names)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"max_latency_ms": 20}, "needs a latency table"),
        ({"max_mac": 20}, "Did you mean 'max_macs'"),
        ({"min_macs": 20}, "'min_macs' is not one of"),
        ({"max_accuracy": 0.5}, "'max_accuracy' is not one of"),
        ({"max_macs": 0}, "above 0"),
        ({"max_macs": float("nan")}, "above 0"),
        ({"min_accuracy": 90}, "at most 1"),
    ],
)
def test_impossible_constraints_are_named(given, complaint):
    with pytest.raises(UserError, match=complaint):
        read_constraints(Measures(NET, Additive(SPACE)).directions, given)


def test_constraints_are_read():
    known = Measures(NET, Additive(SPACE), ClockTable()).directions
    found = read_constraints(known, {"max_latency_ms": 4, "min_accuracy": 0.5})
    assert found == (Constraint("latency_ms", "max", 4.0), Constraint("accuracy", "min", 0.5))
    assert str(found[0]) == "max_latency_ms 4"
