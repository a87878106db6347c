"""The tables of ProX are complete, and hold the numbers of the paper."""

import pytest

from onceforall.recipes import RECIPES
from onceforall.studies.prox import DATA_SETS, FAMILIES, METHODS, SCALES, SINGLES, TIME_RATIOS, scale_of


def test_the_papers_numbers():
    # prox_spec, section 0: mean accuracy and Dice over the sampled sub-networks, in percent; hours of training on ROCT
    stated = {
        "oct": (94.16, 99.22, 97.72),
        "brats": (37.92, 42.35, 46.93),
        "hippocampus": (24.64, 28.66, 40.83),
    }
    for data, numbers in stated.items():
        found = [100 * DATA_SETS[data].scores[run] for run in ("ps", "prox-mr", "prox-ir")]
        assert found == pytest.approx(list(numbers))
    assert dict(DATA_SETS["oct"].hours) == {"ps": 9, "prox-mr": 3.75, "prox-ir": 3}
    assert [1 - ratio for ratio in TIME_RATIOS] == pytest.approx([0.68, 0.37])
    assert {name for name, known in DATA_SETS.items() if known.task == "segmentation"} == {"hippocampus", "brats"}


def test_what_the_tables_name_is_there():
    for known in DATA_SETS.values():
        assert set(known.recipes) <= set(SCALES) and set(known.recipes.values()) <= set(FAMILIES)
    runs = [run for runs in METHODS.values() for run in runs]
    assert len(runs) == len(set(runs)) == 4 + len(SINGLES)
    for family in FAMILIES.values():
        assert set(family) == set(runs) - set(SINGLES)
        assert {recipe for recipe, *_ in family.values()} <= set(RECIPES)
    assert all("-" in name or name.isalpha() for name in DATA_SETS)


def test_enough_networks_are_measured():
    assert SCALES["small"].drawn == 60 and (SCALES["paper"].drawn or 0) >= 60


def test_a_data_set_may_have_a_scale_of_its_own():
    small = scale_of("hippocampus", SCALES["small"])
    assert small.drawn == 40 and "data.volumes.subjects=60" in small.overrides
    assert scale_of("oct", SCALES["small"]) == SCALES["small"]
    assert scale_of("brats", SCALES["paper"]) == SCALES["paper"]
