"""The search over models finds what trying everything finds."""

import builtins
import sys

import numpy as np
import pytest

pytest.importorskip("pymoo")

from onceforall.errors import UserError
from onceforall.searching import exit_sets
from onceforall.searching.evolution import evolve, non_dominated
from onceforall.searching.problem import Measures, read_constraints
from onceforall.supernets.registry import create_supernet
from tiny_search import Additive, ClockTable, all_architectures, small_network

NET = small_network()
ALL = all_architectures(NET.space)
MEASURES = Measures(NET, Additive(NET.space), ClockTable())


def brute_force(names, **most):
    """The front by comparing all pairs of those within the limits."""
    kept = np.all([MEASURES.values(name, ALL) <= limit for name, limit in most.items()] or [[True] * len(ALL)], axis=0)
    signs = [-1 if name == "accuracy" else 1 for name in names]
    points = np.stack([sign * MEASURES.values(name, ALL) for name, sign in zip(names, signs, strict=True)], 1)[kept]
    no_worse = (points[:, None] <= points[None]).all(2)
    better = (points[:, None] < points[None]).any(2)
    free = ~(no_worse & better).any(0)
    return {ALL[i] for i in np.flatnonzero(kept)[free]}


def hypervolume(points, corner):
    """Area between a two-dimensional front (both small) and a corner, by counting on a fine grid."""
    low = points.min(0)
    grid = [np.linspace(low[i], corner[i], 200) for i in (0, 1)]
    covered = np.zeros((200, 200), bool)
    for a, b in points:
        covered |= (grid[0][:, None] >= a) & (grid[1][None] >= b)
    return covered.mean() * np.prod(corner - low)


def points_of(architectures):
    return np.stack([-MEASURES.values("accuracy", architectures), MEASURES.values("macs", architectures) / 1e6], 1)


def test_the_true_front_is_found():
    found = evolve(NET.space, MEASURES, ("accuracy", "macs"), candidates=1500, population=60)
    true = brute_force(("accuracy", "macs"))
    assert len(ALL) == 2048 and 15 < len(true) < 200 and 1500 <= found.count < 1560
    corner = points_of(ALL).max(0)
    best, got = (hypervolume(points_of(list(each)), corner) for each in (true, found.front))
    assert got > 0.99 * best and len(set(found.front) & true) > 0.7 * len(true)
    some = np.random.default_rng(0).choice(len(ALL), 200, replace=False)
    assert hypervolume(points_of([ALL[i] for i in some]), corner) < 0.97 * got
    assert list(MEASURES.values("macs", found.front)) == sorted(MEASURES.values("macs", found.front))


def test_a_small_space_is_judged_whole():
    found = evolve(NET.space, MEASURES, ("accuracy", "macs"), candidates=2048)
    assert found.count == 2048 and set(found.front) == brute_force(("accuracy", "macs"))


def test_a_larger_space_is_not_listed_first(monkeypatch):
    own, decoded = exit_sets.decode, []
    monkeypatch.setattr(exit_sets, "decode", lambda space, codes: decoded.append(codes) or own(space, codes))
    found = evolve(NET.space, MEASURES, ("accuracy", "macs"), candidates=200, population=60)
    assert found.count >= 200 and len(decoded) < 200


def test_codes_that_stand_for_the_same_are_judged_once():
    """Depths and exits: variables of blocks and stages that do not run make no other architecture."""
    options = {"num_classes": 3, "width_mult": 0.25, "depths": (1, 2), "resolutions": (32,)}
    net = create_supernet("ee_d_ofa_mbv3", kernel_sizes=(3,), expand_ratios=(3,), **options)
    found = evolve(net.space, Measures(net, Additive(net.space)), ("accuracy", "macs"), candidates=1000)
    # of height h there are 2^h depths, and each of the h-1 earlier exits answers or not
    assert found.count == sum(2**height * 2 ** (height - 1) for height in net.space.heights)


def test_constraints_are_kept_and_reached():
    limits = read_constraints(MEASURES.directions, {"max_macs": 2e6, "max_latency_ms": 4})
    found = evolve(NET.space, MEASURES, ("accuracy", "macs"), limits, candidates=800, population=50)
    true = brute_force(("accuracy", "macs"), macs=2e6, latency_ms=4)
    assert found.front and (MEASURES.values("macs", found.front) <= 2e6).all()
    assert {each.resolution for each in found.front} == {32}
    best = max(MEASURES.values("accuracy", list(true)))
    assert max(MEASURES.values("accuracy", found.front)) == pytest.approx(best, abs=0.003)


def test_the_impossible_ends_soon_with_the_nearest():
    limits = read_constraints(MEASURES.directions, {"max_macs": 1000})
    found = evolve(NET.space, MEASURES, ("accuracy", "macs"), limits, candidates=2000, population=50)
    assert found.front == () and found.count <= 450 and found.nearest == NET.space.smallest()


def test_seeds_decide_everything():
    def run(seed):
        return evolve(NET.space, MEASURES, ("accuracy", "macs", "params"), candidates=300, population=50, seed=seed)

    assert run(3) == run(3) and run(3) != run(4)


def test_heights_are_searched():
    net = create_supernet("ee_d_ofa_mbv3", num_classes=3, width_mult=0.25, depths=(1, 2), resolutions=(32,))
    found = evolve(net.space, Measures(net, Additive(net.space)), ("accuracy", "macs"), candidates=600, population=60)
    assert len({each.height for each in found.front}) >= 3


def test_non_dominated_is_what_no_other_dominates():
    points = np.random.default_rng(0).integers(0, 6, (80, 3))
    kept = set(non_dominated(points).tolist())
    for i, point in enumerate(points):
        beaten = any((other <= point).all() and (other < point).any() for other in points)
        twin_before = any((points[j] == point).all() for j in range(i))
        assert (i in kept) == (not beaten and not twin_before)
    assert non_dominated(np.zeros((0, 2))).tolist() == []


def test_mistakes_are_named(monkeypatch):
    with pytest.raises(UserError, match="population 100 of 50"):
        evolve(NET.space, MEASURES, ("accuracy", "macs"), candidates=50)
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("pymoo"):
            raise ModuleNotFoundError("No module named 'pymoo'", name="pymoo")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "onceforall.searching.operators", raising=False)
    with pytest.raises(UserError, match=r"pymoo: pip install 'onceforall\[search\]'"):
        evolve(NET.space, MEASURES, ("accuracy", "macs"), candidates=50, population=10)
