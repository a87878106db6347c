"""The command line: help, exit codes, one-line errors, and the verbs that the README shows, on small data."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from onceforall.cli import main


def invoke(*words: str):
    return CliRunner().invoke(main, [str(word) for word in words])


def commands(group=main, prefix=()):
    for name, command in group.commands.items():
        yield (*prefix, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))


@pytest.mark.parametrize("words", sorted(commands()), ids=" ".join)
def test_every_command_has_help_with_an_example(words):
    result = invoke(*words, "--help")
    assert result.exit_code == 0
    if words != ("data",):
        assert "Example:" in result.output and f"onceforall {' '.join(words)}" in result.output


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv("ONCEFORALL_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (root / name).mkdir(parents=True)
        for i in range(24):
            Image.fromarray((rng.integers(0, 120, (20, 20)) + 120 * label).astype(np.uint8)).save(
                root / name / f"{i}.png"
            )
    return root


TINY = [
    word
    for text in (
        "network.width_mult=0.25",
        "network.resolutions=[16,24]",
        "network.depths=[1,2]",
        "network.kernel_sizes=[3,5]",
        "phases.all.batch_size=16",
        "run.random_validation=0",
    )
    for word in ("--set", text)
]


def test_from_images_to_a_verified_file(photos, tmp_path):
    run = tmp_path / "run"
    found = json.loads(invoke("data", "check", photos, "--json").output)
    assert found["classes"] == ["dark", "light"] and not found["unreadable"]
    assert [sum(per_class.values()) for per_class in found["counts"].values()] == [48]
    spoilt = ["--recipe", "images-ps", "--set", r"data.group_pattern=zzz(\d+)", "--set", "data.test_fraction=0"]
    refused = invoke("data", "check", photos, *spoilt)
    assert refused.exit_code == 2 and "does not match 48 of 48 files" in refused.output
    planned = json.loads(invoke("plan", "images-ps", "--data", photos, *TINY, "--json").output)
    assert [row["name"] for row in planned] == ["full", "kernel", "depth", "expand_1", "expand_2"]
    assert all(row["student_macs"] > 0 and row["seconds"] > 0 for row in planned)
    table = invoke("plan", "images-ps", "--data", photos, *TINY)
    assert "architectures" in table.output and "run.micro_batches=" in table.output
    options = ["--data", photos, "--out", run, "--set", "schedule.total_epochs=5", *TINY]
    result = invoke("train", "images-ps", *options)
    assert result.exit_code == 0, result.output
    again = invoke("train", "images-ps", *options)
    assert again.exit_code == 2 and "not empty" in again.output and again.output.count("\n") == 1
    resumed = invoke("train", "images-ps", *options, "--resume")
    assert resumed.exit_code == 0
    changed = invoke("train", "images-ps", *options, "--set", "phases.kernel.learning_rate=0.5", "--resume")
    assert changed.exit_code == 2 and "learning_rate" in changed.output and "0.5 now" in changed.output
    assert invoke("evaluate", run, "--split", "validation", "-n", 2).exit_code == 0
    rows = json.loads(invoke("evaluate", run, "-n", "2", "--json").output)["rows"]
    assert [row["name"] for row in rows] == ["largest", "smallest", "random_1", "random_2"]
    check_grids(run)
    exported = invoke("export", run, "best", "--max-macs", "5M")
    assert exported.exit_code == 0, exported.output
    assert "differs from PyTorch by at most" in exported.output and "accuracy on validation data" in exported.output
    bundle = run / "bundle-onnx-fp32"
    assert (bundle / "model.onnx").is_file() and (bundle / "front.png").is_file()
    assert "files are as they were written" in invoke("inspect", bundle).output
    predicted = invoke("predict", bundle, photos, "--out", tmp_path / "answers")
    assert predicted.exit_code == 0 and "predicted 48 of 48" in predicted.output, predicted.output
    assert invoke("report", run).exit_code == 0 and (run / "report.html").is_file()


def check_grids(run):
    """The grids of all phases in tables, again from what was kept, and mistakes in asking for them."""
    result = invoke("evaluate", run, "--grid", "--phase", "all", "--resolutions", "24", "--limit", "3")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    lines = lines[next(i for i, line in enumerate(lines) if line[0] == "phase") :]
    assert lines[0][:5] == ["phase", "networks", "combinations", "mean", "best"]
    assert [line[:2] for line in lines[1:4]] == [["full", "1"], ["kernel", "2"], ["depth", "3"]]
    assert lines[3][:4] == ["depth", "3", "of", "4"] and lines[4][:5] == ["expand_1", "3", "of", "8", "8"]
    assert "->" in lines[1] and len(list((run / "results" / "grids").iterdir())) == 5
    again = invoke("evaluate", run, "--grid", "--resolutions", "24", "--limit", "3")
    assert "expand_2: 6 of 6 results are there from before; nothing is left to measure." in again.output
    [grid] = json.loads(invoke("evaluate", run, "--grid", "--resolutions", "24", "--limit", "3", "--json").output)
    assert (grid["phase"], grid["drawn"], grid["combinations"]) == ("expand_2", 3, 12)
    for words, expected in (
        (("--grid", "--phase", "exapnd_2"), "Did you mean 'expand_2'"),
        (("--grid", "--resolutions", "20,24"), "resolutions 20: not among the present choices 16, 24"),
        (("--grid", "--resolutions", "small"), "--resolutions 'small': give whole numbers"),
        (("--grid", "--limit", "0"), "limit 0: must be a whole number of at least 2"),
        (("--grid", "--latency"), "--latency goes with -n"),
        (("--limit", "5"), "go with --grid"),
        (("--phase", "all"), "go with --grid"),
    ):
        wrong = invoke("evaluate", run, *words)
        assert wrong.exit_code == 2 and expected in wrong.output and wrong.output.count("\n") == 1, wrong.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("trian",), "Did you mean 'train'"),
        (("train", "images-sp"), "Did you mean 'images-ps'"),
        (("train", "images-ps"), "--data PATH"),
        (("train", "images-ps", "--data", "nowhere"), "does not exist"),
        (("train", "digits-ps", "--set", "network.widthmult=1"), "width_mult"),
        (("train", "digits-ps", "--rseume"), "--resume"),
        (("evaluate", "nowhere"), "holds no run"),
        (("export", "nowhere"), "holds no run"),
        (("export", "nowhere", "--format", "opnvino"), "Did you mean 'openvino'"),
        (("export", "nowhere", "--precision", "int4"), "'int4' is not one of"),
        (("inspect", "nowhere"), "nowhere does not exist: give the folder of a bundle"),
        (("report", "nowhere"), "nowhere"),
        (("data", "check", "nowhere"), "does not exist"),
        (("recipes", "digits"), "Did you mean 'digits-ps'"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*words)
    assert result.exit_code == 2
    assert expected in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir()), "a mistake left something behind"


def test_resume_without_a_run(tmp_path):
    result = invoke("train", "digits-ps", "--out", tmp_path / "none", "--resume")
    assert result.exit_code == 2 and "no run to resume" in result.output


def test_recipes_are_listed_and_shown():
    listed = invoke("recipes").output
    assert "digits-ps" in listed and "imagenet-ps" in listed
    shown = invoke("recipes", "digits-ps").output
    assert "Command:" in shown and '"width_mult": 0.5' in shown


def test_ctrl_c_is_one_line(monkeypatch):
    from onceforall import data

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "check_data", interrupted)
    result = invoke("data", "check", ".")
    assert result.exit_code == 130 and result.output == "error: interrupted; what was saved is kept.\n"
