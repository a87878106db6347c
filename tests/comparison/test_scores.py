"""Means, paired intervals and verdicts, against numpy by hand."""

import numpy as np
import pytest

from onceforall.comparison.scores import compare_group, difference_interval, image_sums, verdict
from onceforall.evaluation.evaluate import Evaluation
from onceforall.layers.elastic import Cost
from onceforall.search_space import SearchSpace

SPACE = SearchSpace.build(2, resolutions=(16, 24), depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(3, 4))


def results(correct, macs=1000, loss=0.5):
    """One result for each row of (networks, images)."""
    metrics = [{"accuracy": float(row.mean()), "log_loss": loss} for row in correct]
    return [
        Evaluation(SPACE.largest(), Cost(10, macs, 10, 40), values, 16, correct=row)
        for values, row in zip(metrics, correct, strict=True)
    ]


def without_scores(values):
    return [Evaluation(SPACE.largest(), Cost(10, 5, 10, 40), {"accuracy": value}, 16) for value in values]


@pytest.fixture
def answers():
    """Two runs, 5 networks, 400 images: some images are hard for both."""
    rng = np.random.default_rng(3)
    hard = rng.random(400)
    return tuple(hard + 0.3 * rng.random((5, 400)) < level for level in (0.75, 0.85))


def test_means_and_differences_are_those_of_numpy(answers):
    one, other = answers
    first, second = compare_group(
        {"a": results(one), "b": results(other, 3000, 0.25)}, "accuracy", higher_is_better=True, same_images=True
    )
    assert first["score"] == pytest.approx(one.mean()) and second["score"] == pytest.approx(other.mean())
    assert second["difference"] == pytest.approx(other.mean() - one.mean())
    assert (first["macs"], second["macs"]) == (1000, 3000)
    assert second["log_loss_difference"] == -0.25 and "difference" not in first
    assert second["verdict"] == "better" and second["interval"] == "paired"
    swapped = compare_group({"b": results(other), "a": results(one)}, "accuracy", True, True)[1]
    assert swapped["verdict"] == "worse"
    assert compare_group({"a": results(one), "b": results(other)}, "accuracy", False, True)[1]["verdict"] == "worse"


def test_the_paired_interval_is_the_bootstrap_over_images(answers):
    one, other = answers
    low, high, _ = difference_interval(results(other), results(one), "accuracy", same_images=True)
    each = other.mean(0) - one.mean(0)  # of an image, over the networks
    rng = np.random.default_rng(11)
    means = [each[rng.integers(400, size=400)].mean() for _ in range(4000)]
    np.testing.assert_allclose((low, high), np.quantile(means, [0.025, 0.975]), atol=0.002)
    own_low, own_high, _ = difference_interval(results(other), None, "accuracy", same_images=True)
    means = [other.mean(0)[rng.integers(400, size=400)].mean() for _ in range(4000)]
    np.testing.assert_allclose((own_low, own_high), np.quantile(means, [0.025, 0.975]), atol=0.003)


def test_pairing_makes_it_narrower_and_different_images_are_not_paired(answers):
    one, other = answers
    paired = difference_interval(results(other), results(one), "accuracy", same_images=True)
    apart = difference_interval(results(other), results(one), "accuracy", same_images=False)
    assert (paired[2], apart[2]) == ("paired", "unpaired")
    assert paired[1] - paired[0] < 0.7 * (apart[1] - apart[0])
    spread = np.sqrt(sum(side.mean(0).var(ddof=1) / 400 for side in answers))
    assert (apart[1] - apart[0]) / 2 == pytest.approx(1.96 * spread, rel=1e-3)
    assert (apart[0] + apart[1]) / 2 == pytest.approx(other.mean() - one.mean())
    fewer = difference_interval(results(other), results(one[:, :300]), "accuracy", same_images=True)
    assert fewer[2] == "unpaired"


@pytest.mark.parametrize("same_images", [True, False])
def test_images_that_are_not_judged_are_left_out(answers, same_images):
    one, other = (side.astype(float) for side in answers)
    expected = difference_interval(results(other), results(one), "accuracy", same_images)
    gaps = [np.insert(side, 9, np.nan, axis=1) for side in (one, other)]
    assert difference_interval(results(gaps[1]), results(gaps[0]), "accuracy", same_images) == expected


def test_without_scores_of_images_the_networks_count():
    from scipy.stats import t

    one, other = [0.5, 0.6, 0.7, 0.8], [0.55, 0.66, 0.75, 0.81]
    low, high, kind = difference_interval(without_scores(other), without_scores(one), "accuracy", same_images=True)
    gains = np.subtract(other, one)
    half = t.ppf(0.975, 3) * gains.std(ddof=1) / 2
    assert kind == "networks"
    np.testing.assert_allclose((low, high), (gains.mean() - half, gains.mean() + half))
    [row] = compare_group({"a": without_scores(one)}, "accuracy", True, True)
    assert np.isnan(row["log_loss"])
    low, high, _ = difference_interval(without_scores([0.5]), None, "accuracy", same_images=True)
    assert np.isnan(low) and np.isnan(high)


def test_equal_answers_are_undecided(answers):
    one, _ = answers
    row = compare_group({"a": results(one), "b": results(one)}, "accuracy", True, True)[1]
    assert (row["difference_low"], row["difference_high"], row["verdict"]) == (0, 0, "undecided")


def test_verdicts():
    assert [verdict(0.1, 0.2), verdict(-0.2, -0.1), verdict(-0.1, 0.1)] == ["better", "worse", "undecided"]
    assert verdict(-0.2, -0.1, higher_is_better=False) == "better"
    assert verdict(float("nan"), float("nan")) == "undecided"


def test_images_without_a_score_are_left_out(answers):
    one, other = (side.astype(float) for side in answers)
    holed = [np.hstack([side, np.full((len(side), 3), np.nan)]) for side in (one, other)]
    for same in (True, False):
        whole = difference_interval(results(other), results(one), "accuracy", same_images=same)
        assert difference_interval(results(holed[1]), results(holed[0]), "accuracy", same_images=same) == whole
    assert image_sums(results(one)).tolist() == one.sum(axis=0).tolist()
    assert image_sums(without_scores([0.5])) is None
