"""Models behind one interface."""

import numpy as np
import pytest
from scipy.stats import norm

from onceforall.errors import UserError
from onceforall.searching.candidates import CANDIDATES, find_parameters, fit

RNG = np.random.default_rng(0)
FEATURES = RNG.integers(0, 2, (60, 8)).astype(float)
TARGETS = 0.6 + FEATURES @ np.array([0.05, -0.03, 0.02, 0.04, 0, 0, -0.02, 0.01])


@pytest.mark.parametrize("name", CANDIDATES)
def test_each_learns_a_sum_in_units_of_the_target_and_repeats_itself(name):
    parameters = find_parameters(name, FEATURES[:45], TARGETS[:45])
    assert all(isinstance(value, float) for value in parameters.values())
    model = fit(name, parameters, FEATURES[:45], TARGETS[:45], seed=3)
    mean, deviation = model.predict(FEATURES[45:])
    assert mean.shape == (15,)
    assert np.sqrt(np.mean((mean - TARGETS[45:]) ** 2)) < 0.5 * TARGETS.std()
    again, _ = fit(name, parameters, FEATURES[:45], TARGETS[:45], seed=3).predict(FEATURES[45:])
    np.testing.assert_array_equal(mean, again)
    assert (deviation is not None) == CANDIDATES[name].knows_deviation


def test_ridge_is_the_solution_of_its_equations():
    model = fit("ridge", {"alpha": 2.0}, FEATURES, TARGETS)
    centred = FEATURES - FEATURES.mean(0)
    weights = np.linalg.solve(centred.T @ centred + 2.0 * np.eye(8), centred.T @ (TARGETS - TARGETS.mean()))
    np.testing.assert_allclose(model.predict(FEATURES)[0], TARGETS.mean() + centred @ weights, atol=1e-12)


def test_a_process_says_how_noisy_the_target_is():
    noisy = TARGETS + RNG.normal(0, 0.02, 60)
    parameters = find_parameters("gaussian_process", FEATURES, noisy)
    mean, deviation = fit("gaussian_process", parameters, FEATURES, noisy).predict(FEATURES)
    assert 0.012 < np.median(deviation) < 0.03
    assert abs(np.mean(abs(noisy - mean) < deviation) - (norm.cdf(1) - norm.cdf(-1))) < 0.2


def test_equal_targets_and_unknown_names():
    flat = np.full(60, 0.7)
    np.testing.assert_allclose(fit("ridge", {"alpha": 1.0}, FEATURES, flat).predict(FEATURES)[0], flat)
    with pytest.raises(UserError, match="candidate 'rigde' is not one of.*Did you mean 'ridge'"):
        fit("rigde", {}, FEATURES, flat)
