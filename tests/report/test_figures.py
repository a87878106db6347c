import json
import re

import numpy as np

from onceforall.report import write_report
from onceforall.report.figures import BLUE, COUNTED_CLASSES, GREY, RED, confusion_figure, loss_figure, validation_figure
from report_runs import PHASES, SPACE, Page


def test_figures_hold_curves_phases_front_confusion_and_costs(run):
    loss, accuracy, log_loss, front, confusion, costs = Page(write_report(run)).figures
    assert loss["data"][0]["x"] == [10 * i for i in range(1, 9)]
    assert loss["data"][0]["y"] == [2 / x for x in loss["data"][0]["x"]]
    starts = np.cumsum([0, *(10 * phase.total_epochs for phase in PHASES[:-1])]).tolist()
    assert [(mark["text"], mark["x"]) for mark in loss["layout"]["annotations"]] == [
        (phase.name, start) for phase, start in zip(PHASES, starts, strict=True)
    ]
    assert [shape["x0"] for shape in loss["layout"]["shapes"]] == starts[1:]
    assert [curve["name"] for curve in accuracy["data"]] == ["random", "largest", "smallest"]
    assert [len(curve["x"]) for curve in accuracy["data"]] == [4, 5, 4]
    assert "log loss" in log_loss["caption"]
    off, on = front["data"]
    assert sorted(off["x"] + on["x"]) == [10**6, 2 * 10**6, 3 * 10**6]
    assert any(str(SPACE.largest()).split(" | ")[1] in text for text in on["text"] + off["text"])
    matrix = json.loads((run / "results/test.json").read_text())["details"]["largest"]["confusion_matrix"]
    assert confusion["data"][0]["text"] == matrix
    np.testing.assert_allclose(np.sum(confusion["data"][0]["z"], axis=1), 1)
    assert [bar["name"] for bar in costs["data"]][:2] == ["student", "teacher"]
    assert costs["data"][1]["x"] == [30.0] * 5  # seconds, for no phase takes more than two minutes
    assert costs["data"][0]["y"] == [phase.name for phase in PHASES]


def test_numbers_that_are_none_do_not_break_it(run):
    contents = json.loads((run / "results/test.json").read_text())
    contents["rows"][1] |= {"auc": None, "accuracy": None, "accuracy_low": None, "accuracy_high": None}
    contents["rows"][0]["latency_ms"] = 1.5
    (run / "results/test.json").write_text(json.dumps(contents))
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(re.sub(r'"log_loss": [\d.]+', '"log_loss": NaN', text))
    figures = Page(write_report(run)).figures
    assert figures[2]["data"][0]["y"][0] is None
    assert len([figure for figure in figures if "latency" in figure["caption"]]) == 1


def test_confusion_matrix_shows_counts_while_they_fit():
    for classes in (COUNTED_CLASSES, COUNTED_CLASSES + 1):
        (heat,) = confusion_figure("largest", np.eye(classes, dtype=int).tolist(), list(map(str, range(classes))))[
            "data"
        ]
        assert ("texttemplate" in heat) == (classes == COUNTED_CLASSES)
    (heat,) = confusion_figure("largest", [[0, 0], [1, 3]], ["cat", "dog"])["data"]
    assert heat["z"] == [[0, 0], [0.25, 0.75]], "a class without images has no shares"
    assert heat["customdata"][1][0] == "dog taken for cat"


def test_curves_of_one_kind_share_colour_and_entry_in_the_legend():
    kinds = ("largest_48", "largest_64", "smallest", "largest", "extreme_2", "extreme_11", "random_1")
    lines = [{"step": step, "validation": {kind: {"accuracy": 0.5} for kind in kinds}} for step in (1, 2)]
    curves = validation_figure(lines, "accuracy", {"full": (0, 2, False)})["data"]
    entries = [(curve["name"], curve["line"]["color"]) for curve in curves if curve["showlegend"]]
    assert sorted(entries) == sorted(
        [("largest", BLUE), ("smallest", RED), ("extreme", GREY), ("random", GREY)]
    ) and len(curves) == len(kinds)


def test_a_phase_that_was_rolled_back_is_shaded():
    lines = [{"step": step, "train_loss": 1.0, "validation": {"largest": {"dice": 0.5}}} for step in (10, 20, 30)]
    spans = {"smallest": (0, 10, False), "depth": (10, 20, True), "kernel": (20, 30, False)}
    for figure in (loss_figure(lines, spans), validation_figure(lines, "dice", spans)):
        [band] = [shape for shape in figure["layout"]["shapes"] if shape["type"] == "rect"]
        assert (band["x0"], band["x1"]) == (10, 20)
        marks = [mark["text"] for mark in figure["layout"]["annotations"]]
        assert marks == ["smallest", "depth (rolled back)", "kernel"]
    assert figure["caption"] == "Validation Dice" and figure["layout"]["yaxis"]["tickformat"] == ""
