"""What runs that begin with another's weights share."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from onceforall.data import from_arrays
from onceforall.errors import UserError
from onceforall.recipes import DataOptions
from onceforall.recipes.continuing import check_same_inputs, origin_of, prepared_alike
from onceforall.recipes.values import VolumeFields


def test_the_origin_names_the_weights(tmp_path):
    weights = tmp_path / "checkpoints" / "1-only-best.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    expected = {"folder": str(tmp_path), "phase": "only", "weights": weights.name, "sha256": digest}
    assert origin_of(tmp_path, "only", weights) == expected


def test_images_are_prepared_as_before():
    prepared = {"channels": 3, "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0], "fit": "crop"}
    options = prepared_alike(DataOptions(path="x"), prepared)
    assert options == DataOptions(path="x", channels=3, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))


def test_volumes_keep_spacing_and_the_box_that_they_do_not_fill():
    given = DataOptions(kind="volumes", volumes=VolumeFields(box=(9, 9, 9)))
    prepared = {"box": [8, 8, 12], "spacing": [1.0, 1.0, 2.0], "fit": "pad"}
    kept = prepared_alike(given, prepared).volumes
    assert (kept.box, kept.spacing) == ((8, 8, 12), (1.0, 1.0, 2.0))
    assert prepared_alike(given, {**prepared, "fit": "stretch"}).volumes.box == (9, 9, 9)
    assert prepared_alike(replace(given), {**prepared, "spacing": None}).volumes.spacing is None


def test_other_files_are_not_the_same_inputs(tmp_path):
    def images(count):
        return from_arrays(np.zeros((count, 8, 8), np.uint8), np.arange(count) % 2, max_resolution=8)

    data = images(24)
    data.write_splits(tmp_path / "splits.csv")
    described = {"data": data.describe()}
    check_same_inputs(data, described, tmp_path)
    with pytest.raises(UserError, match="not those that it was trained on; .* --data"):
        check_same_inputs(images(26), described, tmp_path)
