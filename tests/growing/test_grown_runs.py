"""Finished runs that grow: what was there stays, what is new learns, and the new run is as any other."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onceforall.data import VolumePreparation
from onceforall.deploying.export_run import export_run
from onceforall.errors import UserError
from onceforall.growing.grown_runs import _grown_recipe, grow_run, plan_growth
from onceforall.recipes import make_recipe
from onceforall.report import write_report
from onceforall.runs import chosen_architectures, evaluate_run, open_run, train_run
from onceforall.training.checkpoint import load_network
from onceforall.training.records import Records

TINY = (
    "network.width_mult=0.25",
    "network.resolutions=[16]",
    "network.depths=[1]",
    "network.kernel_sizes=[3]",
    "network.expand_ratios=[3]",
    "phases.all.batch_size=128",
    "run.calibration_images=64",
    "run.random_validation=0",
    "run.validation_images=64",
)
LARGER = ("depths=1,2", "kernel_sizes=[3,5]", "resolutions=16,24", "schedule.epochs_per_phase=1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short run by progressive expansion of the smallest of networks."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    train_run(make_recipe("digits-prox", (*TINY, "schedule.total_epochs=2")), folder)
    return folder


@pytest.fixture(scope="module")
def grown(finished):
    """The run grown in depth, kernel and resolution."""
    folder = finished.with_name("grown")
    grow_run(plan_growth(finished, LARGER), folder)
    return folder


def splits(folder):
    with (folder / "splits.csv").open() as file:
        return {row["file"]: row["split"] for row in csv.DictReader(file)}


def test_the_new_run_opens_only_what_is_new_and_names_its_parent(finished, grown):
    described = json.loads((grown / "run.json").read_text())
    phases = described["phases"]
    assert [phase["name"] for phase in phases] == ["depth", "kernel", "resolution"]
    assert [phase["epochs"] for phase in phases] == [1, 1, 1] and {phase["batch_size"] for phase in phases} == {128}
    weights = finished / "checkpoints" / "1-smallest-best.safetensors"
    assert [phase["teacher"]["source"] for phase in phases] == [str(weights), "previous_phase", "previous_phase"]
    assert {phase["teacher"]["batchnorm"] for phase in phases} == {"calibrated"}
    parent = described["settings"]["parent"]
    assert (parent["folder"], parent["phase"], parent["weights"]) == (str(finished), "smallest", weights.name)
    assert len(parent["sha256"]) == 64
    assert splits(grown) == splits(finished)
    before, after = (json.loads((folder / "run.json").read_text())["data"] for folder in (finished, grown))
    assert before["preparation"]["mean"] == after["preparation"]["mean"] and before["counts"] == after["counts"]


def test_what_was_there_is_the_same_before_it_is_trained(finished):
    plan = plan_growth(finished, LARGER)
    old, space = plan.supernet, plan.phases[-1].space
    assert plan.opened == {"depths": ((1,), (1, 2)), "kernel_sizes": ((3,), (3, 5)), "resolutions": ((16,), (16, 24))}
    larger = old.grow(plan.phases[0].space, plan.recipe.run.seed).grow(space)
    x = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = old(x, old.space.largest())
        assert torch.equal(larger.eval()(x, old.space.largest()), expected)
        torch.testing.assert_close(larger(x, space.uniform(resolution=16)), expected, rtol=1e-4, atol=1e-5)


def test_it_begins_where_the_finished_run_ended(finished, tmp_path):
    """With a rate of next to nothing the old architectures score as before."""
    still = ("depths=1,2", "schedule.epochs_per_phase=1", "schedule.learning_rate=1e-30")
    trained = grow_run(plan_growth(finished, still), tmp_path / "still")
    old = open_run(finished).supernet
    for name, parameter in old.named_parameters():
        assert torch.equal(dict(trained.named_parameters())[name], parameter), name
    before, after = (evaluate_run(open_run(f), {"old": old.space.largest()}) for f in (finished, tmp_path / "still"))
    assert before["rows"][0]["accuracy"] == after["rows"][0]["accuracy"]


def test_it_is_evaluated_reported_and_exported_as_any_run(grown):
    run = open_run(grown)
    assert run.finished and run.phase == "resolution" and run.supernet.space.depths == (1, 2)
    results = evaluate_run(run, chosen_architectures(run.supernet.space, random_ones=1, seed=0))
    assert [row["name"] for row in results["rows"]] == ["largest", "smallest", "random_1"]
    assert write_report(grown).is_file()
    assert export_run(run, run.supernet.space.smallest(), grown / "bundle").difference.agreement > 0.98


def test_it_resumes_to_the_same_weights(finished, grown, tmp_path, monkeypatch):
    class Kill(BaseException):
        pass

    own, calls = Records.advance, []

    def advance(*arguments):
        own(*arguments)
        calls.append(1)
        if len(calls) == 13:
            raise Kill

    plan = plan_growth(finished, (*LARGER, "run.checkpoint_every=3"))
    with monkeypatch.context() as patch:
        patch.setattr(Records, "advance", advance)
        with pytest.raises(Kill):
            grow_run(plan, tmp_path / "run")
    grow_run(plan_growth(finished, LARGER), tmp_path / "run", resume=True)
    found, expected = (load_network(f / "checkpoints/3-resolution-last.safetensors") for f in (tmp_path / "run", grown))
    assert all(map(torch.equal, found.state_dict().values(), expected.state_dict().values()))


def test_it_grows_again_without_its_parent(finished, grown, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(grown, alone)
    described = json.loads((alone / "run.json").read_text())
    described["settings"]["recipe"]["data"]["split_csv"] = "gone/splits.csv"
    (alone / "run.json").write_text(json.dumps(described))
    plan = plan_growth(alone, ("depths=1,2,3", "expand_ratios=3,4"))
    assert [phase.name for phase in plan.phases] == ["depth", "expand"]
    assert {phase.epochs for phase in plan.phases} == {1}  # as many as the phases before
    trained = grow_run(plan, tmp_path / "twice")
    assert trained.space.depths == (1, 2, 3) and open_run(tmp_path / "twice").finished
    assert splits(tmp_path / "twice") == splits(finished)


@pytest.mark.parametrize(
    "left_out",
    [
        ("phases.all.stop_rule.action=skip", "phases.all.stop_rule.min_gain=1"),  # nothing gains so much
        ("schedule.only=depths", "phases.all.stop_rule.action=continue", "network.depths=[1,2]"),
    ],
)
def test_what_the_run_left_out_stays_out_until_it_is_asked_for(tmp_path, left_out):
    """A rolled-back kernel size, and factors beside the one that was trained."""
    folder = tmp_path / "run"
    train_run(make_recipe("digits-prox", (*TINY, "network.kernel_sizes=[3,5]", *left_out)), folder)
    space = open_run(folder).supernet.space
    assert space.kernel_sizes == (3,)
    for changes, phases in ((("depths=1,2,3",), "depth"), (("kernel_sizes=3,5",), "kernel")):
        plan = plan_growth(folder, changes)
        assert {phase.name.partition("_")[0] for phase in plan.phases} == {phases}
        assert list(plan.opened) == [changes[0].partition("=")[0]]
    with pytest.raises(UserError, match="nothing to grow"):
        plan_growth(folder, ("schedule.epochs_per_phase=3",))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (("depths=2,3",), "depths 2, 3: extending keeps every present choice, and 1 is missing"),
        ((), "nothing to grow"),
        (("depths=1",), "nothing to grow"),
        (("kernel_sizes=3,4",), "kernel_size 4 of a block: must be a positive odd whole number"),
        (("depth=1,2",), "depth"),
        (("depths=1,two",), "wrong type in network.depths=[1,two]"),
        (("network.width_mult=0.5",), "network.width_mult 0.5: a network that grows keeps 0.25"),
        (("depths=1,2", "schedule.name=sandwich"), "sandwich"),
        (("depths=1,2", "schedule.start_teacher=x"), "no argument 'start_teacher'"),
        (("resolutions=8,16",), "resolution 8: too small"),
    ],
)
def test_what_cannot_grow_is_said_in_one_line(finished, changes, expected):
    with pytest.raises(UserError) as error:
        plan_growth(finished, changes)
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_a_run_grows_into_a_folder_of_its_own(finished):
    with pytest.raises(UserError, match="is the run that grows"):
        grow_run(plan_growth(finished, ("depths=1,2",)), finished)


def test_a_run_that_has_not_ended_does_not_grow(finished, tmp_path):
    train_run(make_recipe("digits-prox", (*TINY, "network.depths=[1,2]", "schedule.total_epochs=2")), tmp_path / "r")
    (tmp_path / "r/checkpoints/2-depth-last.safetensors").unlink()
    with pytest.raises(UserError, match="not been trained to the end"):
        plan_growth(tmp_path / "r", ("depths=1,2,3",))
    with pytest.raises(UserError, match="holds no run"):
        plan_growth(tmp_path, ("depths=1,2,3",))


def write_photos(folder, names, first, count):
    rng = np.random.default_rng(first)
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(first, first + count):
            pixels = (rng.integers(0, 120, (20, 20)) + 120 * (label % 2)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def test_what_was_for_the_old_run_alone_is_not_taken_over():
    recipe = make_recipe("hippocampus-quick", ("data.volumes.subjects=60", "run.max_minutes=10"), "heads")
    phase = {"batch_size": 2, "validate_every": 1, "epochs": 3, "warmup_epochs": 0}
    preparation = VolumePreparation(1, box=(48, 64, 48)).to_dict()
    described = {"phases": [phase], "data": {"preparation": preparation}}
    for data, subjects in ((None, 60), ("more", None)):
        grown = _grown_recipe(recipe, described, Path("run"), (), data)
        assert (grown.data.volumes.subjects, grown.run.max_minutes) == (subjects, None)


def test_new_images_are_for_training_and_old_ones_keep_their_split(tmp_path, monkeypatch):
    monkeypatch.setenv("ONCEFORALL_CACHE", str(tmp_path / "cache"))
    photos = tmp_path / "photos"
    write_photos(photos, ("dark", "light"), 0, 20)
    recipe = make_recipe("images-ps", (*TINY, "network.depths=[1,2]", "schedule.total_epochs=2"), photos)
    train_run(recipe, tmp_path / "run")
    before = splits(tmp_path / "run")
    write_photos(photos, ("dark", "light"), 20, 20)
    changes = ("depths=1,2,3", "schedule.epochs_per_phase=1")
    with pytest.raises(UserError, match="are not those that it was trained on; .* --data"):
        plan_growth(tmp_path / "run", changes)
    plan = plan_growth(tmp_path / "run", changes, photos)
    assert plan.data.count("train") == list(before.values()).count("train") + 40
    grow_run(plan, tmp_path / "grown")
    after = splits(tmp_path / "grown")
    assert {file: after[file] for file in before} == before
    assert {split for file, split in after.items() if file not in before} == {"train"}
    assert open_run(tmp_path / "grown").finished
    write_photos(photos, ("green",), 0, 20)
    with pytest.raises(UserError, match="the images have the classes dark, green, light; .* knows dark, light"):
        plan_growth(tmp_path / "run", changes, photos)
