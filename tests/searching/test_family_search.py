"""The network for a budget from a family: by its predictor alone, and honest about that."""

import json
from pathlib import Path

import pytest

from onceforall.errors import UserError
from onceforall.evaluation.cost import cost
from onceforall.evaluation.result_cache import digest_of_weights
from onceforall.families import Family
from onceforall.searching.family_search import family_row, search_family
from onceforall.searching.predictor import fit_predictor
from onceforall.searching.sampling import spread_architectures
from tiny_search import all_architectures, small_network

BUDGET = 3_000_000


def write_predictor(path: Path, network, weights: str) -> None:
    """A predictor to which more multiply-adds are better."""
    drawn = spread_architectures(network.space, 24, lambda each: cost(network, each).macs, seed=0)
    scores = [0.5 + cost(network, each).macs / 1e8 for each in drawn]
    how = {"metric": "accuracy", "images": 100, "higher_is_better": True, "facts": {"weights": weights}}
    fit_predictor(network.space, drawn, scores, **how).predictor.save(path)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families") / "family"
    (folder / "models").mkdir(parents=True)
    network = small_network()
    write_predictor(folder / "models" / "predictor.json", network, digest_of_weights(network))
    return Family(folder, {"metric": "accuracy", "higher_is_better": True, "phase": "only"}, network, network.space)


def test_the_best_network_within_the_budget_is_found(family):
    answer = search_family(family, {"max_macs": BUDGET}, candidates=400)
    fitting = [cost(family.supernet, each).macs for each in all_architectures(family.supernet.space)]
    best = max(macs for macs in fitting if macs <= BUDGET)
    assert 0.9 * best <= answer.chosen.values["macs"] <= BUDGET
    row = family_row(answer)
    assert not row["measured"] and row["export"].endswith("--data PATH") and "accuracy_test" not in row
    front = json.loads((family.folder / "search" / "front.json").read_text())
    assert front["measured"] is False and front["front"]
    assert Path(row["network"]).is_file()
    assert "--data PATH" in (family.folder / "search" / "front.html").read_text()


def test_what_does_not_fit_is_told_with_the_nearest(family):
    with pytest.raises(UserError, match=r"no network that was found has macs of at most 10\. .*--data PATH"):
        search_family(family, {"max_macs": 10}, candidates=200)


def test_what_is_missing_is_named(family, tmp_path):
    with pytest.raises(UserError, match="needs a latency table"):
        search_family(family, {"max_latency_ms": 5})
    bare = Family(tmp_path, family.about, family.supernet, family.space)
    with pytest.raises(UserError, match="has no predictor, and without data no network is measured"):
        search_family(bare, {})


def test_a_predictor_of_other_weights_is_refused(family, tmp_path):
    (tmp_path / "models").mkdir()
    write_predictor(tmp_path / "models" / "predictor.json", family.supernet, "0" * 32)
    with pytest.raises(UserError, match="fitted to other weights"):
        search_family(Family(tmp_path, family.about, family.supernet, family.space), {})


def test_only_what_its_phase_trained_is_proposed(family):
    """Larger depths were still to come."""
    part = family.space.restrict(depths=family.space.depths[:1], resolutions=family.space.resolutions[-1:])
    early = Family(family.folder, family.about, family.supernet, part)
    answer = search_family(early, {}, candidates=200)
    assert all(member.architecture in part for member in answer.result.front)
    assert answer.chosen.architecture not in (family.space.largest(), family.space.smallest())
