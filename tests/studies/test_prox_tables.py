"""The tables hold what was measured, the paper's numbers, and "not run"."""

import pytest

from onceforall.studies.prox_results import ProxResults
from onceforall.studies.prox_tables import score_rows, score_table, training_rows, training_table
from prox_runs import comparison_contents

RUNS = {
    "ps": (0.90, 100.0, 1000),
    "prox-mr": (0.97, 60.0, 400),
    "prox-ir": (0.88, 40.0, 300),
    "single-middle": (0.8, 20.0, 100),
}
RESULTS = ProxResults({("oct", seed): comparison_contents(RUNS) for seed in (0, 1)})


def by_run(rows):
    return {(row["data"], row["run"]): row for row in rows}


def test_training():
    rows = by_run(training_rows(RESULTS))
    mr = rows["oct", "prox-mr"]
    assert (mr["seconds_total"], mr["seconds_student"], mr["seconds_teacher"]) == (60.0, 30.0, 15.0)
    assert (mr["seconds_ratio"], mr["learning_seconds_ratio"], mr["macs_ratio"]) == pytest.approx((0.6, 0.6, 0.4))
    assert (mr["paper_hours"], mr["paper_seconds_ratio"]) == (3.75, pytest.approx(3.75 / 9))
    assert (mr["seeds"], mr["epochs"]) == ("0 1", "28")
    assert rows["oct", "single-middle"]["macs_ratio"] == 0.1 and rows["oct", "single-middle"]["paper_hours"] is None
    assert rows["brats", "ps"]["macs"] is None and rows["brats", "ps"]["epochs"] == "not run"
    table = training_table(RESULTS)
    assert {len(row) for row in table.rows} == {len(table.head)}
    [shown] = [row for row in table.rows if row[:2] == ["oct", "prox-ir"]]
    assert shown[-2:] == ["3 h", "0.333"] and shown[2] == ("40.0 s", 40.0)


def test_scores():
    rows = by_run(score_rows(RESULTS))
    ps, mr, single = (rows["oct", run] for run in ("ps", "prox-mr", "single-middle"))
    assert (ps["score"], ps["difference"], ps["paper"], ps["networks"]) == (pytest.approx(0.9), None, 0.9416, "4")
    assert ps["low"] < 0.9 < ps["high"]
    assert mr["difference"] == pytest.approx(0.07) and 0.04 < mr["difference_low"] < 0.07 < mr["difference_high"]
    assert (single["networks"], single["difference"]) == ("1", None)
    assert rows["hippocampus", "prox-ir"]["score"] is None and rows["hippocampus", "prox-ir"]["paper"] == 0.4083
    table = score_table(RESULTS)
    assert {len(row) for row in table.rows} == {len(table.head)}
    shown = {tuple(row[:2]): row for row in table.rows}
    assert shown["oct", "prox-mr"][3] == "97.00" and shown["oct", "prox-mr"][-1] == "99.22"
    assert shown["brats", "ps"][3] == "not run" and shown["brats", "ps"][-1] == "0.3792"


def test_dice_is_no_percentage():
    rows = score_table(ProxResults({("hippocampus", 0): comparison_contents(RUNS)})).rows
    shown = {tuple(row[:2]): row for row in rows}["hippocampus", "prox-mr"]
    assert (shown[3], shown[5], shown[-1]) == ("0.9700", "+0.0700", "0.2866")
    assert shown[4].startswith("0.9") and "%" not in "".join(map(str, shown))
