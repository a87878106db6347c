"""Jobs survive the way to their process; a folder belongs to one study."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from onceforall.errors import UserError
from onceforall.studies.study import Job, Piece, Scale, check_study, keep_study, parse_list

SCALE = Scale("tiny", "much", "digits-eps", ("a.b=1",), 0.25, (24, 32), 24)


@pytest.mark.parametrize("start", [None, Path("some/stem")])
@pytest.mark.parametrize("resolutions", [None, (48, 64)])
def test_a_job_is_the_same_after_json(start, resolutions):
    job = Job(Path("out/a"), {"name": "x", "n": [1]}, (Piece("full", 2.5), Piece("kernel")), start, resolutions, 24)
    assert "\n" not in job.to_json()
    assert Job.from_json(job.to_json()) == job


def test_open_pieces_are_those_without_a_grid(tmp_path):
    job = Job(tmp_path, {}, (Piece("full"), Piece("kernel")))
    (tmp_path / "results/grids").mkdir(parents=True)
    (tmp_path / "results/grids/full.json").write_text("{}")
    assert job.open_pieces() == [Piece("kernel")]


def test_drawn_networks_count_only_after_training(tmp_path):
    job = Job(tmp_path, {}, (Piece("kernel"),), drawn=12, measures="drawn")
    assert Job.from_json(job.to_json()) == job
    (tmp_path / "results").mkdir()
    (tmp_path / "results/test.json").write_text("{}")  # by someone who measured an unfinished run
    assert job.open_pieces() == [Piece("kernel")]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/2-kernel-last.safetensors").write_text("")
    assert job.open_pieces() == []


def test_a_folder_remembers_its_study(tmp_path):
    folder = tmp_path / "study"
    assert check_study(folder, "ofav2", SCALE, ["b=2", "a=1"]) is None
    assert not folder.exists()
    for data in (None, "photos", {"oct": "scans", "images": "photos"}):
        keep_study(folder, "ofav2", SCALE, ["b=2", "a=1"], data)
        assert check_study(folder, "ofav2", SCALE, ["a=1", "b=2"]) == data
        assert check_study(folder, "ofav2", replace(SCALE, differs="in other words"), ["a=1", "b=2"]) == data


@pytest.mark.parametrize(
    ("study", "scale", "overrides", "message"),
    [
        ("ofav2", replace(SCALE, name="small"), ["a=1"], "of scale 'tiny', not 'small'"),
        ("ofav2", replace(SCALE, drawn=8), ["a=1"], "scale 'tiny' had another drawn"),
        ("ofav2", SCALE, ["a=2"], "with --set a=1, not a=2"),
        ("ofav2", SCALE, [], "with --set a=1, not nothing"),
        ("prox", SCALE, ["a=1"], "the study ofav2, not prox"),
    ],
)
def test_another_study_is_refused(tmp_path, study, scale, overrides, message):
    keep_study(tmp_path, "ofav2", SCALE, ["a=1"], None)
    with pytest.raises(UserError, match=message) as told:
        check_study(tmp_path, study, scale, overrides)
    assert "choose another --out" in str(told.value)


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "photo.png").write_text("x")
    with pytest.raises(UserError, match="holds no study"):
        check_study(tmp_path, "ofav2", SCALE, [])
    (tmp_path / "study.json").write_text(json.dumps({})[:1])
    with pytest.raises(UserError, match="damaged"):
        check_study(tmp_path, "ofav2", SCALE, [])


def test_lists():
    allowed = ["fixed", "previous_phase"]
    assert parse_list("teacher", None, allowed) == allowed
    assert parse_list("teacher", " previous_phase,fixed, fixed", allowed) == ["previous_phase", "fixed"]
    with pytest.raises(UserError, match="allowed are fixed, previous_phase"):
        parse_list("teacher", ",", allowed)
    with pytest.raises(UserError, match="teacher 'fix' is not one of: 'fixed', 'previous_phase'. Did you mean 'fixed'"):
        parse_list("teacher", "fix", allowed)
