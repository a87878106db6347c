"""The predictor on synthetic targets, where the truth is known."""

import json
import random

import numpy as np
import pytest

from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.searching import predictor as module
from onceforall.searching.candidates import fit
from onceforall.searching.predictor import Predictor, curve_sizes, fit_predictor, kendall_tau, learning_curve

SPACE = SearchSpace.build(3, resolutions=[32, 48, 64], depths=[1, 2], kernel_sizes=[3, 5, 7], expand_ratios=[3, 6])
RNG = random.Random(0)
DRAWN = list(dict.fromkeys(SPACE.sample(RNG) for _ in range(260)))[:230]
KNOWN, NEW = DRAWN[:130], DRAWN[130:]


def quality(architecture):
    """Linear in what there is, and one interaction: large kernels help where the resolution is high."""
    kernels = sum(block.kernel_size for stage in architecture.stages for block in stage.blocks)
    expands = sum(block.expand_ratio**0.5 for stage in architecture.stages for block in stage.blocks)
    size = architecture.resolution / 64
    return 0.2 + 0.1 * size + 0.02 * expands + 0.004 * kernels * size


TRUE = np.array([quality(architecture) for architecture in NEW])
MEASURED = np.array([quality(architecture) for architecture in KNOWN])
MEASURED += np.random.default_rng(0).normal(0, 0.004, len(KNOWN))


@pytest.fixture(scope="module")
def fitting():
    facts = {"split": "validation"}
    return fit_predictor(SPACE, KNOWN, MEASURED, metric="accuracy", images=1000, folds=3, facts=facts)


def only(monkeypatch, *names):
    monkeypatch.setattr(module, "CANDIDATES", {name: module.CANDIDATES[name] for name in names})


def test_the_chosen_candidate_ranks_new_architectures(fitting):
    mean, deviation = fitting.predictor.predict(NEW)
    assert kendall_tau(mean, TRUE) >= 0.9
    assert np.sqrt(np.mean((mean - TRUE) ** 2)) < 0.006
    assert mean.shape == deviation.shape == (len(NEW),) and (deviation > 0).all()
    assert all(len(each) == 0 for each in fitting.predictor.predict([]))


def test_every_candidate_is_judged_on_architectures_it_has_not_seen(fitting):
    assert [score.name for score in fitting.candidates] == ["ridge", "gaussian_process", "boosted_trees", "network"]
    assert fitting.chosen.tau >= max(score.tau for score in fitting.candidates) - 0.01
    for score in fitting.candidates:
        errors = np.array(score.predicted) - MEASURED
        assert score.rmse == pytest.approx(np.sqrt(np.mean(errors**2)))
        assert score.rmse > 0.003, "less than the noise would mean that it has seen them"
        assert 0.5 < score.within_one < 0.9 and 0.88 < score.within_two <= 1


def test_the_file_gives_the_same_predictor(fitting, tmp_path):
    path = tmp_path / "search" / "predictor.json"
    fitting.predictor.save(path)
    loaded = Predictor.load(path)
    assert loaded == fitting.predictor
    for one, other in zip(loaded.predict(NEW), fitting.predictor.predict(NEW), strict=True):
        np.testing.assert_array_equal(one, other)
    text = path.read_text()
    contents = json.loads(text)
    score = contents["scores"][3]
    path.write_text(text.replace(str(score), str(score + 0.01)))
    with pytest.raises(UserError, match="was changed after it was written"):
        Predictor.load(path)
    path.write_text(text[:-100])
    with pytest.raises(UserError, match="is damaged"):
        Predictor.load(path)
    with pytest.raises(UserError, match="onceforall predictor fit RUN"):
        Predictor.load(tmp_path / "nothing.json")
    path.write_text('{"space": 3}')
    with pytest.raises(UserError, match="lacks the key metric"):
        Predictor.load(path)


def test_a_file_from_which_another_model_comes_is_refused(fitting, tmp_path, monkeypatch):
    fitting.predictor.save(tmp_path / "p.json")

    def fit_to_less(name, parameters, features, targets, seed):
        return fit(name, parameters, features[:40], targets[:40], seed)

    monkeypatch.setattr(module, "fit", fit_to_less)
    with pytest.raises(UserError, match="another model with this version of scikit-learn"):
        Predictor.load(tmp_path / "p.json")


def test_another_space_or_metric_is_refused(fitting):
    other = SPACE.restrict(kernel_sizes=[3, 5])
    fitting.predictor.check(SPACE, "accuracy")
    with pytest.raises(UserError, match="another search space"):
        fitting.predictor.check(other)
    with pytest.raises(UserError, match="of the metric 'accuracy', not 'dice'"):
        fitting.predictor.check(SPACE, "dice")
    with pytest.raises(UserError, match="outside the search space: resolution 80"):
        fitting.predictor.predict([SPACE.extend(resolutions=[32, 48, 64, 80]).largest()])


@pytest.mark.parametrize(
    ("scores", "folds", "expected"),
    [
        ([0.5, 0.6, 0.7], 5, "3 architectures and 5 folds"),
        ([0.5, 0.6, 0.7], 1, "3 architectures and 1 folds"),
        ([0.5] * 6, 3, "all 6 architectures have the same accuracy, 0.5"),
        ([0.5, float("nan"), 0.7], 3, "1 of 3 architectures have no finite accuracy"),
    ],
)
def test_mistakes_are_told(scores, folds, expected):
    with pytest.raises(UserError, match=expected):
        fit_predictor(SPACE, KNOWN[: len(scores)], scores, metric="accuracy", images=1000, folds=folds)
    with pytest.raises(UserError, match="2 scores of 3 architectures"):
        fit_predictor(SPACE, KNOWN[:3], [0.5, 0.6], metric="accuracy", images=1000, folds=2)


def test_of_equals_the_simpler_one_is_taken(monkeypatch):
    twin = module.CANDIDATES["ridge"]
    monkeypatch.setitem(module.CANDIDATES, "aaa", twin)
    only(monkeypatch, "ridge", "aaa")
    found = fit_predictor(SPACE, KNOWN[:30], MEASURED[:30], metric="accuracy", images=1000)
    assert found.predictor.candidate == "ridge" and found.candidates[0].tau == found.candidates[1].tau


def test_the_learning_curve_rises(monkeypatch):
    only(monkeypatch, "ridge")
    curve = learning_curve(fit_predictor(SPACE, KNOWN, MEASURED, metric="accuracy", images=1000).predictor)
    assert [point["architectures"] for point in curve] == [13, 26, 52, 104]
    taus = [point["tau"] for point in curve]
    assert taus == sorted(taus) and taus[0] < taus[-1] - 0.1
    assert all(point["low"] <= point["tau"] <= point["high"] for point in curve)
    few = fit_predictor(SPACE, KNOWN[:20], MEASURED[:20], metric="accuracy", images=1000).predictor
    assert learning_curve(few) == []


def test_fewer_than_five_architectures_have_no_learning_curve():
    assert curve_sizes(5, [2, 4]) == [2, 4] and curve_sizes(4, None) == []
    with pytest.raises(UserError, match="of 4 architectures: it is drawn on fifths"):
        curve_sizes(4, [2])


def test_kendall_tau_of_lists_that_can_be_counted():
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == 1 and kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx((5 - 1) / 6)
    # tau-b with a tie: 5 pairs agree, none disagrees, one pair is tied on one side; 5 / sqrt(6 * 5)
    assert kendall_tau([1, 2, 3, 4], [1, 2, 2, 4]) == pytest.approx(5 / np.sqrt(30))
    assert kendall_tau([1, 2, 3], [5, 5, 5]) == 0
