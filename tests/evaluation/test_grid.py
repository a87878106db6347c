"""The grid of a phase, against the counts of OFAv2 (section V) and numbers worked out by hand."""

import math
from dataclasses import replace

import pytest

from onceforall.architecture import Architecture, Block, Stage
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import Evaluation
from onceforall.evaluation.grid import (
    Member,
    draw_members,
    exit_members,
    factors_of,
    grid_members,
    grid_row,
    grid_tables,
    summarise,
)
from onceforall.layers.elastic import Cost
from onceforall.search_space import SearchSpace

SPACE = SearchSpace.build(
    5,
    resolutions=(48, 52, 56, 60, 64),
    depths=(2, 3, 4),
    kernel_sizes=(3, 5, 7),
    expand_ratios=(3, 4, 6),
    paths=(1, 2, 4, 3, 5, 6, 7),
    heights=(1, 2, 3, 4, 5),
)
PAPER = (48, 56, 64)
LEVELS = {"EL1": (3, 5, 6, 7), "EL2": (1, 2, 4, 3, 5, 6, 7)}
CLOSED = {"depths": (4,), "kernel_sizes": (7,), "expand_ratios": (6,), "heights": (5,), "paths": (7,)}


# combinations as the paper counts them; networks: without the main path kernel and expansion make no difference
@pytest.mark.parametrize(
    ("opened", "combinations", "networks"),
    [
        ({"kernel_sizes": (3, 5, 7)}, 9, 9),
        ({"kernel_sizes": (3, 5, 7), "paths": LEVELS["EL1"]}, 36, 3 * (3 * 3 + 1)),
        ({"kernel_sizes": (3, 5, 7), "paths": LEVELS["EL2"]}, 63, 3 * (4 * 3 + 3)),
        ({"kernel_sizes": (3, 5, 7), "paths": LEVELS["EL2"], "heights": (4, 5)}, 126, 2 * 45),
        ({factor: getattr(SPACE, factor) for factor in CLOSED}, 2835, 5 * 3 * 3 * (4 * 9 + 3)),
    ],
)
def test_counts_of_the_paper(opened, combinations, networks):
    members = grid_members(SPACE.restrict(**CLOSED | opened), resolutions=PAPER)
    assert sum(member.multiplicity for member in members) == combinations
    assert len(members) == len({member.architecture for member in members}) == networks
    assert {member.architecture.resolution for member in members} == set(PAPER)


def test_of_the_first_phase_the_ensemble_is_judged():
    full = SPACE.restrict(**CLOSED)
    members = grid_members(full, largest=True, resolutions=PAPER)
    assert [member.architecture.resolution for member in members] == list(PAPER)
    assert all(member.architecture.exits == (1, 2, 3, 4, 5) and member.multiplicity == 1 for member in members)
    alone = exit_members(members, SPACE)
    assert [(m.architecture.resolution, m.architecture.exits) for m in alone] == [
        (size, (number,)) for size in PAPER for number in range(1, 6)
    ]
    assert all(member.architecture in SPACE for member in alone)
    assert alone[1].architecture == replace(full.largest(), resolution=48, stages=full.largest().stages[:2], exits=(2,))
    assert len(exit_members(members, full)) == 3, "this space has networks of height 5 only"
    single = SearchSpace.build(5, resolutions=(48, 64), depths=(2,), kernel_sizes=(3,))
    assert exit_members(grid_members(single, largest=True), single) == []
    assert exit_members(grid_members(SPACE)[:5], SPACE) == []


def test_a_resolution_that_the_space_does_not_have():
    with pytest.raises(UserError, match="resolutions 50: not among the present choices 48, 52, 56, 60, 64"):
        grid_members(SPACE, resolutions=[48, 50])


def test_drawing():
    members = grid_members(SPACE, resolutions=PAPER)
    drawn = draw_members(members, 20, seed=3)
    assert len(drawn) == len(set(drawn)) == 20 and set(drawn) <= set(members)
    assert [members.index(member) for member in drawn] == sorted(members.index(member) for member in drawn)
    space = SPACE.restrict(resolutions=PAPER)
    assert drawn[0].architecture == space.smallest() and drawn[-1].architecture == space.largest()
    assert drawn == draw_members(members, 20, seed=3) != draw_members(members, 20, seed=4)
    assert draw_members(members, None, 0) == draw_members(members, len(members), 0) == members
    assert draw_members(members, 2, 0) == [members[0], members[-1]]
    other = SearchSpace.build(1, resolutions=(8,), depths=(1,), kernel_sizes=(3, 5), paths=(4, 6, 7, 1))
    assert grid_members(other)[-1].architecture == other.largest(), "also where the last paths are not the largest"
    for limit in (0, 1, -3, 2.5, True):
        with pytest.raises(UserError, match=f"limit {limit!r}: must be a whole number of at least 2"):
            draw_members(members, limit, 0)


def test_factors():
    architecture = SPACE.uniform(kernel_size=5, expand_ratio=4, depth=3, height=2, paths=6, resolution=52)
    expected = {"height": 2, "depth": 3, "kernel_size": 5, "expand_ratio": 4, "level": 6, "resolution": 52}
    assert factors_of(architecture) == expected
    norm = SPACE.uniform(paths=1)
    assert factors_of(norm) | {"kernel_size": None, "expand_ratio": None, "level": 1} == factors_of(norm)
    stages = (Stage((Block(3, 4), Block(5, 4))), Stage((Block(3, 4, ("main", "attention")),)))
    mixed = factors_of(Architecture(32, stages))
    assert mixed == {
        "height": 2, "depth": None, "kernel_size": None, "expand_ratio": 4, "level": None, "resolution": 32
    }  # fmt: skip
    other = Architecture(32, (Stage((Block(3, 4, ("main", "attention")),)),))
    assert factors_of(other)["level"] is None, "the paper has no code for these paths"
    assert factors_of(Architecture(32, (Stage((Block(3, 4),)),)))["level"] == 4


