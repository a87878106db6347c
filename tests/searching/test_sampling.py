"""Which architectures are measured."""

import numpy as np
import pytest

from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.searching.sampling import spread_architectures

SPACE = SearchSpace.build(
    4, resolutions=[32, 48, 64], depths=[1, 2, 3], kernel_sizes=[3, 5, 7], expand_ratios=[3, 4, 6]
)


def price(architecture):
    """A stand-in for multiply-adds that is quick to compute."""
    blocks = [block for stage in architecture.stages for block in stage.blocks]
    return architecture.resolution**2 * sum(block.expand_ratio * (20 + block.kernel_size**2) for block in blocks)


def test_extremes_first_all_different_and_given_by_the_seed():
    found = spread_architectures(SPACE, 60, price, seed=1)
    assert found[:2] == [SPACE.smallest(), SPACE.largest()]
    assert len(set(found)) == 60 and all(architecture in SPACE for architecture in found)
    assert spread_architectures(SPACE, 60, price, seed=1) == found
    assert spread_architectures(SPACE, 20, price, seed=1) == found[:20], "more begin with fewer"
    assert len(set(spread_architectures(SPACE, 60, price, seed=2)) & set(found)) < 10


def test_costs_fill_the_range_of_the_space():
    logs = np.log([price(architecture) for architecture in spread_architectures(SPACE, 122, price)])
    tenths = np.linspace(logs.min(), logs.max(), 11)
    counts, _ = np.histogram(logs, tenths)
    assert counts.min() >= 4 and counts.max() <= 24, counts  # even: 12


def test_a_small_space_gives_all_it_has():
    small = SearchSpace.build(1, resolutions=[32], depths=[1], kernel_sizes=[3, 5], expand_ratios=[3, 4])
    assert len(spread_architectures(small, 50, price)) == small.size() == 4
    assert spread_architectures(SearchSpace.only(small.smallest()), 5, price) == [small.smallest()]


def test_less_than_the_extremes_is_refused():
    with pytest.raises(UserError, match="at least 2"):
        spread_architectures(SPACE, 1, price)
