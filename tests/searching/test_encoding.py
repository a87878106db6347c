"""Architectures as numbers, against vectors written by hand."""

import random

import numpy as np
import pytest

from onceforall.architecture import Architecture, Block, Stage
from onceforall.choices import BlockChoices
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.searching import exit_sets
from onceforall.searching.encoding import encode, encode_ofa

OFA = SearchSpace.build(
    5, resolutions=range(112, 225, 16), depths=[2, 3, 4], kernel_sizes=[3, 5, 7], expand_ratios=[3, 4, 6]
)


def test_each_choice_has_a_column_and_one_more_says_that_there_is_none():
    space = SearchSpace.build(1, resolutions=[32, 64], depths=[1, 2], kernel_sizes=[3, 5], expand_ratios=[3, 4, 6])
    short = Architecture(64, (Stage((Block(5, 3),)),))
    tall = Architecture(32, (Stage((Block(3, 6), Block(5, 4))),))
    expected = [
        [0, 1, 0] + [1, 0, 0] + [0, 1, 0] + [1, 0, 0, 0] + [0, 0, 1] + [0, 0, 0, 1],
        [1, 0, 0] + [0, 1, 0] + [1, 0, 0] + [0, 0, 1, 0] + [0, 1, 0] + [0, 1, 0, 0],
    ]
    names = [name.rpartition(".")[2] for name, choices in space.variables() if len(choices) > 1]
    order = ["resolution", "depth", "kernel_size", "expand_ratio", "kernel_size", "expand_ratio"]
    assert names == order, "the order in which the vectors were written"
    np.testing.assert_array_equal(encode(space, [short, tall]), expected)


def test_different_architectures_have_different_rows_with_one_one_per_variable():
    block = BlockChoices((3, 5), (3, 4), (("main",), ("main", "pointwise"), ("pointwise",)))
    space = SearchSpace.build(
        3, resolutions=[32], depths=[1, 2], kernel_sizes=[3, 5], expand_ratios=[3, 4], paths=[4, 6, 2], heights=[2, 3],
        stem=block,
    )  # fmt: skip
    rng = random.Random(0)
    drawn = list({exit_sets.sample(space, rng) for _ in range(60)})
    rows = encode(space, drawn)
    assert len(np.unique(rows, axis=0)) == len(drawn)
    choices = [choices for _, choices in exit_sets.variables(space) if len(choices) > 1]
    assert {architecture.exits for architecture in drawn} == {(2,), (3,), (2, 3)}
    assert (rows.sum(1) == len(choices)).all() and set(np.unique(rows)) == {0, 1}
    assert encode(space, []).shape == (0, rows.shape[1])


def test_an_architecture_of_another_space_is_refused():
    with pytest.raises(UserError, match="resolution 48, allowed"):
        encode(OFA, [Architecture(48, OFA.smallest().stages)])


def test_the_published_128_features():
    # ofa_spec 11.1: [0:60) kernels of 20 blocks, [60:120) expansions, skipped blocks zero, [120:128) resolution
    smallest = np.zeros(128)  # depth 2: the first two of each four blocks
    for block in (0, 1, 4, 5, 8, 9, 12, 13, 16, 17):
        smallest[[3 * block, 60 + 3 * block]] = 1
    smallest[120] = 1  # 112
    largest = np.tile([0, 0, 1], 40).astype(float)
    largest = np.append(largest, [0] * 7 + [1])  # 224
    mixed = np.zeros(128)
    one = Architecture(
        160,
        (
            Stage((Block(3, 6), Block(5, 4), Block(7, 3))),
            Stage((Block(3, 3), Block(3, 3))),
            Stage((Block(7, 6),) * 4),
            Stage((Block(5, 4), Block(5, 4))),
            Stage((Block(7, 3), Block(3, 4), Block(5, 6))),
        ),
    )
    kernels = {0: 0, 1: 1, 2: 2, 4: 0, 5: 0, 8: 2, 9: 2, 10: 2, 11: 2, 12: 1, 13: 1, 16: 2, 17: 0, 18: 1}
    expands = {0: 2, 1: 1, 2: 0, 4: 0, 5: 0, 8: 2, 9: 2, 10: 2, 11: 2, 12: 1, 13: 1, 16: 0, 17: 1, 18: 2}
    mixed[[3 * block + index for block, index in kernels.items()]] = 1
    mixed[[60 + 3 * block + index for block, index in expands.items()]] = 1
    mixed[120 + (160 - 112) // 16] = 1
    np.testing.assert_array_equal(encode_ofa([OFA.smallest(), OFA.largest(), one]), [smallest, largest, mixed])


@pytest.mark.parametrize(
    "other",
    [
        Architecture(100, OFA.smallest().stages),
        Architecture(112, OFA.smallest().stages[:4]),
        Architecture(112, (Stage((Block(3, 3),) * 5),) + OFA.smallest().stages[1:]),
        Architecture(112, (Stage((Block(9, 3),)),) + OFA.smallest().stages[1:]),
        Architecture(112, (Stage((Block(3, 3),), 0.5),) + OFA.smallest().stages[1:]),
        Architecture(112, (Stage((Block(3, 3, 6),)),) + OFA.smallest().stages[1:]),
    ],
)
def test_what_the_published_features_cannot_say_is_refused(other):
    with pytest.raises(UserError, match="the 128 features are of"):
        encode_ofa([other])
