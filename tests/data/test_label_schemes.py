import json

import numpy as np
import pytest

from onceforall.data.label_schemes import BRATS_REGIONS, OUTSIDE, LabelScheme, label_scheme, scheme_from_labels
from onceforall.errors import UserError

HIPPOCAMPUS = {"0": "background", "1": "Anterior", "2": "Posterior"}


@pytest.mark.parametrize("labels", [HIPPOCAMPUS, {"Posterior": 2, "background": 0, "Anterior": 1}])
def test_classes_of_a_dataset_json_in_both_styles(labels):
    scheme = label_scheme("classes", labels)
    assert scheme == LabelScheme("classes", "softmax", ("background", "Anterior", "Posterior"), ((0,), (1,), (2,)))
    assert scheme.num_outputs == 3 and scheme.foreground == ("Anterior", "Posterior") and scheme.values == (0, 1, 2)


def test_a_name_with_several_values_makes_regions():
    scheme = scheme_from_labels({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3})
    assert (scheme.kind, scheme.members) == ("regions", BRATS_REGIONS.members)
    assert scheme.foreground == ("whole", "core", "enhancing")


def test_regions_in_any_order_write_the_value_of_the_smallest():
    scheme = scheme_from_labels({"background": 0, "enhancing": [3], "core": [2, 3], "whole": [1, 2, 3]})
    assert (scheme.outputs, scheme.members) == (("whole", "core", "enhancing"), BRATS_REGIONS.members)
    np.testing.assert_array_equal(scheme.to_labels(np.ones((3, 2))), [3, 3])


def test_brats_regions_by_name():
    scheme = label_scheme("brats_regions", {})
    labels = np.array([[0, 1, 2, 3, OUTSIDE]], np.uint8)
    expected = [[[0, 1, 1, 1, 0]], [[0, 0, 1, 1, 0]], [[0, 0, 0, 1, 0]]]  # whole tumour, core, enhancing
    np.testing.assert_array_equal(scheme.targets(labels), np.array(expected, bool))
    np.testing.assert_array_equal(np.moveaxis(scheme.table()[labels], -1, 0), np.array(expected, bool))


def test_targets_of_classes_with_gaps_and_unions():
    scheme = LabelScheme("own", "softmax", ("rest", "tumour"), ((0, 2), (1, 4)))
    labels = np.array([0, 1, 2, 4, OUTSIDE])
    np.testing.assert_array_equal(scheme.targets(labels), [[1, 0, 1, 0, 0], [0, 1, 0, 1, 0]])
    np.testing.assert_array_equal(scheme.table()[labels].T, scheme.targets(labels))
    assert scheme.values == (0, 1, 2, 4)


@pytest.mark.parametrize("scheme", [BRATS_REGIONS, label_scheme("classes", HIPPOCAMPUS)])
def test_labels_come_back_from_their_maps(scheme):
    labels = np.random.default_rng(0).choice(scheme.values, (3, 4, 5)).astype(np.uint8)
    np.testing.assert_array_equal(scheme.to_labels(scheme.targets(labels).astype(np.float32)), labels)


def test_the_smallest_region_wins_and_half_is_enough():
    probabilities = np.array([[0.9, 0.5, 0.4], [0.2, 0.49, 0.1], [0.6, 0.1, 0.1]])[:, :, None]
    np.testing.assert_array_equal(BRATS_REGIONS.to_labels(probabilities)[:, 0], [3, 1, 0])


def test_json_there_and_back():
    assert LabelScheme.from_dict(json.loads(json.dumps(BRATS_REGIONS.to_dict()))) == BRATS_REGIONS
    with pytest.raises(UserError, match="has no key 'output'"):
        LabelScheme.from_dict({**BRATS_REGIONS.to_dict(), "output": 1})


@pytest.mark.parametrize(
    ("kind", "outputs", "members", "message"),
    [
        ("sigmoid", ("a",), ((1,),), "'sigmoid' is not one of"),
        ("softmax", ("a", "b"), ((0,),), "name of its own"),
        ("softmax", ("a", "a"), ((0,), (1,)), "name of its own"),
        ("softmax", ("a", "b"), ((0,), ()), "needs label values"),
        ("softmax", ("a", "b"), ((0,), (255,)), "0 to 254"),
        ("softmax", ("a", "b"), ((1,), (0,)), "background with value 0 first"),
        ("softmax", ("a", "b"), ((0,), (0, 1)), "belongs to two classes"),
        ("regions", ("a",), ((0, 1),), "belongs to no region"),
        ("regions", ("a", "b"), ((3,), (2, 3)), "region 'b' holds all of 'a'"),
    ],
)
def test_schemes_that_make_no_sense(kind, outputs, members, message):
    with pytest.raises(UserError, match=message):
        LabelScheme("own", kind, outputs, members)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "no background"),
        ({"0": "a", "1": "a"}, "stands twice"),
        ({"0": "background", "x": "a"}, "'a' in dataset.json has the value 'x'"),
        ({"1": "background", "2": "a"}, "no background"),
        ({"background": 0, "a": 1, "ignore": 2}, "'ignore' .* not supported"),
    ],
)
def test_labels_that_make_no_scheme(labels, message):
    with pytest.raises(UserError, match=message):
        label_scheme("classes", labels)


def test_an_unknown_name():
    with pytest.raises(UserError, match="Did you mean 'brats_regions'"):
        label_scheme("brats_region", HIPPOCAMPUS)
