"""A run opened again: the same data, the right weights, and clear words where that cannot be."""

import json
import operator
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from onceforall.architecture import Architecture
from onceforall.cli import main
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import calibrated_subnet
from onceforall.runs import (
    chosen_architectures,
    evaluate_grid,
    evaluate_run,
    find_architecture,
    open_run,
    phase_runs,
)
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet

SMALL = (
    "network.width_mult=0.25",
    "network.resolutions=[16,24]",
    "schedule.total_epochs=5",
    "phases.all.batch_size=128",
    "run.calibration_images=64",
    "run.random_validation=0",
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    """A short but complete run on the digits."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    options = [word for text in SMALL for word in ("--set", text)]
    result = CliRunner().invoke(main, ["train", "digits-ps", "--out", str(folder), *options])
    assert result.exit_code == 0, result.output
    return folder


def test_it_opens_with_the_last_phase(run_dir):
    run = open_run(run_dir)
    assert run.phase == "expand_2" and run.finished
    assert run.data.num_classes == 10 and run.recipe.network.width_mult == 0.25
    assert run.supernet.space.resolutions == (16, 24)


def test_what_is_evaluated_is_distinct_and_repeatable():
    space = SearchSpace.build(2, resolutions=(16, 24), depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(2, 4))
    random.seed(5)
    before = random.getstate()
    first = chosen_architectures(space, random_ones=6, seed=3)
    assert random.getstate() == before
    assert list(first)[:2] == ["largest", "smallest"] and len(set(first.values())) == 8
    assert first == chosen_architectures(space, random_ones=6, seed=3)
    assert first != chosen_architectures(space, random_ones=6, seed=4)
    one = SearchSpace.only(space.largest())
    assert set(chosen_architectures(one, random_ones=5, seed=0).values()) == {space.largest()}


def test_evaluating_writes_tables_and_calibration_matters(run_dir):
    run = open_run(run_dir)
    chosen = chosen_architectures(run.supernet.space, random_ones=1, seed=0)
    with_it = evaluate_run(run, chosen, split="validation")
    rows = {row["name"]: row for row in with_it["rows"]}
    assert rows["largest"]["macs"] > rows["smallest"]["macs"]
    without = evaluate_run(run, {"largest": chosen["largest"]}, split="test", calibration_images=0)
    assert rows["largest"]["log_loss"] < without["rows"][0]["log_loss"]
    assert (run_dir / "results/validation.csv").is_file() and (run_dir / "results/validation-predictions.csv").is_file()


def test_a_second_evaluation_measures_only_what_is_missing(run_dir, monkeypatch):
    run = open_run(run_dir)
    space = run.supernet.space
    some = chosen_architectures(space, random_ones=2, seed=9)
    calls = []
    first = evaluate_run(run, some, progress=lambda *numbers: calls.append(numbers))
    assert calls[-1] == (4, 4) and [done for done, _ in calls] == sorted(done for done, _ in calls)
    measured = extractions(monkeypatch)
    more = chosen_architectures(space, random_ones=4, seed=9)
    calls.clear()
    second = evaluate_run(open_run(run_dir), more, progress=lambda *numbers: calls.append(numbers))
    assert calls[0] == (2, 6), "the random ones are there; the largest and the smallest leave predictions again"
    assert len(measured) == 4
    old = {row["name"]: row for row in first["rows"]}
    assert all(row == old.get(row["name"], row) for row in second["rows"])
    assert [row["name"] for row in second["rows"]] == list(more)
    measured.clear()
    evaluate_run(run, {"random_1": some["random_1"]}, calibration_images=32)
    evaluate_run(open_run(run_dir, phase="kernel"), {"random_1": some["random_1"]})
    assert len(measured) == 2, "other settings and other weights are measured"


def extractions(monkeypatch):
    """The list of architectures that are extracted from now on."""
    out, take = [], Supernet.subnet
    monkeypatch.setattr(
        Supernet, "subnet", lambda net, architecture: out.append(architecture) or take(net, architecture)
    )
    return out


# -- the grid of a phase ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def early(tmp_path_factory) -> Path:
    """A short run with early exits."""
    folder = tmp_path_factory.mktemp("runs") / "early"
    small = [*SMALL[:2], "network.kernel_sizes=[3,5]", "network.depths=[1,2]", "network.expand_ratios=[3,6]"]
    small += ["schedule.total_epochs=8", *SMALL[3:], "run.extreme_validation=2"]
    options = [word for text in small for word in ("--set", text)]
    result = CliRunner().invoke(main, ["train", "digits-eps", "--out", str(folder), *options])
    assert result.exit_code == 0, result.output
    return folder


def answers(run, architecture, split, weights=None):
    """Probabilities of one network by itself: extracted, calibrated, exits summed by hand."""
    net = calibrated_subnet(run.supernet, architecture, run.data, images=64)
    images = torch.cat([images for images, _ in run.data.batches(split, architecture.resolution, 1000)])
    with torch.no_grad():
        outputs = net(images)
    outputs = outputs if isinstance(outputs, torch.Tensor) else sum(map(operator.mul, outputs, weights))
    return outputs.softmax(1).numpy()


def test_the_grid_of_a_phase(early):
    run = open_run(early, phase="height_2")
    grid = evaluate_grid(run)
    assert grid == json.loads((early / "results/grids/height_2.json").read_text())
    assert (grid["phase"], grid["index"], grid["metric"]) == ("height_2", 3, "accuracy") and grid["higher_is_better"]
    assert grid["images"] == {split: run.data.count(split) for split in ("validation", "test")}
    assert grid["combinations"] == grid["distinct"] == len(grid["rows"]) == 2 * 2 * 3 and grid["drawn"] is None
    assert {(row["height"], row["kernel_size"], row["depth"]) for row in grid["rows"]} == {
        (height, kernel, 2) for height in (3, 4, 5) for kernel in (3, 5)
    }
    scores = {}
    for row in grid["rows"]:
        architecture = Architecture.from_dict(row["architecture"])
        assert row["digest"] == architecture.digest() and row["macs"] == run.supernet.measure(architecture).macs
        for split in ("validation", "test"):
            right = answers(run, architecture, split).argmax(1) == run.data.labels(split)
            assert row[split]["accuracy"] == pytest.approx(right.mean(), abs=1e-12)
            scores[row["digest"], split] = right
    summary = grid["summary"]
    chosen = summary["chosen"]
    assert chosen["validation"] == max(row["validation"]["accuracy"] for row in grid["rows"])
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(chosen["correct"]), np.uint8), count=run.data.count("test"))
    np.testing.assert_array_equal(bits.astype(bool), scores[chosen["digest"], "test"])
    assert summary["test"]["mean"] == pytest.approx(np.mean([row["test"]["accuracy"] for row in grid["rows"]]))
    assert list(summary["by_height"]) == ["3", "4", "5"] and list(summary["by_level"]) == ["4"]
    assert grid["exits"] == []


def test_of_the_largest_network_the_ensemble_counts(early):
    run = open_run(early, phase="full")
    weights = [number / 15 for number in (5, 4, 3, 2, 1)]  # OFAv2, section III.B, as in AEP: the first exit most
    assert run.described["phases"][0]["exit_output_weights"] == pytest.approx(weights)
    grid = evaluate_grid(run)
    assert [row["resolution"] for row in grid["rows"]] == [16, 24] and grid["combinations"] == 2
    truth = run.data.labels("test")
    for row in grid["rows"]:
        architecture = Architecture.from_dict(row["architecture"])
        assert architecture.exits == (1, 2, 3, 4, 5)
        right = answers(run, architecture, "test", weights).argmax(1) == truth
        assert row["test"]["accuracy"] == pytest.approx(right.mean(), abs=1e-12)
        log_loss = -np.log(answers(run, architecture, "test", weights)[np.arange(len(truth)), truth].clip(1e-7)).mean()
        assert row["test"]["log_loss"] == pytest.approx(log_loss, abs=1e-6)
    assert [(row["height"], row["resolution"]) for row in grid["exits"]] == [
        (h, r) for r in (16, 24) for h in range(1, 6)
    ]
    for row in grid["exits"][::4]:
        right = answers(run, Architecture.from_dict(row["architecture"]), "test").argmax(1) == truth
        assert row["test"]["accuracy"] == pytest.approx(right.mean(), abs=1e-12)


def test_an_interrupted_grid_goes_on_where_it_was(early, monkeypatch):
    run = open_run(early, phase="expand")

    def interrupt(done, total):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_grid(run, resolutions=[24], progress=interrupt)
    path = early / "results/cache/expand.jsonl"
    assert len(path.read_text().splitlines()) == 7 and not (early / "results/grids/expand.json").exists()
    path.write_text(path.read_text()[:-100])  # the last line was cut off
    measured, calls = extractions(monkeypatch), []
    grid = evaluate_grid(open_run(early, phase="expand"), resolutions=[24], progress=lambda *n: calls.append(n))
    # five networks of the first trunk on validation, one on test: only that one is there on both splits
    assert grid["distinct"] == 2 * 2 * 2 * 5 and calls[0] == (2, 80) and len(measured) == 8
    measured.clear()
    assert evaluate_grid(open_run(early, phase="expand"), resolutions=[24]) == grid and not measured
    path.unlink()
    assert evaluate_grid(open_run(early, phase="expand"), resolutions=[24]) == grid and len(measured) == 8


def test_a_part_of_the_grid(early):
    run = open_run(early)
    grid = evaluate_grid(run, limit=6)
    assert (grid["drawn"], len(grid["rows"]), grid["distinct"], grid["combinations"]) == (6, 6, 80, 80)
    space = run.supernet.space
    assert [grid["rows"][i]["digest"] for i in (0, -1)] == [space.smallest().digest(), space.largest().digest()]
    assert evaluate_grid(run, limit=80)["drawn"] is None
    for arguments, expected in (
        ({"limit": 0}, "limit 0: must be a whole number of at least 2"),
        ({"resolutions": [20]}, "resolutions 20: not among the present choices 16, 24"),
    ):
        with pytest.raises(UserError, match=expected):
            evaluate_grid(run, **arguments)


def test_every_phase_in_turn(early):
    found = list(phase_runs(open_run(early)))
    assert [run.phase for run in found] == [phase["name"] for phase in found[0].described["phases"]]
    assert [run.finished for run in found] == [False] * (len(found) - 1) + [True]
    for run in found:
        again = open_run(early, phase=run.phase).supernet.state_dict()
        assert all(torch.equal(tensor, again[name]) for name, tensor in run.supernet.state_dict().items())


def test_finding_an_architecture(run_dir, tmp_path):
    run = open_run(run_dir)
    space = run.supernet.space
    evaluate_run(run, chosen_architectures(space, random_ones=3, seed=0), split="validation")
    assert find_architecture(run, "largest") == space.largest()
    assert find_architecture(run, space.smallest().to_json()) == space.smallest()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "arch.json").write_text(space.smallest().to_json())
    assert find_architecture(run, str(tmp_path / "arch.json")) == space.smallest()
    smallest = run.supernet.measure(space.smallest())
    assert find_architecture(run, "best", max_macs=smallest.macs) == space.smallest()
    for text, budget, expected in (
        ("bigest", None, "give 'largest'"),
        ("largest", 10**6, "goes with the architecture 'best'"),
        ("best", 10, "macs"),
        (space.smallest().to_json().replace("16", "20"), None, "resolution 20"),
        ('{"resolution": 16}', None, "stages"),
        ("x" * 300, None, "give 'largest'"),
        (str(tmp_path), None, "give 'largest'"),
        (str(tmp_path / "binary"), None, "give 'largest'"),
    ):
        with pytest.raises(UserError, match=expected):
            find_architecture(run, text, max_macs=budget)


def test_what_an_earlier_phase_did_not_train_is_not_offered(run_dir):
    """Of the weights after a phase come the networks of that phase, chosen by numbers of these weights."""
    last, kernel = open_run(run_dir), open_run(run_dir, phase="kernel")
    assert kernel.space.smallest() != last.space.smallest() and last.space == last.supernet.space
    assert find_architecture(kernel, "smallest") == kernel.space.smallest()
    evaluate_run(last, {"smallest": last.space.smallest()}, split="validation")
    with pytest.raises(UserError, match="expand ratio|expand_ratio|depth|kernel"):
        find_architecture(kernel, last.space.smallest().to_json())
    with pytest.raises(UserError, match=r"after 'expand_2', not after 'kernel'. Run: .* --phase kernel"):
        find_architecture(kernel, "best")
    evaluate_run(kernel, chosen_architectures(kernel.space, random_ones=2, seed=0), split="validation")
    assert find_architecture(kernel, "best") in kernel.space
    with pytest.raises(UserError, match="not after 'expand_2'"):
        find_architecture(last, "best")


def test_folders_that_hold_no_run(tmp_path, run_dir):
    with pytest.raises(UserError, match=r"run\.json is missing"):
        open_run(tmp_path)
    described = json.loads((run_dir / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="no trained weights yet"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        open_run(tmp_path)


def test_other_images_are_refused(tmp_path, run_dir):
    described = json.loads((run_dir / "run.json").read_text())
    described["data"]["fingerprint"] = "other"
    (tmp_path / "run.json").write_text(json.dumps(described))
    (tmp_path / "checkpoints").symlink_to(run_dir / "checkpoints")
    with pytest.raises(UserError, match="not those"):
        open_run(tmp_path)
