"""Predicting a metric of architectures that were not measured, from those that were.

Four kinds of model are tried, and the one is taken that ranks architectures best which it has not seen: the search
needs the order more than the value.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from scipy.stats import kendalltau

from onceforall.architecture import Architecture
from onceforall.errors import UserError, check_keys
from onceforall.files import write_text
from onceforall.search_space import SearchSpace
from onceforall.searching.candidates import CANDIDATES, Model, find_parameters, fit
from onceforall.searching.encoding import encode
from onceforall.searching.scales import Scale, scale_of

__all__ = ["CandidateScore", "Fitting", "Predictor", "curve_sizes", "fit_predictor", "kendall_tau", "learning_curve"]

FEWEST = 10  # architectures from which a point of the learning curve is computed
KEYS = (
    "space",
    "metric",
    "higher_is_better",
    "architectures",
    "scores",
    "scale",
    "candidate",
    "parameters",
    "deviation",
    "seed",
)


@final
@dataclass(frozen=True)
class Predictor:
    """A model of one metric over one search space, fitted when it is made.

    Args:
        space: the search space.
        metric: what is predicted, such as "accuracy".
        higher_is_better: whether a larger metric is the better one.
        architectures, scores: what was measured.
        scale: on which the model works.
        candidate: the kind of model, a name of `CANDIDATES`.
        parameters: its hyper-parameters.
        deviation: standard deviation, on the scale, of predictions by a model that does not know its own.
        seed: of the fit.
        facts: anything JSON can hold that tells where the scores come from.
    """

    space: SearchSpace
    metric: str
    higher_is_better: bool
    architectures: tuple[Architecture, ...]
    scores: tuple[float, ...]
    scale: Scale
    candidate: str
    parameters: Mapping[str, float]
    deviation: float
    seed: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    _model: Model = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        features = encode(self.space, self.architectures)
        values = self.scale.forward(np.array(self.scores))
        model = fit(self.candidate, self.parameters, features, values, self.seed)
        object.__setattr__(self, "_model", model)

    def predict(self, architectures: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the metric as it would be measured, both (architectures,).

        Raises `UserError` for an architecture outside the space.
        """
        if not len(architectures):
            return np.empty(0), np.empty(0)
        mean, deviation = self._model.predict(encode(self.space, architectures))
        return self.scale.back(mean, np.full(len(mean), self.deviation) if deviation is None else deviation)

    def check(self, space: SearchSpace, metric: str | None = None) -> None:
        """Raise `UserError` unless this predictor is of `space` and, where it is given, of `metric`."""
        if space != self.space:
            raise UserError(
                f"the predictor is of another search space: its has {self.space.size():.4g} architectures, this one "
                f"{space.size():.4g}. Fit one with: onceforall predictor fit RUN"
            )
        if metric is not None and metric != self.metric:
            raise UserError(
                f"the predictor is of the metric {self.metric!r}, not {metric!r}. Fit one with: onceforall predictor "
                f"fit RUN --metric {metric}"
            )

    def save(self, path: str | Path) -> None:
        """Write the measured architectures and the choice of the model as JSON, with a checksum."""
        contents: dict[str, Any] = {
            "space": self.space.to_dict(),
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "architectures": [architecture.to_dict() for architecture in self.architectures],
            "scores": list(self.scores),
            "scale": {"name": self.scale.name, "margin": self.scale.margin},
            "candidate": self.candidate,
            "parameters": dict(self.parameters),
            "deviation": self.deviation,
            "seed": self.seed,
            "facts": dict(self.facts),
            "fitted": self.predict(self.architectures)[0].tolist(),
        }
        write_text(Path(path), json.dumps(contents | {"checksum": _checksum(contents)}, allow_nan=False) + "\n")

    @staticmethod
    def load(path: str | Path) -> "Predictor":
        """Read what `save` wrote and fit the model again, which takes a second or less for 500 architectures.

        Raises `UserError` where there is no such file, where it was changed, and where this installation of
        scikit-learn computes another model from it.
        """
        contents = _read(Path(path))
        predictor = Predictor(
            SearchSpace.from_dict(contents["space"]),
            contents["metric"],
            contents["higher_is_better"],
            tuple(map(Architecture.from_dict, contents["architectures"])),
            tuple(contents["scores"]),
            Scale(**contents["scale"]),
            contents["candidate"],
            contents["parameters"],
            contents["deviation"],
            contents["seed"],
            contents["facts"],
        )
        fitted, spread = predictor.predict(predictor.architectures)[0], np.std(predictor.scores)
        if not np.allclose(fitted, contents["fitted"], rtol=0, atol=1e-3 * spread):
            raise UserError(f"{path} gives another model with this version of scikit-learn; fit the predictor again.")
        return predictor


