"""Which networks are worth having (the Pareto front of cost and quality), and the picture of it.

Cost is minimised, quality maximised. One point *dominates* another when it is at least as good in both and better in
one; the front is what nothing dominates. Equal points do not dominate each other: all of them are on it, or none.
"""

import math
import numbers
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from onceforall.errors import UserError, suggestion
from onceforall.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["pareto_front", "plot_front"]

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8A8A8A"  # blue and vermilion of Okabe and Ito's colour-blind safe palette
LOG_RATIO = 30  # costs that spread further than this are drawn on a logarithmic axis


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the `(cost, quality)` points that no other dominates, by rising cost.

    Equal points are all kept, in the order given. Of points with equal cost only the best are kept, of points with
    equal quality only the cheapest. Empty in, empty out. Raises `UserError` for a NaN, which compares with nothing.

    >>> pareto_front([(2, 0.8), (1, 0.7), (3, 0.8), (4, 0.9), (1, 0.6)])
    [1, 0, 3]
    """
    for index, point in enumerate(points):
        if any(math.isnan(number) for number in point):
            raise UserError(
                f"point {index} is {tuple(point)}: cost and quality must be numbers, leave such points out."
            )
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        # by rising cost: only a better quality, or the twin of the point just taken, is undominated
        if not front or points[index][1] > points[front[-1]][1] or tuple(points[index]) == tuple(points[front[-1]]):
            front.append(index)
    return front


@final
@dataclass(frozen=True, slots=True)
class Quantity:
    """How a column is drawn: its name, its unit, by what it is multiplied, which way is better."""

    name: str
    unit: str = ""
    scale: float = 1.0
    higher_is_better: bool = True

    @property
    def label(self) -> str:
        """The axis label, as "Accuracy (%)"."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


QUALITIES = {
    "accuracy": Quantity("Accuracy", "%", 100),
    "sensitivity": Quantity("Sensitivity, macro", "%", 100),
    "specificity": Quantity("Specificity, macro", "%", 100),
    "macro_f1": Quantity("Macro F1"),
    "auc": Quantity("Area under the ROC curve"),
    "dice": Quantity("Dice"),
    "log_loss": Quantity("Log-loss", "nats", higher_is_better=False),
}
COSTS = {  # name, plural unit
    "macs": ("Multiply-adds", "MACs"),
    "params": ("Parameters", ""),
    "activations": ("Activations", ""),
    "weight_bytes": ("Weights", "bytes"),
    "peak_bytes": ("Largest layer's input and output", "bytes"),
    "latency_ms": ("Latency", "ms"),
}


def plot_front(
    rows: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    x: str = "macs",
    y: str = "accuracy",
    *,
    title: str = "",
    higher_is_better: bool | None = None,
    interval: str = "95 % interval",
) -> tuple[Path, Path]:
    """Draw `y` against `x`, one point a row, with the Pareto front highlighted, and save it as PNG and as SVG.

    `rows` hold the numbers under the names `x` (a cost) and `y` (a quality; accuracy as a share, drawn in %). Where a
    row also holds `<y>_low` and `<y>_high`, that interval is drawn as a bar and named `interval` in the legend. The
    cheapest and the most expensive network are marked. `higher_is_better` is known for our metrics (log-loss: false),
    and true for other names. Costs that spread by more than a factor of 30 get a logarithmic axis.

    `path` names the pair, with or without ".png" or ".svg"; missing folders are made. Each file is complete or absent.
    Returns both paths. Raises `UserError` without matplotlib (extra `report`), without rows, and for a row without a
    finite `x` and `y`. pyplot, and with it any global figure, is never touched.
    """
    if not rows:
        raise UserError("there is nothing to draw: no rows were given.")
    quality = QUALITIES.get(y, Quantity(y))
    better = quality.higher_is_better if higher_is_better is None else higher_is_better
    costs, qualities = column(rows, x), column(rows, y)
    front = pareto_front([(cost, q if better else -q) for cost, q in zip(costs, qualities, strict=True)])
    cost = cost_quantity(x, max(costs))

    figure, axes = blank_figure()
    xs, ys = [cost.scale * value for value in costs], [quality.scale * value for value in qualities]
    draw_intervals(axes, rows, xs, y, quality.scale, set(front), interval)
    draw_points(axes, xs, ys, front)
    mark_ends(axes, xs, ys)
    if min(costs) > 0 and max(costs) / min(costs) > LOG_RATIO:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel(cost.label)
    axes.set_ylabel(quality.label + ("" if better else ", lower is better"))
    axes.set_title(title, loc="left")
    handles, labels = axes.get_legend_handles_labels()  # in the order drawn: intervals, off the front, front
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=3, frameon=False)  # covers no point
    return save(figure, Path(path))