def evaluation(architecture, accuracy, split, macs):
    return Evaluation(architecture, Cost(10, macs, 0, 0), {"accuracy": accuracy}, 30, split=split)


def test_a_row():
    architecture = SPACE.uniform(kernel_size=5, expand_ratio=4, depth=3, height=2, paths=6, resolution=52)
    results = {
        split: evaluation(architecture, score, split, 77) for split, score in (("validation", 0.5), ("test", 0.4))
    }
    row = grid_row(Member(architecture, 3), results)
    assert row["name"] == "r52 h2 d3 k5 e4 l6" and row["digest"] == architecture.digest()
    assert (row["multiplicity"], row["params"], row["macs"], row["level"]) == (3, 10, 77, 6)
    assert row["validation"] == {"accuracy": 0.5} and row["test"] == {"accuracy": 0.4}
    assert Architecture.from_dict(row["architecture"]) == architecture
    every = SPACE.largest(exits="all")
    assert grid_row(Member(every, 1), results)["name"] == "r64 h5 d4 k7 e6 l7 exits 1,2,3,4,5"
    names = [grid_row(member, results)["name"] for member in grid_members(SPACE, resolutions=PAPER)]
    assert len(set(names)) == len(names)


def row(digest, multiplicity, macs, validation, test, height=5, level=4):
    made = {"digest": digest, "multiplicity": multiplicity, "macs": macs, "height": height, "level": level}
    return made | {"validation": {"accuracy": validation}, "test": {"accuracy": test}}


ROWS = [
    row("a", 1, 50, 0.50, 0.40, height=1),
    row("b", 3, 90, 0.70, 0.60, level=1),
    row("c", 1, 80, 0.70, 0.55, level=7),
    row("d", 1, 99, 0.60, 0.65, level=None),
]


def test_summary():
    found = summarise(ROWS, "accuracy", higher_is_better=True)
    assert found["test"] == {"mean": pytest.approx((0.4 + 3 * 0.6 + 0.55 + 0.65) / 6), "best": 0.65, "best_digest": "d"}
    assert found["validation"]["mean"] == pytest.approx((0.5 + 3 * 0.7 + 0.7 + 0.6) / 6)
    assert found["chosen"] == {"digest": "c", "validation": 0.70, "test": 0.55}, "of equal ones the cheaper"
    assert found["by_height"] == {
        "1": {"mean": 0.40, "best": 0.40, "members": 1},
        "5": {"mean": pytest.approx((3 * 0.6 + 0.55 + 0.65) / 5), "best": 0.65, "members": 3},
    }
    assert {level: part["best"] for level, part in found["by_level"].items()} == {"1": 0.60, "4": 0.40, "7": 0.55}


def test_summary_where_less_is_better():
    found = summarise(ROWS, "accuracy", higher_is_better=False)
    assert found["test"]["best"] == 0.40 and found["chosen"]["digest"] == "a"
    assert found["by_height"]["5"]["best"] == 0.55


def test_numbers_that_are_not_known_are_left_out():
    rows = [*ROWS, row("e", 9, 1, math.nan, math.nan, height=2)]
    found = summarise(rows, "accuracy", higher_is_better=True)
    assert found["test"] == summarise(ROWS, "accuracy", higher_is_better=True)["test"]
    assert found["by_height"]["2"] == {"mean": None, "best": None, "members": 1}
    nothing = summarise(rows[-1:], "accuracy", higher_is_better=True)
    assert nothing["chosen"] is None and nothing["test"] == {"mean": None, "best": None, "best_digest": None}


def grid(phase, rows, **more):
    summary = summarise(rows, "accuracy", higher_is_better=True)
    base = {"phase": phase, "metric": "accuracy", "higher_is_better": True, "distinct": 4, "combinations": 6}
    return base | {"drawn": None, "rows": rows, "summary": summary, "exits": []} | more


def test_tables():
    [(header, rows), *others] = grid_tables([grid("level_1", ROWS), grid("level_2", ROWS[:1], drawn=1)])
    assert header == ["phase", "networks", "combinations", "mean", "best", "chosen on validation -> test"]
    assert rows[0] == ["level_1", "4", "6", "0.5667", "0.6500", "0.7000 -> 0.5500"]
    assert rows[1][1] == "1 of 4"
    (heights, of_heights), (levels, of_levels) = others
    assert heights == ["phase", "height 1", "height 5"] and levels == ["phase", "level 1", "level 4", "level 7"]
    assert of_heights[0] == ["level_1", "0.4000 / 0.4000", "0.6000 / 0.6500"]
    assert of_heights[1] == ["level_2", "0.4000 / 0.4000", ""] and of_levels[1][1] == ""


def test_tables_leave_out_what_does_not_vary():
    assert len(grid_tables([grid("kernel", ROWS[:1])])) == 1
    exits = [row(str(n), 1, n, 0.1 * n, 0.2 * n, height=n) for n in (1, 2, 2)]
    _, (header, rows) = grid_tables([grid("full", ROWS[:1], exits=exits), grid("kernel", ROWS[:1])])
    assert header == ["phase", "exit 1", "exit 2"]
    assert rows == [["full", "0.2000 / 0.2000", "0.4000 / 0.4000"]]


def test_paths_have_the_papers_codes():
    assert [factors_of(SPACE.uniform(paths=code))["level"] for code in range(1, 8)] == list(range(1, 8))
