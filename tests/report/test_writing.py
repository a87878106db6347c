"""Oracles: the page read by an HTML parser, and the numbers that were put into the run directory."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from onceforall.errors import UserError
from onceforall.report import write_report
from report_runs import PHASES, SPACE, Page, write_ledger, write_lines


def test_a_finished_run_is_told_whole(run):
    path = write_report(run)
    assert path == run / "report.html"
    page = Page(path)
    assert page.open == []
    headings = ["What was trained", "Schedule", "Curves", "Results: test", "What it cost", "Machine and software"]
    for text in (
        *headings,
        "digits-ps on cats",
        "Finished: 5 phases, 8 epochs, 80 steps.",
        "largest, as phase 1 left it",
        f"{SPACE.size():,} different sub-networks; resolutions 24, 32; kernel sizes 3, 5; depths 1, 2; expand ratios",
        "cats: 3 classes, 1 channel(s)",
        "60 train, 60 validation, 60 test",
        "recipe.network.width_mult",
        "SGD, momentum 0.9, decay 3e-05",
        str(SPACE.largest()),
        "600MB",
        "42MB",
        "1234 J",
        "10 min 0 s",  # five phases of two minutes
    ):
        assert text in page.text, text
    assert "max minutes" not in page.text, "what is not set is left out"
    for missing in ("not done", "No epoch", "Nothing was evaluated"):
        assert missing not in page.text


def test_an_unfinished_run_says_what_is_missing(run):
    shutil.rmtree(run / "results")
    write_lines(run, PHASES[:2])
    write_ledger(run, PHASES[:1])
    page = Page(write_report(run))
    name = PHASES[1].name
    epochs = PHASES[1].total_epochs
    assert f"Unfinished: epoch {epochs} of {epochs} in phase 2 of 5 ({name}) is done." in page.text
    assert "4 of 5 phases are not done." in page.text
    assert "Nothing was evaluated yet" in page.text
    (run / "ledger.json").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines()[:1]
    (run / "metrics.jsonl").write_text(json.dumps({**json.loads(lines[0]), "validation": {}}) + '\n{"phase": "fu')
    page = Page(write_report(run))
    assert "No validation was done yet." in page.text
    assert "No phase is done yet." in page.text
    (run / "metrics.jsonl").unlink()
    page = Page(write_report(str(run)))
    assert "Unfinished: no epoch of 5 phases is done." in page.text
    assert "No epoch is done yet." in page.text


def test_a_family_is_no_unfinished_run(run):
    for name in ("metrics.jsonl", "ledger.json"):
        (run / name).unlink()
    (run / "family.json").write_text("{}")
    page = Page(write_report(run))
    assert "A family: trained elsewhere and packaged." in page.text and "Results: test" in page.text
    for wrong in ("Unfinished", "No epoch", "not done", "No phase"):
        assert wrong not in page.text


def test_what_cannot_be_reported_is_named(tmp_path, run):
    with pytest.raises(UserError, match=r"holds no run: run\.json is missing"):
        write_report(tmp_path)
    (run / "ledger.json").write_text("[{")
    with pytest.raises(UserError, match=r"ledger\.json is damaged"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_head_says_the_few_numbers_one_looks_for(run):
    head = Page(write_report(run)).text.partition("What was trained")[0]
    contents = json.loads((run / "results/test.json").read_text())
    for row in contents["rows"][:2]:
        assert f"{row['name']}: accuracy, test {100 * row['accuracy']:.2f} %" in head
    assert f"random: accuracy, test {100 * contents['random']['accuracy']['mean']:.2f} % mean of 1, lowest" in head
    assert "training 10 min 0 s 25G multiply-adds" in head


def test_what_draws_is_loaded_when_a_page_is_written():
    code = "import sys, onceforall.report; print({'plotly', 'jinja2', 'markupsafe'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
