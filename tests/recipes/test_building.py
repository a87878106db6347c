"""What a recipe says reaches the network, the data, the task and the phases."""

from dataclasses import replace

import pytest
import torch

from onceforall.data import load_data
from onceforall.data.assembly import DataOptions as ImageOptions
from onceforall.data.volume_loading import VolumeOptions
from onceforall.errors import UserError
from onceforall.recipes import (
    build_data,
    build_phases,
    build_supernet,
    building,
    make_recipe,
    reading_options,
    starting_weights,
)
from onceforall.recipes.building import stored_box
from onceforall.supernets.registry import create_supernet
from onceforall.training.checkpoint import save_network
from onceforall.training.plan import expected_work
from onceforall.training.rows import SMALL_ROWS

DIGITS = load_data()


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
            "phases.all.teacher.exit_weights=[1.0]",
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
    assert phases["depth"].teacher.batchnorm == "batch" and phases["depth"].teacher.exit_weights == (1.0,)
    assert all(phase.freeze.stem for phase in phases.values())
    assert phases["kernel"].subnets_per_step == 2 and phases["full"].subnets_per_step == 1


def test_what_a_network_is_not_given_is_as_its_name_says():
    recipe = make_recipe("digits-eps")
    space = build_supernet(recipe, build_data(recipe)).space
    assert space.heights == (1, 2, 3, 4, 5) and space.paths == (("main",),)
    recipe = make_recipe("digits-eps", ["network.heights=[3,5]", "network.paths=[4,7]"])
    space = build_supernet(recipe, build_data(recipe)).space
    assert space.heights == (3, 5) and space.paths == (("main",), ("main", "norm_act", "pointwise"))
    recipe = make_recipe("digits-prox", ["network.layout=published"])
    assert build_supernet(recipe, build_data(recipe)).space.stem is not None


def test_work_may_be_given_instead_of_epochs():
    """The expected multiply-adds are met to within an epoch of the dearest phase; both at once are refused."""

    def planned(*overrides):
        recipe = make_recipe("digits-prox", ["schedule.total_epochs=null", *overrides])
        data = build_data(recipe)
        supernet = build_supernet(recipe, data)
        phases = build_phases(recipe, supernet, data.count("train"))
        work = expected_work(supernet, phases, data.count("train"))
        return phases, sum(work), max(w / p.total_epochs for w, p in zip(work, phases, strict=True))

    own, present, _ = planned()
    assert sum(phase.total_epochs for phase in own) == 10 * len(own)
    for share in (0.3, 2.0):
        phases, work, most = planned(f"schedule.total_macs={share * present}")
        assert abs(work - share * present) < most
        assert [phase.name for phase in phases] == [phase.name for phase in own]
    for overrides, expected in (
        (["schedule.total_macs=1"], "enough for 0 epochs, and this schedule has 6 phases"),
        (["schedule.total_macs=-1"], "must be a positive number"),
        (["schedule.total_macs=1e12", "schedule.total_epochs=9"], "give total_macs or total_epochs"),
    ):
        with pytest.raises(UserError, match=expected):
            planned(*overrides)


def test_one_factor_of_a_recipe():
    """What ProX's Figs. 5 and 6 train: depth alone, for both methods."""
    for name, smallest in (("digits-prox", True), ("digits-ps", False)):
        recipe = make_recipe(name, ["schedule.only=depths", "schedule.fixed.kernel_sizes=5"])
        supernet = build_supernet(recipe, build_data(recipe))
        space = build_phases(recipe, supernet)[-1].space
        assert (space.depths, space.kernel_sizes) == (supernet.space.depths, (5,))
        for factor in ("expand_ratios", "resolutions"):
            assert getattr(space, factor) == (getattr(supernet.space, factor)[0 if smallest else -1],)
    for overrides, expected in (
        (["schedule.only=depth"], "Did you mean 'depths'"),
        (["schedule.only=depths", "schedule.fixed.kernel_size=5"], "Did you mean 'kernel_sizes'"),
        (["schedule.only=depths", "schedule.fixed=5"], "fixed 5: give one choice a factor"),
    ):
        recipe = make_recipe("digits-prox", overrides)
        with pytest.raises(UserError, match=expected):
            build_phases(recipe, supernet)


def test_volumes_are_kept_on_the_largest_grid_or_the_box_that_is_given():
    sizes = "network.resolutions=[[40,56,48],[48,48,40]]"
    assert stored_box(make_recipe("hippocampus-quick", [sizes])) == (48, 56, 48)
    assert stored_box(make_recipe("hippocampus-quick", ["network.resolutions=[16,24]"])) == (24, 24, 24)
    assert stored_box(make_recipe("hippocampus-quick", [sizes, "data.volumes.box=[64,64,64]"])) == (64, 64, 64)
    recipe = make_recipe("hippocampus-quick", [sizes, "data.volumes.box=[40,64,64]"], "heads")
    with pytest.raises(UserError, match=r"resolution \(48, 56, 48\) is larger than the box \(40, 64, 64\)"):
        build_data(recipe)


# -- weights to begin with ---------------------------------------------------------------------------------------------

