"""Architectures as pymoo handles them."""

import numpy as np
import pytest

pytest.importorskip("pymoo")

from pymoo.core.population import Population

from onceforall.searching.operators import ArchitectureProblem, Cross, Distinct, Mutate, Start
from tiny_search import small_network

SPACE = small_network().space
PROBLEM = ArchitectureProblem(lambda architectures: (np.zeros((len(architectures), 2)), np.zeros((0, 0))), 2, 0)


def population(architectures):
    x = np.empty((len(architectures), 1), object)
    x[:, 0] = architectures
    return Population.new("X", x)


def drawn(count, seed):
    return Start(SPACE, [SPACE.largest()]).do(PROBLEM, count, random_state=np.random.default_rng(seed)).get("X")[:, 0]


def test_start_takes_the_given_ones_and_draws_the_rest_by_its_generator():
    first = drawn(5, 0)
    assert first[0] == SPACE.largest() and all(each in SPACE for each in first)
    assert list(first) == list(drawn(5, 0)) and list(first) != list(drawn(5, 1))


def test_children_have_their_parents_choices():
    parents = [population([SPACE.smallest(), SPACE.largest()])] * 20
    children = Cross(SPACE).do(PROBLEM, parents, random_state=np.random.default_rng(0)).get("X")[:, 0]
    codes = np.array([SPACE.encode(child) for child in children])
    ends = np.array([SPACE.encode(SPACE.smallest()), SPACE.encode(SPACE.largest())])
    assert len(children) == 20 and ((codes == ends[0]) | (codes == ends[1])).all() and len(set(children)) > 5


def test_mutation_changes_about_two_variables():
    many = population([SPACE.smallest()] * 300)
    changed = Mutate(SPACE).do(PROBLEM, many, random_state=np.random.default_rng(0)).get("X")[:, 0]
    free = sum(len(choices) > 1 for _, choices in SPACE.variables())
    codes = np.array([SPACE.encode(each) for each in changed])
    # each variable is drawn with probability 2 / variables and then takes its other value half of the time
    expected = 2 / len(SPACE.variables()) / 2 * free
    assert abs((codes != 0).sum(1).mean() - expected) < 0.2


def test_what_was_judged_or_is_there_twice_is_left_out():
    small, large = SPACE.smallest(), SPACE.largest()
    other = SPACE.uniform(kernel_size=3)
    kept = Distinct({small: None}).do(population([small, other, other, large]), population([large]))
    assert [each.X[0] for each in kept] == [other]
