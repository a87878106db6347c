"""From a run to its accuracy predictor: measure, fit, and say how good it is, in `RUN/search`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from onceforall.errors import UserError, check_choice
from onceforall.evaluation.cost import cost
from onceforall.evaluation.evaluate import Evaluation
from onceforall.evaluation.pareto import QUALITIES, Quantity, blank_figure, save
from onceforall.evaluation.result_cache import digest_of_weights
from onceforall.files import write_text
from onceforall.runs import Run
from onceforall.searching.measuring import measure_all
from onceforall.searching.predictor import Fitting, curve_sizes, fit_predictor, learning_curve
from onceforall.searching.predictor import kendall_tau as tau
from onceforall.searching.sampling import spread_architectures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FittedRun", "Table", "ceiling_text", "fit_run", "tables", "tau_of_halves"]

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""

HALVINGS = 20


@final
@dataclass(frozen=True)
class FittedRun:
    """What `fit_run` found and wrote.

    Args:
        fitting: the predictor, and the scores of all candidates.
        ceiling: see `tau_of_halves`; None where no scores of single images are kept.
        curve: see `learning_curve`.
        images: of the split that was measured on.
        files: what was written: the predictor, the report and, with matplotlib, the picture.
        inputs: what was measured on, for words: "images" or "volumes".
    """

    fitting: Fitting
    ceiling: float | None
    curve: list[dict[str, float]]
    images: int
    files: tuple[Path, ...]
    inputs: str = "images"


def fit_run(
    run: Run,
    count: int,
    *,
    metric: str | None = None,
    calibration_images: int | None = None,
    folds: int = 5,
    seed: int = 0,
    curve: Sequence[int] | None = None,
    workers: int = 1,
    executor: str = "loky",
    progress: Callable[[int, int], object] | None = None,
) -> FittedRun:
    """Measure `count` architectures of a run, fit a predictor, and write `search/predictor.json` with a report.

    Args:
        run: from `open_run`.
        count: how many architectures, the smallest and the largest among them; see `spread_architectures`. What was
            measured before counts.
        metric: a number of the run's task; by default the one by which its networks are chosen.
        calibration_images: training images for re-estimating batch normalisation; the recipe's number by default.
        folds, seed: of the cross-validation; the seed also draws the architectures.
        curve: sizes of the learning curve; see `curve_sizes`.
        workers, executor, progress: as for `measure_all`.
    """
    if count < folds:
        raise UserError(f"{count} architectures and {folds} folds: measure at least as many architectures as folds.")
    name = metric or run.task.metric
    images = run.recipe.run.calibration_images if calibration_images is None else calibration_images
    architectures = spread_architectures(run.space, count, lambda each: cost(run.supernet, each).macs, seed=seed)
    if len(architectures) < folds:
        raise UserError(
            f"the search space after {run.phase!r} has {len(architectures)} architectures: too few for {folds} folds."
        )
    curve_sizes(len(architectures), curve)  # refuses what cannot be before anything is measured
    how, judged_on = {"split": "validation", "calibration_images": images}, run.data.count("validation")
    if metric is not None:
        [first] = measure_all(run, architectures[:1], **how)  # kept, and not measured again
        check_choice("metric", metric, first.metrics)
    evaluations = measure_all(run, architectures, **how, workers=workers, executor=executor, progress=progress)
    own = name == run.task.metric
    higher = run.task.higher_is_better if own else QUALITIES.get(name, Quantity(name)).higher_is_better
    facts = how | {"phase": run.phase, "weights": digest_of_weights(run.supernet), "images": judged_on}
    scores = [evaluation.metrics[name] for evaluation in evaluations]
    fitting = fit_predictor(
        run.supernet.space,
        architectures,
        scores,
        metric=name,
        images=judged_on,
        higher_is_better=higher,
        folds=folds,
        seed=seed,
        facts=facts,
    )
    ceiling = _ceiling(evaluations, seed) if own else None
    learned, inputs = learning_curve(fitting.predictor, curve), run.data.inputs
    fitted = FittedRun(fitting, ceiling, learned, judged_on, (), inputs)
    return _write(fitted, run.folder / "search")


def tau_of_halves(scores: np.ndarray, seed: int = 0) -> float:
    """Kendall's tau of two rankings of architectures, each by one half of the images; the mean of 20 random halvings.

    It tells how much of an order is chance of the images. A predictor that knew every architecture's true quality would
    come out somewhat higher, for it is judged on all images and not on a half.

    Args:
        scores: (architectures, images) the score of each image.
        seed: of the halvings.
    """
    rng, images = np.random.default_rng([seed, 0x4A1F]), scores.shape[1]
    found = []
    for _ in range(HALVINGS):
        order = rng.permutation(images)
        one, other = (scores[:, part].mean(1) for part in (order[: images // 2], order[images // 2 :]))
        found.append(tau(one, other))
    return float(np.mean(found))


def _ceiling(evaluations: Sequence[Evaluation], seed: int) -> float | None:
    kept = [evaluation.correct for evaluation in evaluations]
    if any(scores is None for scores in kept):
        return None
    scores = np.array(kept, np.float64)  # (architectures, images)
    judged = scores[:, ~np.isnan(scores).any(axis=0)]  # NaN: an image that the task does not judge
    return tau_of_halves(judged, seed) if judged.shape[1] >= 2 else None


# -- telling it ---------------------------------------------------------------------------------------------------


def tables(fitted: FittedRun) -> list[Table]:
    """The candidates, and the learning curve, as text."""
    candidates = [
        [
            score.name + (" (chosen)" if score is fitted.fitting.chosen else ""),
            f"{score.tau:.3f}",
            f"{score.rmse:.4g}",
            f"{score.within_one:.0%}",
            f"{score.within_two:.0%}",
        ]
        for score in fitted.fitting.candidates
    ]
    curve = [
        [
            str(point["architectures"]),
            f"{point['tau']:.3f}",
            f"{point['low']:.3f} to {point['high']:.3f}",
            f"{point['rmse']:.4g}",
        ]
        for point in fitted.curve
    ]
    found = [(["candidate", "tau", "RMSE", "within 1 SD", "within 2 SD"], candidates)]
    return found + ([(["architectures", "tau", "of five parts", "RMSE"], curve)] if curve else [])


def _write(fitted: FittedRun, folder: Path) -> FittedRun:
    fitted.fitting.predictor.save(folder / "predictor.json")
    files = [folder / "predictor.json", folder / "predictor.md"]
    try:
        files += _draw(fitted, folder / "predictor.png")
    except ImportError:
        note = "No picture was drawn: it needs matplotlib (pip install 'onceforall[report]')."
    else:
        note = "![Predicted against measured](predictor.png)"
    write_text(folder / "predictor.md", _report(fitted, note))
    return replace(fitted, files=tuple(files))


def ceiling_text(fitted: FittedRun) -> str:
    """One line on how well two halves of the images agree."""
    metric = fitted.fitting.predictor.metric
    if fitted.ceiling is None:
        return f"Ceiling: not known, for no {metric} of single {fitted.inputs} is kept."
    return f"Ceiling: tau {fitted.ceiling:.3f} between two halves of the {fitted.images} {fitted.inputs}."


REPORT = """# Predictor of {metric}

