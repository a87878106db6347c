"""What `onceforall search` prints for a family; the search itself is tested in test_family_search."""

import pytest

from onceforall.errors import UserError
from onceforall.searching import command_family


def test_a_folder_that_is_no_family_is_told(tmp_path):
    with pytest.raises(UserError, match=r"is no family: family\.json is missing"):
        command_family.tell_family(tmp_path, {}, None, None, None, False)


def test_the_answer_is_printed_with_what_was_asked(tmp_path, capsys, monkeypatch):
    from onceforall.families import Family
    from onceforall.searching.predictor import fit_predictor
    from onceforall.searching.sampling import spread_architectures
    from tiny_search import small_network

    network = small_network()
    drawn = spread_architectures(network.space, 20, lambda each: network.measure(each).macs, seed=0)
    scores = [0.5 + network.measure(each).macs / 1e8 for each in drawn]
    fitting = fit_predictor(network.space, drawn, scores, metric="accuracy", images=50, higher_is_better=True)
    fitting.predictor.save(tmp_path / "predictor.json")
    family = Family(tmp_path, {"metric": "accuracy", "higher_is_better": True, "phase": "only"}, network)
    monkeypatch.setattr("onceforall.families.open_family", lambda path: family)
    predictor = tmp_path / "predictor.json"
    command_family.tell_family(tmp_path, {"max_macs": 3e6}, None, predictor, None, False, candidates=200)
    printed = capsys.readouterr().out
    assert "max 3M" in printed and "(predicted)" in printed and "--data PATH" in printed
