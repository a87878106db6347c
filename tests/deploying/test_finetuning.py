"""A sub-network is fine-tuned: what it begins with, what it learns from, and the run that it becomes."""

import csv
import json

import pytest
import torch

from onceforall.deploying.finetuning import compare_fine_tuning, fine_tune, on_all_data, plan_fine_tuning
from onceforall.deploying.packaging import package_run
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import evaluate
from onceforall.families import unpack
from onceforall.growing.grown_runs import plan_growth
from onceforall.recipes import build_phases, make_recipe
from onceforall.report import write_report
from onceforall.runs import chosen_architectures, evaluate_run, open_run, train_run
from onceforall.training.checkpoint import load_network, read_info
from onceforall.training.records import Records
from small_photos import write_photos
from volume_files import make_volumes
from volume_runs import train_volumes

TINY = ("network.width_mult=0.25", "network.resolutions=[16]", "network.depths=[1,2]", "network.kernel_sizes=[3,5]")
TINY += ("network.expand_ratios=[3]", "phases.all.batch_size=16", "run.calibration_images=16", "run.threads=1")
TINY += ("run.random_validation=0", "schedule.total_epochs=1", "schedule.subnets_per_step=1", "data.crop_ratio=1")
STILL = ("schedule.learning_rate=1e-30", "schedule.epochs=1")


@pytest.fixture(scope="module")
def parent(photos, tmp_path_factory):
    """A short run on images of three classes."""
    folder = tmp_path_factory.mktemp("runs") / "parent"
    train_run(make_recipe("images-sandwich", (*TINY, "schedule.warmup_epochs=0"), photos), folder)
    return folder


@pytest.fixture(scope="module")
def tuned(parent, tmp_path_factory):
    """Its smallest sub-network, tuned for two epochs with the largest as teacher, and the plan of it."""
    folder = tmp_path_factory.mktemp("runs") / "tuned"
    plan = plan_fine_tuning(parent, "smallest", ("schedule.epochs=2",), distill=True)
    fine_tune(plan, folder)
    return plan, folder


def splits(folder):
    with (folder / "splits.csv").open() as file:
        return {row["file"]: row["split"] for row in csv.DictReader(file)}


def test_it_begins_with_the_sub_network_of_the_run(parent, tmp_path):
    plan = plan_fine_tuning(parent, "smallest", STILL)
    run = open_run(parent)
    expected = run.supernet.subnet(run.supernet.space.smallest()).state_dict()
    found = plan.network().state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    trained = dict(fine_tune(plan, tmp_path / "still").named_parameters())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained.items())
    result = compare_fine_tuning(plan, tmp_path / "still")
    assert result["before"] == result["after"]
    [direct] = evaluate(run.supernet, [plan.architecture], run.task, run.data, calibration_images=16)
    assert result["before"]["test"]["accuracy"] == direct.metrics["accuracy"]
    scratch = plan_fine_tuning(parent, "smallest", STILL, from_scratch=True)
    assert any(not torch.equal(tensor, expected[name]) for name, tensor in scratch.network().state_dict().items())


def test_the_new_run_is_as_any_other_and_names_its_parent(parent, tuned):
    plan, folder = tuned
    described = json.loads((folder / "run.json").read_text())
    assert described["settings"]["parent"]["folder"] == str(parent)
    assert described["settings"]["parent"]["architecture"] == plan.architecture.to_dict()
    [phase] = described["phases"]
    teacher = parent / "checkpoints/1-sandwich-best.safetensors"
    assert (phase["name"], phase["epochs"], phase["batch_size"]) == ("tune", 2, 16)
    assert (phase["teacher"]["source"], phase["sampler"]) == (str(teacher), "largest")
    assert splits(folder) == splits(parent)
    run = open_run(folder)
    assert run.finished and run.supernet.space.single() == plan.architecture
    result = compare_fine_tuning(plan, folder)
    rows = evaluate_run(run, chosen_architectures(run.supernet.space, random_ones=0, seed=0))["rows"]
    assert rows[0]["accuracy"] == result["after"]["test"]["accuracy"]
    assert json.loads((folder / "results/fine_tuning.json").read_text()) == result
    assert write_report(folder).is_file()


