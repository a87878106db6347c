"""Search spaces against the papers' counts, brute force over small spaces, and laws."""

import json
import math
import pickle
import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onceforall.architecture import Architecture, Block, Stage
from onceforall.errors import UserError
from onceforall.search_space import BlockChoices, SearchSpace, StageChoices

# bits of OFAv2's level codes 1 ... 7: inverted residual, pointwise convolution, normalisation and activation
LEVELS = tuple(
    tuple(name for bit, name in ((4, "main"), (2, "pointwise"), (1, "norm")) if code & bit) for code in range(1, 8)
)
PAIRS = [LEVELS[code - 1] for code in (3, 5, 6, 7)]
PAPER = SearchSpace.build(5, resolutions=(224,), depths=(2, 3, 4), kernel_sizes=(3, 5, 7), expand_ratios=(3, 4, 6))
PARALLEL = SearchSpace.build(
    5,
    resolutions=(48, 56, 64),
    depths=(2, 3, 4),
    kernel_sizes=(3, 5, 7),
    expand_ratios=(3, 4, 6),
    paths=LEVELS,
    heights=(1, 2, 3, 4, 5),
)
SMALL = SearchSpace.build(
    2,
    resolutions=(32, 48),
    depths=(1, 2),
    kernel_sizes=(3, 5),
    expand_ratios=(3, 4),
    paths=(("skip",), ("main",), ("main", "skip")),
    heights=(1, 2),
)
NARROW = SMALL.restrict(resolutions=(32,), expand_ratios=(3,))
# each block has other choices; stem and head are elastic; stages have widths
MIXED = SearchSpace(
    (32, (32, 40)),
    (
        StageChoices((1,), (BlockChoices((3, 5), (2, 4)),), (0.5, 1)),
        StageChoices((1, 2), (BlockChoices((3,)), BlockChoices((3, 7), (), (("skip",), ("main",))))),
    ),
    heights=(2,),
    exits=(1, 2),
    stem=BlockChoices((3, 5), (3,)),
    head=BlockChoices((1, 3)),
)
SPACES = {"paper": PAPER, "parallel": PARALLEL, "small": SMALL, "mixed": MIXED}


def every_code(space: SearchSpace):
    return product(*(range(len(choices)) for _, choices in space.variables()))


# -- counts ------------------------------------------------------------------------------------------------------


def test_counts_of_once_for_all():
    assert PAPER.size() == PAPER.encodings() == 21_758_655_492_572_485_851 == (9**2 + 9**3 + 9**4) ** 5
    assert replace(PAPER, resolutions=tuple(range(128, 225, 4))).size() == 25 * PAPER.size()
    assert PAPER.restrict(depths=(4,), expand_ratios=(6,), kernel_sizes=(7,)).size() == 1


def test_counts_of_parallel_levels():
    one_height = PARALLEL.restrict(resolutions=(64,), heights=(5,))
    assert one_height.encodings() == 16_006_977**5
    assert one_height.encodings() == pytest.approx(1.051e36, rel=1e-3)
    assert one_height.size() == 2_374_281**5
    assert one_height.size() == pytest.approx(7.5e31, rel=1e-2)
    heights = PARALLEL.restrict(resolutions=(64,))
    assert heights.size() == sum(2_374_281**height for height in range(1, 6))
    assert heights.encodings() == sum(16_006_977**height for height in range(1, 6))


@pytest.mark.parametrize(
    "space", [SMALL.restrict(resolutions=(32,), expand_ratios=(3,)), MIXED], ids=["small", "mixed"]
)
def test_counts_by_brute_force(space):
    distinct = {space.decode(code) for code in every_code(space)}
    assert len(distinct) == space.size()
    assert all(architecture in space for architecture in distinct)
    # a code is a choice for each variable that the depths and the height leave
    cut = set()
    for code in every_code(space):
        chosen = dict(zip((name for name, _ in space.variables()), code, strict=True))
        height = space.heights[chosen["height"]]
        for i, stage in enumerate(space.stages):
            depth = stage.depths[chosen[f"stages.{i}.depth"]] if i < height else 0
            for key in chosen:
                place = key.split(".")
                outside = place[:2] == ["stages", str(i)] and (
                    i >= height or (len(place) > 3 and int(place[3]) >= depth)
                )
                chosen[key] = -1 if outside else chosen[key]
        cut.add(tuple(chosen.values()))
    assert len(cut) == space.encodings()


