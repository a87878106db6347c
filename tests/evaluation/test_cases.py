"""Cases on the grids of their files: against the fast evaluation where grids agree, and by hand where they do not."""

import csv
import math

import nibabel
import numpy as np
import pytest
import torch

from onceforall.data.volume_augmentation import NO_VOLUME_AUGMENTATION
from onceforall.data.volume_loading import load_volumes
from onceforall.evaluation.cases import case_rows, case_table, evaluate_cases, overlay_cases, worst_cases
from onceforall.evaluation.evaluate import calibrated_subnet, evaluate
from onceforall.evaluation.segmentation import segmentation
from onceforall.evaluation.tasks import classification
from onceforall.supernets.registry import create_supernet
from tiny_runs import striped
from volume_files import make_volumes, save_nifti

BOX = (12, 12, 12)
HOW = {"calibration_images": 2, "calibration_rule": "reference", "seed": 0, "exit_weights": None}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_volumes(tmp_path_factory.mktemp("volumes") / "heads", 8)


@pytest.fixture
def load(root, tmp_path, monkeypatch):
    """Loads the volumes into a cache of the test's own."""
    monkeypatch.setenv("ONCEFORALL_CACHE", str(tmp_path / "cache"))

    def loaded(folder=root, **options):
        given = {"max_resolution": BOX, "test_fraction": 0.5, "augmentation": NO_VOLUME_AUGMENTATION}
        return load_volumes(folder, **(given | options))

    return loaded


def network(resolutions=(BOX,)):
    """An untrained network that answers with all classes."""
    sizes = {"width_mult": 0.25, "poolings": 1, "kernel_sizes": (3,), "widths": (1.0,), "depths": (1,)}
    supernet = create_supernet("prox_unet3d", seed=1, num_classes=3, in_channels=1, resolutions=resolutions, **sizes)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.mul_(1.5).add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return supernet


@pytest.mark.parametrize("mode", ["whole", "patches"])
@pytest.mark.parametrize("resolution", [BOX, (8, 8, 8)])
def test_where_the_grids_agree_so_do_the_scores(load, resolution, mode):
    supernet, data = network((resolution,)), load(mode=mode, max_resolution=resolution if mode == "patches" else BOX)
    task, architecture = segmentation(data.scheme), supernet.space.largest()
    [fast] = evaluate(supernet, [architecture], task, data, calibration_images=2)
    rows = case_rows(calibrated_subnet(supernet, architecture, data, images=2), task, data, "test")
    assert fast.correct is not None and np.std(fast.correct) > 0 and fast.metrics["dice"] > 0
    np.testing.assert_allclose([row["dice"] for row in rows], fast.correct, atol=1e-9)
    assert np.mean([row["dice_back"] for row in rows]) == pytest.approx(fast.metrics["dice_back"])
    assert [row["file"] for row in rows] == data.files("test") and [row["subject"] for row in rows] == data.groups(
        "test"
    )


def test_a_turned_file_with_large_voxels_is_measured_in_its_own_millimetres(load, root, tmp_path):
    turned = make_volumes(tmp_path / "turned", 8)
    affine = np.array([[0, -2.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 1]])  # axes to the front and left
    for path in turned.glob("*Tr/*.nii.gz"):
        volume = np.asarray(nibabel.load(path).dataobj)
        save_nifti(path, volume[::-1].transpose(1, 0, 2).copy(), affine)
    supernet = network()
    found = []
    for folder in (root, turned):
        data = load(folder)
        net = calibrated_subnet(supernet, supernet.space.largest(), data, images=2)
        found.append(case_rows(net, segmentation(data.scheme), data, "test"))
    for one, other in zip(*found, strict=True):
        assert other["dice"] == pytest.approx(one["dice"], abs=1e-6)
        assert other["truth_ml_front"] == pytest.approx(8 * one["truth_ml_front"])
        if one["found_front"] == "yes":
            assert other["hd95_mm_front"] == pytest.approx(2 * one["hd95_mm_front"])


def test_files_and_summary_of_the_named_networks(load, tmp_path):
    supernet, data = network((BOX, (8, 8, 8))), load()
    task, results = segmentation(data.scheme), tmp_path / "results"
    results.mkdir()
    (results / "test-best-cases.csv").write_text("of an earlier evaluation")
    named = {"largest": supernet.space.largest(), "smallest": supernet.space.smallest()}
    chosen = named | {"random_1": supernet.space.largest()}
    found = evaluate_cases(supernet, chosen, task, data, results, split="test", **HOW)
    assert list(found) == ["largest", "smallest"]
    assert sorted(path.name for path in results.iterdir()) == [
        f"test-{name}-cases.{end}" for name in ("largest", "smallest") for end in ("csv", "png")
    ]
    for name, summary in found.items():
        with (results / summary["table"]).open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert summary["cases"] == len(rows) == data.count("test")
        assert summary["dice"]["mean"] == pytest.approx(np.mean([float(row["dice"]) for row in rows]), abs=1e-5)
        lowest = min(rows, key=lambda row: float(row["dice"]))
        assert summary["worst"][0]["file"] == lowest["file"] and summary["picture"] == f"test-{name}-cases.png"
        assert worst_cases(summary).startswith(lowest["subject"])
    head, rows = case_table(found)
    assert [row[:2] for row in rows] == [[n, o] for n in named for o in ("mean", "front", "back")]
    assert all(len(row) == len(head) for row in rows) and rows[0][2] == f"{found['largest']['dice']['mean']:.4f}"
    raw = evaluate_cases(supernet, named, task, data, results, split="test", **(HOW | {"calibration_images": 0}))
    assert raw["largest"]["dice"] != found["largest"]["dice"], "without calibration the numbers are others"


def test_images_have_no_cases(tmp_path):
    supernet = network()
    named = {"largest": supernet.space.largest()}
    assert evaluate_cases(supernet, named, classification(), striped(12), tmp_path, split="test", **HOW) == {}


def test_the_picture_shows_the_volume_as_it_is_stored(load, root):
    supernet, data = network(((8, 8, 8),)), load(fit="stretch", spacing=(1.0, 1.0, 1.0))
    net = calibrated_subnet(supernet, supernet.space.largest(), data, images=2)
    task = segmentation(data.scheme)
    dice = [0.4, 0.9, 0.1, 0.5][: data.count("test")]
    cases = overlay_cases(net, task, data, "test", dice)
    files = data.files("test")
    assert [(case.title, case.dice) for case in cases] == [("best", 0.9), ("median", 0.4), ("worst", 0.1)]
    assert [f"imagesTr/{case.name}.nii.gz" for case in cases] == [files[1], files[0], files[2]]
    for case in cases:
        assert case.image.shape == case.truth.shape == case.prediction.shape[1:] == BOX
        assert case.spacing[2] == pytest.approx(11 / 12), "eleven voxels of 1 mm were stretched to twelve"
    padded = overlay_cases(net, task, load(), "test", dice)[0]
    assert padded.image.shape[1:] == (10, 11) and list(padded.spacing) == [1, 1, 1]
    assert set(np.unique(padded.truth)) == {0, 1, 2}, "padding is not shown"
    [alone] = overlay_cases(net, task, data, "test", [math.nan, 0.5])
    assert alone.title == "best, median, worst"
    assert overlay_cases(net, task, data, "test", [math.nan] * 4) == []
