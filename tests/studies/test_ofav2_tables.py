"""The tables against accuracies that the test wrote itself, and the paper's cells."""

from onceforall.studies.ofav2 import SHARED, STEPS
from onceforall.studies.ofav2_tables import factor_tables, gains_table, paper_table, table_rows
from onceforall.studies.results import read_results


def test_rows_of_table_four(part):
    rows = table_rows(read_results(part, STEPS, SHARED), "1.0")
    assert len(rows) == 80  # 4 steps twice for two networks, 5 for four, 6 for two; two teachers
    found = {(row["network"], row["teacher"], row["step"]): row for row in rows}
    row = found["ee_d_ofa_mbv3", "previous_phase", "EW"]
    assert (row["paper_avg"], row["paper_best_on_test"]) == ("44.22", "51.90")
    assert row["ours_chosen_on_validation"] == "50.00"
    assert row["ours_best_on_test_inflated"] == "51.00"
    assert row["ours_avg"] == "47.75"  # 50 twice, 51 and 40
    assert (row["seeds"], row["paper_suspect"]) == ("0", "")
    row = found["se_d_ofa_mbv3", "fixed", "ED"]
    assert (row["ours_chosen_on_validation"], row["ours_avg"], row["seeds"]) == ("not run", "not run", "")
    assert ("ofa_mbv3", "fixed", "EL") not in found


def test_rows_of_table_five_mark_the_suspect_cells(part):
    rows = table_rows(read_results(part, STEPS, SHARED), "1.2")
    marked = {(row["network"], row["teacher"], row["step"]) for row in rows if row["paper_suspect"]}
    assert marked == {("ofa_mbv3", "fixed", "ED"), ("ofa_mbv3", "fixed", "EW")}
    assert {row["ours_avg"] for row in rows} == {"not run"}


def test_the_papers_table(part):
    results = read_results(part, STEPS, SHARED)
    table = paper_table(results, "1.0")
    rows = {(row[0], row[1]): dict(zip(table.head, row, strict=True)) for row in table.rows}
    assert rows["ee_d_ofa_mbv3", "progressive"]["EW (width)"] == "50.00 (47.75 / 51.00); paper 44.22 / 51.90"
    assert rows["ee_d_ofa_mbv3", "progressive"]["EL (level)"] == "X"
    assert rows["se_p_ofa_mbv3", "fixed"]["EL (level)"] == "not run; paper 23.80 / 39.89"
    suspect = paper_table(results, "1.2").rows[0]
    assert [cell.endswith("*") for cell in suspect[2:]] == [False, False, False, False, True, True]


def test_accuracy_by_height_and_level(part):
    by_height, by_level = factor_tables(read_results(part, STEPS, SHARED))
    assert by_height.head[-2:] == ["height 3", "height 5"]
    assert by_height.rows == [["ee_p_ofa_mbv3", "1", "fixed", "0", "EW", "45.00 / 45.00", "20.00 / 35.00"]]
    assert by_level.head[-2:] == ["level 1", "level 7"]
    assert by_level.rows[0][-2:] == ["5.00 / 5.00", "42.50 / 45.00"]


def test_gains_over_the_baseline(part):
    table = gains_table(read_results(part, STEPS, SHARED))
    rows = {tuple(row[:3]): row[3:] for row in table.rows}
    assert len(rows) == 2 * 15
    paper, ours, bounds, inflated = rows["ee_d_ofa_mbv3", "progressive", "1.0"]
    assert (paper, ours, inflated) == ("+12.07", "+12.00", "+12.00")
    low, high = map(float, bounds.split(" to "))
    assert 9 < low < 12 < high < 15
    assert rows["ee_d_ofa_mbv3", "progressive", "1.2"] == ["+11.53*", "not run", "–", "–"]
