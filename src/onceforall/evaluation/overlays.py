"""Pictures of segmented volumes: truth and prediction drawn over three planes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from onceforall.data.label_schemes import LabelScheme
from onceforall.errors import UserError
from onceforall.evaluation.pareto import write_figure
from onceforall.evaluation.segmentation import true_masks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["OverlayCase", "best_median_worst", "draw_overlays"]

# of Okabe and Ito's colour-blind safe palette, those that show on grey; one for each output
COLOURS = ("#56B4E9", "#E69F00", "#CC79A7", "#F0E442", "#009E73", "#D55E00", "#0072B2")
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # the axis that a plane is at right angles to, in RAS


@final
@dataclass(frozen=True)
class OverlayCase:
    """A volume with its truth and a prediction, all on one grid whose axes run to the right, the front and the top.

    Args:
        name: of the case.
        title: what stands before it, as "best".
        image: (x, y, z) of any numbers; one channel.
        truth: (x, y, z) label values.
        prediction: (x, y, z) label values, or (foreground outputs, x, y, z) of bool for regions that overlap.
        spacing: size of a voxel along each axis in mm.
        dice: its mean Dice.
    """

    name: str
    title: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    spacing: Sequence[float]
    dice: float


def best_median_worst(scores: Sequence[float]) -> dict[str, int]:
    """Where in `scores` the largest, the (lower) middle and the smallest one stand, by "best", "median", "worst".

    NaN is passed over; of equal scores the first counts. Raises `UserError` where nothing is left.

    >>> best_median_worst([0.8, 0.9, 0.5, 0.7])
    {'best': 1, 'median': 3, 'worst': 2}
    """
    order = sorted((i for i, score in enumerate(scores) if not np.isnan(score)), key=lambda i: scores[i])
    if not order:
        raise UserError("there is no case with a score.")
    best = next(i for i in order if scores[i] == scores[order[-1]])
    return {"best": best, "median": order[(len(order) - 1) // 2], "worst": order[0]}


def draw_overlays(path: Path, cases: Sequence[OverlayCase], scheme: LabelScheme) -> Path:
    """Draw a row for each case and a column for each plane as a PNG at `path`, and return the path.

    Each plane is the one in which the truth's foreground is largest (the prediction's where there is no truth, the
    middle where there is neither). The truth is filled and has a solid line, the prediction a dashed one, in one colour
    for each output. Left and right are as radiologists look at them: the patient's right is on the left.
    Raises `UserError` without matplotlib (extra `report`), without a case, and for a case that is not a volume.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
    except ImportError as error:
        raise UserError("a picture needs matplotlib: pip install 'onceforall[report]'.") from error
    if not cases:
        raise UserError("there is no case to draw.")
    figure = Figure(figsize=(9.6, 3.3 * len(cases) + 0.5), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(cases), len(PLANES), squeeze=False)
    for row, case in zip(panels, cases, strict=True):
        if case.image.ndim != 3 or case.truth.shape != case.image.shape:
            raise UserError(f"{case.name}: image {case.image.shape} and labels {case.truth.shape} are not one volume.")
        for axes, plane in zip(row, ("axial", "coronal", "sagittal"), strict=True):
            _draw_plane(axes, case, scheme, plane)
        row[0].set_ylabel(f"{case.title}\n{case.name}\nDice {case.dice:.3f}", fontsize=10)
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(scheme.foreground)}
    lines = [Line2D([], [], color=colour, linewidth=4, label=name) for name, colour in colours.items()]
    lines += [Line2D([], [], color="#555555", linewidth=1.6, label="truth (filled)")]
    lines += [Line2D([], [], color="#555555", linewidth=1.6, linestyle=(0, (3, 1.5)), label="prediction")]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False, fontsize=10)
    write_figure(figure, path, format="png", dpi=130)
    return path


def _draw_plane(axes: "Axes", case: OverlayCase, scheme: LabelScheme, plane: str) -> None:
    from matplotlib.patheffects import Normal, Stroke

    axis = PLANES[plane]
    truth = true_masks(case.truth, scheme)
    prediction = case.prediction if case.prediction.dtype == np.bool_ else true_masks(case.prediction, scheme)
    index = _largest_section(truth, prediction, axis)
    across, up = (other for other in range(3) if other != axis)
    low, high = np.percentile(case.image[np.isfinite(case.image)], [1, 99])
    aspect = case.spacing[up] / case.spacing[across]
    section = np.take(case.image, index, axis).T  # (up, across)
    axes.imshow(section, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower", aspect=aspect)
    for i in range(len(truth)):
        colour = COLOURS[i % len(COLOURS)]
        true, predicted = (np.take(masks[i], index, axis).T.astype(float) for masks in (truth, prediction))
        if true.any():
            axes.contourf(true, [0.5, 1.5], colors=[colour], alpha=0.3)
            axes.contour(true, [0.5], colors=[colour], linewidths=1.4)
        if predicted.any():
            dashed = axes.contour(predicted, [0.5], colors=[colour], linewidths=1.6, linestyles=[(0, (3, 1.5))])
            dashed.set_path_effects([Stroke(linewidth=3, foreground="black"), Normal()])
    if across == 0:
        axes.invert_xaxis()
    ends = (("R", "L") if across == 0 else ("P", "A")) + (("P", "A") if up == 1 else ("I", "S"))
    for letter, place in zip(ends, ((0.03, 0.5), (0.97, 0.5), (0.5, 0.04), (0.5, 0.96)), strict=True):
        text = axes.text(*place, letter, transform=axes.transAxes, color="white", fontsize=8, ha="center", va="center")
        text.set_path_effects([Stroke(linewidth=2, foreground="black"), Normal()])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"{plane}, slice {index}", fontsize=9)


def _largest_section(truth: np.ndarray, prediction: np.ndarray, axis: int) -> int:
    """The slice along `axis` with the most foreground of the truth, else of the prediction, else the middle."""
    others = tuple(other for other in range(3) if other != axis)
    for masks in (truth, prediction):
        counts = masks.any(axis=0).sum(axis=others)
        if counts.any():
            return int(counts.argmax())
    return truth.shape[axis + 1] // 2
