"""Which exits answer, as part of an architecture's code."""

import random
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.searching import exit_sets

SPACE = SearchSpace.build(3, resolutions=[32], depths=[1], kernel_sizes=[3, 5], heights=[1, 2, 3])
ONE_EXIT = SearchSpace.build(2, resolutions=[32, 48], depths=[1, 2], kernel_sizes=[3, 5])


def test_every_set_of_exits_has_one_code():
    # heights 1, 2, 3 with 2, 4, 8 kernels: the last exit always answers, each one before it may: 2*1 + 4*2 + 8*4
    codes = product(*(range(len(choices)) for _, choices in exit_sets.variables(SPACE)))
    every = {exit_sets.decode(SPACE, code) for code in codes}
    assert len(every) == 42 and all(each in SPACE for each in every)
    assert Counter(each.exits for each in every) == {
        (1,): 2, (2,): 4, (1, 2): 4, (3,): 8, (1, 3): 8, (2, 3): 8, (1, 2, 3): 8
    }  # fmt: skip
    assert len({exit_sets.encode(SPACE, each) for each in every}) == 42
    assert all(exit_sets.decode(SPACE, exit_sets.encode(SPACE, each)) == each for each in every)


def test_exits_that_an_architecture_does_not_have_are_marked():
    low = replace(SPACE.smallest(), exits=())
    assert low.height == 1 and exit_sets.encode(SPACE, low)[-2:] == (-1, -1)
    tall = replace(SPACE.largest(), exits=(1, 3))
    assert exit_sets.encode(SPACE, tall)[-2:] == (1, 0)
    assert [name for name, _ in exit_sets.variables(SPACE)[-2:]] == ["exits.1", "exits.2"]
    with pytest.raises(UserError, match=r"exits \(1, 2\), allowed 2"):
        exit_sets.encode(ONE_EXIT, replace(ONE_EXIT.largest(), exits=(1, 2)))


def test_spaces_with_one_exit_are_as_they_were():
    assert exit_sets.variables(ONE_EXIT) == ONE_EXIT.variables()
    one, other = ONE_EXIT.smallest(), ONE_EXIT.largest()
    for seed in range(20):
        rngs = [random.Random(seed) for _ in range(6)]
        assert exit_sets.sample(ONE_EXIT, rngs[0]) == ONE_EXIT.sample(rngs[1])
        assert exit_sets.mutate(ONE_EXIT, one, rngs[2], 0.5) == ONE_EXIT.mutate(one, rngs[3], 0.5)
        assert exit_sets.crossover(ONE_EXIT, one, other, rngs[4]) == ONE_EXIT.crossover(one, other, rngs[5])
        assert [rng.random() for rng in rngs[::2]] == [rng.random() for rng in rngs[1::2]]


def test_children_and_mutants_have_exits_that_exist():
    rng = random.Random(0)
    one, other = replace(SPACE.largest(), exits=(1, 3)), SPACE.uniform(kernel_size=3, height=2)
    # exit 2 is no choice of `other`, which ends there: a taller child draws it
    children = [exit_sets.crossover(SPACE, one, other, rng) for _ in range(200)]
    assert {child.exits for child in children} == {(2,), (1, 2), (3,), (1, 3), (2, 3), (1, 2, 3)}
    mutants = [exit_sets.mutate(SPACE, one, rng, 0.5) for _ in range(300)]
    assert len({mutant.exits for mutant in mutants}) == 7 and all(mutant in SPACE for mutant in mutants)
    assert {exit_sets.mutate(SPACE, one, rng, 0.0) for _ in range(5)} == {one}
    drawn = Counter(exit_sets.sample(SPACE, rng).exits for _ in range(1200))
    assert abs(drawn[(1,)] - 400) < 60 and abs(drawn[1, 3] - 100) < 40  # a third; a third of a quarter
