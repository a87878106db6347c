"""What `onceforall search` prints for a family; the search itself is tested in test_family_search."""

import json

import pytest
from click.testing import CliRunner

from onceforall.cli import main
from onceforall.errors import UserError
from onceforall.evaluation.engines import EngineSettings
from onceforall.families import Family
from onceforall.searching.command_family import own_table
from onceforall.searching.latency_measuring import identity_of
from onceforall.searching.latency_pieces import pieces_of
from onceforall.searching.latency_table import LatencyTable
from onceforall.searching.predictor import fit_predictor
from onceforall.searching.sampling import spread_architectures
from tiny_search import all_architectures, small_network


@pytest.fixture
def family(tmp_path, monkeypatch):
    """One with a predictor to which more multiply-adds are better; `search` opens it."""
    network = small_network()
    drawn = spread_architectures(network.space, 20, lambda each: network.measure(each).macs, seed=0)
    scores = [0.5 + network.measure(each).macs / 1e8 for each in drawn]
    fitting = fit_predictor(network.space, drawn, scores, metric="accuracy", images=50, higher_is_better=True)
    (tmp_path / "models").mkdir()
    fitting.predictor.save(tmp_path / "models" / "predictor.json")
    about = {"metric": "accuracy", "higher_is_better": True, "phase": "only"}
    (tmp_path / "family.json").write_text("{}")
    made = Family(tmp_path, about, network, network.space)
    monkeypatch.setattr("onceforall.families.open_family", lambda path: made)
    return made


def table_file(family, name, **identity):
    """A table by which each piece of a network takes 1 ms."""
    entries = {piece.key: 1.0 for each in all_architectures(family.space) for piece in pieces_of(each, False)}
    path = family.folder / "models" / f"latency-{name}.json"
    own = identity_of(family.supernet, EngineSettings("onnxruntime"))
    LatencyTable(own | identity, entries).save(path)
    return path


def search(family, *words):
    return CliRunner().invoke(main, ["search", str(family.folder), "--candidates", "200", *map(str, words)])


def test_the_answer_is_printed_with_what_was_asked(family):
    path = table_file(family, "cpu")
    pieces = len(pieces_of(family.space.largest(), False))
    result = search(family, "--max-macs", "3M", "--max-latency-ms", pieces, "--latency-table", path)
    assert result.exit_code == 0, result.output
    assert "max 3M" in result.output and "--data PATH" in result.output and "belongs elsewhere" not in result.output
    [line] = [line for line in result.output.splitlines() if line.startswith("latency_ms")]
    assert line.split()[:4] == ["latency_ms", "max", f"{pieces}", "ms"] and line.endswith("ms (predicted)")


def test_its_own_table_may_be_of_another_machine_and_says_so(family):
    """What was measured where stands on the terminal and in the files."""
    table_file(family, "pi", machine="Raspberry Pi", threads=4, batch=8, version="1.0")
    result = search(family, "--max-latency-ms", 100)
    assert result.exit_code == 0, result.output
    assert "belongs elsewhere, latencies are predictions only: " in result.stderr
    assert "machine Raspberry Pi, here" in result.stderr
    assert "latency on onnxruntime 1.0, float32, batch 8, threads 4, Raspberry Pi" in result.stdout
    front = json.loads((family.folder / "search" / "front.json").read_text())
    assert front["latency_table"]["machine"] == "Raspberry Pi" and front["latency_table"]["batch"] == 8


def test_which_table_is_asked_where_there_is_not_one(family):
    with pytest.raises(UserError, match="0 latency tables: say by --latency-table"):
        own_table(family)
    table_file(family, "one")
    table_file(family, "two")
    with pytest.raises(UserError, match="2 latency tables"):
        own_table(family)
    assert search(family, "--max-latency-ms", 100).exit_code == 2
    assert search(family, "--max-macs", "3M").exit_code == 0, "without a limit of latency no table is needed"


@pytest.mark.parametrize("own", [True, False])
def test_a_latency_table_of_another_network_is_refused(family, own):
    path = table_file(family, "cpu", network="Other")
    result = search(family, "--max-latency-ms", 100, *(() if own else ("--latency-table", path, "--force")))
    assert result.exit_code == 2 and "is of another network: network Other" in result.output
