"""Recipes parse, run, and say what is wrong with an override."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from onceforall.recipes import (
    RECIPES,
    build_data,
    build_phases,
    build_supernet,
    build_task,
    make_recipe,
)
from onceforall.training.loop import train
from volume_files import make_volumes


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of 24 noisy 20-pixel images that differ in brightness."""
    root = tmp_path_factory.mktemp("images") / "photos"
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (root / name).mkdir(parents=True)
        for i in range(24):
            pixels = rng.integers(0, 120, (20, 20, 3)) + 120 * label
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{name}-{i}.png")
    return root


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Ten labelled volumes of 9 to 11 voxels a side."""
    return make_volumes(tmp_path_factory.mktemp("volumes") / "heads", 10)


# The overrides that make a recipe small: the recipe's own values are checked by building its phases.
TINY = ("network.resolutions=[24]", "network.width_mult=0.25", "phases.all.batch_size=16")
TINY_VOLUMES = ("network.resolutions=[12]", "network.poolings=1", "network.width_mult=0.25", "run.micro_batches=1")
OWN = {
    "imagenet-ps": ("run.micro_batches=2", "run.precision=fp32", "data.image_size=24", "data.validation_fraction=0.2"),
    "tiny-imagenet-eps": ("data.kind=folder",),
    **dict.fromkeys(("oct-prox-mr", "oct-prox-ir", "oct-ps"), ("data.kind=folder", "run.micro_batches=2")),
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_two_steps(name, photos, heads, tmp_path, monkeypatch):
    monkeypatch.setenv("ONCEFORALL_CACHE", str(tmp_path / "cache"))
    volumes = make_recipe(name).data.kind == "volumes"
    data_path = None if name.startswith("digits") else heads if volumes else photos
    recipe = make_recipe(name, TINY_VOLUMES if volumes else [*TINY, *OWN.get(name, ())], data_path)
    data = build_data(recipe)
    supernet = build_supernet(recipe, data)
    phases = build_phases(recipe, supernet)
    batch = max(2, data.count("train") // 2)
    first = replace(phases[0], epochs=1, warmup_epochs=0, batch_size=batch)
    before = supernet.subnet(supernet.space.largest()).state_dict()
    trained = train(supernet, [first], build_task(recipe, data), data, run_dir=tmp_path / "run", options=recipe.run)
    ledger = json.loads((tmp_path / "run/ledger.json").read_text())
    assert [entry["steps"] for entry in ledger] == [2]
    after = trained.subnet(trained.space.largest()).state_dict()
    assert any(not np.array_equal(after[key].numpy(), before[key].numpy()) for key in before)
