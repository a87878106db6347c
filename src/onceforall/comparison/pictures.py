"""The three pictures of a comparison, as PNG and as figures of the page: time, score against cost, convergence."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onceforall.errors import UserError
from onceforall.evaluation.pareto import write_figure
from onceforall.report.figures import PART_COLOURS, cost_figure
from onceforall.report.wording import SHARES, escaped, sentence, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "page_figures", "write_pictures"]

PICTURES = ("training.png", "scores.png", "convergence.png")

# of Okabe and Ito's palette, as in the other pictures; with more runs they come again
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A")
CURVES = {"train_loss": "training loss", "largest": "largest", "smallest": "smallest"}

Contents = Mapping[str, Any]


def write_pictures(contents: Contents, folder: Path) -> list[Path]:
    """Draw what `compare_runs` found. Raises `UserError` without matplotlib (extra `report`)."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError("no pictures: matplotlib is missing; pip install 'onceforall[report]'.") from error
    paths = [folder / name for name in PICTURES]
    for path, draw in zip(paths, (_training, _scores, _convergence), strict=True):
        write_figure(draw(contents), path, format="png", dpi=130)
    return paths


def colours(contents: Contents) -> dict[str, str]:
    """A colour for each run."""
    return {run["name"]: COLOURS[i % len(COLOURS)] for i, run in enumerate(contents["runs"])}


def compared(contents: Contents) -> dict[str, str]:
    """A colour for each run of which many networks were measured."""
    return {row["run"]: colours(contents)[row["run"]] for row in contents["overall"]}


def time_unit(contents: Contents) -> tuple[str, float]:
    """Unit of the times and its seconds."""
    most = max(run["seconds"]["total"] for run in contents["runs"])
    return ("hours", 3600.0) if most > 7200 else ("minutes", 60.0) if most > 120 else ("seconds", 1.0)


def macs_unit(contents: Contents) -> tuple[str, float]:
    """Name of the unit in which the work of training is shown, and the factor."""
    most = max(run["macs"] for run in contents["runs"])
    word, power = next(((word, p) for p, word in ((12, "trillion"), (9, "billion")) if most >= 10**p), ("million", 6))
    return f"{word} multiply-adds (analytic)", 10.0**-power


def cost_scale(contents: Contents) -> tuple[str, float]:
    """Name of the cost of the buckets, and the factor by which it is shown."""
    return ("latency (ms)", 1.0) if contents["cost"] == "latency_ms" else ("million multiply-adds", 1e-6)


def _panels(rows: int, columns: int, width: float, height: float, **options: Any) -> "tuple[Figure, Any]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#E6E6E6", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, panels


def _training(contents: Contents) -> "Figure":
    """Time of each run by what it was spent on, and its multiply-adds."""
    runs = contents["runs"]
    figure, [[time, macs]] = _panels(1, 2, 12, 1.8 + 0.55 * len(runs), sharey=True, width_ratios=(3, 2))
    unit, factor = time_unit(contents)
    work, scale = macs_unit(contents)
    names = [run["name"] for run in runs]
    left = [0.0] * len(runs)
    for part, colour in PART_COLOURS.items():
        values = [run["seconds"].get(part, 0.0) / factor for run in runs]
        time.barh(names, values, 0.6, left=left, color=colour, label=part)
        left = [start + value for start, value in zip(left, values, strict=True)]
    macs.barh(names, [scale * run["macs"] for run in runs], 0.6, color=list(colours(contents).values()))
    for place, run in enumerate(runs):
        label = {"va": "center", "xytext": (5, 0), "textcoords": "offset points", "fontsize": 9}
        time.annotate(f"{left[place]:.3g}{_ratio(run, 'seconds')}", (left[place], place), **label)
        text = f"{scale * run['macs']:.3g}{_ratio(run, 'macs')}, {run['epochs']} epochs"
        macs.annotate(text, (scale * run["macs"], place), **label)
    time.invert_yaxis()
    time.margins(x=0.2)
    macs.margins(x=0.75)
    time.set_xlabel(unit)
    macs.set_xlabel(work)
    handles, labels = time.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(PART_COLOURS), frameon=False, fontsize=8)
    figure.suptitle("Training time and work")
    return figure


def _ratio(run: Mapping[str, Any], name: str) -> str:
    ratio = run["ratio"][name]
    return "" if ratio is None else f" ({ratio:.2f}×)"