def _checksum(contents: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(contents, sort_keys=True).encode(), digest_size=16).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path} does not exist. Make it with: onceforall predictor fit RUN")
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); fit the predictor again.") from error
    check_keys(f"predictor {path}", contents, (*KEYS, "facts", "fitted", "checksum"))
    if contents.pop("checksum") != _checksum(contents):
        raise UserError(f"{path} was changed after it was written: its checksum differs. Fit the predictor again.")
    return contents


# -- choosing the model -------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class CandidateScore:
    """How well one kind of model predicts architectures that it has not seen.

    Args:
        name: the candidate.
        tau: Kendall's rank correlation of predicted and measured.
        rmse: root mean squared error, in units of the metric.
        within_one, within_two: share of measured values within one and two predicted standard deviations; 0.68 and
            0.95 for a normal distribution.
        predicted: (architectures,) predictions, each by a model that has not seen the architecture.
    """

    name: str
    tau: float
    rmse: float
    within_one: float
    within_two: float
    predicted: tuple[float, ...]


@final
@dataclass(frozen=True)
class Fitting:
    """What `fit_predictor` found: the predictor, and the scores of all candidates."""

    predictor: Predictor
    candidates: tuple[CandidateScore, ...]

    @property
    def chosen(self) -> CandidateScore:
        """The score of the candidate that became the predictor."""
        return next(score for score in self.candidates if score.name == self.predictor.candidate)


def fit_predictor(
    space: SearchSpace,
    architectures: Sequence[Architecture],
    scores: Sequence[float],
    *,
    metric: str,
    images: int,
    higher_is_better: bool = True,
    folds: int = 5,
    seed: int = 0,
    facts: Mapping[str, Any] | None = None,
) -> Fitting:
    """Choose a kind of model by cross-validation and fit it to everything.

    The architectures are split at random into `folds` parts, and each part is predicted from the others, which also
    give the hyper-parameters. The best tau wins; of those that are equal to two decimals the smallest error, of equal
    ones the simplest. `images` is the number of images behind each score; see `scale_of`.

    Raises `UserError` for fewer architectures than folds, scores that are not finite, and scores that are all equal.
    """
    values = np.asarray(scores, np.float64)
    _check_scores(values, len(architectures), metric, folds)
    features, parts = encode(space, architectures), _parts(len(values), folds, seed)
    scale = scale_of(metric, values.tolist(), images)
    found = [_cross_validate(name, features, values, scale, parts, seed) for name in CANDIDATES]
    best, deviation = min(found, key=lambda each: (-round(each[0].tau, 2), each[0].rmse))
    predictor = Predictor(
        space,
        metric,
        higher_is_better,
        tuple(architectures),
        tuple(values.tolist()),
        scale,
        best.name,
        find_parameters(best.name, features, scale.forward(values)),
        deviation,
        seed,
        facts or {},
    )
    return Fitting(predictor, tuple(score for score, _ in found))


def _check_scores(scores: np.ndarray, architectures: int, metric: str, folds: int) -> None:
    if len(scores) != architectures:
        raise UserError(f"{len(scores)} scores of {architectures} architectures: there must be as many.")
    if not 2 <= folds <= len(scores):
        raise UserError(
            f"{len(scores)} architectures and {folds} folds: give at least 2 folds and as many architectures."
        )
    if not np.isfinite(scores).all():
        raise UserError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} architectures have no finite {metric}.")
    if np.ptp(scores) == 0:
        raise UserError(
            f"all {len(scores)} architectures have the same {metric}, {scores[0]:g}: there is nothing to predict. "
            "Measure on more images, or take a finer metric such as log_loss."
        )


