"""The figures of the page, as values that plotly.js draws: data, layout and a caption."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from onceforall.evaluation.pareto import pareto_front
from onceforall.evaluation.results import format_count
from onceforall.report.wording import SHARES, escaped, sentence, show_architecture, show_number, words
from onceforall.training.ledger import PARTS

BLUE, RED, GREY = "#0072B2", "#D55E00", "#8A8A8A"  # Okabe and Ito's palette, as in the other pictures
PART_COLOURS = dict(zip(PARTS, (BLUE, "#56B4E9", "#009E73", "#E69F00", RED, "#CC79A7", GREY), strict=True))
LOSSES = ("log_loss",)  # of the metrics, those that fall
COUNTED_CLASSES = 12  # up to so many, a confusion matrix shows its counts


Span = tuple[int, int, bool]
"""Of a phase the step before its first, its last step, and whether it was rolled back."""


def _figure(data: Sequence[Mapping[str, Any]], caption: str, height: int = 340, **layout: Any) -> dict[str, Any]:
    return {"data": list(data), "layout": {"height": height, **layout}, "caption": caption}


def _curve(name: str, x: Sequence[Any], y: Sequence[Any], colour: str, **more: Any) -> dict[str, Any]:
    line = {"color": colour, "width": 1.2 if colour == GREY else 2}
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": x,
        "y": y,
        "line": line,
        "marker": {"size": 4},
    } | more


def _validation_curves(lines: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """One line for each sub-network; those whose names differ in their number share colour and entry in the legend."""
    kinds = dict.fromkeys(kind for line in lines for kind in line["validation"])
    out = []
    for kind in sorted(kinds, key=lambda kind: (not kind.startswith(("random", "extreme")), kind)):
        points = [(line["step"], line["validation"][kind].get(metric)) for line in lines if kind in line["validation"]]
        group = escaped(re.sub(r"_\d+$", "", kind), 24)
        colour = {"largest": BLUE, "smallest": RED}.get(group, GREY)
        shown = group not in {curve["legendgroup"] for curve in out}
        x, y = zip(*points, strict=True)
        rank = {"largest": 1, "smallest": 2}.get(group, 3)
        out.append(_curve(group, x, y, colour, legendgroup=group, showlegend=shown, legendrank=rank))
    return out


def _curve_figure(
    curves: Sequence[Mapping[str, Any]],
    name: str,
    spans: Mapping[str, Span],
    *,
    rising: bool = False,
    percent: bool = False,
) -> dict[str, Any]:
    """Curves over steps, with a dotted line and its name where a phase begins, and a band over one rolled back."""
    place = {
        "yref": "paper",
        "xanchor": "left",
        "showarrow": False,
        "textangle": -90,
        "font": {"size": 10, "color": GREY},
    }
    place |= {"y": 0, "yanchor": "bottom"} if rising else {"y": 1, "yanchor": "top"}  # where the curves are not
    marks = [
        {"x": start, "text": escaped(phase, 24) + (" (rolled back)" if rolled_back else ""), **place}
        for phase, (start, _, rolled_back) in spans.items()
    ]
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": {"color": GREY, "width": 1, "dash": "dot"}}
    shapes = [{"x0": start, "x1": start, **line} for start, _, _ in spans.values() if start]
    band = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "layer": "below", "line": {"width": 0}}
    band |= {"fillcolor": RED, "opacity": 0.12}
    shapes += [{"x0": start, "x1": end, **band} for start, end, rolled_back in spans.values() if rolled_back]
    axes = {
        "xaxis": {"title": {"text": "step"}, "rangemode": "tozero"},
        "yaxis": {"tickformat": ".1~%" if percent else ""},
    }
    return _figure(curves, sentence(name), shapes=shapes, annotations=marks, **axes)


def loss_figure(lines: Sequence[Mapping[str, Any]], spans: Mapping[str, Span]) -> dict[str, Any]:
    """Training loss of each epoch. `lines`: of metrics.jsonl."""
    steps, losses = [line["step"] for line in lines], [line["train_loss"] for line in lines]
    return _curve_figure([_curve("training", steps, losses, GREY)], "training loss", spans)


def validation_figure(lines: Sequence[Mapping[str, Any]], metric: str, spans: Mapping[str, Span]) -> dict[str, Any]:
    """A metric of the validated sub-networks. `lines`: those of metrics.jsonl that hold a validation."""
    curves, rising = _validation_curves(lines, metric), metric not in LOSSES
    return _curve_figure(curves, f"validation {words(metric)}", spans, rising=rising, percent=metric in SHARES)


def front_figure(rows: Sequence[Mapping[str, Any]], cost: str, metric: str, higher_is_better: bool) -> dict[str, Any]:
    """Quality against a cost; the architecture shows under the pointer."""
    rows = sorted((row for row in rows if row.get(cost) is not None and row[metric] is not None), key=lambda r: r[cost])
    sign = 1 if higher_is_better else -1
    front = pareto_front([(row[cost], sign * row[metric]) for row in rows])
    groups = [(f"off the front ({len(rows) - len(front)})", sorted(set(range(len(rows))) - set(front)), GREY)]
    groups += [(f"Pareto front ({len(front)})", front, BLUE)]
    data = []
    for name, indices, colour in groups:
        chosen = [rows[i] for i in indices]
        ends = [(row.get(f"{metric}_low"), row.get(f"{metric}_high")) for row in chosen]
        up = [0 if high is None else high - row[metric] for row, (_, high) in zip(chosen, ends, strict=True)]
        down = [0 if low is None else row[metric] - low for row, (low, _) in zip(chosen, ends, strict=True)]
        error = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 0.8, "width": 0}
        more = {"text": [_hover(row, metric) for row in chosen], "hoverinfo": "text", "error_y": error}
        curve = _curve(name, [row[cost] for row in chosen], [row[metric] for row in chosen], colour, **more)
        data.append(curve | {"mode": "markers" if colour == GREY else "lines+markers", "marker": {"size": 8}})
        data[-1]["line"] |= {"shape": "hv"}
    yaxis = {"title": {"text": words(metric)}, "tickformat": ".1~%" if metric in SHARES else ""}
    xaxis = {"title": {"text": words(cost)}, "rangemode": "tozero"}
    return _figure(data, f"{words(metric)} against {words(cost)}", 420, xaxis=xaxis, yaxis=yaxis, hovermode="closest")


def _hover(row: Mapping[str, Any], metric: str) -> str:
    cost = f"{format_count(row['macs'])} MACs, {format_count(row['params'])} parameters"
    lines = [
        row["name"],
        f"{words(metric)} {show_number(metric, row[metric])}",
        cost,
        *show_architecture(row).split(" | "),
    ]
    return "<br>".join(map(escaped, lines))


def confusion_figure(name: str, matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> dict[str, Any]:
    """Rows are the truth; colours are shares of the row, for classes differ in size."""
    shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
    labels = [escaped(name, 18) for name in classes]
    ticks = {"tickvals": list(range(len(labels))), "ticktext": labels} if len(labels) <= 60 else {}
    heat = {
        "type": "heatmap",
        "z": shares,
        "text": matrix,
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "#FFFFFF"], [1, BLUE]],
    }
    heat |= {"showscale": False, "xgap": 1, "ygap": 1, "hoverongaps": False}
    heat |= {"texttemplate": "%{text}"} if len(labels) <= COUNTED_CLASSES else {}
    heat |= {"customdata": [[f"{true} taken for {taken}" for taken in labels] for true in labels]}
    heat |= {"hovertemplate": "%{customdata}<br>%{text} images, %{z:.1%}<extra></extra>"}
    xaxis = {"constrain": "domain", "showgrid": False, **ticks}
    yaxis = {
        "autorange": "reversed",
        "scaleanchor": "x",
        "constraintoward": "top",
        "constrain": "domain",
        "showgrid": False,
        **ticks,
    }
    height = min(900, 280 + 22 * len(labels))
    return _figure(
        [heat], f"Confusion matrix of {name}: row the truth, column the prediction", height, xaxis=xaxis, yaxis=yaxis
    )


def cost_figure(ledger: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A bar for each phase, stacked by what the time was spent on."""
    total = max(sum(entry["seconds"].values()) for entry in ledger)
    unit, factor = ("hours", 3600) if total > 7200 else ("minutes", 60) if total > 120 else ("seconds", 1)
    phases = [escaped(entry["phase"], 24) for entry in ledger]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": part,
            "y": phases,
            "x": [entry["seconds"].get(part, 0) / factor for entry in ledger],
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}}, {part}: %{{x:.3~g}} {unit}<extra></extra>",
        }
        for part, colour in PART_COLOURS.items()
    ]
    axes = {"xaxis": {"title": {"text": unit}}, "yaxis": {"autorange": "reversed", "automargin": True}}
    return _figure(data, "Time by phase", 150 + 34 * len(ledger), barmode="stack", bargap=0.35, **axes)