def column(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The finite number `name` of every row, or a `UserError` that names the row."""
    values: list[float] = []
    for index, row in enumerate(rows):
        if name not in row:
            raise UserError(f"row {index} has no {name!r}; it has: {', '.join(map(repr, row))}.{suggestion(name, row)}")
        if not isinstance(row[name], numbers.Real) or not math.isfinite(row[name]):
            raise UserError(f"row {index} has {name} = {row[name]!r}: only finite numbers can be drawn.")
        values.append(float(row[name]))
    return values


def cost_quantity(name: str, largest: float) -> Quantity:
    """How the cost `name` is drawn; counts in thousands, millions or billions, by the largest value."""
    title, unit = COSTS.get(name, (name, ""))
    if name not in COSTS or name == "latency_ms":
        return Quantity(title, unit)
    for power, word in ((9, "billion"), (6, "million"), (3, "thousand")):
        if largest >= 10**power:
            return Quantity(title, f"{word} {unit}".strip(), 10.0**-power)
    return Quantity(title, unit)


def blank_figure() -> "tuple[Figure, Axes]":
    """An empty picture without pyplot; `UserError` naming the extra where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("a picture needs matplotlib: pip install 'onceforall[report]'.") from error
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.18, y=0.08)  # at the sides, room for the names of the ends
    return figure, axes


def draw_intervals(
    axes: "Axes", rows: Sequence[Mapping[str, Any]], xs: list[float], y: str, scale: float, front: set[int], name: str
) -> None:
    """Bars from `<y>_low` to `<y>_high` for the rows that hold both, those of the front darker."""
    for index, (row, position) in enumerate(zip(rows, xs, strict=True)):
        low, high = row.get(f"{y}_low"), row.get(f"{y}_high")
        if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
            continue
        strong = index in front
        axes.vlines(
            position,
            scale * low,
            scale * high,
            color=BLUE if strong else GREY,
            alpha=0.55 if strong else 0.25,
            linewidth=1.6 if strong else 1.0,
            label=name,
            zorder=2,
        )
        name = "_" + name.lstrip("_")  # an underscore keeps the rest out of the legend


def draw_points(axes: "Axes", xs: list[float], ys: list[float], front: list[int]) -> None:
    """All points; the front filled, and joined by steps, for between two of its networks there is none."""
    rest = sorted(set(range(len(xs))) - set(front))
    if rest:
        label = f"sub-networks off the front ({len(rest)})"
        axes.scatter(
            [xs[i] for i in rest],
            [ys[i] for i in rest],
            s=22,
            color=GREY,
            alpha=0.7,
            linewidths=0,
            label=label,
            zorder=3,
        )
    axes.plot(
        [xs[i] for i in front],
        [ys[i] for i in front],
        color=BLUE,
        marker="o",
        markersize=6,
        markeredgecolor="white",
        markeredgewidth=0.8,
        linewidth=1.6,
        drawstyle="steps-post",
        label=f"Pareto front ({len(front)})",
        zorder=4,
    )


def mark_ends(axes: "Axes", xs: list[float], ys: list[float]) -> None:
    """Ring and name the cheapest and the most expensive network (of equal ones the first)."""
    smallest, largest = xs.index(min(xs)), xs.index(max(xs))
    if xs[smallest] == xs[largest]:
        return
    # nothing is cheaper and nothing more expensive, so on these sides the words cover no point
    for index, word, offset, side in ((smallest, "smallest", -9, "right"), (largest, "largest", 9, "left")):
        ring = {"markersize": 11, "color": "none", "markeredgecolor": ORANGE, "markeredgewidth": 1.6}
        axes.plot(xs[index], ys[index], "o", **ring, zorder=5)
        place = {"xytext": (offset, 0), "textcoords": "offset points", "ha": side, "va": "center"}
        axes.annotate(word, (xs[index], ys[index]), **place, color=ORANGE, fontsize=9, fontweight="bold", zorder=6)


def save(figure: "Figure", path: Path) -> tuple[Path, Path]:
    """Write `figure` as `path` with ".png" and with ".svg" in place of, or behind, its ending."""
    stem = path.with_suffix("") if path.suffix.lower() in (".png", ".svg") else path
    png, svg = Path(f"{stem}.png"), Path(f"{stem}.svg")
    write_figure(figure, png, format="png", dpi=160)
    write_figure(figure, svg, format="svg", metadata={"Date": None})
    return png, svg


def write_figure(figure: "Figure", path: Path, **options: Any) -> None:
    """`figure.savefig` with these options; the file is whole or, with a `UserError`, stays as it was."""
    write_atomically(path, lambda file: figure.savefig(file, **options))