def _parts(count: int, folds: int, seed: int) -> list[np.ndarray]:
    """Indices 0 to count - 1 in random order, in parts of almost equal size."""
    return np.array_split(np.random.default_rng([seed, 0xF01D]).permutation(count), folds)


def _cross_validate(
    name: str, features: np.ndarray, scores: np.ndarray, scale: Scale, parts: Sequence[np.ndarray], seed: int
) -> tuple[CandidateScore, float]:
    """The score of a candidate, and its root mean squared error on the scale."""
    values = scale.forward(scores)
    predicted, deviations = np.empty_like(values), np.full_like(values, np.nan)
    for part in parts:
        known = np.setdiff1d(np.arange(len(values)), part)
        model = fit(name, find_parameters(name, features[known], values[known]), features[known], values[known], seed)
        predicted[part], own = model.predict(features[part])
        deviations[part] = np.nan if own is None else own
    squares = (predicted - values) ** 2
    for part in parts:
        if np.isnan(deviations[part]).all():  # the model does not know: as wrong as it was on the other parts
            deviations[part] = np.sqrt(np.delete(squares, part).mean())
    mean, deviation = scale.back(predicted, deviations)
    errors = mean - scores
    one, two = (float(np.mean(abs(errors) <= times * deviation)) for times in (1, 2))
    rmse, tau = float(np.sqrt(np.mean(errors**2))), kendall_tau(mean, scores)
    return CandidateScore(name, tau, rmse, one, two, tuple(mean.tolist())), float(np.sqrt(squares.mean()))


def kendall_tau(one: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> float:
    """Kendall's rank correlation (tau-b), from -1 to 1; 0 where one side is constant and ranks nothing.

    >>> round(kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]), 6)  # five of six pairs agree
    0.666667
    """
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    found: Any = kendalltau(one, other)
    return float(found.statistic)


def curve_sizes(count: int, given: Sequence[int] | None) -> list[int]:
    """At how many of `count` architectures, of which a fifth is held out, there are points of a learning curve.

    By default all of the others, half, a quarter, an eighth, down to 10. Raises `UserError` for an impossible size,
    and for fewer than 5 architectures.
    """
    most = count - math.ceil(count / 5)
    if given is None:
        return [] if count < 5 * FEWEST // 2 else [most // n for n in (8, 4, 2, 1) if most // n >= FEWEST]
    if count < 5 and given:
        raise UserError(f"a learning curve of {count} architectures: it is drawn on fifths, measure 5 or more.")
    for size in given:
        if not 2 <= size <= most:
            raise UserError(
                f"a point of the learning curve at {size} architectures: of {count} a fifth is held out, give 2 to "
                f"{most} or measure {math.ceil(size / 0.8)}."
            )
    return sorted(given)


def learning_curve(predictor: Predictor, sizes: Sequence[int] | None = None) -> list[dict[str, float]]:
    """How good predictions become with the number of measured architectures, on a fifth that is held out.

    Each fifth is held out once; `tau` is the mean over the five, `low` and `high` the least and the largest, `rmse`
    the root mean squared error over all, in units of the metric. The model is fitted to so many random ones of the
    other four fifths; see `curve_sizes`.
    """
    features, scores = encode(predictor.space, predictor.architectures), np.array(predictor.scores)
    values = predictor.scale.forward(scores)
    parts, sizes = _parts(len(values), 5, predictor.seed), curve_sizes(len(values), sizes)
    out = []
    for size in sizes:
        taus, squares = [], []
        for held_out in parts:
            rest = np.concatenate([part for part in parts if part is not held_out])
            known = np.random.default_rng([predictor.seed, 0xC0DE]).permutation(rest)[:size]
            parameters = find_parameters(predictor.candidate, features[known], values[known])
            model = fit(predictor.candidate, parameters, features[known], values[known], predictor.seed)
            mean, _ = predictor.scale.back(model.predict(features[held_out])[0], np.zeros(len(held_out)))
            taus.append(kendall_tau(mean, scores[held_out]))
            squares.append((mean - scores[held_out]) ** 2)
        rmse = float(np.sqrt(np.concatenate(squares).mean()))
        point = {"architectures": size, "tau": float(np.mean(taus)), "low": min(taus), "high": max(taus)}
        out.append(point | {"rmse": rmse})
    return out
