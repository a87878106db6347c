"""Recipes by name, and mistakes in their overrides: each is one clear line."""

from pathlib import Path

import pytest

from onceforall.errors import UserError
from onceforall.recipes import (
    Recipe,
    build_data,
    build_phases,
    build_supernet,
    build_task,
    make_recipe,
    recipe_from_dict,
)
from volume_files import make_volumes

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
    ("network.depths=[1,2", "not YAML"),
    ("schedule.name=: x", "not YAML"),
    ("task.loss=dice", "task.loss='dice' does not count for images. Allowed: label_smoothing"),
    ("data.volumes.mode=patches", "does not count for images"),
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


VOLUME_MISTAKES = [
    (("network.resolutions=[44]",), "resolution 44: 3 poolings need a multiple of 8 on each axis, such as 40 or 48"),
    (("network.depths=[2]", "network.layout=published"), "the published layout has one convolution a section"),
    (("data.volumes.scheme=nonsense",), "scheme 'nonsense' is not one of: 'classes', 'brats_regions'"),
    (("task.distance=soft_targets",), "distance 'soft_targets' is not one of: 'mse', 'kl'"),
    (("data.volumes.mode=patch",), "Did you mean 'patches'"),
    (("data.volumes.fit=streched",), "Did you mean 'stretch'"),
    (("network.widths=[0.5,0.51]",), "two of them are the same number"),
    (("network.expand_ratios=[3]",), "has no option 'expand_ratios'"),
    (("data.volumes.spacing=[0,1,1]",), "three numbers above 0"),
    (("data.volumes.subjects=99",), "subjects 99 is out of range"),
    (("data.volumes.augmentation.shift=2",), "shift 2.0 must be a number of 0 to 1"),
    (("network.resolutions=[8]",), "(in a recipe network.resolutions) to ("),
    (
        ("data.skip_unreadable=true",),
        "data.skip_unreadable=True does not count for volumes. Allowed: validation_fraction",
    ),
    (("data.augmentation.rotation=30",), "data.augmentation="),
    (("task.class_weights=balanced",), "task.class_weights='balanced' does not count for volumes"),
    (("data.group_csv=none.csv", "data.group_column=patient"), "none.csv"),
]


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    return make_volumes(tmp_path_factory.mktemp("volumes") / "heads", 6)


@pytest.mark.parametrize(("overrides", "expected"), VOLUME_MISTAKES)
def test_a_mistake_about_volumes_is_one_clear_line(overrides, expected, heads, tmp_path, monkeypatch):
    monkeypatch.setenv("ONCEFORALL_CACHE", str(tmp_path))
    with pytest.raises(UserError) as raised:
        recipe = make_recipe("hippocampus-quick", ["network.width_mult=0.125", *overrides], heads)
        data = build_data(recipe)
        build_task(recipe, data)
        build_phases(recipe, build_supernet(recipe, data))
    assert expected in str(raised.value) and "\n" not in str(raised.value)


def test_unknown_recipe_and_missing_images():
    with pytest.raises(UserError, match="Did you mean 'digits-ps'"):
        make_recipe("digit-ps")
    with pytest.raises(UserError, match="--data PATH"):
        build_data(make_recipe("images-ps"))
    with pytest.raises(UserError, match="name"):
        recipe_from_dict({"network": {}})


def test_data_path_turns_the_digits_recipe_to_a_folder():
    recipe = make_recipe("digits-ps", data=Path("photos"))
    assert (
        isinstance(recipe, Recipe) and recipe.data.kind == "auto" and recipe.data.path == str(Path("photos").absolute())
    )
    assert make_recipe("digits-ps", data=Path("~/photos")).data.path == str(Path.home() / "photos")


def test_texts_stand_as_they_are_written():
    """A pattern or a name is no YAML: no list, comment or number in it."""
    for text in (r"[A-Z]+-(\d+)-", r"(\d+) #x", "*a", "2024_01", "007", "1e3", "a=b: c"):
        assert make_recipe("images-ps", [f"data.group_pattern={text}"]).data.group_pattern == text
        assert make_recipe("images-ps", [f"data.path={text}"]).data.path == text
    assert make_recipe("images-ps", ["data.group_pattern=null"]).data.group_pattern is None
    assert make_recipe("images-ps", ["task.loss=dice"]).task.loss == "dice"