SMALL = ["network.width_mult=0.25", "network.depths=[1,2]", "network.resolutions=[16]", "network.kernel_sizes=[3,5]"]


def saved_network(path, info=None, **options):
    given = {"width_mult": 0.25, "depths": (1,), "resolutions": (24, 32), "kernel_sizes": (3, 5), "in_channels": 1}
    network = create_supernet("ofa_mbv3", seed=5, num_classes=10, **(given | options)).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(0.02)  # or hardly anything would pass through an untrained network
    save_network(network, path, info or {})
    return network


def begun(path, *overrides):
    recipe = make_recipe("digits-ps", [*SMALL, f"network.weights={path}", *overrides])
    data = build_data(recipe)
    return starting_weights(recipe, build_supernet(recipe, data), data)


def test_training_begins_with_the_weights_of_a_file(tmp_path):
    """A network of fewer depths: those of its architectures compute the same."""
    old = saved_network(tmp_path / "old.safetensors")
    network = begun(tmp_path / "old.safetensors").eval()
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for architecture in (old.space.largest(), old.space.smallest()):
        expected = old(x, architecture)
        assert torch.equal(network(x, replace(architecture, resolution=16)), expected)
    assert (expected - old(x, old.space.largest())).abs().max() > 0.1 * expected.abs().max() > 1e-6


def test_other_classes_get_a_head_of_their_own(tmp_path):
    old = saved_network(tmp_path / "old.safetensors").state_dict()
    found = begun(tmp_path / "old.safetensors", "data.classes=4").state_dict()
    new = [name for name, tensor in old.items() if not torch.equal(found[name], tensor)]
    assert new == ["exits.5.classify.weight", "exits.5.classify.bias"]
    digits = [str(digit) for digit in range(10)]
    for classes, drawn in ((digits, []), (digits[::-1], ["exits.5.classify.weight"])):
        saved = saved_network(tmp_path / "old.safetensors", {"classes": classes}).state_dict()
        found = begun(tmp_path / "old.safetensors").state_dict()
        assert [name for name, tensor in saved.items() if not torch.equal(found[name], tensor)] == drawn


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"width_mult": 0.5}, "width_mult is 0.5 there and 0.25 here"),
        ({"in_channels": 3}, "in_channels is 3 there and 1 here"),
        ({"depths": (1, 2, 3)}, "depth"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, options, expected):
    saved_network(tmp_path / "old.safetensors", **options)
    with pytest.raises(UserError, match=expected):
        begun(tmp_path / "old.safetensors")
    with pytest.raises(UserError, match="no such file"):
        begun(tmp_path / "none.safetensors")


def test_the_options_of_reading_are_those_of_loading(monkeypatch):
    told = {}
    monkeypatch.setattr(building, "load_volumes", lambda path, progress, **options: told.update(options) or DIGITS)
    recipe = make_recipe("hippocampus-quick", ["network.poolings=2", "data.volumes.subjects=7"], "heads")
    build_data(recipe)
    assert VolumeOptions(**told) == reading_options(recipe)
    assert (told["stride"], told["subjects"], told["max_resolution"]) == (4, 7, (48, 64, 48))
    told.clear()
    monkeypatch.setattr(building, "load_data", lambda path, progress, **options: told.update(options) or DIGITS)
    recipe = make_recipe("images-ps", ["data.classes=3", "data.crop_ratio=null"], "photos")
    build_data(recipe)
    assert told.pop("crop_ratio") is None  # as the kind of images has it
    assert ImageOptions(**told) == reading_options(recipe) and told["classes"] == 3


def test_a_key_that_says_nothing_of_reading_is_refused():
    images, heads = make_recipe("images-ps", data="photos"), make_recipe("hippocampus-quick", data="heads")
    refused = ((images, "network.poolings"), (images, "data.augmentation.scale"), (heads, "run.seed"))
    for recipe, key in refused:
        with pytest.raises(UserError, match=f"--set {key} does not count for a check of data. Allowed: network.res"):
            reading_options(recipe, [f"{key}=3"])
    allowed = ["network.resolutions=[32]", "network.poolings=2", "data.volumes.box=[40,40,40]", "data.seed=1"]
    reading_options(make_recipe("hippocampus-quick", allowed, "heads"), allowed)


def test_what_is_to_be_known_of_the_splits_is_told_once(tmp_path, capsys, monkeypatch):
    data = build_data(make_recipe("digits-ps"))
    data.write_splits(tmp_path / "splits.csv")
    recipe = make_recipe("digits-ps", [f"data.split_csv={tmp_path / 'splits.csv'}"])
    assert build_data(recipe).fingerprint == data.fingerprint and capsys.readouterr().err == ""
    lines = (tmp_path / "splits.csv").read_text().splitlines()
    (tmp_path / "splits.csv").write_text("\n".join([*lines, f"gone.png,{data.classes[0]},test,00"]) + "\n")
    build_data(recipe)
    assert capsys.readouterr().err.startswith("1797 of the 1798 files in ")
    monkeypatch.setenv("RANK", "1")
    build_data(recipe)
    assert capsys.readouterr().err == ""
