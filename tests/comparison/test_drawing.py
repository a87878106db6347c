"""What spaces share, buckets with their edges, and latencies that are kept."""

import itertools
import random

import numpy as np
import pytest

from onceforall.comparison import drawing
from onceforall.comparison.drawing import Stopwatch, draw_buckets, draw_networks, shared_space
from onceforall.errors import UserError
from onceforall.evaluation.latency import Latency
from onceforall.search_space import SearchSpace
from tiny_runs import two_stages

FACTORS = {"resolutions": (16, 24), "depths": (1, 2), "kernel_sizes": (3, 5), "expand_ratios": (3, 4)}


def space(stages=2, **changed):
    return SearchSpace.build(stages, **(FACTORS | changed))


def small_cost(architecture):
    """Any number that tells architectures apart: their place in a list of digests."""
    return float(int(architecture.digest()[:6], 16))


def test_what_is_shared_is_what_lies_in_both():
    one, other = space(kernel_sizes=(3, 5), depths=(1, 2)), space(kernel_sizes=(5, 7), depths=(2, 3))
    both = shared_space({"a": one, "b": other})
    rng = random.Random(0)
    for architecture in (both.sample(rng) for _ in range(50)):
        assert architecture in one and architecture in other
    assert both == space(kernel_sizes=(5,), depths=(2,))
    assert shared_space({"a": one, "b": one, "c": one}) == one


def test_every_architecture_of_both_is_shared():
    one = space(stages=1, expand_ratios=(), resolutions=(16,))
    other = space(stages=1, expand_ratios=(), resolutions=(16, 24), kernel_sizes=(3, 7))

    def members(of):
        return {of._take(values) for values in itertools.product(*(choices for _, choices in of.variables()))}

    assert members(shared_space({"a": one, "b": other})) == members(one) & members(other)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"resolutions": (32,)}, "resolutions 16, 24 against 32"),
        ({"depths": (3,)}, "depths of stage 1 1, 2 against 3"),
        ({"kernel_sizes": (7,)}, "kernel_sizes of stage 1 3, 5 against 7"),
        ({"expand_ratios": ()}, "expand_ratios of stage 1 3, 4 against none"),
        ({"widths": (0.5, 1.0)}, "widths of stage 1 none against 0.5, 1"),
        ({"paths": (("pointwise",),)}, r"paths of stage 1 main against pointwise"),
        ({"stages": 3}, "heights 2 against 3"),
    ],
)
def test_nothing_shared_names_the_factor(changed, named):
    with pytest.raises(UserError, match=f"^ps and prox share no architecture: {named}.$"):
        shared_space({"ps": space(), "prox": space(**changed)})


def test_quantiles_give_equal_buckets():
    groups = draw_buckets(space(), small_cost, networks=40, buckets=4, seed=1)
    drawn = [architecture for group in groups for architecture in group.members]
    assert [len(group.members) for group in groups] == [10] * 4 and len(set(drawn)) == 40
    costs = np.array([small_cost(architecture) for architecture in drawn])
    np.testing.assert_array_equal(costs, [value for group in groups for value in group.costs])
    np.testing.assert_allclose([group.low for group in groups[1:]], np.quantile(costs, [0.25, 0.5, 0.75]))
    assert (groups[0].low, groups[-1].high) == (costs.min(), costs.max())
    for group in groups:
        assert group.low <= min(group.costs) <= max(group.costs) <= group.high


def test_the_draw_is_that_of_its_seed_and_touches_no_global_generator():
    random.seed(5)
    before = random.getstate()
    first = draw_buckets(space(), small_cost, networks=10, buckets=2, seed=1)
    assert random.getstate() == before
    assert first == draw_buckets(space(), small_cost, networks=10, buckets=2, seed=1)
    assert first != draw_buckets(space(), small_cost, networks=10, buckets=2, seed=2)
    assert sum(len(group.members) for group in draw_buckets(space(), small_cost, per_bucket=3, buckets=4)) == 12


def test_fixed_edges_are_filled_and_kept():
    top = 16**6
    groups = draw_buckets(space(), small_cost, edges=(0, top / 4, top / 2), per_bucket=7)
    assert [(group.low, group.high, len(group.members)) for group in groups] == [
        (0, top / 4, 7),
        (top / 4, top / 2, 7),
    ]
    for group in groups:
        assert all(group.low <= small_cost(architecture) < group.high for architecture in group.members)
    [only] = draw_buckets(space(), lambda _: 4.0, edges=(1, 2, 4), networks=4)
    assert (only.low, only.high, len(only.members)) == (2, 4, 2), "the last bucket holds its upper edge"


def test_a_small_space_gives_what_it_has():
    one = SearchSpace.only(space().largest())
    [group] = draw_buckets(one, lambda _: 3.0, networks=5, buckets=5)
    assert group.members == (space().largest(),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edges": (2.0, 1.0)}, "edges 2, 1: give at least two, from small to large"),
        ({"edges": (2.0,)}, "edges 2: give at least two"),
        ({"edges": (5.0, 6.0)}, "no architecture was found between 5 and 6"),
        ({"buckets": 0}, "each must be at least 1"),
        ({"per_bucket": 0}, "each must be at least 1"),
    ],
)
def test_wrong_buckets_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        draw_buckets(space(), lambda _: 4.0, **options)


def latency(median, iqr):
    return Latency(median, iqr, median, 10, 1, 1, "cpu", "pytorch", "float32", None, iqr > 0.1 * median)


def test_latencies_are_kept_and_noisy_ones_measured_again(tmp_path, monkeypatch):
    supernet = two_stages()
    answers = [latency(4.0, 2.0), latency(5.0, 1.0), latency(3.0, 0.1)]
    monkeypatch.setattr(drawing, "subnet_latency", lambda *_, **__: answers.pop(0))
    ends = [supernet.space.smallest(), supernet.space.largest()]
    watch = Stopwatch(tmp_path / "latency.jsonl", supernet)
    assert [watch(end) for end in ends] == [5.0, 3.0], "of two noisy measurements the quieter one counts"
    assert watch.noisy_share(ends) == 0.5
    assert [Stopwatch(tmp_path / "latency.jsonl", supernet)(end) for end in ends] == [5.0, 3.0]
    answers.append(latency(7.0, 0.1))
    other = Stopwatch(tmp_path / "latency.jsonl", two_stages(num_classes=5))
    assert other(ends[0]) == 7.0, "another network has its own"
    assert Stopwatch(tmp_path / "latency.jsonl", supernet)(ends[0]) == 5.0


def test_a_real_latency_is_positive(tmp_path):
    supernet = two_stages()
    assert Stopwatch(tmp_path / "latency.jsonl", supernet)(supernet.space.smallest()) > 0


def test_networks_are_those_of_the_buckets():
    drawn = draw_networks(space(), 10, 3)
    assert len(set(drawn)) == 10 and drawn == draw_networks(space(), 10, 3) != draw_networks(space(), 10, 4)
    members = [member for bucket in draw_buckets(space(), small_cost, networks=10, seed=3) for member in bucket.members]
    assert set(members) == set(drawn)
    assert draw_networks(SearchSpace.only(space().largest()), 10, 0) == [space().largest()]
