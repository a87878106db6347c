"""The files of a search."""

import csv
import json
import shlex

import pytest

pytest.importorskip("plotly")
pytest.importorskip("pymoo")

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.searching.archive import export_command, write_archive
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
    folder = write_archive(run, result, {"phase": "last"})
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
        assert shlex.split(export_command(run, file)) == ["onceforall", "export", str(run), str(file)]
    assert (folder / "front.png").stat().st_size > 5000 and (folder / "front.html").stat().st_size > 1e6


def test_without_a_front_nothing_is_written(tmp_path):
    with pytest.raises(UserError, match="no front"):
        write_archive(tmp_path, found(constraints={"min_accuracy": 0.999}), {})
    assert not (tmp_path / "search").exists()
