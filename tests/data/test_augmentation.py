"""The value checks itself; what it does to pixels is tested in `test_batches.py`."""

import json

import pytest

from onceforall.data.augmentation import Augmentation
from onceforall.errors import UserError


def test_is_a_value_of_json_types():
    value = Augmentation(scale=(0.5, 1), rotation=10)
    assert Augmentation(**json.loads(json.dumps(value.to_dict()))) == value
    assert hash(Augmentation()) == hash(Augmentation()) and Augmentation() != value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": (0.0, 1.0)}, r"scale \(0.0, 1.0\) .* 0 < low"),
        ({"scale": (0.9, 0.8)}, "scale"),
        ({"scale": (0.9, 1.1)}, "<= 1"),
        ({"scale": (0.9,)}, "scale"),
        ({"ratio": (-1.0, 1.0)}, "ratio"),
        ({"brightness": 1.5}, "brightness 1.5 .* 0 to 1"),
        ({"brightness": float("nan")}, "brightness nan"),
        ({"saturation": -0.1}, "saturation -0.1"),
        ({"rotation": 181}, "rotation 181 .* 0 to 180"),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Augmentation(**values)
