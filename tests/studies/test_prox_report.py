"""Files of the study, of comparisons written by hand; what is compared is in the test of the command."""

import csv
import io

from onceforall.studies import prox_report
from onceforall.studies.prox import SCALES
from onceforall.studies.prox_cells import ProxCell
from onceforall.studies.prox_report import compare_cells, write_prox
from prox_runs import write_comparison
from report_runs import Page

RUNS = {
    "ps": (0.90, 100.0, 1000),
    "prox-mr": (0.97, 60.0, 400),
    "prox-ir": (0.88, 40.0, 300),
    "single-middle": (0.8, 20.0, 100),
}


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_everything_is_written(tmp_path):
    write_comparison(tmp_path, "oct", 0, RUNS)
    judgements = write_prox(tmp_path, SCALES["small"], ["run.calibration_images=64"])
    claims = {row["claim"]: row for row in rows_of(tmp_path / "claims.csv")}
    assert {found.claim.name: found.verdict for found in judgements} == {n: row["verdict"] for n, row in claims.items()}
    assert claims["oct-time-prox-mr"]["verdict"] == "holds" and claims["oct-time-prox-mr"]["ours"] == "0.600"
    assert claims["oct-time-prox-mr"]["paper"] == "0.417" and claims["oct-time-prox-mr"]["at_most"] == "0.63"
    assert claims["oct-leader"]["ours"] == "+9.00" and claims["brats-leader"]["verdict"] == "not run"
    assert not any(name.startswith(("images", "digits")) for name in claims)
    assert {row["scale"] for name in ("claims", "scores", "training") for row in rows_of(tmp_path / f"{name}.csv")} == {
        "small"
    }
    text = (tmp_path / "study.md").read_text()
    assert "run.calibration_images=64" in text and "Seeds: 0." in text and "- the runs differ in something." in text
    assert "The network of single-middle, and the same taken from the others (oct, seed 0)" in text
    assert "comparison-oct-s0/comparison.html" in text and "training.png" not in text
    page = Page(tmp_path / "study.html")
    assert len(page.figures) == 1 + 2 + 6 and "ProX at scale small" in page.text
    (tmp_path / "comparison-oct-s0" / "training.png").write_bytes(b"")
    write_prox(tmp_path, SCALES["small"], [])
    assert "![training](comparison-oct-s0/training.png)" in (tmp_path / "study.md").read_text()


def test_nothing_was_run(tmp_path):
    judgements = write_prox(tmp_path, SCALES["paper"], [])
    assert {found.verdict for found in judgements} == {"not run"} and len(judgements) == 27
    assert "nothing was run yet" in (tmp_path / "study.md").read_text()


def test_runs_of_a_data_set_and_seed_are_compared(tmp_path, monkeypatch):
    calls, said = [], []
    monkeypatch.setattr(prox_report, "compare_runs", lambda folders, out, **more: calls.append((folders, out, more)))
    monkeypatch.setattr(prox_report, "write_comparison", lambda *_: ([], ["no pictures"]))
    cells = [ProxCell("oct", "ps", 0), ProxCell("oct", "prox-mr", 0), ProxCell("oct", "ps", 1)]
    compare_cells(cells, tmp_path, SCALES["small"], places={"oct": "scans"}, by="macs", say=said.append)
    [(folders, out, more)] = calls
    assert folders == [tmp_path / "oct-ps-s0", tmp_path / "oct-prox-mr-s0"]
    assert out == tmp_path / "comparison-oct-s0"
    assert (more["names"], more["networks"], more["by"], more["data"]) == (["ps", "prox-mr"], 60, "macs", "scans")
    alone = "nothing to compare it with; a comparison takes two runs, one of them of a family."
    assert said == ["no pictures", f"oct-ps-s1: {alone}"]
    calls.clear()
    singles = [ProxCell("oct", "single-smallest", 0), ProxCell("oct", "single-largest", 0)]
    compare_cells(singles, tmp_path, SCALES["small"], places={}, say=said.append)
    assert not calls and said[-1] == f"oct-single-smallest-s0, oct-single-largest-s0: {alone}"