def test_it_resumes_to_the_same_weights(parent, tuned, tmp_path, monkeypatch):
    class Kill(BaseException):
        pass

    own, calls = Records.advance, []

    def advance(*arguments):
        own(*arguments)
        calls.append(1)
        if len(calls) == 3:
            raise Kill

    plan = plan_fine_tuning(parent, "smallest", ("schedule.epochs=2", "run.checkpoint_every=1"), distill=True)
    with monkeypatch.context() as patch:
        patch.setattr(Records, "advance", advance)
        with pytest.raises(Kill):
            fine_tune(plan, tmp_path / "run")
    fine_tune(plan, tmp_path / "run", resume=True)
    name = "checkpoints/1-tune-last.safetensors"
    found, expected = load_network(tmp_path / "run" / name), load_network(tuned[1] / name)
    assert all(map(torch.equal, found.state_dict().values(), expected.state_dict().values()))


def test_other_images_get_a_head_of_their_own(parent, other_photos, tmp_path):
    plan = plan_fine_tuning(parent, "largest", ("schedule.frozen_epochs=1", *STILL), other_photos)
    assert plan.head_is_new and plan.data.classes == ("day", "night") and plan.data.channels == 1
    assert [phase.name for phase in plan.phases] == ["head", "tune"]
    before = load_network(parent / "checkpoints/1-sandwich-best.safetensors")
    before = before.subnet(plan.architecture).state_dict()
    new = [name for name, tensor in plan.network().state_dict().items() if not torch.equal(tensor, before[name])]
    assert new == ["exits.5.classify.weight", "exits.5.classify.bias"]
    fine_tune(plan, tmp_path / "run")
    result = compare_fine_tuning(plan, tmp_path / "run")
    assert result["before"] is None and set(result["after"]) == {"validation", "test"}
    assert open_run(tmp_path / "run").finished
    assert plan.data.preparation.mean == open_run(parent).data.preparation.mean


def test_grey_images_are_repeated_for_a_network_of_three_channels(photos, other_photos, tmp_path):
    more = ("schedule.warmup_epochs=0", "data.channels=3", "schedule.learning_rate=1e-3")
    train_run(make_recipe("images-sandwich", (*TINY, *more), photos), tmp_path / "colour")
    plan = plan_fine_tuning(tmp_path / "colour", "smallest", (), other_photos)
    [(images, _), *_] = plan.data.batches("test", 16, 2)
    mean, std = (torch.tensor(getattr(plan.data.preparation, name)).view(1, 3, 1, 1) for name in ("mean", "std"))
    pixels = images * std + mean
    assert images.shape[1:] == (3, 16, 16) and torch.allclose(pixels[:, :1].expand(-1, 3, -1, -1), pixels, atol=1e-5)


