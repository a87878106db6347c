"""The page as HTML: a head, and sections of facts, figures and tables.

It asks the network for nothing: plotly.js is inside, and a content security policy forbids the rest. Names of classes,
files and recipes are other people's text: jinja2 escapes them here, `wording.escaped` in figures, and the policy lets
no script run but the page's own two.
"""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, final

from onceforall.errors import UserError
from onceforall.evaluation.results import json_types


@final
@dataclass(frozen=True)
class Table:
    """Rows under a head; a cell is what is shown, or a pair of that and the number by which it is sorted."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    sortable: bool = False
    folded: bool = False


@final
@dataclass(frozen=True)
class Section:
    """A part of the page; what it lacks is not shown.

    A figure holds plotly's data and layout, and a caption; a picture is a caption and the path of a PNG, which the page
    takes in.
    """

    title: str
    text: str = ""
    notices: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[tuple[str, Path]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def render_page(title: str, status: str, tiles: Sequence[tuple[str, str, str]], sections: Sequence[Section]) -> str:
    """The page that says all this; a tile is what, how much, and more about it.

    Raises `UserError` without plotly and jinja2 (extra `report`).
    """
    try:
        import jinja2
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UserError(f"a report needs {error.name}: pip install 'onceforall[report]'.") from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["embedded"] = _embedded
    return environment.from_string(_part("page.html.jinja")).render(
        title=title,
        status=status,
        tiles=tiles,
        sections=sections,
        figures=json_types([figure for section in sections for figure in section.figures]),
        style=Markup(_part("page.css")),
        script=Markup(_part("page.js")),
        plotly=Markup(get_plotlyjs()),
        nonce=secrets.token_urlsafe(16),
    )


def _embedded(picture: Path) -> str:
    """The address that holds the whole of a PNG."""
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()


def _part(name: str) -> str:
    """The text of a file beside this module."""
    return (resources.files("onceforall.report") / name).read_text(encoding="utf-8")
