"""Architectures as values: equal networks are equal, and JSON gives them back."""

import json
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onceforall.architecture import Architecture, Block, Stage, as_number, as_resolution, is_whole, side
from onceforall.errors import UserError

BRANCHES = ("main", "pool", "pointwise")


@st.composite
def blocks(draw):
    paths = draw(st.lists(st.sampled_from(BRANCHES), min_size=1, unique=True))
    if "main" not in paths:
        return Block(paths=tuple(paths))
    ratio = draw(st.none() | st.sampled_from((2, 3, 4.0, 4.5, 6)))
    return Block(draw(st.sampled_from((1, 3, 5, 7))), ratio, tuple(paths))


@st.composite
def architectures(draw):
    widths = st.none() | st.sampled_from((0.25, 0.5, 1.0, 1))
    stage = st.builds(Stage, st.lists(blocks(), min_size=1, max_size=3).map(tuple), widths)
    stages = draw(st.lists(stage, min_size=1, max_size=4))
    exits = draw(st.lists(st.integers(1, len(stages)), unique=True))
    size = st.integers(1, 300)
    resolution = draw(size | st.tuples(size, size) | st.tuples(size, size, size))
    ends = st.none() | blocks()
    return Architecture(resolution, stages, draw(ends), draw(ends), tuple(sorted({*exits, len(stages)})))


@settings(max_examples=40)
@given(architectures())
def test_json_gives_it_back(architecture):
    text = architecture.to_json()
    again = Architecture.from_json(text)
    assert again == architecture and hash(again) == hash(architecture)
    assert again.to_json() == text
    assert Architecture.from_dict(architecture.to_dict()) == architecture
    assert Architecture.from_json(json.dumps(json.loads(text), indent=4)) == architecture
    assert again.digest() == architecture.digest()
    assert str(again) == str(architecture)
    assert pickle.loads(pickle.dumps(architecture)) == architecture


@settings(max_examples=40)
@given(architectures(), architectures())
def test_equal_exactly_when_the_text_is(one, other):
    assert (one == other) == (one.to_json() == other.to_json())
    assert one != other or hash(one) == hash(other)


def example(**changes) -> Architecture:
    stages = (Stage((Block(3, 4), Block(5, 6))), Stage((Block(7, 3),)))
    return replace(Architecture(32, stages), **changes)


SAME = {
    "default exit": example(exits=(2,)),
    "lists": Architecture(32, [Stage([Block(3, 4), Block(5, 6)]), Stage([Block(7, 3)])], exits=[2]),
    "ratio as float": Architecture(32, (Stage((Block(3, 4.0), Block(5, 6.0))), Stage((Block(7, 3.0),)))),
    "paths named": Architecture(32, (Stage((Block(3, 4, ("main",)), Block(5, 6, ["main"]))), Stage((Block(7, 3),)))),
    "square in two numbers": example(resolution=(32, 32)),
    "cube in three numbers": example(resolution=[32, 32, 32]),
}


@pytest.mark.parametrize("name", SAME)
def test_other_words_for_the_same(name):
    assert SAME[name] == example()
    assert hash(SAME[name]) == hash(example())
    assert SAME[name].to_json() == example().to_json()


DIFFERENT = {
    "resolution": example(resolution=36),
    "axes": example(resolution=(32, 36)),
    "axes turned": example(resolution=(36, 32)),
    "exits": example(exits=(1, 2)),
    "stem": example(stem=Block(3)),
    "head": example(head=Block(3)),
    "stem and head": example(stem=Block(3), head=Block(3)),
    "width": example(stages=(Stage((Block(3, 4), Block(5, 6)), 0.5), Stage((Block(7, 3),)))),
    "full width": example(stages=(Stage((Block(3, 4), Block(5, 6)), 1), Stage((Block(7, 3),)))),
    "depth": example(stages=(Stage((Block(3, 4),)), Stage((Block(7, 3),)))),
    "height": Architecture(32, (Stage((Block(3, 4), Block(5, 6))),)),
    "kernel": example(stages=(Stage((Block(3, 4), Block(3, 6))), Stage((Block(7, 3),)))),
    "ratio": example(stages=(Stage((Block(3, 4), Block(5, 4))), Stage((Block(7, 3),)))),
    "no ratio": example(stages=(Stage((Block(3, 4), Block(5))), Stage((Block(7, 3),)))),
    "order": example(stages=(Stage((Block(5, 6), Block(3, 4))), Stage((Block(7, 3),)))),
    "paths": example(stages=(Stage((Block(3, 4), Block(5, 6, ("main", "pool")))), Stage((Block(7, 3),)))),
    "other path": example(stages=(Stage((Block(3, 4), Block(paths=("pool",)))), Stage((Block(7, 3),)))),
}


def test_what_differs_is_different():
    values = [example(), *DIFFERENT.values()]
    for text in (lambda a: a, Architecture.to_json, Architecture.digest, str):
        assert len({text(value) for value in values}) == len(values)


def test_canonical_order_of_paths():
    one, other = Block(3, 4, ("pool", "main")), Block(3, 4, ("main", "pool"))
    assert one == other and one.paths == ("main", "pool")
    assert Stage((one,)) == Stage((other,))


def test_json_text():
    architecture = Architecture(
        (32, 48),
        (Stage((Block(3, 4.0), Block(5, 4.5, ("pool", "main"))), 1.0), Stage((Block(paths=("pool",)),))),
        stem=Block(3),
        exits=(1, 2),
    )
    assert architecture.to_json() == (
        '{"resolution":[32,48],"stages":['
        '{"blocks":[{"kernel_size":3,"expand_ratio":4},'
        '{"kernel_size":5,"expand_ratio":4.5,"paths":["main","pool"]}],"width":1},'
        '{"blocks":[{"paths":["pool"]}]}],'
        '"stem":{"kernel_size":3},"exits":[1,2]}'
    )
    assert str(architecture) == "r32x48 | stem k3 | w1 k3e4 k5e4.5+pool | pool | exits 1,2"


def test_facts():
    architecture = example()
    assert (architecture.height, architecture.depths, architecture.exits) == (2, (2, 1), (2,))
    assert str(architecture) == "r32 | k3e4 k5e6 | k7e3"
    assert len(architecture.digest()) == 12 and int(architecture.digest(), 16) >= 0


def test_frozen():
    architecture = example()
    with pytest.raises(FrozenInstanceError):
        architecture.resolution = 64
    with pytest.raises(FrozenInstanceError):
        architecture.stages[0].blocks[0].kernel_size = 7


def test_numbers_and_sizes():
    assert as_number("ratio", 4.0, 10) == 4 and isinstance(as_number("ratio", 4.0, 10), int)
    assert as_number("ratio", 4.5, 10) == 4.5
    assert (as_resolution(5), as_resolution((5, 5)), as_resolution([5, 6])) == (5, 5, (5, 6))
    assert side(5) == 5
    assert is_whole(5) and not is_whole(True) and not is_whole(5.0)
    with pytest.raises(UserError):
        as_number("ratio", 11, 10)


def test_a_block_takes_the_level_codes_of_ofav2():
    assert Block(7, 6, 5) == Block(7, 6, ("main", "norm_act"))
    assert Block(paths=2) == Block(paths=("pointwise",))
    for code in (0, 8):
        with pytest.raises(UserError, match=f"level code {code}: must be a whole number from 1 to 7"):
            Block(7, 6, code)
