import json

import pytest

from onceforall.data.volume_augmentation import NO_VOLUME_AUGMENTATION, VolumeAugmentation
from onceforall.errors import UserError


def test_json_there_and_back():
    value = VolumeAugmentation(flip=(0.5, 0, 0), rotate90=True, noise=0)
    assert VolumeAugmentation.from_dict(json.loads(json.dumps(value.to_dict()))) == value
    assert VolumeAugmentation.from_dict({"rotation": 3}) == VolumeAugmentation(rotation=3.0)


def test_what_is_switched_on():
    assert not NO_VOLUME_AUGMENTATION.moves and not NO_VOLUME_AUGMENTATION.changes_intensity
    assert VolumeAugmentation().moves and VolumeAugmentation().changes_intensity
    assert VolumeAugmentation().flip == (0.0, 0.0, 0.0) and not VolumeAugmentation().rotate90


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flip": (0.5, 0.5)}, "three probabilities"),
        ({"flip": (0.5, 0.5, 1.5)}, "three probabilities"),
        ({"rotate90": 1}, "true or false"),
        ({"rotation": -1.0}, "rotation -1.0 must be a number of 0 to 180"),
        ({"scale": 1.0}, "0 to 0.9"),
        ({"noise": float("nan")}, "noise"),
        ({"gama": 1.0}, "Did you mean 'gamma'"),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises(UserError, match=message):
        VolumeAugmentation.from_dict(values)
