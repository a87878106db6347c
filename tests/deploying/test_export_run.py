"""A run on digits: what a bundle made of it says, and its picture."""

from pathlib import Path

import pytest

from onceforall.bundles import damaged_files, read_bundle
from onceforall.deploying.export_run import bundle_folder, export_run, front_picture
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import evaluate
from onceforall.exporting import ExportOptions
from onceforall.recipes import build_data, build_supernet, build_task, make_recipe
from onceforall.runs import Run, evaluate_run

SMALL = (
    "network.width_mult=0.25",
    "network.resolutions=[16]",
    "network.depths=[1]",
    "network.kernel_sizes=[3]",
    "run.calibration_images=64",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A run as it would be opened, of a network that was never trained: what it is worth does not matter here."""
    recipe = make_recipe("digits-ps", SMALL)
    data = build_data(recipe)
    supernet, folder = build_supernet(recipe, data), tmp_path_factory.mktemp("run")
    described = {"phases": [{"name": "full"}]}
    return Run(folder, recipe, data, build_task(recipe, data), supernet, "full", True, described)


def test_a_bundle_says_where_its_numbers_come_from(run):
    architecture = run.supernet.space.smallest()
    assert front_picture(run, architecture) is None, "nothing was measured"
    space = run.supernet.space
    evaluate_run(run, {"largest": space.largest(), "smallest": architecture}, split="validation")
    folder = bundle_folder(run.folder, ExportOptions())
    report = export_run(run, architecture, folder)
    assert report.path == folder == run.folder / "bundle-onnx-fp32"
    about = read_bundle(folder)
    assert damaged_files(folder, about) == []
    assert about["facts"]["recipe"] == "digits-ps" and about["facts"]["phase"] == "full"
    assert about["facts"]["batch_norm"] == {"inputs": 64, "rule": "reference"}
    [expected] = evaluate(run.supernet, [architecture], run.task, run.data, split="validation", calibration_images=64)
    metrics = about["metrics"]
    assert metrics["before"] == metrics["after"] == pytest.approx(expected.metrics["accuracy"])
    assert (metrics["data"], metrics["split"]) == ("digits", "validation")
    assert metrics["inputs"] == run.data.count("validation")
    assert report.images == min(64, run.data.count("test"))
    assert (folder / "front.png").read_bytes().startswith(b"\x89PNG")
    for path in folder.iterdir():
        data = path.read_bytes()
        assert str(run.folder).encode() not in data and str(Path.home()).encode() + b"/" not in data, path.name


def test_inputs_of_which_nothing_would_learn_are_refused(run, tmp_path):
    with pytest.raises(UserError, match="int8_inputs 5 goes with int8; in fp32"):
        export_run(run, run.supernet.space.smallest(), tmp_path / "net", int8_inputs=5)
    assert not list(tmp_path.iterdir())


def test_other_folders_are_not_touched(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="exists and is no bundle"):
        export_run(run, run.supernet.space.smallest(), tmp_path / "mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.txt"]
