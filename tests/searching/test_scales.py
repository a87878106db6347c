"""Scales of metrics, against scipy and finite differences."""

import numpy as np
import pytest
from scipy.special import logit

from onceforall.errors import UserError
from onceforall.searching.scales import Scale, scale_of


def test_half_an_image_is_between_a_perfect_score_and_the_end():
    scale = scale_of("accuracy", [0.0, 0.9, 1.0], images=10)
    expected = logit(np.array([0.5, 9.5, 10.5]) / 11)  # (right + 1/2) of (images + 1)
    np.testing.assert_allclose(scale.forward(np.array([0.0, 0.9, 1.0])), expected)


@pytest.mark.parametrize("scale", [Scale("plain"), Scale("log"), Scale("logit", 0.001)])
def test_back_is_the_inverse_and_deviations_follow_its_slope(scale):
    metric = np.array([0.02, 0.3, 0.97])
    values = scale.forward(metric)
    back, deviations = scale.back(values, np.full(3, 0.01))
    np.testing.assert_allclose(back, metric)
    step = 1e-6
    slopes = (scale.back(values + step, values)[0] - scale.back(values - step, values)[0]) / (2 * step)
    np.testing.assert_allclose(deviations, 0.01 * slopes, rtol=1e-6)


def test_which_scale_a_metric_has():
    assert scale_of("log_loss", [0.2, 0.9], 10) == Scale("log")
    assert scale_of("dice", [0.2, 0.9], 9) == Scale("logit", 0.05)
    assert scale_of("distance", [0.2, 3.0], 9) == Scale("plain")
    with pytest.raises(UserError, match="scale 'square' is not one of"):
        Scale("square")
