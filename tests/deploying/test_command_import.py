"""`onceforall import-mit` and `export-mit` as they are typed."""

import torch
from click.testing import CliRunner

from mit_files import random_state, shapes
from onceforall.cli import main
from onceforall.training.checkpoint import load_network


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_weights_become_a_run_and_a_file_and_come_back(photos, tmp_path):
    state = random_state(shapes(0.25, classes=5))
    torch.save({"state_dict": state}, tmp_path / "ofa_D34_E6_K357")
    words = ("import-mit", tmp_path / "ofa_D34_E6_K357", "--resolutions", "32")
    refused = invoke(*words, "--data", photos, "--out", tmp_path / "run")
    assert refused.exit_code == 2 and "has 5 classes" in refused.output and "--num-classes 3" in refused.output
    set_ = ("--set", "run.calibration_images=16")
    result = invoke(*words, "--data", photos, "--num-classes", 3, "--out", tmp_path / "run", *set_)
    assert result.exit_code == 0, result.output
    for expected in ("width 0.25", "9 test images of 3 classes, its last layer not trained", "depths: 3, 4"):
        assert expected in result.output
    evaluated = invoke("evaluate", tmp_path / "run", "-n", 0)
    assert evaluated.exit_code == 0, evaluated.output
    result = invoke("export-mit", tmp_path / "run")
    assert result.exit_code == 0 and "475 entries" in result.output
    back = torch.load(tmp_path / "run/mit.pth", weights_only=True)["state_dict"]
    assert back.keys() == state.keys()
    assert [name for name in state if back[name].shape != state[name].shape] == [
        "classifier.linear.weight",
        "classifier.linear.bias",
    ]
    result = invoke(*words, "--depths", "2,3,4", "--out", tmp_path / "mit.safetensors")
    assert result.exit_code == 0 and "depths: 2, 3, 4" in result.output
    assert load_network(tmp_path / "mit.safetensors").space.depths == (2, 3, 4)


def test_the_run_has_the_whole_name_of_the_file(photos, tmp_path, monkeypatch):
    """It would go there: something is there already."""
    monkeypatch.chdir(tmp_path)
    state = random_state(shapes(0.25, classes=3))
    for name, folder in (("ofa_D34_E6_w1.0", "ofa_D34_E6_w1.0"), ("v1.5.pth.tar", "v1.5")):
        torch.save({"state_dict": state}, name)
        (tmp_path / "runs" / folder / "other").mkdir(parents=True)
        result = invoke("import-mit", name, "--data", photos)
        assert result.exit_code == 2 and f"runs/{folder} is not empty" in result.output, result.output


def test_mistakes_end_in_one_line(photos, tmp_path):
    torch.save({"state_dict": random_state(shapes(0.25, classes=5))}, tmp_path / "weights")
    page = tmp_path / "page"
    page.write_text("<html>")
    for words, expected in (
        ((tmp_path / "weights", "--out", tmp_path / "x"), "ends in .safetensors"),
        ((tmp_path / "weights", "--set", "run.threads=1"), "--set goes with --data"),
        ((tmp_path / "weights", "--resolutions", "large"), "give numbers with commas"),
        ((tmp_path / "weights", "--depths", "2,3"), "is 4; end with it"),
        ((page,), "is a web page"),
        ((tmp_path / "none",), "there is no such file"),
    ):
        result = invoke("import-mit", *words)
        assert result.exit_code == 2 and expected in result.output and result.output.count("\n") == 1
    result = invoke("export-mit", tmp_path)
    assert result.exit_code == 2 and "holds no run" in result.output
