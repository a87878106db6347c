"""The front of a search beside other networks."""

import pytest

pytest.importorskip("pymoo")

from onceforall.searching.comparison import FrontRow, compare_fronts, comparison_architectures
from onceforall.searching.problem import Constraint
from onceforall.searching.rounds import Member, SearchResult
from tiny_search import small_network

SPACE = small_network().space


def member(accuracy, macs):
    return Member(SPACE.smallest(), {"accuracy": accuracy, "macs": macs}, None, None, True)


def result(archive, *limits):
    return SearchResult(
        ("accuracy", "macs"), limits, "accuracy", True, (), archive[0], tuple(archive), (), 1.0
    )  # fmt: skip


def test_shares_are_areas_drawn_on_paper():
    # the box: accuracy 0.5 to 0.9, macs 10 to 50. (0.9, 30) takes half of the macs over the whole height: 0.5;
    # (0.7, 10) the other half over half of the height: 0.25
    found = result([member(0.9, 30), member(0.7, 10), member(0.6, 40)])
    rows = compare_fronts(found, {"random": [member(0.5, 50), member(0.8, 40)]})
    assert rows[0] == FrontRow("search", 3, 2, pytest.approx(0.75))
    assert rows[1] == FrontRow("random", 2, 1, pytest.approx(0.25 * 0.75))  # (0.8, 40) alone


def test_networks_that_break_limits_are_no_front():
    found = result([member(0.9, 30), member(0.7, 10)], Constraint("macs", "max", 20))
    rows = compare_fronts(found, {"random": [member(0.5, 30)]})
    assert [(row.networks, row.front) for row in rows] == [(2, 1), (1, 0)] and rows[1].hypervolume == 0


def test_drawn_networks_differ_and_repeat_themselves():
    ways = comparison_architectures(SPACE, 30, seed=0)
    assert len(set(ways["random"])) == 30 and ways == comparison_architectures(SPACE, 30, seed=0)
    assert ways["random"] != comparison_architectures(SPACE, 30, seed=1)["random"]
    grid = {architecture for architecture, _ in SPACE.grid()}
    assert set(ways["grid"]) <= grid and len(ways["grid"]) == min(30, len(grid))
    few = SPACE.restrict(resolutions=[32], kernel_sizes=[3], expand_ratios=[3])
    assert comparison_architectures(few, 30, seed=0) == {"random": [few.smallest()], "grid": [few.smallest()]}
