"""Choices of blocks and stages against every combination of them, written out."""

from itertools import product

import pytest

from onceforall.architecture import Block, Stage
from onceforall.choices import ABSENT, BlockChoices, StageChoices, listed, ordered, subset, superset
from onceforall.errors import UserError

PLAIN = BlockChoices((3, 5), (3, 4.5))
BRANCHED = BlockChoices((3, 5), (3, 4), (("pool",), ("main",), ("main", "pool")))
UNEXPANDED = BlockChoices((3, 5))
SKIPPED = BlockChoices(paths=(("skip",),))


def all_blocks(choices: BlockChoices) -> list[Block]:
    factors = product(choices.paths, choices.kernel_sizes or (None,), choices.expand_ratios or (None,))
    return [Block(size, ratio, names) if "main" in names else Block(paths=names) for names, size, ratio in factors]


@pytest.mark.parametrize("choices", [PLAIN, BRANCHED, UNEXPANDED, SKIPPED])
def test_blocks(choices):
    every = all_blocks(choices)
    assert set(choices.values()) == set(every)
    assert len(choices.values()) == len(set(every))
    variables = choices.variables("x")
    assert [name for name, _ in variables] == [
        f"x.{factor}"
        for factor, options in (
            ("kernel_size", choices.kernel_sizes),
            ("expand_ratio", choices.expand_ratios),
            ("paths", choices.paths),
        )
        if options
    ]
    seen = set()
    for codes in product(*(range(len(options)) for _, options in variables)):
        values = iter([options[code] for code, (_, options) in zip(codes, variables, strict=True)])
        block = choices.take(values)
        assert block is not None and next(values, "used up") == "used up"
        assert choices.objection("x", block) is None
        seen.add(block)
        again = [code for code in choices.codes(block) if code != ABSENT]
        assert again == list(codes) if "main" in block.paths else again == [codes[-1]]
    assert seen == set(every)
    assert choices.codes(None) == [ABSENT] * len(variables)
    assert choices.take(iter([None] * len(variables))) is None
    for block in seen:
        assert BlockChoices.only(block).values() == [block]
    assert BlockChoices.from_dict(choices.to_dict()) == choices


def test_a_missing_value_that_is_not_needed():
    assert BRANCHED.take(iter([None, None, ("pool",)])) == Block(paths=("pool",))
    assert BRANCHED.take(iter([None, 3, ("main",)])) is None
    assert BRANCHED.take(iter([3, None, ("main", "pool")])) is None
    assert UNEXPANDED.take(iter([3, ("main",)])) == Block(3)


def test_objections():
    assert PLAIN.objection("here", Block(7, 3)) == "kernel_size 7 of here, allowed 3, 5"
    assert PLAIN.objection("here", Block(3, 3.5)) == "expand_ratio 3.5 of here, allowed 3, 4.5"
    assert PLAIN.objection("here", Block(3)) == "expand_ratio None of here, allowed 3, 4.5"
    assert UNEXPANDED.objection("here", Block(3, 3)) == "expand_ratio 3 of here, allowed none"
    assert BRANCHED.objection("here", Block(paths=("skip",))) == "paths skip of here, allowed pool, main, main+pool"
    assert SKIPPED.objection("here", Block(3)) == "paths main of here, allowed skip"


def test_canonical():
    assert BlockChoices([5, 3], [4.5, 3.0]) == PLAIN
    assert BlockChoices((3,), (), [["pool", "main"]]).paths == (("main", "pool"),)
    assert BlockChoices((3,), (), (("main",), ("b",), ("a",))).paths == (("main",), ("b",), ("a",))
    stage = StageChoices([2, 1], [PLAIN, UNEXPANDED], [1.0, 0.5])
    assert stage == StageChoices((1, 2), (PLAIN, UNEXPANDED), (0.5, 1))
    assert hash(stage) == hash(StageChoices((1, 2), (PLAIN, UNEXPANDED), (0.5, 1)))
    assert StageChoices.from_dict(stage.to_dict()) == stage


