"""Recipes parse, run, and say what is wrong with an override."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onceforall.errors import UserError
from onceforall.recipes import (
    RECIPES,
    Recipe,
    build_data,
    build_phases,
    build_supernet,
    build_task,
    make_recipe,
    recipe_from_dict,
)
from onceforall.training.loop import train
from onceforall.training.rows import SMALL_ROWS


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


# The overrides that make a recipe small: the recipe's own values are checked by building its phases.
TINY = ("network.resolutions=[24]", "network.width_mult=0.25", "phases.all.batch_size=16")
OWN = {
    "imagenet-ps": ("run.micro_batches=2", "run.precision=fp32", "data.image_size=24", "data.validation_fraction=0.2"),
    "tiny-imagenet-eps": ("data.kind=folder",),
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_two_steps(name, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("ONCEFORALL_CACHE", str(tmp_path / "cache"))
    data_path = None if name.startswith("digits") else photos
    recipe = make_recipe(name, [*TINY, *OWN.get(name, ())], data_path)
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


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name):
    recipe = make_recipe(name)
    assert recipe_from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_overrides_reach_every_part():
    recipe = make_recipe(
        "digits-ps",
        [
            "network.width_mult=0.25",
            "network.depths=[1,2]",
            "data.augmentation.scale=[0.5,1.0]",
            "task.temperature=2",
            "run.max_minutes=3",
            "schedule.subnets_per_step=2",
            "phases.kernel.learning_rate=3e-3",
            "phases.kernel.teacher.batchnorm=calibrated",
            "phases.all.freeze.stem=true",
        ],
    )
    assert recipe.network.width_mult == 0.25 and recipe.network.depths == (1, 2)
    assert recipe.data.augmentation.scale == (0.5, 1.0)
    assert recipe.task.temperature == 2.0 and recipe.run.max_minutes == 3.0
    data = build_data(recipe)
    phases = {phase.name: phase for phase in build_phases(recipe, build_supernet(recipe, data))}
    assert phases["kernel"].learning_rate == 0.003
    assert phases["depth"].learning_rate == SMALL_ROWS["depth_last"].learning_rate
    assert phases["kernel"].teacher.batchnorm == "calibrated" and phases["kernel"].teacher.source == "first"
    assert phases["depth"].teacher.batchnorm == "batch"
    assert all(phase.freeze.stem for phase in phases.values())
    assert phases["kernel"].subnets_per_step == 2 and phases["full"].subnets_per_step == 1


MISTAKES = [
    ("network.widthmult=1", "width_mult"),
    ("nettwork.width_mult=1", "network"),
    ("network.width_mult=abc", "Float"),
    ("network.depths=abc", "network.depths"),
    ("network.kernel_sizes=[3,4]", "kernel_size 4"),
    ("network.name=ofa_mbv4", "Did you mean 'ofa_mbv3'"),
    ("network.kernel_rule=transfrom", "Did you mean 'transform'"),
    ("network.resolutions=[8]", "resolution 8"),
    ("network.width_mult=0", "width_mult"),
    ("data.fit=crp", "crop"),
    ("data.validation_fraction=2", "validation_fraction"),
    ("task.label_smoothing=2", "label_smoothing"),
    ("task.distance=mes", "Did you mean 'mse'"),
    ("task.temperature=0", "temperature"),
    ("run.precision=fp8", "'fp32'"),
    ("run.micro_batches=0", "micro_batches"),
    ("run.balance=class", "'classes'"),
    ("schedule.name=sandwhich", "Did you mean 'sandwich'"),
    ("schedule.totalepochs=3", "Did you mean 'total_epochs'"),
    ("schedule.total_epochs=2", "needs one epoch for each"),
    ("schedule.total_epochs=a", "whole number"),
    ("schedule.rows=papr", "Did you mean 'paper'"),
    ("phases.kernal.epochs=1", "Did you mean 'kernel'"),
    ("phases.kernel.epoch=1", "Did you mean 'epochs'"),
    ("phases.kernel.epochs=abc", "whole number"),
    ("phases.kernel.learning_rate=-1", "positive"),
    ("phases.kernel.learning_rate=abc", "number"),
    ("phases.kernel.optimizer=sdg", "Did you mean 'sgd'"),
    ("phases.kernel.sampler=sandwitch", "Did you mean 'sandwich'"),
    ("phases.kernel.teacher.batchnrm=batch", "Did you mean 'batchnorm'"),
    ("phases.kernel=3", "give a field"),
    ("phases=3", "phases"),
    ("foo", "key=value"),
    ("network.name=${oc.env:HOME}", "not allowed"),
]


@pytest.mark.parametrize(("override", "expected"), MISTAKES)
def test_a_mistake_is_one_clear_line(override, expected):
    with pytest.raises(UserError) as raised:
        recipe = make_recipe("digits-ps", [override])
        data = build_data(recipe)
        build_task(recipe, data)
        build_phases(recipe, build_supernet(recipe, data))
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_unknown_recipe_and_missing_images():
    with pytest.raises(UserError, match="Did you mean 'digits-ps'"):
        make_recipe("digit-ps")
    with pytest.raises(UserError, match="--data PATH"):
        build_data(make_recipe("images-ps"))
    with pytest.raises(UserError, match="name"):
        recipe_from_dict({"network": {}})


def test_data_path_turns_the_digits_recipe_to_a_folder():
    recipe = make_recipe("digits-ps", data=Path("photos"))
    assert isinstance(recipe, Recipe) and recipe.data.kind == "auto" and recipe.data.path == "photos"
