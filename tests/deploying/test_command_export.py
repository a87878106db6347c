"""`onceforall export` as it is typed; what is exported is tested in tests/exporting and with whole runs in test_cli."""

import json

import pytest
from click.testing import CliRunner

from onceforall.cli import main
from onceforall.deploying.command_export import tell_export
from onceforall.exporting import ExportReport
from onceforall.exporting.verifying import Difference
from tiny_runs import one_phase, run, two_stages


def invoke(*words):
    return CliRunner().invoke(main, ["export", *(str(word) for word in words)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory made in Python; a recipe is written into it whose data are not there."""
    from onceforall.recipes import make_recipe

    folder = tmp_path_factory.mktemp("runs") / "run"
    supernet = two_stages()
    recipe = make_recipe("images-ps", (), str(folder.parent / "gone"))
    settings = {"recipe": recipe.to_dict()}
    run(folder, [one_phase(supernet.space)], supernet=supernet, settings=settings)
    return folder


def test_data_that_are_gone_are_asked_for(trained):
    result = invoke(trained, "largest")
    assert result.exit_code == 2 and "gone" in result.output
    assert "the accuracy of the file would be unknown. Say by --data where they are." in result.output
    assert result.output.count("\n") == 1 and not list(trained.glob("bundle*"))


def test_other_data_than_those_of_the_run_are_not_asked_for_again(trained, tmp_path):
    result = invoke(trained, "largest", "--data", tmp_path / "none")
    assert result.exit_code == 2 and "none' does not exist" in result.output
    assert "Say by --data" not in result.output


def test_a_run_that_was_never_trained_is_refused(trained, tmp_path):
    described = json.loads((trained / "run.json").read_text())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps(described))
    result = invoke(tmp_path / "run", "largest")
    assert result.exit_code == 2 and "has no trained weights yet" in result.output
    assert "unknown" not in result.output


def test_the_phase_is_chosen(trained):
    result = invoke(trained, "largest", "--phase", "onl")
    assert result.exit_code == 2 and "phase 'onl' is not one of: 'only'. Did you mean 'only'?" in result.output
    assert "gone" in invoke(trained, "largest", "--phase", "only").output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format", "tflite"), "format 'tflite' is not one of: 'onnx', 'openvino', 'torch'"),
        (("--format", "torch", "--precision", "int8"), "precision of torch 'int8' is not one of: 'fp32'"),
        (("--keep-fp32", "stem*"), "keep_fp32 goes with int8"),
        (("--int8-inputs", "5"), "int8_inputs 5 goes with int8; in fp32 no ranges are learned"),
        (("--int8-inputs", "5", "--precision", "fp16"), "int8_inputs 5 goes with int8"),
        (("--batch", "2"), "'2' is not one of"),
        (("--max-loss", "-1"), "must be 0 or more"),
    ],
)
def test_mistakes_are_found_before_anything_is_read(words, message):
    result = invoke("nowhere", "largest", *words)
    assert result.exit_code == 2 and message in result.output


def test_what_is_said_of_an_export(tmp_path, capsys):
    rows = {"exported": {"median_ms": 5.6, "processor_ms": 1.234, "to_pytorch": 0.25, "noisy": True}}
    report = ExportReport(
        path=tmp_path / "bundle",
        bytes=2_500_000,
        difference=Difference(0.002, 20.0, 0.99, 1.0),
        images=64,
        opset=20,
        nodes={"Conv": 3},
        leftovers={},
        metric="accuracy",
        split="validation",
        before=0.95,
        after=0.94,
        kept_fp32=("stem.conv",),
        latency=rows,
        objection="it is worse.",
    )
    tell_export(report)
    text = capsys.readouterr().out
    for words in (
        "(2.50 MB, 3 nodes, opset 20): differs from PyTorch by at most 0.002 where outputs reach 20",
        "99.00% equal answers",
        "accuracy on validation data: 0.9400, in PyTorch 0.9500",
        "layers kept in float32: stem.conv",
        "1.23 ms, 0.25 of PyTorch's (noisy)",
        "kept although it is worse.",
    ):
        assert words in text, text