# Table of OFAv2 section V: factor choices, combinations, and those that differ (kernel and expansion of a level
# without its inverted residual do not exist)
GRIDS = {
    "EKS": ({"paths": LEVELS[6:], "heights": (5,), "depths": (4,), "expand_ratios": (6,)}, 9, 9),
    "EL1": (
        {"paths": [LEVELS[i] for i in (2, 4, 5, 6)], "heights": (5,), "depths": (4,), "expand_ratios": (6,)},
        36,
        30,
    ),
    "EL2": ({"heights": (5,), "depths": (4,), "expand_ratios": (6,)}, 63, 45),
    "EH1": ({"heights": (4, 5), "depths": (4,), "expand_ratios": (6,)}, 126, 90),
    "EH4": ({"depths": (4,), "expand_ratios": (6,)}, 315, 225),
    "ED1": ({"depths": (3, 4), "expand_ratios": (6,)}, 630, 450),
    "ED2": ({"expand_ratios": (6,)}, 945, 675),
    "EW1": ({"expand_ratios": (4, 6)}, 1890, 3 * 5 * 3 * (4 * 3 * 2 + 3)),
    "EW2": ({}, 2835, 1755),
}


@pytest.mark.parametrize("phase", GRIDS)
def test_grids_of_the_paper(phase):
    choices, combinations, distinct = GRIDS[phase]
    grid = list(PARALLEL.restrict(**choices).grid())
    assert sum(count for _, count in grid) == combinations
    assert len(grid) == len({architecture for architecture, _ in grid}) == distinct
    for architecture, count in grid:
        with_main = "main" in architecture.stages[0].blocks[0].paths
        ratios = len(choices.get("expand_ratios", (3, 4, 6)))
        assert count == (1 if with_main else 3 * ratios)


def test_grid_by_brute_force():
    expected: Counter[Architecture] = Counter()
    factors = (SMALL.resolutions, SMALL.heights, SMALL.depths, SMALL.kernel_sizes, SMALL.expand_ratios, SMALL.paths)
    for size, height, depth, kernel, ratio, names in product(*factors):
        block = Block(kernel, ratio, names) if "main" in names else Block(paths=names)
        expected[Architecture(size, (Stage((block,) * depth),) * height)] += 1
    assert dict(SMALL.grid()) == expected


def test_grid_leaves_alone_what_differs_between_blocks():
    grid = dict(MIXED.grid())
    assert sum(grid.values()) == len(MIXED.resolutions) * len(MIXED.widths)
    sizes = product(MIXED.resolutions, MIXED.widths)
    assert set(grid) == {MIXED.uniform(resolution=size, width=width) for size, width in sizes}
    assert {block.kernel_size for architecture in grid for block in architecture.stages[1].blocks} == {3, 7}


# -- samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_samples_are_inside_and_repeatable(name):
    space = SPACES[name]
    drawn = [space.sample(rng) for rng in [random.Random(3)] for _ in range(200)]
    assert all(architecture in space for architecture in drawn)
    assert drawn == [space.sample(rng) for rng in [random.Random(3)] for _ in range(200)]
    assert len(set(drawn)) > 50


def test_each_value_is_drawn_uniformly_and_independently():
    count = 6000
    rng = random.Random(0)
    drawn = [PAPER.sample(rng) for _ in range(count)]
    tables = {"depth": Counter(a.depths[2] for a in drawn)}
    for place in (0, 1):  # blocks that always run
        tables[f"kernel {place}"] = Counter(a.stages[4].blocks[place].kernel_size for a in drawn)
        tables[f"ratio {place}"] = Counter(a.stages[4].blocks[place].expand_ratio for a in drawn)
    tables["pairs"] = Counter((a.stages[0].blocks[0].kernel_size, a.stages[0].blocks[1].kernel_size) for a in drawn)
    tables["kernel and depth"] = Counter((a.stages[1].blocks[0].kernel_size, a.depths[1]) for a in drawn)
    for name, table in tables.items():
        cells = 9 if name in ("pairs", "kernel and depth") else 3
        assert len(table) == cells
        expected = count / cells
        chi_square = sum((observed - expected) ** 2 / expected for observed in table.values())
        assert chi_square < {3: 13.8, 9: 26.1}[cells], name  # 99.9 % of the time for 2 and 8 degrees of freedom


