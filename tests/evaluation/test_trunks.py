"""Trunks, against the definition applied to every pair."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from onceforall.architecture import Block
from onceforall.evaluation.trunks import Trunk, group_by_trunk
from onceforall.search_space import SearchSpace

SPACE = SearchSpace.build(
    5, resolutions=(16, 24), depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(2, 3), heights=(1, 2, 3, 4, 5)
)


def begins(short, tall):
    """Whether `short` is a beginning of `tall`."""
    ends = [(a.resolution, a.stem, a.head) for a in (short, tall)]
    return ends[0] == ends[1] and tall.stages[: short.height] == short.stages


def test_the_grid_of_an_early_exit_network_has_a_trunk_for_each_tallest_member():
    members = [architecture for architecture, _ in SPACE.grid()]
    assert len(members) == 2 * 2 * 2 * 2 * 5
    trunks = group_by_trunk(members)
    assert len(trunks) == 2 * 2 * 2 * 2
    assert all(trunk.architecture.exits == (1, 2, 3, 4, 5) for trunk in trunks)
    assert all([member.height for member in trunk.members] == [5, 4, 3, 2, 1] for trunk in trunks)
    sizes = [trunk.architecture.resolution for trunk in trunks]
    assert sizes == [16] * 8 + [24] * 8


@given(st.integers(0, 10**6), st.integers(0, 12))
def test_every_member_begins_its_trunk_and_no_trunk_begins_another(seed, count):
    rng = random.Random(seed)
    drawn = [SPACE.sample(rng) for _ in range(count)]
    drawn += [replace(a, stages=a.stages[: rng.randint(1, a.height)], exits=()) for a in drawn]  # shorter ones
    drawn += [replace(a, exits=tuple(sorted({rng.randint(1, a.height), a.height}))) for a in drawn[:3]]
    trunks = group_by_trunk(drawn)
    assert sorted(map(str, drawn and set(drawn))) == sorted(str(m) for trunk in trunks for m in trunk.members)
    for trunk in trunks:
        assert all(begins(member, trunk.architecture) for member in trunk.members)
        assert trunk.architecture.exits == tuple(sorted({n for member in trunk.members for n in member.exits}))
        assert trunk.architecture in SPACE
        assert not any(begins(trunk.architecture, other.architecture) for other in trunks if other is not trunk)
    sizes = [trunk.architecture.resolution for trunk in trunks]
    assert sum(a != b for a, b in zip(sizes, sizes[1:], strict=False)) <= 1, "a resolution is done before the next"


def test_what_differs_before_the_first_stage_is_not_shared():
    tall = SPACE.largest()
    short = replace(tall, stages=tall.stages[:2], exits=())
    [together] = group_by_trunk([short, tall, short])
    assert together == Trunk(replace(tall, exits=(2, 5)), (tall, short))
    for other in (
        replace(short, resolution=16),
        replace(short, stem=Block(5)),
        replace(short, head=Block(5)),
        replace(short, stages=SPACE.smallest().stages[:1] + short.stages[1:]),
    ):
        assert [trunk.members for trunk in group_by_trunk([tall, other])] == [(tall,), (other,)]


def test_one_member_with_one_exit_is_its_own_trunk():
    assert group_by_trunk([SPACE.smallest()]) == [Trunk(SPACE.smallest(), (SPACE.smallest(),))]
    assert group_by_trunk([]) == []


def test_many_are_grouped_in_linear_time():
    """Of 4,000 unlike ones all pairs would be eight million."""
    rng = random.Random(0)
    drawn = {SPACE.sample(rng) for _ in range(4000)}
    assert sum(len(trunk.members) for trunk in group_by_trunk(drawn)) == len(drawn)
