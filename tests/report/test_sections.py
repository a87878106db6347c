import json
from dataclasses import asdict

import pytest

from onceforall.architecture import Architecture
from onceforall.report import write_report
from onceforall.report.sections import costs_section, curves_section, machine_section
from report_runs import PHASES, Page, write_evaluation


def test_numbers_in_the_table_are_those_that_were_measured(run):
    evaluations = write_evaluation(run)
    page = Page(write_report(run))
    for evaluation in evaluations:
        assert f"{100 * evaluation.metrics['accuracy']:.2f} %" in page.text
        assert f"{evaluation.metrics['log_loss']:.4g}" in page.text
    values = [value for tag, name, value in page.attributes if (tag, name) == ("td", "data-value")]
    assert {"3000000", "2000000", "1000000"} <= set(values), "tables are sorted by whole numbers, not by what is shown"


def test_table_begins_with_what_one_looks_for(run):
    page = Page(write_report(run))
    head = page.text[page.text.index("a click on a heading") :]
    order = ["name", "accuracy", "multiply-adds", "parameters", "resolution", "front", "architecture"]
    places = [head.index(word) for word in order]
    assert places == sorted(places)


def test_what_every_phase_trains_is_named(run):
    page = Page(write_report(run))
    rows = page.text[page.text.index("Schedule") :]
    for text in ("resolutions 24, 32; kernel sizes 3, 5; depths 1, 2; expand ratios 4, 6", "1 (largest)", "1 (random)"):
        assert text in rows
    described = json.loads((run / "run.json").read_text())
    described["phases"][2]["teacher"] = asdict(PHASES[2].teacher) | {"source": "some/folder/teacher.safetensors"}
    (run / "run.json").write_text(json.dumps(described))
    page = Page(write_report(run))
    assert "file teacher.safetensors" in page.text
    assert "some/folder" not in page.text


def test_architectures_of_the_table_are_readable(run):
    rows = json.loads((run / "results/test.json").read_text())["rows"]
    page = Page(write_report(run))
    assert all(str(Architecture.from_dict(row["architecture"])) in page.text for row in rows)


@pytest.mark.parametrize(
    ("section", "notice"),
    [
        (curves_section([], {}), "No epoch is done yet."),
        (costs_section([], {}), "No phase is done yet."),
        (machine_section({}), "Not recorded."),
    ],
)
def test_what_is_missing_is_said_and_nothing_else(section, notice):
    assert section.notices == [notice]
    assert not (section.text or section.facts or section.figures or section.tables)