def test_the_value_is_drawn_not_the_network():
    """Of depths 1 and 2 each is drawn half of the time, though depth 2 has many more networks."""
    rng = random.Random(0)
    shallow = sum(SMALL.sample(rng).depths[0] == 1 for _ in range(2000))
    assert abs(shallow - 1000) < 4 * math.sqrt(500)


@pytest.mark.parametrize("name", SPACES)
def test_global_generators_are_left_alone(name):
    space = SPACES[name]
    before = random.getstate(), torch.random.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()
    rng = random.Random(0)
    one, other = space.sample(rng), space.sample(rng)
    space.crossover(one, space.mutate(other, rng, 0.5), rng)
    after = random.getstate(), torch.random.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()
    assert before == after


# -- codes, mutation, crossover ----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.sampled_from(sorted(SPACES)), st.randoms(use_true_random=False))
def test_encode_and_decode_are_inverse(name, chance):
    space = SPACES[name]
    code = [chance.randrange(len(choices)) for _, choices in space.variables()]
    architecture = space.decode(code)
    assert architecture in space
    encoded = space.encode(architecture)
    assert len(encoded) == len(code)
    assert space.decode(encoded) == architecture
    assert all(new in (old, -1) for old, new in zip(code, encoded, strict=True))
    noisy = [chance.randrange(len(v[1])) if c == -1 else c for c, v in zip(encoded, space.variables(), strict=True)]
    assert space.decode(noisy) == architecture, "what does not exist has no influence"


def test_codes_name_the_values():
    architecture = MIXED.smallest()
    facts = {
        "resolution": 32,
        "height": 2,
        "stem.kernel_size": 3,
        "stem.expand_ratio": 3,
        "head.kernel_size": 1,
        "stages.0.width": 0.5,
        "stages.0.blocks.0.expand_ratio": 2,
        "stages.1.depth": 1,
        "stages.1.blocks.1.kernel_size": None,
    }
    values = {
        name: None if code == -1 else choices[code]
        for code, (name, choices) in zip(MIXED.encode(architecture), MIXED.variables(), strict=True)
    }
    assert {name: values[name] for name in facts} == facts
    assert MIXED.decode(np.array([0] * len(values))) == architecture


def test_absent_codes_where_they_are_needed():
    names = [name for name, _ in SMALL.variables()]
    full = SMALL.encode(SMALL.largest())
    for i, name in enumerate(names):
        code = [-1 if j == i else value for j, value in enumerate(full)]
        with pytest.raises(UserError, match="absent"):
            SMALL.decode(code)
        assert name in dict(SMALL.variables())


@pytest.mark.parametrize("name", SPACES)
def test_mutation(name):
    space, rng = SPACES[name], random.Random(0)
    for _ in range(30):
        architecture = space.sample(rng)
        assert space.mutate(architecture, rng, 0.0) == architecture
        assert space.mutate(architecture, rng, 1.0) in space
        assert space.mutate(architecture, rng) in space
    one = space.largest()
    assert space.mutate(one, random.Random(5), 0.3) == space.mutate(one, random.Random(5), 0.3) != one


def test_mutation_changes_the_share_it_is_told():
    rng, base = random.Random(0), PAPER.largest()
    codes = [PAPER.encode(PAPER.mutate(base, rng, 0.3)) for _ in range(300)]
    depth = [name for name, _ in PAPER.variables()].index("stages.2.depth")
    changed = np.mean([code[depth] != 2 for code in codes])
    assert abs(changed - 0.3 * 2 / 3) < 0.08


