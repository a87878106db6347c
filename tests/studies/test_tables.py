"""The claims as CSV, read back by the csv module, and as a table of the page."""

import csv
import io
from dataclasses import replace

import pytest

from onceforall.report.tables import csv_text
from onceforall.studies.claims import Claim, Judgement
from onceforall.studies.results import Side
from onceforall.studies.tables import claim_rows, claims_table, percent, points, signed, times

SIDE = Side("ofa_mbv3", "fixed", 1.0, "EW")
RUN = Judgement(
    Claim("a", "b beats c, d", SIDE, (SIDE,), 0.03, "a note"),
    paper=0.1207,
    ours=0.05,
    low=-0.012,
    high=0.11,
    interval="bootstrap",
    best_on_test=0.2,
    seeds=(0,),
    verdict="undecided",
)
RATIO = Judgement(Claim("g", "h", SIDE, (SIDE,), at_most=0.38), paper=None, ours=0.41, seeds=(0, 1), verdict="fails")
NOT_RUN = Judgement(Claim("e", "f", SIDE, (SIDE,)), paper=None)


def test_numbers_as_the_papers_print_them():
    assert (percent(0.5190), percent(None), points(-0.012), points(0.1207)) == ("51.90", "not run", "-1.20", "+12.07")
    assert (times(0.4166667), times(None)) == ("0.417", "not run")
    assert (signed(0.0458), signed(-0.1), signed(None)) == ("+0.0458", "-0.1000", "not run")


def test_claims_as_csv():
    first, second = csv.DictReader(io.StringIO(csv_text(claim_rows([RUN, NOT_RUN]))))
    assert first["text"] == "b beats c, d"
    assert [first[key] for key in ("paper", "ours", "low", "high")] == ["+12.07", "+5.00", "-1.20", "+11.00"]
    assert (first["verdict"], first["best_on_test_inflated"], first["more_than"]) == ("undecided", "+20.00", "3")
    assert first["note"] == "a note; one seed: the interval says nothing about another training"
    assert (second["ours"], second["verdict"], second["best_on_test_inflated"]) == ("not run",) * 3
    assert (second["paper"], second["low"], second["note"]) == ("", "", "")


def test_ratios_are_no_points():
    [row] = csv.DictReader(io.StringIO(csv_text(claim_rows([RATIO], inflated=False))))
    assert [row[key] for key in ("more_than", "at_most", "ours", "low", "verdict")] == [
        "",
        "0.38",
        "0.410",
        "",
        "fails",
    ]
    assert "best_on_test_inflated" not in row and row["note"] == ""
    [shown] = claims_table([RATIO], inflated=False).rows
    assert "0.410" in shown and "claimed: at most 0.38 times" in shown


def test_differences_of_dice_are_no_points():
    dice = replace(RUN, claim=replace(RUN.claim, more_than=-0.01, in_points=False))
    [row] = csv.DictReader(io.StringIO(csv_text(claim_rows([dice], inflated=False))))
    assert [row[key] for key in ("paper", "ours", "low", "more_than")] == ["+0.1207", "+0.0500", "-0.0120", "-0.01"]
    table = claims_table([dice, RATIO], inflated=False)
    assert table.caption == "Differences in percentage points, of Dice as they are; ratios as they are"
    assert table.rows[0][3] == "-0.0120 to +0.1100" and "claimed: more than -0.01" in table.rows[0][-1]


@pytest.mark.parametrize("inflated", [True, False])
@pytest.mark.parametrize("found", [RUN, RATIO, NOT_RUN])
def test_claims_as_a_table(found, inflated):
    table = claims_table([found], inflated)
    assert [len(row) for row in table.rows] == [len(table.head)]
    assert ("-1.20 to +11.00" in table.rows[0]) == (found is RUN)
