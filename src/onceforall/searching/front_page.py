"""A picture of networks that answers the pointer: one HTML file that works offline and asks the network for nothing."""

import html
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from onceforall.errors import UserError
from onceforall.evaluation.results import json_types
from onceforall.searching.budget import amount

__all__ = ["front_page"]

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data: blob:">
<title>Networks found by the search</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem; color: #222; }}
h1 {{ font-size: 1.4rem; }}
#front {{ height: 30rem; }}
#command {{ display: block; background: #f3f3f3; padding: .6rem .8rem; overflow-wrap: anywhere; min-height: 1.5em; }}
</style>
</head>
<body>
<h1>Networks found by the search</h1>
<p>{caption}</p>
<p>Point at a network to see it; click on it to copy the command that exports it.</p>
<div id="front"></div>
<p id="said" role="status">Nothing copied yet.</p>
<code id="command"></code>
<script type="application/json" id="data">{data}</script>
<script nonce="{nonce}">{plotly}</script>
<script nonce="{nonce}">
const page = JSON.parse(document.getElementById("data").textContent);
const picture = document.getElementById("front");
const said = document.getElementById("said");
function copyByHand(text) {{
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}}
async function copy(text) {{
  document.getElementById("command").textContent = text;
  let done = true;
  try {{
    await navigator.clipboard.writeText(text);
  }} catch (refused) {{
    done = copyByHand(text);
  }}
  said.textContent = done ? "Copied:" : "The browser keeps its clipboard; copy this:";
}}
Plotly.newPlot(picture, page.traces, page.layout, {{responsive: true, displayModeBar: false}}).then(() => {{
  picture.on("plotly_click", (event) => copy(event.points[0].customdata));
}});
</script>
</body>
</html>
"""
BLUE, GREY = "#0072B2", "#8A8A8A"  # as in the other pictures


def front_page(rows: Sequence[Mapping[str, Any]], x: str, y: str, metric: str | None, caption: str) -> str:
    """The page of networks, `y` against `x`.

    Args:
        rows: of each network all measures by name, `<metric>_predicted` and `<metric>_deviation`, "text" (the
            architecture), "digest", "front" (whether it is on the front) and "export" (the command).
        x, y: names of measures.
        metric: name of the metric among them.
        caption: a sentence or two above the picture.

    Raises `UserError` without plotly (extra `report`).
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UserError(f"the page of a search needs {error.name}: pip install 'onceforall[report]'.") from error
    rows = sorted(rows, key=lambda row: row[x])
    traces = [
        _trace([row for row in rows if not row["front"]], x, y, metric, "other networks", GREY, "markers"),
        _trace([row for row in rows if row["front"]], x, y, metric, "front", BLUE, "lines+markers"),
    ]
    layout = {
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "margin": {"t": 20},
        "template": {"layout": {"plot_bgcolor": "#fafafa"}},
    }
    data = json.dumps(json_types({"traces": traces, "layout": layout})).replace("<", "\\u003c")
    return PAGE.format(nonce=secrets.token_urlsafe(16), caption=html.escape(caption), data=data, plotly=get_plotlyjs())


def _trace(
    rows: Sequence[Mapping[str, Any]], x: str, y: str, metric: str | None, name: str, colour: str, mode: str
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": mode,
        "name": f"{name} ({len(rows)})",
        "x": [row[x] for row in rows],
        "y": [row[y] for row in rows],
        "text": [_hover(row, metric) for row in rows],
        "customdata": [row["export"] for row in rows],
        "hoverinfo": "text",
        "marker": {"size": 9, "color": colour},
        "line": {"color": colour, "shape": "hv"},
    }


def _hover(row: Mapping[str, Any], metric: str | None) -> str:
    """Measures, then the architecture, one stage on each line."""
    lines = [
        f"{name} {amount(name, value)}"
        for name, value in row.items()
        if isinstance(value, float) and not name.endswith(("_predicted", "_deviation"))
    ]
    predicted = row.get(f"{metric}_predicted")
    if predicted is not None:
        lines.append(f"{metric} predicted {amount(str(metric), predicted)} ± {row[f'{metric}_deviation']:.2g}")
    return "<br>".join(html.escape(line) for line in [*lines, "", *row["text"].split(" | ")])
