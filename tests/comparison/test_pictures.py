"""The pictures are whole, and the figures of the page hold the numbers of the comparison."""

import sys

import pytest
from PIL import Image

from onceforall.comparison.pictures import PICTURES, page_figures, write_pictures
from onceforall.errors import UserError


def test_the_pictures_are_whole_and_alone(contents, tmp_path):
    assert [path.name for path in write_pictures(contents, tmp_path / "out")] == list(PICTURES)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(PICTURES)
    for name in PICTURES:
        with Image.open(tmp_path / "out" / name) as image:
            image.load()
            assert image.width > 1000 and len(image.convert("RGB").getcolors(10**6) or []) > 20


def test_numbers_that_are_none_can_be_drawn(contents, tmp_path):
    run = contents["runs"][0] | {"ratio": dict.fromkeys(("epochs", "macs", "seconds"))}
    rows = [row | {"low": None, "high": None, "log_loss": None} for row in contents["buckets"][0]["rows"]]
    curve = contents["curves"]["ps"]
    starts = [curve["starts"][0], curve["starts"][1] | {"macs": None}]
    points = [point | {"macs": None, "largest": None} for point in curve["points"]]
    curves = contents["curves"] | {"ps": {"starts": starts, "points": points}}
    networks = [
        network | {"runs": {name: of | {"log_loss": None} for name, of in network["runs"].items()}}
        for network in contents["networks"]
    ]
    poor = contents | {"runs": [run, contents["runs"][1]], "curves": curves, "networks": networks}
    poor |= {"buckets": [contents["buckets"][0] | {"rows": rows}]}
    poor |= {"cost": "latency_ms"}
    write_pictures(poor, tmp_path)
    assert len(page_figures(poor)["scores"]) == 1, "without a log-loss it has no figure"


def test_without_matplotlib_it_says_so(contents, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="no pictures: matplotlib is missing"):
        write_pictures(contents, tmp_path)


def test_figures_hold_the_numbers(contents):
    figures = page_figures(contents)
    [bars] = figures["training"]
    students = next(bar for bar in bars["data"] if bar["name"] == "student")
    assert students["y"] == ["ps", "sandwich"]
    assert students["x"] == [run["seconds"]["student"] for run in contents["runs"]]
    accuracy, log_loss = figures["scores"]
    assert [curve["name"] for curve in accuracy["data"] if curve["mode"] != "markers"] == ["ps", "sandwich"]
    means = [curve["y"] for curve in accuracy["data"] if curve["mode"] != "markers"]
    assert means == [[bucket["rows"][i]["score"] for bucket in contents["buckets"]] for i in (0, 1)]
    errors = accuracy["data"][1]["error_y"]
    row = contents["buckets"][0]["rows"][0]
    assert errors["array"][0] == row["high"] - row["score"] and errors["arrayminus"][0] == row["score"] - row["low"]
    assert len(accuracy["data"][0]["x"]) == 6 and "Log loss" in log_loss["caption"]
    assert [figure["caption"] for figure in figures["convergence"][:2]] == [
        "training loss over steps",
        "training loss over multiply-adds",
    ]
    loss = figures["convergence"][0]["data"][0]
    assert loss["y"] == [point["train_loss"] for point in contents["curves"]["ps"]["points"]]
    phases = sum(start["step"] > 0 for curve in contents["curves"].values() for start in curve["starts"])
    assert len(figures["convergence"][0]["layout"]["shapes"]) == phases > 0


def test_a_single_network_is_a_star(with_single, tmp_path):
    write_pictures(with_single, tmp_path)
    accuracy, log_loss = page_figures(with_single)["scores"]
    own = with_single["singles"][0]["rows"][0]
    for figure, value in ((accuracy, own["score"]), (log_loss, own["log_loss"])):
        [star] = [curve for curve in figure["data"] if curve["marker"].get("symbol") == "star"]
        assert (star["name"], star["y"], star["x"]) == ("alone", [value], [own["macs"] / 1e6])
    assert [curve["name"] for curve in accuracy["data"] if curve["mode"] == "lines+markers"] == ["ps", "sandwich"]