def _scores(contents: Contents) -> "Figure":
    """Mean and interval of each bucket and run over faint networks; stars: trained alone. Beside it log-loss."""
    metric = contents["metric"]
    names = [name for name in dict.fromkeys((metric, "log_loss")) if _known(contents, name)]
    figure, [panels] = _panels(1, len(names), 6.5 * len(names), 4.8)
    label, scale = cost_scale(contents)
    for axes, name in zip(panels, names, strict=True):
        percent = 100 if name in SHARES else 1
        for number, (run, colour) in enumerate(compared(contents).items()):
            xs = [scale * network["cost"] for network in contents["networks"]]
            ys = [_scaled(network["runs"][run][name], percent) for network in contents["networks"]]
            axes.scatter(xs, ys, s=9, color=colour, alpha=0.25, linewidths=0)
            _bucket_means(axes, contents, run, name, (number, colour), scale, percent)
        for single in contents["singles"]:
            look = {"color": colours(contents)[single["run"]], "marker": "*", "s": 90, "label": single["run"]}
            value = single["rows"][0]["score" if name == metric else name]
            axes.scatter([scale * single["cost"]], [_scaled(value, percent)], **look)
        for bucket in contents["buckets"][1:]:
            axes.axvline(scale * bucket["low"], color="#BBBBBB", linewidth=0.8, linestyle=":")
        axes.set_xlabel(label)
        axes.set_ylabel(f"{contents['split']} {words(name)}{' (%)' if percent == 100 else ''}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    count = len(contents["networks"])
    figure.suptitle(
        f"The same {count} sub-networks of each run; bars: 95 % over test {contents['inputs']}", fontsize=11
    )
    return figure


def _known(contents: Contents, name: str) -> bool:
    return any(value.get(name) is not None for network in contents["networks"] for value in network["runs"].values())


def _scaled(value: float | None, factor: float) -> float:
    return float("nan") if value is None else factor * value


def _bucket_means(
    axes: "Axes", contents: Contents, run: str, name: str, look: tuple[int, str], scale: float, percent: float
) -> None:
    """A run's points; those of different runs stand beside each other."""
    costs = [network["cost"] for network in contents["networks"]]
    number, colour = look
    step = scale * 0.012 * (max(costs) - min(costs)) * (number - (len(contents["overall"]) - 1) / 2)
    xs, ys, low, high = [], [], [], []
    for place, bucket in enumerate(contents["buckets"], start=1):
        members = [network["cost"] for network in contents["networks"] if network["bucket"] == place]
        [row] = [row for row in bucket["rows"] if row["run"] == run]
        xs.append(scale * sum(members) / len(members) + step)
        main = name == contents["metric"]
        value = _scaled(row["score" if main else name], percent)
        ends = (row["low"], row["high"]) if main else (None, None)
        ys.append(value)
        low.append(0.0 if ends[0] is None else value - percent * ends[0])
        high.append(0.0 if ends[1] is None else percent * ends[1] - value)
    look_of = {"color": colour, "marker": "o", "markersize": 5, "capsize": 2, "linewidth": 1.4}
    axes.errorbar(xs, ys, yerr=[low, high], label=run, **look_of)


def _convergence(contents: Contents) -> "Figure":
    """Loss and validation over steps and over multiply-adds; a dotted line where a phase begins.

    The names of a run's phases stand in a panel of its own, the first run's in the first.
    """
    figure, panels = _panels(len(CURVES), 2, 13, 9.5, sharey="row", sharex="col")
    work, factor = macs_unit(contents)
    for level, (row, (key, shown)) in enumerate(zip(panels, CURVES.items(), strict=True)):
        percent = 100 if contents["metric"] in SHARES and key != "train_loss" else 1
        for axes, (x, scale) in zip(row, (("step", 1.0), ("macs", factor)), strict=True):
            for number, (run, colour) in enumerate(colours(contents).items()):
                curve = contents["curves"][run]
                xs, ys = _points(curve, x, key)
                look = {"color": colour, "marker": ".", "markersize": 4, "linewidth": 1.3, "label": run}
                axes.plot([scale * value for value in xs], [percent * value for value in ys], **look)
                _phases(axes, curve, x, scale, colour, named=x == "step" and number % len(CURVES) == level)
        what = shown if key == "train_loss" else f"{shown}: validation {words(contents['metric'])}"
        row[0].set_ylabel(what + (" (%)" if percent == 100 else ""))
    panels[-1][0].set_xlabel("step")
    panels[-1][1].set_xlabel(work)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("Convergence; dotted: a phase begins. Smallest and largest are those of the phase", fontsize=11)
    return figure


def _points(curve: Mapping[str, Any], x: str, y: str) -> tuple[list[float], list[float]]:
    points = [(p[x], p[y]) for p in curve["points"] if p[x] is not None and p.get(y) is not None]
    return [point[0] for point in points], [point[1] for point in points]


def _phases(axes: "Axes", curve: Mapping[str, Any], x: str, scale: float, colour: str, named: bool) -> None:
    for start in curve["starts"]:
        if start[x] is None:
            continue
        axes.axvline(scale * start[x], color=colour, linewidth=0.7, linestyle=":", alpha=0.8)
        if named:
            place = {"rotation": 90, "va": "top", "ha": "left", "fontsize": 6, "color": colour}
            axes.text(scale * start[x], 0.99, f" {start['phase']}", transform=axes.get_xaxis_transform(), **place)


# -- the same for the page --------------------------------------------------------------------------------------------


def page_figures(contents: Contents) -> dict[str, list[dict[str, Any]]]:
    """The figures of the page under "training", "scores" and "convergence", as values that plotly draws."""
    bars = cost_figure([{"phase": run["name"], "seconds": _parts(run)} for run in contents["runs"]])
    names = [name for name in dict.fromkeys((contents["metric"], "log_loss")) if _known(contents, name)]
    curves = [_curve_figure(contents, key, x) for key in CURVES for x in ("step", "macs")]
    return {
        "training": [bars | {"caption": "Time by what it was spent on"}],
        "scores": [_score_figure(contents, name) for name in names],
        "convergence": curves,
    }


def _parts(run: Mapping[str, Any]) -> dict[str, float]:
    return {part: seconds for part, seconds in run["seconds"].items() if part != "total"}


def _score_figure(contents: Contents, name: str) -> dict[str, Any]:
    label, scale = cost_scale(contents)
    data: list[dict[str, Any]] = []
    for run, colour in compared(contents).items():
        shown = {"type": "scatter", "name": escaped(run, 40), "legendgroup": run, "marker": {"color": colour}}
        xs = [scale * network["cost"] for network in contents["networks"]]
        ys = [network["runs"][run][name] for network in contents["networks"]]
        faint = {"marker": {"color": colour, "opacity": 0.3, "size": 5}, "showlegend": False}
        data.append(shown | {"mode": "markers", "x": xs, "y": ys} | faint)
        xs, ys, up, down = [], [], [], []
        for place, bucket in enumerate(contents["buckets"], start=1):
            members = [network["cost"] for network in contents["networks"] if network["bucket"] == place]
            [row] = [row for row in bucket["rows"] if row["run"] == run]
            main = name == contents["metric"] and row["low"] is not None
            xs.append(scale * sum(members) / len(members))
            ys.append(row["score" if name == contents["metric"] else name])
            up.append(row["high"] - row["score"] if main else 0)
            down.append(row["score"] - row["low"] if main else 0)
        error = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1, "width": 3}
        data.append(shown | {"mode": "lines+markers", "x": xs, "y": ys, "error_y": error})
    for single in contents["singles"]:
        value = single["rows"][0]["score" if name == contents["metric"] else name]
        star = {"symbol": "star", "size": 11, "color": colours(contents)[single["run"]]}
        shown = {"type": "scatter", "mode": "markers", "name": escaped(single["run"], 40), "marker": star}
        data.append(shown | {"x": [scale * single["cost"]], "y": [value]})
    yaxis = {"title": {"text": words(name)}, "tickformat": ".1~%" if name in SHARES else ""}
    layout = {"height": 420, "xaxis": {"title": {"text": label}}, "yaxis": yaxis, "hovermode": "closest"}
    return {"data": data, "layout": layout, "caption": sentence(f"{words(name)} against {label}")}


def _curve_figure(contents: Contents, key: str, x: str) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    for run, colour in colours(contents).items():
        curve = contents["curves"][run]
        xs, ys = _points(curve, x, key)
        line = {"line": {"color": colour, "width": 1.6}, "marker": {"size": 4}}
        data.append({"type": "scatter", "mode": "lines+markers", "name": escaped(run, 40), "x": xs, "y": ys, **line})
        dotted = {"type": "line", "yref": "paper", "y0": 0, "y1": 1}
        dotted |= {"line": {"color": colour, "width": 1, "dash": "dot"}}
        shapes += [dotted | {"x0": s[x], "x1": s[x]} for s in curve["starts"] if s[x]]
    share = key != "train_loss" and contents["metric"] in SHARES
    what = CURVES[key] if key == "train_loss" else f"{CURVES[key]}: validation {words(contents['metric'])}"
    over = "steps" if x == "step" else "multiply-adds"
    axes = {"xaxis": {"title": {"text": over}}, "yaxis": {"tickformat": ".1~%" if share else ""}}
    return {"data": data, "layout": {"height": 320, "shapes": shapes, **axes}, "caption": f"{what} over {over}"}
