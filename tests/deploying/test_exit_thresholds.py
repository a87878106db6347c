"""Thresholds of exits: what they do to images, and how near the search comes to trying everything."""

import itertools
import math

import numpy as np
import pytest

from exit_runs import made_up
from onceforall.deploying.exit_thresholds import (
    ExitAnswers,
    ExitCosts,
    ExitPolicy,
    common_policies,
    exit_front,
    leaving,
    outcome_of,
    tune_exits,
)
from onceforall.errors import UserError


def one_by_one(answers, costs, limits):
    """Accuracy and mean cost, image by image; an exit with an infinite limit is not there."""
    right = paid = 0.0
    for image in range(answers.images):
        heads = 0
        for k, limit in enumerate((*limits, 0.0)):
            heads += costs.heads[k] if limit < math.inf else 0
            if answers.confidence[k, image] >= limit:
                right += answers.correct[k, image]
                paid += heads + costs.trunk[k]
                break
    return right / answers.images, paid / answers.images


def everything(answers, costs):
    """What every choice of thresholds leads to."""
    choices = []
    for row in np.sort(answers.confidence[:-1], axis=1):
        choices.append([math.inf, 0.0, *((row[1:] + row[:-1]) / 2)])
    return [one_by_one(answers, costs, limits) for limits in itertools.product(*choices)]


def test_an_image_leaves_at_the_first_exit_that_is_sure_enough():
    confidence = np.array([[0.9, 0.4, 0.2, 0.5], [0.1, 0.8, 0.3, 0.9], [0.5, 0.5, 0.5, 0.5]])
    correct = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]], bool)
    answers, costs = ExitAnswers((1, 2, 4), confidence, correct), ExitCosts((10, 20, 50), (1, 2, 0))
    policy = ExitPolicy((1, 2, 4), (0.5, 0.6))
    assert leaving(policy, answers).tolist() == [0, 1, 2, 0]  # a confidence equal to the threshold is enough
    outcome = outcome_of(policy, answers, costs)
    assert outcome.accuracy == 1.0 and outcome.shares == (0.5, 0.25, 0.25)
    assert outcome.macs == (11 + 23 + 53 + 11) / 4
    without = outcome_of(ExitPolicy((1, 4), (0.5,)), answers, costs)  # the second exit is not computed
    assert without.macs == (11 + 51 + 51 + 11) / 4 and without.accuracy == 0.75


def test_outcomes_are_those_of_counting_image_by_image():
    for seed in range(5):
        answers, costs = made_up(seed)
        outcome = outcome_of(ExitPolicy((1, 2, 3), (0.7, 0.5)), answers, costs)
        assert (outcome.accuracy, outcome.macs) == pytest.approx(one_by_one(answers, costs, (0.7, 0.5)))
        assert outcome_of(ExitPolicy((2, 3), (0.5,)), answers, costs).macs == pytest.approx(
            one_by_one(answers, costs, (math.inf, 0.5))[1]
        )


def test_the_search_comes_near_to_trying_everything():
    tried = equal = 0
    for seed in range(3):
        answers, costs = made_up(seed, images=8)
        known = everything(answers, costs)
        for accuracy in sorted({accuracy for accuracy, _ in known})[1::4]:
            least = min(macs for other, macs in known if other >= accuracy - 1e-9)
            found = outcome_of(tune_exits(answers, costs, min_accuracy=accuracy), answers, costs)
            assert found.accuracy >= accuracy - 1e-9 and least - 1e-9 <= found.macs <= 1.2 * least
            tried, equal = tried + 1, equal + (found.macs <= least + 1e-9)
        for limit in np.linspace(min(macs for _, macs in known), max(macs for _, macs in known), 3):
            best = max(accuracy for accuracy, macs in known if macs <= limit + 1e-9)
            found = outcome_of(tune_exits(answers, costs, max_macs=limit), answers, costs)
            assert found.macs <= limit + 1e-6 and best - 0.11 <= found.accuracy <= best + 1e-9
            tried, equal = tried + 1, equal + (found.accuracy >= best - 1e-9)
    assert equal >= 0.85 * tried


@pytest.mark.parametrize(("images", "seed"), [(8, 41), (8, 70), (12, 70), (20, 36)])
def test_the_best_accuracy_that_there_is_is_not_refused(images, seed):
    answers, costs = made_up(seed, images=images)
    most = max(accuracy for accuracy, _ in everything(answers, costs))
    assert outcome_of(tune_exits(answers, costs, min_accuracy=most), answers, costs).accuracy == pytest.approx(most)
    with pytest.raises(UserError, match=f"the best is {most:.4f}"):
        tune_exits(answers, costs, min_accuracy=most + 0.01)


def test_the_front_rises_and_beats_one_threshold_for_all():
    answers, costs = made_up(1, images=200, exits=4)
    front = [outcome_of(policy, answers, costs) for policy in exit_front(answers, costs)]
    assert all(a.macs < b.macs and a.accuracy < b.accuracy for a, b in itertools.pairwise(front))
    for policy in common_policies(answers, 8):
        simple = outcome_of(policy, answers, costs)
        assert any(each.macs <= simple.macs and each.accuracy >= simple.accuracy for each in front)


def test_rounding_moves_no_image():
    answers, costs = made_up(3, images=100)
    policy = tune_exits(answers, costs, min_accuracy=0.6)
    shaken = ExitAnswers(answers.exits, answers.confidence + 1e-7, answers.correct)
    assert np.array_equal(leaving(policy, answers), leaving(policy, shaken))


def test_a_useless_exit_is_left_out_and_what_is_behind_the_best_one_is_cut_off():
    confidence = np.full((3, 4), 0.9)
    correct = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]], bool)
    policy = tune_exits(ExitAnswers((1, 3, 5), confidence, correct), ExitCosts((1, 2, 9), (1, 1, 1)), min_accuracy=1.0)
    assert policy == ExitPolicy((3,), ())


def test_what_cannot_be_reached_is_refused_with_what_can():
    answers, costs = made_up(0)
    with pytest.raises(UserError, match=r"an accuracy of 1\.0100 is not reached on validation; the best is 0\."):
        tune_exits(answers, costs, min_accuracy=1.01)
    with pytest.raises(UserError, match=r"no image costs less than the first exit's .* multiply-adds; 1 are"):
        tune_exits(answers, costs, max_macs=1)
    with pytest.raises(UserError, match="either"):
        tune_exits(answers, costs)


@pytest.mark.parametrize(
    ("exits", "thresholds"), [((), ()), ((2, 1), (0.5,)), ((1, 2), ()), ((1, 2), (0.0,)), ((1, 2), (1.5,))]
)
def test_policies_that_make_no_sense_are_refused(exits, thresholds):
    with pytest.raises(UserError):
        ExitPolicy(exits, thresholds)


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(UserError, match="did it diverge"):
        ExitAnswers((1, 2), np.array([[np.nan], [0.5]]), np.ones((2, 1), bool))
