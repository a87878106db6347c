"""What phases open, by hand; where all blocks are alike, narrowing is restriction."""

import random

import pytest

from onceforall.architecture import path_code
from onceforall.choices import BlockChoices, StageChoices
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.training.openings import closings, narrowed, openings, that_open_more, with_one_factor

SPACE = SearchSpace.build(
    3,
    resolutions=(16, 24),
    kernel_sizes=(3, 5, 7),
    expand_ratios=(3, 4, 6),
    depths=(1, 2, 3),
    widths=(0.5, 1.0),
    heights=(1, 2, 3),
    stem=BlockChoices((3, 5, 7), (3, 4, 6)),
)
SMALL, LARGE = BlockChoices((3, 5), (3, 6)), BlockChoices((5, 7), (4, 6))
UNEVEN = SearchSpace((16, 24), (StageChoices((1,), (SMALL,)), StageChoices((1, 2, 4), (LARGE,) * 4)))


def test_where_all_are_alike_it_is_restriction():
    rng = random.Random(0)
    for _ in range(50):
        given = {
            factor: tuple(sorted(rng.sample(getattr(SPACE, factor), rng.randint(1, len(getattr(SPACE, factor))))))
            for factor in rng.sample(("resolutions", "kernel_sizes", "depths", "widths", "heights"), 2)
        }
        assert narrowed(SPACE, **given) == SPACE.restrict(**given)
    assert narrowed(SPACE) == SPACE


@pytest.mark.parametrize(
    ("given", "depths", "kernel_sizes"),
    [
        ({}, [(1,), (1, 2, 4)], [(3, 5), (5, 7)]),
        ({"depths": (2,)}, [(1,), (2,)], [(3, 5), (5, 7)]),
        ({"depths": (1, 4)}, [(1,), (1, 4)], [(3, 5), (5, 7)]),
        ({"kernel_sizes": (3,)}, [(1,), (1, 2, 4)], [(3,), (5,)]),
        ({"kernel_sizes": (7,)}, [(1,), (1, 2, 4)], [(5,), (7,)]),
        ({"kernel_sizes": (3, 7), "depths": (1,)}, [(1,), (1,)], [(3,), (7,)]),
    ],
)
def test_each_keeps_its_own_or_the_nearest(given, depths, kernel_sizes):
    stages = narrowed(UNEVEN, **given).stages
    assert [stage.depths for stage in stages] == depths
    assert [{block.kernel_sizes for block in stage.blocks} for stage in stages] == [{sizes} for sizes in kernel_sizes]


def test_stem_and_resolutions():
    space = SearchSpace((16, 24), SPACE.stages, SPACE.heights, (), BlockChoices((3, 5), (1,)))
    part = narrowed(space, kernel_sizes=(7,), expand_ratios=(6,), resolutions=(24,), heights=(2,))
    assert part.stem == BlockChoices((5,), (1,)) and part.head is None
    assert part.resolutions == (24,) and len(part.stages) == 2
    with pytest.raises(UserError, match="resolutions 32: not among"):
        narrowed(space, resolutions=(32,))


def codes(offers):
    return [{path_code(names) for names in offered} for offered in offers]


def test_what_shrinking_opens():
    assert openings("depths", (1, 2, 4)) == [(4,), (2, 4), (1, 2, 4)]
    assert openings("kernel_sizes", (3, 5, 7)) == [(7,), (3, 5, 7)]
    paths = SearchSpace.build(1, resolutions=(16,), depths=(1,), kernel_sizes=(3,), paths=(1, 2, 4, 3, 5, 6, 7)).paths
    assert codes(openings("paths", paths)) == [{7}, {3, 5, 6, 7}, {1, 2, 3, 4, 5, 6, 7}]
    assert codes(closings("paths", paths)) == [{4}, {1, 2, 4}, {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6, 7}]


def test_what_expansion_opens():
    assert closings("depths", (1, 2, 4)) == [(1,), (1, 2), (1, 2, 4)]
    assert closings("kernel_sizes", (3, 5, 7), (3, 7)) == [(3, 7), (3, 5, 7)]


def test_what_opens_nothing_is_left_out():
    alike = openings("expand_ratios", SPACE.expand_ratios)
    assert that_open_more(SPACE, {}, "expand_ratios", alike) == alike
    choices = closings("expand_ratios", UNEVEN.expand_ratios)
    assert choices == [(3,), (3, 4), (3, 4, 6)]
    # with 3 alone the second stage has its nearest, 4, already
    assert that_open_more(UNEVEN, {"depths": (1,)}, "expand_ratios", choices) == [(3,), (3, 4, 6)]
    assert that_open_more(UNEVEN, {}, "kernel_sizes", [(7,), (3, 5, 7), (3, 5, 7)]) == [(7,), (3, 5, 7)]


def test_one_factor_alone():
    alone = with_one_factor(UNEVEN, "depths", {"kernel_sizes": 5}, lambda factor: getattr(UNEVEN, factor)[-1:])
    assert [stage.depths for stage in alone.stages] == [(1,), (1, 2, 4)]
    assert (alone.kernel_sizes, alone.expand_ratios, alone.resolutions) == ((5,), (6,), (24,))
    assert with_one_factor(UNEVEN, None, None, lambda factor: ()) is UNEVEN
