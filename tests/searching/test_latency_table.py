"""Oracles: sums by hand."""

import pytest

from onceforall.architecture import Architecture, Block, Stage
from onceforall.errors import UserError
from onceforall.evaluation.engines import EngineSettings
from onceforall.searching.latency_table import LatencyTable, differences

IDENTITY = {"network": "Net", "options": {"dense": False}, "backend": "pytorch", "threads": 1, "machine": "A"}
ENTRIES = {"stem at 32": 1.0, "exit 1 at 32": 0.5, "stage 1 first k3e4 at 32": 2.0, "stage 1 further k5e6 at 32": 4.0}
ONE, TWO = Block(3, 4), Block(5, 6)
ARCHITECTURES = [Architecture(32, (Stage((ONE,)),)), Architecture(32, (Stage((ONE, TWO, TWO)),))]


def test_a_network_takes_the_sum_of_its_pieces_corrected():
    table = LatencyTable(IDENTITY, ENTRIES)
    assert table.predict_ms(ARCHITECTURES).tolist() == [3.5, 11.5]
    corrected = LatencyTable(IDENTITY, ENTRIES, (0.25, 2.0))
    assert corrected.predict_ms(ARCHITECTURES).tolist() == [7.25, 23.25]
    assert corrected.sums(ARCHITECTURES).tolist() == [3.5, 11.5]


def test_settings_are_those_of_its_identity():
    given = {"backend": "onnxruntime", "threads": 2, "batch": 4, "precision": "float32", "device": "cpu"}
    assert LatencyTable(IDENTITY | given, ENTRIES).settings == EngineSettings("onnxruntime", 2, 4)


def test_a_piece_that_is_missing_is_named():
    with pytest.raises(UserError, match="no entry 'stage 1 first k5e6 at 32'"):
        LatencyTable(IDENTITY, ENTRIES).predict_ms([Architecture(32, (Stage((TWO,)),))])


def test_what_is_saved_is_loaded(tmp_path):
    table = LatencyTable(IDENTITY, ENTRIES, (0.25, 2.0), {"mape": 0.1})
    table.save(tmp_path / "t.json")
    assert LatencyTable.load(tmp_path / "t.json") == table


def test_differences_are_those_of_json():
    assert differences({"a": (1, 2)}, {"a": [1, 2]}) == []
    assert differences({"a": 1}, {"b": 1}) == ["a 1, here None", "b None, here 1"]


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"format": "other"}', '{"format": "onceforall-latency-1"}'])
def test_what_is_no_table_is_refused(tmp_path, text):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(UserError, match="latency table"):
        LatencyTable.load(path)
    with pytest.raises(UserError, match="no latency table"):
        LatencyTable.load(tmp_path / "missing.json")
