"""MIT's weights as a run that is evaluated, exported and trained on as any other, and a run as their file."""

import json

import pytest
import torch

from mit_files import published, random_state, shapes
from onceforall.deploying.mit_runs import export_mit, import_network, import_run
from onceforall.errors import UserError
from onceforall.recipes import make_recipe
from onceforall.report import write_report
from onceforall.runs import chosen_architectures, evaluate_run, find_architecture, open_run, train_run
from onceforall.training.checkpoint import load_network, save_network

STATE = random_state(shapes(0.25, classes=3))
TINY = ("run.calibration_images=16", "run.threads=1")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("mit") / "ofa_D2_E346_K357"
    torch.save({"state_dict": published(STATE)}, path)
    return path.rename(path.with_name("supernet.pth"))


@pytest.fixture(scope="module")
def imported(weights, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mit"
    import_run(import_network(weights, resolutions=(32,)), weights, folder, photos, TINY)
    return folder


def test_an_imported_run_is_evaluated_and_reported(imported):
    run = open_run(imported)
    assert run.finished and run.phase == "imported" and run.data.channels == 3
    assert run.data.preparation.mean == (0.485, 0.456, 0.406)
    assert run.described["phases"][0]["epochs"] == 0
    assert all(
        torch.equal(t, load_network(imported / "checkpoints/1-imported-best.safetensors").state_dict()[name])
        for name, t in run.supernet.state_dict().items()
    )
    results = evaluate_run(run, chosen_architectures(run.supernet.space, random_ones=1, seed=0), split="validation")
    assert [row["name"] for row in results["rows"]] == ["largest", "smallest", "random_1"]
    assert find_architecture(run, "best") in run.supernet.space
    assert "Imported" in write_report(imported).read_text()


def test_it_becomes_their_file_again(imported, tmp_path):
    assert export_mit(imported, tmp_path / "back.pth", published=True) == len(STATE)
    back = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    expected = published(STATE)
    assert back.keys() == expected.keys() and all(torch.equal(back[name], expected[name]) for name in back)


def test_training_on_own_images_begins_with_the_weights(weights, other_photos, tmp_path):
    network = import_network(weights, resolutions=(128,))
    save_network(network, tmp_path / "mit.safetensors", {})
    tiny = ["network.width_mult=0.25", "network.resolutions=[32]", "data.channels=3", "data.crop_ratio=1", *TINY]
    tiny += [f"network.weights={tmp_path / 'mit.safetensors'}", "schedule.total_epochs=1", "run.random_validation=0"]
    tiny += ["phases.all.learning_rate=1e-30", "schedule.subnets_per_step=1", "schedule.warmup_epochs=0"]
    train_run(make_recipe("images-sandwich", tiny, other_photos), tmp_path / "run")
    trained = dict(open_run(tmp_path / "run").supernet.named_parameters())
    before = dict(network.named_parameters())
    assert [name for name in before if not torch.equal(trained[name], before[name])] == [
        "exits.5.classify.weight",
        "exits.5.classify.bias",
    ]


def test_a_specialised_model_is_a_folder(weights, tmp_path):
    net = import_network(weights, resolutions=(48,))
    save = {"state_dict": random_state(shapes(0.25, 3, [[(3, 4)] * 2] * 5))}
    torch.save(save, tmp_path / "init")
    (tmp_path / "run.config").write_text(json.dumps({"image_size": 48}))
    found = import_network(tmp_path)
    assert found.space.single() == net.space.uniform(kernel_size=3, expand_ratio=4, depth=2, resolution=48)
    assert import_network(tmp_path, num_classes=9).options["num_classes"] == 9
    (tmp_path / "net.config").write_text(json.dumps({"name": "ResNets", "blocks": []}))
    with pytest.raises(UserError, match="it is a ResNets"):
        import_network(tmp_path)


def test_what_cannot_become_a_run(weights, photos, other_photos, tmp_path):
    network = import_network(weights, resolutions=(32,))
    cases = [
        (other_photos, TINY, "has 3 classes and the images in .* have 2; --num-classes 2 draws"),
        (photos, (*TINY, "data.channels=1", "data.mean=null", "data.std=null"), "have 1 channels"),
        (photos, ("network.width_mult=1",), "the weights decide the network"),
        (photos, ("run.treads=1",), "Did you mean 'run.threads'"),
        (tmp_path / "none", (), "none"),
    ]
    for data, overrides, expected in cases:
        with pytest.raises(UserError, match=expected):
            import_run(network, weights, tmp_path / "run", data, overrides)
        assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/file").touch()
    with pytest.raises(UserError, match="is not empty"):
        import_run(network, weights, tmp_path / "run", photos)