def test_the_best_number_of_epochs_on_all_data(tuned, tmp_path):
    plan, folder = tuned
    second = on_all_data(plan, folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs = max(lines, key=lambda line: (line["mean"], -line["epoch"]))["epoch"]
    assert [phase.epochs for phase in second.phases] == [epochs]
    fine_tune(second, tmp_path / "all")
    before, after = splits(folder), splits(tmp_path / "all")
    moved = {file for file in before if before[file] != after[file]}
    assert {(before[file], after[file]) for file in moved} == {("validation", "train")}
    left = sorted(file.split("/")[0] for file, split in after.items() if split == "validation")
    assert left == ["dark", "grey", "light"]
    lines = [json.loads(line) for line in (tmp_path / "all/metrics.jsonl").read_text().splitlines()]
    assert ["validation" in line for line in lines] == [False] * (epochs - 1) + [True]
    best, last = (load_network(tmp_path / f"all/checkpoints/1-tune-{which}.safetensors") for which in ("best", "last"))
    assert all(map(torch.equal, best.state_dict().values(), last.state_dict().values()))
    assert set(compare_fine_tuning(second, tmp_path / "all")["inputs"]) == {"validation", "test"}


@pytest.mark.parametrize(
    "changes",
    [
        ("schedule.total_epochs=10",),
        ("schedule.total_macs=1e12",),
        ("phases.all.epochs=10",),
        ("phases.tune.epochs=8", "phases.tune.warmup_epochs=2"),
        ("schedule.frozen_epochs=4", "schedule.total_epochs=12"),
    ],
)
def test_the_best_number_of_epochs_counts_however_epochs_were_given(parent, tuned, changes):
    best = int(read_info(tuned[1] / "checkpoints/1-tune-best.safetensors")["epoch"])
    plan = plan_fine_tuning(parent, "smallest", changes)
    second = on_all_data(plan, tuned[1])
    *before, last = [phase.total_epochs for phase in second.phases]
    assert last == best < plan.phases[-1].total_epochs
    assert before == [phase.total_epochs for phase in plan.phases[:-1]]
    assert all(phase.validate_every >= phase.total_epochs for phase in second.phases)
    assert second.phases[-1].learning_rate == plan.phases[-1].learning_rate
    assert build_phases(second.recipe, second.network(), second.data.count("train")) == second.phases


def test_a_unet_is_fine_tuned(tmp_path):
    heads = make_volumes(tmp_path / "heads", 8)
    parent = train_volumes(heads, tmp_path / "parent", "schedule.total_epochs=2", "schedule.only=depths")
    plan = plan_fine_tuning(parent, "smallest", ("schedule.epochs=1", "schedule.frozen_epochs=1"), distill=True)
    fine_tune(plan, tmp_path / "tuned")
    result = compare_fine_tuning(plan, tmp_path / "tuned")
    assert result["metric"] == "dice" and result["before"] is not None and 0 <= result["after"]["test"]["dice"] <= 1
    second = on_all_data(plan, tmp_path / "tuned")
    assert second.data.count("validation") == 1
    assert second.data.count("train") >= plan.data.count("train")
    with pytest.raises(UserError, match="holds images, and .* was trained on volumes"):
        plan_fine_tuning(parent, "smallest", (), write_photos(tmp_path / "photos", ("a", "b"), 2))


def test_a_family_is_fine_tuned_on_data_that_are_given(parent, photos, tmp_path):
    package_run(parent, tmp_path / "family.zip")
    family = unpack(tmp_path / "family.zip", tmp_path / "family")
    with pytest.raises(UserError, match=r"has no splits.csv: .* give some by --data"):
        plan_fine_tuning(family, "smallest", STILL)
    plan = plan_fine_tuning(family, "smallest", STILL, photos)
    fine_tune(plan, tmp_path / "tuned")
    assert splits(tmp_path / "tuned") == splits(parent)  # by the same names, fractions and seed
    with pytest.raises(UserError, match="family is a family without .* grow the run itself"):
        plan_growth(family, ("depths=1,2,3",))


def test_what_cannot_be_fine_tuned_is_said_in_one_line(parent, photos, other_photos, tmp_path):
    volumes = make_volumes(tmp_path / "heads", 2)
    outside = json.loads(open_run(parent).supernet.space.largest().to_json())
    outside["stages"][0]["blocks"][0]["kernel_size"] = 7
    for architecture, options, expected in (
        (json.dumps(outside), {}, "kernel_size"),
        ("middle", {}, "give 'largest', 'smallest', 'best', JSON"),
        ("smallest", {"data": volumes}, "holds volumes, and .* was trained on images"),
        ("smallest", {"data": tmp_path / "none"}, "none: there is no such folder"),
        ("smallest", {"num_classes": 5}, "--num-classes 5: the images have 3"),
        ("smallest", {"data": other_photos, "num_classes": 3}, "--num-classes 3: the images have 2"),
        ("smallest", {"data": other_photos, "distill": True}, "knows other classes"),
        ("smallest", {"changes": ("network.width_mult=1",)}, "the network that is fine-tuned is that of the run"),
        ("smallest", {"changes": ("schedule.epoch=1",)}, "Did you mean 'epochs'"),
        ("smallest", {"changes": ("schedule.epochs=0",)}, "epochs 0"),
    ):
        with pytest.raises(UserError, match=expected) as error:
            plan_fine_tuning(parent, architecture, **options)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="is the run that the network comes from"):
        fine_tune(plan_fine_tuning(parent, "smallest"), parent)
    with pytest.raises(UserError, match="holds no run"):
        plan_fine_tuning(tmp_path, "smallest")
