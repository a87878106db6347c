from onceforall.report.cases import cases_section

OUTPUT = {"dice": {"mean": 0.81, "low": 0.7, "high": 0.9}, "hd95_mm": {"mean": 2.5, "median": 1.0}}
OUTPUT |= {"measured": 3, "missed": 1, "invented": 0, "absent": 2}
FOUND = {"table": "test-largest-cases.csv", "picture": "test-largest-cases.png", "cases": 3, "dice": OUTPUT["dice"]}
FOUND |= {"outputs": {"front": OUTPUT}, "worst": [{"file": "imagesTr/s7.nii.gz", "dice": 0.55}]}


def test_scores_worst_cases_and_pictures_are_shown(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / FOUND["picture"]).write_bytes(b"png")
    unknown = dict.fromkeys(("mean", "low", "high"))
    alone = FOUND | {"picture": None, "dice": unknown, "worst": []}
    section = cases_section({"split": "test", "cases": {"largest": FOUND, "smallest": alone}}, tmp_path)
    assert section.title == "Volumes: test"
    assert section.facts == [("Lowest Dice, largest", "s7 0.550"), ("Lowest Dice, smallest", "–")]
    assert section.pictures == [("Best, median and worst volume of largest", tmp_path / "results" / FOUND["picture"])]
    [table] = section.tables
    assert table.rows[1] == ["largest", "front", "0.8100", "0.700 to 0.900", "2.50", "1.00", "1", "0", "2"]
    assert table.rows[2][:4] == ["smallest", "mean", "–", "–"]
