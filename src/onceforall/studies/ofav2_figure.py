"""The bar chart of the OFAv2 study: the best of each step, network and teacher, ours beside the paper's."""

from pathlib import Path
from typing import Any

from onceforall.errors import UserError
from onceforall.evaluation.pareto import write_figure
from onceforall.studies.ofav2 import NETWORKS, STEPS, TABLES, TEACHERS, WIDTHS
from onceforall.studies.results import Results, Side

__all__ = ["bar_heights", "bar_figures", "write_chart"]

# of Okabe and Ito's palette, as in the other pictures
COLOURS = dict(zip(STEPS, ("#8A8A8A", "#56B4E9", "#009E73", "#E69F00", "#0072B2", "#D55E00"), strict=True))
OURS, PAPER = "ours: on test, best on validation", "paper: best on test"


def bar_heights(results: Results, width: str) -> dict[tuple[str, str], dict[str, list[float | None]]]:
    """(Teacher, whose) -> step -> percent of each network; None where there is nothing."""
    out: dict[tuple[str, str], dict[str, list[float | None]]] = {}
    for teacher in TEACHERS:
        for step in STEPS:
            means = [results.mean(Side(network, teacher, float(width), step)) for network in NETWORKS]
            ours = [None if mean is None else 100 * mean for mean in means]
            theirs = [TABLES[width, network, teacher].get(step, (None, None))[1] for network in NETWORKS]
            out.setdefault((teacher, OURS), {})[step] = ours
            out.setdefault((teacher, PAPER), {})[step] = theirs
    return out


def _short(network: str) -> str:
    return network.removesuffix("_ofa_mbv3").upper() if network.endswith("_ofa_mbv3") else "baseline"


def write_chart(results: Results, width: str, path: Path, note: str) -> None:
    """Draw the chart of a width as PNG. Raises `UserError` without matplotlib (extra `report`)."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"a chart needs {error.name}: pip install 'onceforall[report]'.") from error
    figure = Figure(figsize=(13, 7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, sharex=True, sharey="col", squeeze=False)
    heights = bar_heights(results, width)
    for row, (teacher, shown) in zip(panels, TEACHERS.items(), strict=True):
        for axes, whose in zip(row, (OURS, PAPER), strict=True):
            for number, (step, values) in enumerate(heights[teacher, whose].items()):
                known = [(place, value) for place, value in enumerate(values) if value is not None]
                places = [place + (number - 2.5) * 0.14 for place, _ in known]
                axes.bar(places, [value for _, value in known], 0.14, color=COLOURS[step], label=step)
            axes.set_title(f"{shown} teacher; {whose}", fontsize=10)
            axes.set_xticks(range(len(NETWORKS)), [_short(network) for network in NETWORKS])
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
            axes.set_axisbelow(True)
            axes.set_ylabel("accuracy (%)")
    panels[0][1].legend(ncols=6, fontsize=8, loc="upper left", frameon=False)
    panels[0][1].margins(y=0.15)
    figure.suptitle(f"OFAv2, Table {WIDTHS[width]}: width {width}")
    figure.supxlabel(note, fontsize=7, wrap=True)
    write_figure(figure, path, format="png", dpi=130)


def bar_figures(results: Results, width: str) -> list[dict[str, Any]]:
    """The same for the page, one figure for each teacher: ours as bars, the paper's as marks."""
    out = []
    heights, names = bar_heights(results, width), [_short(network) for network in NETWORKS]
    for teacher, shown in TEACHERS.items():
        data: list[dict[str, Any]] = []
        for step, colour in COLOURS.items():
            more = {"type": "bar", "x": names, "legendgroup": step, "marker": {"color": colour}}
            data.append(more | {"name": step, "y": heights[teacher, OURS][step], "offsetgroup": step})
            faint = {"marker": {"color": colour, "opacity": 0.35}, "visible": "legendonly", "showlegend": True}
            data.append(more | faint | {"name": f"{step}, paper", "y": heights[teacher, PAPER][step]})
            data[-1] |= {"offsetgroup": f"{step}, paper", "legendgroup": f"{step}, paper"}
        layout = {"height": 380, "barmode": "group", "yaxis": {"title": {"text": "test accuracy (%)"}}}
        caption = f"Width {width}, {shown} teacher: {OURS}; a click on the legend shows the paper's best on test"
        out.append({"data": data, "layout": layout, "caption": caption})
    return out