@pytest.mark.parametrize("name", SPACES)
def test_crossover(name):
    space, rng = SPACES[name], random.Random(0)
    for _ in range(30):
        one, other = space.sample(rng), space.sample(rng)
        child = space.crossover(one, other, rng)
        assert child in space
        assert space.crossover(one, one, rng) == one
        genes = zip(space.encode(child), space.encode(one), space.encode(other), strict=True)
        for gene, mother, father in genes:
            assert gene in (mother, father) or -1 in (mother, father)


def test_crossover_takes_from_both_parents():
    rng, one, other = random.Random(0), PAPER.largest(), PAPER.smallest()
    children = [PAPER.crossover(one, other, rng) for _ in range(300)]
    shares = [child.depths[2] == one.depths[2] for child in children]
    shares += [child.stages[4].blocks[1].kernel_size == 7 for child in children]
    assert abs(np.mean(shares) - 0.5) < 0.08
    assert len(set(children)) > 290


# -- laws --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_largest_and_smallest(name):
    space = SPACES[name]
    large, small = space.largest(), space.smallest()
    assert large in space and small in space
    assert large.resolution == space.resolutions[-1] and small.resolution == space.resolutions[0]
    assert large.height == space.heights[-1] and small.height == space.heights[0]
    assert large.depths == tuple(stage.depths[-1] for stage in space.stages)
    for stage, choices in zip(large.stages, space.stages, strict=True):
        for block, options in zip(stage.blocks, choices.blocks, strict=True):
            assert block == options.values()[-1]
    assert space.largest(exits="all").exits == space.exits
    assert space.largest(exits="all") in space
    assert replace(space.largest(exits="all"), exits=large.exits) == large


@pytest.mark.parametrize("name", SPACES)
def test_only(name):
    space, rng = SPACES[name], random.Random(1)
    for architecture in (space.largest(), space.smallest(), space.largest("all"), space.sample(rng)):
        only = SearchSpace.only(architecture)
        assert only.size() == only.encodings() == 1
        assert only.single() == architecture
        assert architecture in only
        assert len(list(only.grid())) == 1
        assert only.smallest() == only.largest() == only.sample(rng) == replace(architecture, exits=())
        others = [space.sample(rng) for _ in range(20)]
        assert not [other for other in others if other in only and other != only.largest()]
        assert SearchSpace.only(only.largest("all")) == only
    assert space.single() is None


@pytest.mark.parametrize("name", ["paper", "small", "parallel"])
def test_restrict_and_extend(name):
    space = SPACES[name]
    everything = {factor: getattr(space, factor) for factor in ("resolutions", "depths", "kernel_sizes", "heights")}
    everything |= {factor: getattr(space, factor) for factor in ("expand_ratios", "paths")}
    assert space.restrict(**everything) == space.extend(**everything) == space.restrict() == space.extend() == space
    for factor, choices in everything.items():
        for kept in (choices[-1:], choices[1:], choices[::2]):
            if not kept or (factor in ("depths", "heights") and kept[-1] != choices[-1]):
                continue
            part = space.restrict(**{factor: kept})
            assert getattr(part, factor) == kept
            assert part.restrict(**{factor: kept}) == part
            assert all(part.sample(rng) in space for rng in [random.Random(0)] for _ in range(20))
            assert part.size() < space.size() or kept == choices
            assert part.extend(**{factor: choices}) == space, f"{factor} {kept}"
    one = space.restrict(kernel_sizes=(3,)).restrict(depths=(space.depths[0],))
    assert one == space.restrict(depths=(space.depths[0],), kernel_sizes=(3,))


def test_membership_follows_from_the_restriction():
    part = PAPER.restrict(kernel_sizes=(5, 7), depths=(2, 4))
    rng = random.Random(0)
    for _ in range(300):
        architecture = PAPER.sample(rng)
        kernels = {block.kernel_size for stage in architecture.stages for block in stage.blocks}
        inside = kernels <= {5, 7} and set(architecture.depths) <= {2, 4}
        assert (architecture in part) == inside
    assert PAPER.uniform(kernel_size=5, depth=2) in part
    assert PAPER.uniform(kernel_size=3) not in part
    assert PAPER.uniform(depth=3) not in part
    assert "largest" not in PAPER


