"""Tables, files and the page of a comparison."""

import csv
import io
import json
import sys

import pytest

from onceforall.comparison.writing import short_table, write_comparison
from report_runs import Page

FILES = ["comparison.csv", "comparison.html", "comparison.json", "comparison.md"]
FILES += ["convergence.png", "scores.png", "training.png"]


@pytest.fixture(scope="module")
def written(contents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "new"
    paths, missing = write_comparison(contents, folder)
    assert missing == [] and sorted(path.name for path in paths) == FILES
    assert sorted(path.name for path in folder.iterdir()) == FILES
    return folder


def test_the_json_is_the_comparison(contents, written):
    assert json.loads((written / "comparison.json").read_text()) == contents


def test_the_csv_has_a_row_for_each_run_and_group(contents, written):
    rows = list(csv.DictReader(io.StringIO((written / "comparison.csv").read_text())))
    groups = ["all", "bucket 1", "bucket 2", "smallest", "largest"]
    assert [(row["group"], row["run"]) for row in rows] == [(g, run) for g in groups for run in ("ps", "sandwich")]
    assert float(rows[1]["difference"]) == contents["overall"][1]["difference"]
    assert rows[0]["difference"] == rows[0]["verdict"] == rows[0]["cost_low"] == ""
    assert float(rows[2]["cost_low"]) == contents["buckets"][0]["low"]
    assert int(rows[1]["train_macs"]) == contents["runs"][1]["macs"]
    assert float(rows[1]["train_seconds_total"]) == contents["runs"][1]["seconds"]["total"]


def test_the_markdown_says_what_was_found(contents, written):
    text = (written / "comparison.md").read_text()
    second = contents["overall"][1]
    assert f"{100 * second['score']:.2f} % |" in text and f"| {100 * second['difference']:+.2f} |" in text
    assert contents["equal"] in text and "paired bootstrap" in text
    for name in ("training.png", "scores.png", "convergence.png"):
        assert f"]({name})" in text
    for part in ("student", "teacher", "data", "validation", "calibration", "checkpoint"):
        assert part in text


def test_the_page_works_offline(contents, written):
    page = Page(written / "comparison.html")
    assert len(page.figures) == 1 + 2 + 6
    assert "ps" in page.text and "sandwich" in page.text and "undecided where it holds zero" in page.text
    assert not [value for tag, name, value in page.attributes if name in ("src", "href") and "//" in (value or "")]


def test_warnings_stand_in_all_of_them(contents, tmp_path):
    write_comparison(contents | {"warnings": ["the runs differ in <b>seed</b>."]}, tmp_path)
    assert "- the runs differ in <b>seed</b>." in (tmp_path / "comparison.md").read_text()
    assert "the runs differ in <b>seed</b>." in Page(tmp_path / "comparison.html").text


def test_numbers_that_are_none_are_dashes(contents, tmp_path):
    row = contents["overall"][1] | dict.fromkeys(("low", "high", "log_loss", "log_loss_difference"))
    row |= {"difference_low": None, "difference_high": None, "verdict": "undecided", "interval": "networks"}
    run = contents["runs"][1] | {"finished": False, "ratio": dict.fromkeys(("epochs", "macs", "seconds"))}
    poor = contents | {"overall": [contents["overall"][0], row], "runs": [contents["runs"][0], run]}
    write_comparison(poor | {"cost": "latency_ms"}, tmp_path)
    text = (tmp_path / "comparison.md").read_text()
    assert "(unfinished)" in text and "images have no scores" in text and " ms |" in text


def test_a_task_without_log_loss_has_no_column_of_it_and_no_points(contents, tmp_path):
    def other(rows):
        return [row | {"log_loss": None, **({"log_loss_difference": None} if "verdict" in row else {})} for row in rows]

    networks = [
        network | {"runs": {name: v | {"log_loss": None, "dice": v["accuracy"]} for name, v in network["runs"].items()}}
        for network in contents["networks"]
    ]
    buckets = [bucket | {"rows": other(bucket["rows"])} for bucket in contents["buckets"]]
    ends = {name: other(rows) for name, rows in contents["ends"].items()}
    dice = contents | {"metric": "dice", "inputs": "volumes", "overall": other(contents["overall"]), "ends": ends}
    paths, missing = write_comparison(dice | {"networks": networks, "buckets": buckets}, tmp_path)
    assert missing == [] and len(paths) == len(FILES)
    text = (tmp_path / "comparison.md").read_text()
    assert "log loss" not in text and "points" not in text and "test volumes, each" in text
    assert f"| {contents['overall'][1]['difference']:+.4f} |" in text
    head, rows = short_table(dice)
    assert "Dice" in head and all(len(row) == len(head) for row in rows)
    page = Page(tmp_path / "comparison.html")
    assert len(page.figures) == 1 + 1 + 6 and page.figures[1]["caption"].startswith("Dice against")


def test_without_matplotlib_and_plotly_the_tables_are_there(contents, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    paths, missing = write_comparison(contents, tmp_path)
    assert [path.suffix for path in paths] == [".json", ".csv", ".md"]
    assert "matplotlib" in missing[0] and missing[1].startswith("no page") and len(missing) == 2
    assert ".png" not in (tmp_path / "comparison.md").read_text()


def test_the_short_table_has_a_line_for_each_run(contents):
    head, rows = short_table(contents)
    assert head[:5] == ["run", "time", "macs", "epochs", "accuracy"] and head[-1] == "verdict"
    assert [row[0] for row in rows] == ["ps", "sandwich"] and rows[0][3] == "6"
    assert all(len(row) == len(head) for row in rows)
    assert rows[1][-1] == contents["overall"][1]["verdict"]


def test_a_single_network_is_in_all_of_them(with_single, tmp_path):
    paths, missing = write_comparison(with_single, tmp_path)
    assert missing == [] and sorted(path.name for path in paths) == FILES
    rows = list(csv.DictReader(io.StringIO((tmp_path / "comparison.csv").read_text())))
    of_single = [row for row in rows if row["group"] == "network of alone"]
    assert [row["run"] for row in of_single] == ["alone", "ps", "sandwich"]
    assert float(of_single[0]["score"]) == with_single["singles"][0]["rows"][0]["score"]
    text = (tmp_path / "comparison.md").read_text()
    assert "The network of alone, and the same taken from the others" in text
    assert f"At equal time: the last validation before {with_single['equal_time']['run']} ended" in text
    assert "alone" in Page(tmp_path / "comparison.html").text
    head, lines = short_table(with_single)
    assert [line[0] for line in lines] == ["ps", "sandwich", "alone"] and len(lines[2]) == len(head)


def test_a_run_that_had_validated_nothing_says_so(contents, tmp_path):
    equal = contents["equal_time"] | {"reached": dict.fromkeys(contents["equal_time"]["reached"])}
    write_comparison(contents | {"equal_time": equal}, tmp_path)
    assert "| not yet validated |" in (tmp_path / "comparison.md").read_text()
