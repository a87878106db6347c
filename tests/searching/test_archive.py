"""The files of a search."""

import csv
import json
import shlex
import sys

import pytest

pytest.importorskip("plotly")
pytest.importorskip("pymoo")

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.searching.archive import export_command, front_file, write_archive
from onceforall.searching.rounds import search
from tiny_search import Additive, small_network

NET = small_network()
TRUE = Additive(NET.space)


def found(**more):
    def measure(architectures):
        return [TRUE.score(architecture) + 0.01 for architecture in architectures]

    return search(NET, TRUE, measure=measure, members=5, candidates=80, population=20, **more)


def test_everything_is_written_and_read_back(tmp_path):
    run = tmp_path / "a run"
    result = found(constraints={"max_macs": 3e6})
    assert write_archive(run, result, {"phase": "last"}, more=("--phase", "last")) == ""
    folder = run / "search"
    assert front_file(folder) == folder / "front.html"
    assert f"{result.front[0].architecture.digest()}.json' --phase last" in (folder / "front.html").read_text()
    contents = json.loads((folder / "front.json").read_text())
    assert contents["phase"] == "last" and contents["constraints"][0] == {
        "measure": "macs",
        "sense": "max",
        "limit": 3e6,
    }
    rows = list(csv.DictReader((folder / "front.csv").read_text().splitlines()))
    assert len(rows) == len(contents["front"]) == len(result.front)
    for row, text, member in zip(contents["front"], rows, result.front, strict=True):
        assert Architecture.from_dict(row["architecture"]) == member.architecture
        file = folder / "networks" / f"{row['digest']}.json"
        assert Architecture.from_json(file.read_text()) == member.architecture
        assert row["accuracy"] - row["accuracy_predicted"] == pytest.approx(0.01)
        assert float(text["macs"]) == row["macs"] and text["text"] == str(member.architecture)
        words = ["onceforall", "export", str(run), str(file)]
        assert shlex.split(export_command(run, file)) == words
        assert shlex.split(export_command(run, file, ["--phase", "a b"])) == [*words, "--phase", "a b"]
    assert (folder / "front.png").stat().st_size > 5000 and (folder / "front.html").stat().st_size > 1e6


def test_without_a_front_nothing_is_written(tmp_path):
    with pytest.raises(UserError, match="no front"):
        write_archive(tmp_path, found(constraints={"min_accuracy": 0.999}), {})
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(("missing", "left"), [("matplotlib", {"front.html"}), ("plotly", set())])
def test_without_what_draws_all_else_is_written_and_old_pictures_go(tmp_path, monkeypatch, missing, left):
    result, folder = found(), tmp_path / "search"
    write_archive(tmp_path, result, {})
    for name in [each for each in sys.modules if each.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    note = write_archive(tmp_path, result, {})
    assert f"needs {missing}" in note and "pip install 'onceforall[report]'" in note
    assert {path.name for path in folder.glob("front.*")} - {"front.json", "front.csv"} == left
    assert front_file(folder).name == ("front.html" if left else "front.json")
    networks = {path.stem for path in (folder / "networks").iterdir()}
    assert networks == {member.architecture.digest() for member in result.archive}
