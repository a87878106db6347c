"""What the study leaves behind: every output says its scale, and the page works offline."""

import csv
import io
import json

import pytest

from onceforall.studies.ofav2 import SCALES, SHARED, STEPS
from onceforall.studies.ofav2_report import scale_note, write_ofav2
from onceforall.studies.results import read_results
from report_runs import Page


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_study_of_which_a_part_was_run(part):
    judgements = write_ofav2(part, SCALES["tiny"], ("run.calibration_images=64",))
    verdicts = {found.claim.name: found.verdict for found in judgements}
    assert verdicts["headline-w1.0"] == "holds"
    assert verdicts["shallow-ee_p_ofa_mbv3-w1.0"] == "not run"  # of the progressive teacher, which was not run
    assert verdicts["headline-w1.2"] == verdicts["width-ee_d_ofa_mbv3"] == "not run"
    assert {row["scale"] for name in ("table4.csv", "table5.csv", "claims.csv") for row in rows(part / name)} == {
        "tiny"
    }
    claims = {row["claim"]: row for row in rows(part / "claims.csv")}
    assert (claims["headline-w1.0"]["ours"], claims["headline-w1.0"]["paper"]) == ("+12.00", "+12.07")
    text, page = (part / "study.md").read_text(), (part / "study.html").read_text()
    for words in ("built-in digits", "run.calibration_images=64", "1000 test images", "inflated"):
        assert words in text and words in page
    assert "https://" not in page.split("<script")[0]
    assert (part / "best-by-step-w1.0.png").is_file()
    assert not (part / "best-by-step-w1.2.png").exists()
    read = Page(part / "study.html")
    assert read.tags.count("figure") == len(read.figures) == 2
    assert "EE_D" in json.dumps(read.figures)


def test_nothing_was_run(tmp_path):
    assert {found.verdict for found in write_ofav2(tmp_path, SCALES["paper"])} == {"not run"}
    assert "Nothing was run yet" in (tmp_path / "study.md").read_text()


@pytest.mark.parametrize("name", SCALES)
def test_the_note_of_a_scale(part, name):
    assert scale_note(SCALES[name], ()).startswith(f"Scale {name}: ")
    assert scale_note(SCALES["paper"], ("a=1",)) == "Scale paper: as in the paper. Changed by --set: a=1."
    assert "Seeds: 0." in scale_note(SCALES[name], (), read_results(part, STEPS, SHARED))
