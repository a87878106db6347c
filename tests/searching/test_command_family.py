"""What `onceforall search` prints for a family; the search itself is tested in test_family_search."""

import pytest

from onceforall.errors import UserError
from onceforall.searching import command_family
from tiny_search import ClockTable, small_network


def test_a_folder_that_is_no_family_is_told(tmp_path):
    with pytest.raises(UserError, match=r"is no family: family\.json is missing"):
        command_family.tell_family(tmp_path, {}, None, None, False)


def test_the_answer_is_printed_with_what_was_asked(tmp_path, capsys, monkeypatch):
    from onceforall.families import Family
    from onceforall.searching.predictor import fit_predictor
    from onceforall.searching.sampling import spread_architectures

    network = small_network()
    drawn = spread_architectures(network.space, 20, lambda each: network.measure(each).macs, seed=0)
    scores = [0.5 + network.measure(each).macs / 1e8 for each in drawn]
    fitting = fit_predictor(network.space, drawn, scores, metric="accuracy", images=50, higher_is_better=True)
    fitting.predictor.save(tmp_path / "predictor.json")
    family = Family(tmp_path, {"metric": "accuracy", "higher_is_better": True, "phase": "only"}, network)
    monkeypatch.setattr("onceforall.families.open_family", lambda path: family)
    predictor = tmp_path / "predictor.json"
    monkeypatch.setattr(command_family, "read_table", lambda *given: (ClockTable() if given[0] else None, None))
    limits, table = {"max_macs": 3e6, "max_latency_ms": 4}, tmp_path / "t.json"
    command_family.tell_family(tmp_path, limits, None, predictor, False, table_file=table, candidates=200)
    printed = capsys.readouterr().out
    assert "max 3M" in printed and "(predicted)" in printed and "--data PATH" in printed
    [line] = [line for line in printed.splitlines() if line.startswith("latency_ms")]
    assert line.split() == ["latency_ms", "max", "4", "ms", "3.2", "ms", "(predicted)"]


def test_a_latency_table_of_another_network_is_refused(tmp_path, monkeypatch):
    from onceforall.evaluation.engines import EngineSettings
    from onceforall.families import Family
    from onceforall.searching.latency_measuring import identity_of
    from onceforall.searching.latency_table import LatencyTable

    network = small_network()
    family = Family(tmp_path, {"metric": "accuracy", "higher_is_better": True, "phase": "only"}, network)
    monkeypatch.setattr("onceforall.families.open_family", lambda path: family)
    identity = identity_of(network, EngineSettings("onnxruntime")) | {"network": "Other"}
    LatencyTable(identity, {}).save(tmp_path / "t.json")
    with pytest.raises(UserError, match="is of another network: network Other"):
        command_family.tell_family(tmp_path, {}, None, None, False, table_file=tmp_path / "t.json", force=True)
