"""Combining exits, against the formula written out."""

from dataclasses import replace

import pytest
import torch

from onceforall.errors import UserError
from onceforall.evaluation.exits import combine_exits, exit_answer, weights_of_exits
from onceforall.search_space import SearchSpace

GENERATOR = torch.Generator().manual_seed(0)
FIRST, SECOND = (2 * torch.randn(5, 3, generator=GENERATOR, dtype=torch.float64) for _ in range(2))


def test_exits_are_combined():
    assert combine_exits(FIRST, (5.0,)) is FIRST
    torch.testing.assert_close(combine_exits((FIRST, SECOND), None), (FIRST + SECOND) / 2)
    torch.testing.assert_close(combine_exits((FIRST, SECOND), (0.2, 0.8)), 0.2 * FIRST + 0.8 * SECOND)


def test_one_weight_for_each_exit():
    with pytest.raises(UserError, match="answers with 2 exits"):
        combine_exits((FIRST, SECOND), (1.0,))


SPACE = SearchSpace.build(5, resolutions=[16], depths=[1], kernel_sizes=[3], heights=(1, 3, 5))


def test_weights_belong_to_the_exits_of_the_network():
    assert weights_of_exits(SPACE, None) is None
    assert weights_of_exits(SPACE, (0.5, 0.3, 0.2)) == {1: 0.5, 3: 0.3, 5: 0.2}
    with pytest.raises(UserError, match=r"exit weights \(0.5, 0.5\): give one for each exit of the network, 3"):
        weights_of_exits(SPACE, (0.5, 0.5))


def test_the_answer_of_an_architecture():
    outputs = {1: FIRST, 3: FIRST * FIRST, 5: SECOND}
    weights = {1: 0.5, 3: 0.3, 5: 0.2}
    last, every = SPACE.largest(), SPACE.largest(exits="all")
    assert exit_answer(outputs, last, weights) is SECOND, "one exit answers as it is"
    torch.testing.assert_close(exit_answer(outputs, every, weights), 0.5 * FIRST + 0.3 * FIRST**2 + 0.2 * SECOND)
    torch.testing.assert_close(exit_answer(outputs, every, None), (FIRST + FIRST**2 + SECOND) / 3)
    some = replace(every, exits=(1, 5))
    torch.testing.assert_close(exit_answer(outputs, some, weights), 0.5 * FIRST + 0.2 * SECOND)  # do not sum to 1
    torch.testing.assert_close(exit_answer(outputs, some, None), (FIRST + SECOND) / 2)
