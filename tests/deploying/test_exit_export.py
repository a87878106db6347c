"""Early exits of a run become a bundle that prediction runs, and that says what it is worth."""

import sys

import numpy as np
import pytest

from exit_runs import exit_run
from onceforall.bundles import open_bundle, read_bundle
from onceforall.deploying import exit_export
from onceforall.deploying.exit_curve import measure_exits, with_all_exits
from onceforall.deploying.exit_export import export_exits
from onceforall.errors import UserError
from onceforall.predict.predictor import Predictor
from onceforall.runs import open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return open_run(exit_run(tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture(scope="module")
def measured(run):
    return measure_exits(run, with_all_exits(run, run.supernet.space.largest()))


@pytest.fixture(scope="module")
def exported(run, measured, tmp_path_factory):
    """The most accurate policy for three quarters of the whole network's multiply-adds."""
    folder = tmp_path_factory.mktemp("out") / "bundle"
    limit = 0.75 * measured.costs.whole()
    return export_exits(run, measured.architecture, folder, max_macs=limit, measured=measured)


def test_the_bundle_answers_as_the_network_does(run, measured, exported):
    policy = exported.point.policy
    assert len(policy.exits) > 1 and exported.point.validation.macs <= 0.75 * measured.costs.whole()
    assert exported.accuracy == pytest.approx(exported.point.test.accuracy, abs=0.002)
    predictor = Predictor(exported.path)
    [(images, labels)] = list(run.data.batches("test", 16, 10_000))
    probabilities, parts = predictor.classify(images.numpy())
    assert (probabilities.argmax(1) == labels.numpy()).mean() == pytest.approx(exported.accuracy)
    shares = np.bincount(parts, minlength=len(policy.exits)) / len(parts)
    np.testing.assert_allclose(shares, exported.point.test.shares, atol=0.002)


def test_it_says_what_it_is(exported):
    about = read_bundle(exported.path)
    policy = exported.point.policy
    assert about["parts"] == [f"model-{number}.onnx" for number in range(1, len(policy.exits) + 1)]
    assert about["thresholds"] == pytest.approx(policy.thresholds)
    assert about["facts"]["early_exits"]["exits"] == list(policy.exits)
    assert about["metrics"]["split"] == "test" and about["metrics"]["after"] == exported.accuracy
    assert {"whole", "exported", "pytorch"} <= set(about["latency"])
    assert "weights.safetensors" in about["files"] and "an answer is final" in (exported.path / "README.md").read_text()
    assert len(open_bundle(exported.path).parts) == len(policy.exits)


def test_one_exit_that_does_it_alone_is_named(run, measured, tmp_path):
    with pytest.raises(UserError, match=r"exit 1 alone does it.*onceforall export .* '\{\"resolution\":16"):
        export_exits(run, measured.architecture, tmp_path / "b", min_accuracy=0.001, measured=measured)
    with pytest.raises(UserError, match="is not reached on validation"):
        export_exits(run, measured.architecture, tmp_path / "b", min_accuracy=0.999, measured=measured)
    assert not list(tmp_path.iterdir())


def test_the_command_for_one_exit_names_an_older_phase(run, measured, tmp_path, monkeypatch):
    monkeypatch.setattr(exit_export, "phase_option", lambda _: ["--phase", "kernel"])
    with pytest.raises(UserError, match=r"onceforall export .*\}' --phase kernel$"):
        export_exits(run, measured.architecture, tmp_path / "b", min_accuracy=0.001, measured=measured)


def test_a_missing_package_is_told_before_anything_is_measured(run, measured, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr(exit_export, "measure_exits", None)
    with pytest.raises(UserError, match="needs the package onnxscript"):
        export_exits(run, measured.architecture, tmp_path / "b")


def test_a_folder_that_holds_something_else_is_left_alone(run, measured, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is no bundle"):
        export_exits(run, measured.architecture, tmp_path, max_macs=1e9, measured=measured)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_parts_that_compute_something_else_are_set_aside(run, measured, tmp_path, monkeypatch):
    monkeypatch.setattr(exit_export, "TOLERANCE", -1.0)
    limit = 0.75 * measured.costs.whole()
    with pytest.raises(UserError, match=r"do not compute what PyTorch computes.*kept as .*b\.rejected"):
        export_exits(run, measured.architecture, tmp_path / "b", max_macs=limit, measured=measured)
    assert [path.name for path in tmp_path.iterdir()] == ["b.rejected"]
    assert not read_bundle(tmp_path / "b.rejected")["accepted"]
