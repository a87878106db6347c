"""Two short runs on volumes, one with phases that are rolled back: evaluated, reported, compared, gone on with."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onceforall.cli import main
from report_runs import Page
from volume_files import make_volumes
from volume_runs import train_volumes

RULE = ("phases.all.stop_rule.action=skip", "phases.all.stop_rule.min_gain=2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Iterator[list[Path]]:
    """Folders `whole`, and `rolled_back` in which no growth pays."""
    root = tmp_path_factory.mktemp("volumes")
    make_volumes(root / "heads", 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONCEFORALL_CACHE", str(root / "cache"))
        yield [
            train_volumes(root / "heads", root / "whole"),
            train_volumes(root / "heads", root / "rolled_back", *RULE),
        ]


def invoke(*words: object) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def test_the_table_of_an_evaluation_has_the_numbers_of_the_task(runs):
    output = invoke("evaluate", runs[0], "-n", 1).output
    head = next(line for line in output.splitlines() if line.startswith("name"))
    assert "log loss" not in head
    for column in ("Dice", "Dice front", "Dice back", "soft Dice", "params", "macs"):
        assert column in head
    assert "test volumes" in output and "lowest Dice of largest" in output
    results = json.loads(invoke("evaluate", runs[0], "-n", 1, "--json").stdout)
    assert results["inputs"] == "volumes" and list(results["cases"]) == ["largest", "smallest"]
    for row in results["rows"][:2]:
        found = results["cases"][row["name"]]
        assert found["dice"]["mean"] == pytest.approx(row["dice"], abs=1e-6), "1 mm, RAS: both are on the same grid"
        with (runs[0] / "results" / found["table"]).open(newline="") as file:
            assert len(list(csv.DictReader(file))) == results["images"]


def test_the_page_shows_cases_and_what_growing_gained(runs):
    invoke("evaluate", runs[1], "-n", 1)
    invoke("report", runs[1])
    page = Page(runs[1] / "report.html")
    pictures = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert len(pictures) == 2 and all(picture.startswith("data:image/png;base64,") for picture in pictures)
    verdicts = json.loads((runs[1] / "run.json").read_text())["verdicts"]
    for verdict in verdicts:
        assert verdict["reason"] in page.text
    assert f"Finished: 1 phases and {len(verdicts)} rolled back" in page.text
    for text in ("Volumes: test", "Best, median and worst volume of largest", "Voxels of each class", "Missed"):
        assert text.lower() in page.text.lower()
    loss = page.figures[0]
    assert loss["caption"] == "Training loss" and page.figures[1]["caption"] == "Validation Dice"
    bands = [shape for shape in loss["layout"]["shapes"] if shape["type"] == "rect"]
    assert len(bands) == len(verdicts) and bands[-1]["x1"] == loss["data"][0]["x"][-1]
    assert page.figures[1]["layout"]["yaxis"]["tickformat"] == "", "Dice is a plain number"


def test_two_runs_are_compared_by_dice(runs, tmp_path):
    output = invoke("compare", *runs, "--macs", "-n", 2, "--buckets", 1, "--out", tmp_path / "both").output
    head = next(line for line in output.splitlines() if line.startswith("run"))
    assert "Dice" in head and "log loss" not in head and "points" not in head
    text = (tmp_path / "both" / "comparison.md").read_text()
    assert (
        "test volumes" in text and "%" not in text.partition("**All measured")[2].partition("verdict")[2].split("**")[0]
    )
    page = Page(tmp_path / "both" / "comparison.html")
    scores = [
        figure for figure in page.figures if figure["layout"].get("yaxis", {}).get("title", {}).get("text") == "Dice"
    ]
    assert len(scores) == 1 and scores[0]["layout"]["yaxis"]["tickformat"] == ""


def test_a_run_that_was_rolled_back_goes_on_and_is_exported(runs, tmp_path):
    before = (runs[1] / "run.json").read_text(), (runs[1] / "metrics.jsonl").read_text()
    train_volumes(runs[1].parent / "heads", runs[1], *RULE, resume=True)
    assert ((runs[1] / "run.json").read_text(), (runs[1] / "metrics.jsonl").read_text()) == before
    invoke("export", runs[1], "largest", "--out", tmp_path / "net")
    assert (tmp_path / "net" / "model.onnx").is_file()
