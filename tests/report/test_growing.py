import pytest

from onceforall.report.growing import growing_section

JUDGED = {
    "phase": "kernel",
    "at": 2,
    "opened": {"kernel_sizes": [5]},
    "gain": -0.004,
    "interval": [-0.012, 0.004],
    "pairs": [{"larger": 0.8, "smaller": 0.804}, {"larger": 0.7, "smaller": 0.704}],
    "gap": {"new": 0.05, "old": 0.03},
    "min_gain": 0.002,
    "pays": False,
    "action": "skip",
    "reason": "kernel: it does not pay.",
}
PAID = JUDGED | {"phase": "depth", "gain": 0.01, "interval": [None, None], "pays": True, "action": "continue"}
UNBEGUN = {"phase": "width", "at": 3, "action": "stop", "reason": "max_macs 1e+09: the run ends before it."}


@pytest.mark.parametrize(
    ("metric", "unit", "gain", "interval"),
    [("dice", "", "-0.0040", "-0.0120 to +0.0040"), ("accuracy", ", points", "-0.40", "-1.20 to +0.40")],
)
def test_every_verdict_is_a_row(metric, unit, gain, interval):
    section = growing_section({"verdicts": [PAID, JUDGED, UNBEGUN]}, metric)
    [table] = section.tables
    assert table.head[2] == f"gain{unit}" and all(len(row) == len(table.head) for row in table.rows)
    paid, judged, unbegun = table.rows
    assert paid[0] == "depth" and paid[3] == "–" and paid[-1] == "pays"
    assert judged[:4] == ["kernel", "kernel sizes 5", (gain, -0.004), interval]
    assert judged[4] == ("2", 2) and [cell[1] for cell in judged[5:7]] == [0.03, 0.05]
    assert judged[-1] == "does not pay: rolled back and left out"
    assert unbegun[-1] == "not begun, the run ended" and unbegun[2] == ("–", "")
    assert section.facts == [(v["phase"], v["reason"]) for v in (PAID, JUDGED, UNBEGUN)]


def test_what_only_reports_went_on():
    [table] = growing_section({"verdicts": [JUDGED | {"action": "continue"}]}, "dice").tables
    assert table.rows[0][-1] == "does not pay: went on all the same"