{architectures} architectures after the phase `{phase}`, measured on {images} {split} {inputs} with batch normalisation
re-estimated on {calibration_images} training {inputs}. {metric}: {least:.4f} to {most:.4f}.

## Candidates

Each architecture is predicted by a model that has not seen it. tau is Kendall's rank correlation of predicted and
measured. The last columns are the share of measured values within one and two predicted standard deviations; of a
normal distribution they are 68% and 95%.

{candidates}

{ceiling}

{picture}

## Learning curve

Each fifth is held out once, and the chosen candidate is fitted to so many of the other architectures.

{curve}
"""


def _report(fitted: FittedRun, picture: str) -> str:
    predictor = fitted.fitting.predictor
    candidates, *curve = [_markdown(table) for table in tables(fitted)]
    return REPORT.format(
        metric=predictor.metric,
        architectures=len(predictor.scores),
        least=min(predictor.scores),
        most=max(predictor.scores),
        candidates=candidates,
        ceiling=ceiling_text(fitted),
        picture=picture,
        inputs=fitted.inputs,
        curve=curve[0] if curve else "Too few architectures for a learning curve.",
        **{name: predictor.facts[name] for name in ("phase", "images", "split", "calibration_images")},
    )


def _markdown(table: Table) -> str:
    header, rows = table
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def _draw(fitted: FittedRun, path: Path) -> tuple[Path, Path]:
    """Predicted by cross-validation against measured; raises `ImportError` without matplotlib."""
    import matplotlib  # noqa: F401

    predictor, chosen = fitted.fitting.predictor, fitted.fitting.chosen
    quality = QUALITIES.get(predictor.metric, Quantity(predictor.metric))
    figure, axes = blank_figure()
    measured, predicted = (quality.scale * np.array(values) for values in (predictor.scores, chosen.predicted))
    _draw_points(axes, measured, predicted)
    axes.set_xlabel(f"{quality.label}, measured")
    axes.set_ylabel(f"{quality.label}, predicted")
    title = f"{len(measured)} architectures, each predicted from others by {chosen.name}: tau {chosen.tau:.3f}"
    axes.set_title(title, loc="left")
    return save(figure, path)


def _draw_points(axes: "Axes", measured: np.ndarray, predicted: np.ndarray) -> None:
    low, high = min(measured.min(), predicted.min()), max(measured.max(), predicted.max())
    axes.plot([low, high], [low, high], color="#8A8A8A", linewidth=1)
    axes.scatter(measured, predicted, s=22, color="#0072B2", alpha=0.7, linewidths=0, zorder=3)
    axes.set_aspect("equal", adjustable="datalim")
