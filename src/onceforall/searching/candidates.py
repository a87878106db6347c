"""Regression models that may become a predictor, from scikit-learn, behind one interface.

A model is made in two steps: `find_parameters` looks for its hyper-parameters, `fit` computes the model from them. The
second step is quick and uses no chance beyond its seed, so a model is kept as its data and hyper-parameters.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.neural_network import MLPRegressor

from onceforall.errors import check_choice

__all__ = ["CANDIDATES", "Candidate", "Model", "find_parameters", "fit"]

Parameters = dict[str, float]


@final
@dataclass(frozen=True)
class Candidate:
    """One kind of model.

    Args:
        make: (hyper-parameters, seed) to an estimator of scikit-learn.
        find: (features, standardised targets) to hyper-parameters, where some are found from the data.
        knows_deviation: whether it has a standard deviation of its own for each prediction.
    """

    make: Callable[[Mapping[str, float], int], Any]
    find: Callable[[np.ndarray, np.ndarray], Parameters] = lambda features, targets: {}
    knows_deviation: bool = False


def _find_ridge(features: np.ndarray, targets: np.ndarray) -> Parameters:
    """The penalty with the least leave-one-out error."""
    fitted: Any = RidgeCV(alphas=np.logspace(-2, 4, 25)).fit(features, targets)
    return {"alpha": float(fitted.alpha_)}


def _kernel(parameters: Mapping[str, float]) -> Any:
    """A smooth function of how many variables two architectures differ in, and noise."""
    signal = ConstantKernel(parameters["signal"], (1e-3, 1e5))
    length = RBF(parameters["length"], (0.3, 1e3))
    return signal * length + WhiteKernel(parameters["noise"], (1e-6, 1e1))


def _find_process(features: np.ndarray, targets: np.ndarray) -> Parameters:
    """The kernel under which the data are most likely."""
    start = {"signal": 1.0, "length": math.sqrt(features.sum(1).mean()), "noise": 0.1}
    model: Any = GaussianProcessRegressor(_kernel(start)).fit(features, targets)
    return dict(zip(start, map(float, np.exp(model.kernel_.theta)), strict=True))


def _make_trees(_: Mapping[str, float], seed: int) -> Any:
    # "auto" stops early from 10,000 samples on; here there are never so many
    return HistGradientBoostingRegressor(
        learning_rate=0.1, max_iter=100, max_leaf_nodes=8, min_samples_leaf=5, random_state=seed
    )


def _make_process(found: Mapping[str, float], _: int) -> Any:
    return GaussianProcessRegressor(_kernel(found), optimizer=None)  # pyright: ignore[reportArgumentType]


def _make_network(_: Mapping[str, float], seed: int) -> Any:
    return MLPRegressor(
        hidden_layer_sizes=(64, 64), alpha=0.1, learning_rate_init=3e-3, max_iter=200, random_state=seed
    )


CANDIDATES: dict[str, Candidate] = {
    "ridge": Candidate(lambda found, _: Ridge(alpha=found["alpha"]), _find_ridge),
    "gaussian_process": Candidate(_make_process, _find_process, knows_deviation=True),
    "boosted_trees": Candidate(_make_trees),
    "network": Candidate(_make_network),
}
"""By name, the simpler ones first."""


@final
@dataclass(frozen=True)
class Model:
    """A fitted candidate."""

    estimator: Any
    centre: float
    scale: float
    knows_deviation: bool

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean and, of a model that knows it, standard deviation of the target, of new noise too; both (n,)."""
        if self.knows_deviation:
            mean, deviation = self.estimator.predict(features, return_std=True)
            return self.centre + self.scale * mean, self.scale * deviation
        return self.centre + self.scale * self.estimator.predict(features), None


def find_parameters(name: str, features: np.ndarray, targets: np.ndarray) -> Parameters:
    """Hyper-parameters of the candidate `name` for features (n, columns) and targets (n,)."""
    check_choice("candidate", name, CANDIDATES)
    centre, scale = _standard(targets)
    with _quiet():
        return CANDIDATES[name].find(features, (targets - centre) / scale)


def fit(name: str, parameters: Mapping[str, float], features: np.ndarray, targets: np.ndarray, seed: int = 0) -> Model:
    """The candidate `name` with these hyper-parameters, fitted to features (n, columns) and targets (n,)."""
    check_choice("candidate", name, CANDIDATES)
    centre, scale = _standard(targets)
    with _quiet():
        estimator = CANDIDATES[name].make(parameters, seed).fit(features, (targets - centre) / scale)
    return Model(estimator, centre, scale, CANDIDATES[name].knows_deviation)


def _standard(targets: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, 1 where all are equal."""
    return float(targets.mean()), float(targets.std()) or 1.0


def _quiet() -> Any:
    """Bounds that are reached and epochs that are used up are part of the choice between candidates."""
    return warnings.catch_warnings(action="ignore", category=ConvergenceWarning)