def test_stages():
    choices = StageChoices((1, 3), (PLAIN, BRANCHED, UNEXPANDED), (0.5, 1))
    variables = choices.variables("s")
    names = ["s.depth", "s.width", "s.blocks.0.kernel_size", "s.blocks.0.expand_ratio", "s.blocks.0.paths"]
    names += ["s.blocks.1.kernel_size", "s.blocks.1.expand_ratio", "s.blocks.1.paths"]
    assert [name for name, _ in variables] == [*names, "s.blocks.2.kernel_size", "s.blocks.2.paths"]
    seen = set()
    for values in product(*(options for _, options in variables)):
        stage = choices.take(iter(values))
        assert stage is not None and choices.objection("s", stage) is None
        seen.add(stage)
        codes = choices.codes(stage)
        present = [None if c == ABSENT else options[c] for c, (_, options) in zip(codes, variables, strict=True)]
        assert choices.take(iter(present)) == stage
        assert StageChoices.only(stage).take(iter(v[1][0] for v in StageChoices.only(stage).variables("s"))) == stage
    every = {
        Stage(tuple(blocks), width)
        for width in (0.5, 1)
        for depth in (1, 3)
        for blocks in product(*(all_blocks(block) for block in choices.blocks[:depth]))
    }
    assert seen == every
    assert choices.codes(None) == [ABSENT] * len(variables)
    needed = [3, 1, 3, 3, ("main",), 3, 3, ("pool",), 3, ("main",)]
    assert choices.take(iter(needed)) is not None
    for absent in (0, 1, 2, 3, 4, 7, 8, 9):
        assert choices.take(iter([None if i == absent else value for i, value in enumerate(needed)])) is None


def test_stage_objections():
    choices = StageChoices((1, 2), (PLAIN, PLAIN), (0.5, 1))
    assert choices.objection("stage 4", Stage((Block(3, 3),) * 3, 1)) == "depth 3 of stage 4, allowed 1, 2"
    assert choices.objection("stage 4", Stage((Block(3, 3),))) == "width None of stage 4, allowed 0.5, 1"
    wrong = Stage((Block(3, 3), Block(9, 3)), 1)
    assert choices.objection("stage 4", wrong) == "kernel_size 9 of block 2 of stage 4, allowed 3, 5"


def test_changes():
    def change(factor: str, present: tuple) -> tuple:
        return {"kernel_sizes": (7,), "depths": (1, 4)}.get(factor, present)

    choices = StageChoices((1, 2), (PLAIN, UNEXPANDED), (0.5,)).changed(change)
    grown = BlockChoices((7,))
    assert choices == StageChoices((1, 4), (BlockChoices((7,), (3, 4.5)), grown, grown, grown), (0.5,))
    assert subset("depths", (1, 2, 3), (1, 3)) == (1, 3)
    assert superset("depths", (1, 3), (1, 2, 3)) == (1, 2, 3)
    with pytest.raises(UserError, match="depths 4: not among the present choices 1, 2"):
        subset("depths", (1, 2), (2, 4))
    with pytest.raises(UserError, match="depths 2, 4: extending keeps every present choice, and 1 is missing"):
        superset("depths", (1, 2), (2, 4))


def test_order_of_choices():
    assert ordered("depths", range(3, 0, -1)) == (1, 2, 3)
    assert ordered("expand_ratios", [6.0, 2.5]) == (2.5, 6)
    assert ordered("widths", ()) == ()
    # by number of pixels: 40 x 20 = 800, 30 x 30 = 900, 48 x 48 = 2304, 40 x 60 = 60 x 40 = 2400
    sizes = [(60, 40), (40, 60), 48, (30, 30), (40, 20)]
    assert ordered("resolutions", sizes) == ((40, 20), 30, 48, (40, 60), (60, 40))
    assert ordered("resolutions", [(8, 8, 9), 8, (7, 9, 9)]) == (8, (7, 9, 9), (8, 8, 9))  # 512, 567, 576 voxels
    assert listed(()) == "none" and listed((3, 4.5)) == "3, 4.5"