def test_depth_that_is_cut_and_grown():
    shallow = PAPER.restrict(depths=(2,))
    assert [len(stage.blocks) for stage in shallow.stages] == [2] * 5
    assert shallow.extend(depths=(2, 3, 4)) == PAPER
    grown = MIXED.extend(depths=(1, 2, 3))
    assert [len(stage.blocks) for stage in grown.stages] == [3, 3]
    assert grown.stages[1].blocks[2] == MIXED.stages[1].blocks[1]
    assert MIXED.largest().stages[1] not in grown.stages


def test_heights_that_are_cut_and_grown():
    space = SearchSpace.build(5, resolutions=(64,), depths=(2,), kernel_sizes=(3,), heights=(1, 2, 3, 4, 5))
    top = space.restrict(heights=(5,))
    assert top.heights == (5,) and top.exits == (1, 2, 3, 4, 5), "the exits stay for the largest network"
    assert top.largest(exits="all").exits == (1, 2, 3, 4, 5)
    assert top.smallest().height == 5
    low = space.restrict(heights=(1, 3))
    assert len(low.stages) == 3 and low.exits == (1, 2, 3)
    assert low.extend(heights=(1, 2, 3, 4, 5)) == space


def test_uniform():
    facts = {"kernel_size": 5, "expand_ratio": 4, "depth": 3, "resolution": 56, "height": 2, "paths": ("norm", "main")}
    architecture = PARALLEL.uniform(**facts)
    block = Block(5, 4, ("main", "norm"))
    assert architecture == Architecture(56, (Stage((block,) * 3),) * 2)
    assert PARALLEL.uniform() == PARALLEL.largest()
    assert PARALLEL.uniform(paths="norm", kernel_size=3).stages[0].blocks[0] == Block(paths=("norm",))
    assert MIXED.uniform(resolution=[32, 40], width=0.5).stages[0].width == 0.5
    assert PAPER.uniform(expand_ratio=4.0).to_json() == PAPER.uniform(expand_ratio=4).to_json()


def test_factors_of_a_space():
    assert (MIXED.depths, MIXED.widths, MIXED.kernel_sizes) == ((1, 2), (0.5, 1), (1, 3, 5, 7))
    assert (MIXED.expand_ratios, MIXED.paths) == ((2, 3, 4), (("main",), ("skip",)))
    assert PARALLEL.paths == tuple(tuple(sorted(names)) for names in LEVELS)


# -- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_json_gives_it_back(name):
    space = SPACES[name]
    again = SearchSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space and hash(again) == hash(space)
    assert again.variables() == space.variables()
    assert pickle.loads(pickle.dumps(space)) == space
    assert replace(space) == space


def test_order_of_choices_makes_no_difference():
    one = SearchSpace.build(2, resolutions=[64, 32], depths=[2, 1], kernel_sizes=[7, 3], expand_ratios=[6, 3.0])
    other = SearchSpace.build(2, resolutions=(32, 64), depths=(1, 2), kernel_sizes=(3, 7), expand_ratios=(3, 6))
    assert one == other and hash(one) == hash(other)
    assert one.sample(random.Random(0)) == other.sample(random.Random(0))
    assert one != other.restrict(depths=(2,))


def test_resolutions_are_ordered_by_pixels():
    space = SearchSpace.build(1, resolutions=[(20, 60), 40, (40, 20)], depths=[1], kernel_sizes=[3])
    assert space.resolutions == ((40, 20), (20, 60), 40)
    assert space.largest().resolution == 40 and space.smallest().resolution == (40, 20)


def test_sampling_is_fast():
    """A sample costs a few dozen dictionary look-ups a variable, not a search; counted in calls, which do not vary."""
    import cProfile
    import pstats

    rng = random.Random(0)
    PAPER.sample(rng)
    profile = cProfile.Profile()
    profile.runcall(PAPER.sample, rng)
    assert pstats.Stats(profile).total_calls < 8 * len(PAPER.variables())


def test_share_of_small_networks_is_that_of_the_papers_law():
    """Depth 2, 3 and 4 are equally likely: the mean number of blocks is 15 of 20."""
    rng = random.Random(0)
    mean = Fraction(sum(sum(PAPER.sample(rng).depths) for _ in range(2000)), 2000)
    assert abs(mean - 15) < Fraction(1, 5)
