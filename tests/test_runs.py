"""A run opened again: the same data, the right weights, and clear words where that cannot be."""

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from onceforall.cli import main
from onceforall.errors import UserError
from onceforall.runs import chosen_architectures, evaluate_run, find_architecture, open_run
from onceforall.search_space import SearchSpace

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
    first = chosen_architectures(space, random_ones=6, grid=False, seed=3)
    assert random.getstate() == before
    assert list(first)[:2] == ["largest", "smallest"] and len(set(first.values())) == 8
    assert first == chosen_architectures(space, random_ones=6, grid=False, seed=3)
    assert first != chosen_architectures(space, random_ones=6, grid=False, seed=4)
    grid = chosen_architectures(space, random_ones=0, grid=True, seed=0)
    assert len(grid) == 2 * 2 * 2 * 2 == len(set(grid.values()))
    one = SearchSpace.only(space.largest())
    assert set(chosen_architectures(one, random_ones=5, grid=False, seed=0).values()) == {space.largest()}


def test_evaluating_writes_tables_and_calibration_matters(run_dir):
    run = open_run(run_dir)
    chosen = chosen_architectures(run.supernet.space, random_ones=1, grid=False, seed=0)
    with_it = evaluate_run(run, chosen, split="validation")
    rows = {row["name"]: row for row in with_it["rows"]}
    assert rows["largest"]["macs"] > rows["smallest"]["macs"]
    without = evaluate_run(run, {"largest": chosen["largest"]}, split="test", calibration_images=0)
    assert rows["largest"]["log_loss"] < without["rows"][0]["log_loss"]
    assert (run_dir / "results/validation.csv").is_file() and (run_dir / "results/validation-predictions.csv").is_file()


def test_finding_an_architecture(run_dir, tmp_path):
    run = open_run(run_dir)
    space = run.supernet.space
    evaluate_run(run, chosen_architectures(space, random_ones=3, grid=False, seed=0), split="validation")
    assert find_architecture(run, "largest") == space.largest()
    assert find_architecture(run, space.smallest().to_json()) == space.smallest()
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
    ):
        with pytest.raises(UserError, match=expected):
            find_architecture(run, text, max_macs=budget)


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
