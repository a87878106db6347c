"""What a search leaves in the folder `search` of a run: the front as JSON, CSV, picture and page, and its networks.

Each network is a file `networks/<digest>.json`, which `onceforall export RUN FILE` takes.
"""

import csv
import io
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.evaluation.pareto import plot_front
from onceforall.evaluation.results import json_types
from onceforall.files import write_json, write_text
from onceforall.searching.budget import limit_text
from onceforall.searching.comparison import FrontRow
from onceforall.searching.front_page import front_page
from onceforall.searching.rounds import Member, SearchResult

__all__ = ["export_command", "front_file", "member_row", "write_archive", "write_network"]

FOLDER = "search"
PICTURES = ("front.png", "front.svg", "front.html")


def write_archive(
    run: Path,
    result: SearchResult,
    facts: Mapping[str, Any],
    comparison: Sequence[FrontRow] = (),
    more: Sequence[str] = (),
) -> str:
    """Write `front.json`, `front.csv`, `front.png`, `front.html` and the networks; returns why a picture is missing.

    `facts` stand in the JSON beside the result, `comparison` there and on the page, `more` in the commands of the page,
    see `export_command`. The pictures need the extra `report` and show the first objective against the last; without it
    the rest is written. Raises `UserError` where there is no front.
    """
    if not result.front:
        raise UserError("there is no front to write: no network keeps the constraints.")
    folder = run / FOLDER
    front = [member_row(result, member) for member in result.front]
    archive = [member_row(result, member) for member in result.archive]
    commands = [export_command(run, write_network(run, member.architecture), more) for member in result.archive]
    contents = {
        **facts,
        "objectives": result.objectives,
        "constraints": [asdict(constraint) for constraint in result.constraints],
        "metric": result.metric,
        "higher_is_better": result.higher_is_better,
        "seconds": result.seconds,
        "rounds": [asdict(each) for each in result.rounds],
        "comparison": [asdict(row) for row in comparison],
        "front": front,
        "archive": archive,
    }
    write_json(folder / "front.json", json_types(contents))
    write_text(folder / "front.csv", _table(front))
    for name in PICTURES:
        (folder / name).unlink(missing_ok=True)  # those of an earlier search
    y, x = result.objectives[0], result.objectives[-1]
    shown = {row["digest"] for row in front}
    points = [
        row | {"front": row["digest"] in shown, "export": command}
        for row, command in zip(archive, commands, strict=True)
    ]
    try:
        page = front_page(points, x, y, result.metric, _caption(result, comparison))
        write_text(folder / "front.html", page)
        if y == result.metric:
            higher = result.higher_is_better
            plot_front(archive, folder / "front.png", x, y, title="Networks found", higher_is_better=higher)
    except UserError as error:
        return str(error)
    return ""


def front_file(folder: Path) -> Path:
    """What to look at in the folder of a search: the page, or without one the JSON."""
    page = folder / "front.html"
    return page if page.is_file() else folder / "front.json"


def member_row(result: SearchResult, member: Member) -> dict[str, Any]:
    """A network as one row of a table."""
    row: dict[str, Any] = dict(member.values)
    if result.metric is not None:
        row |= {f"{result.metric}_predicted": member.predicted, f"{result.metric}_deviation": member.deviation}
        row |= {"measured": member.measured}
    architecture = member.architecture
    return row | {
        "height": architecture.height,
        "digest": architecture.digest(),
        "architecture": architecture.to_dict(),
        "text": str(architecture),
    }


def write_network(run: Path, architecture: Architecture) -> Path:
    """Write an architecture as a file that `onceforall export` takes; returns its path."""
    path = run / FOLDER / "networks" / f"{architecture.digest()}.json"
    write_text(path, architecture.to_json() + "\n")
    return path


def export_command(run: Path, path: Path, more: Sequence[str] = ()) -> str:
    """The command that exports the network of a file, with `more` words at its end."""
    return shlex.join(["onceforall", "export", str(run), str(path), *more])


def _table(rows: list[dict[str, Any]]) -> str:
    """CSV without the nested architecture."""
    out = io.StringIO()
    names = [name for name in rows[0] if name != "architecture"]
    writer = csv.DictWriter(out, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _caption(result: SearchResult, comparison: Sequence[FrontRow]) -> str:
    judged = sum(each.candidates for each in result.rounds)
    measured = sum(each.measured for each in result.rounds)
    text = f"{judged} candidates judged by models in {len(result.rounds)} rounds, {measured} of them measured."
    limits = ", ".join(limit_text(limit) for limit in result.constraints)
    text += f" Limits: {limits}." if limits else ""
    errors = [each.error for each in result.rounds if not math.isnan(each.error)]
    if errors:
        text += f" Predictions of the last round were wrong by {errors[-1]:.3g} (root mean square)."
    if comparison:
        shares = ", ".join(f"{row.name} {row.hypervolume:.3f} ({row.networks} networks)" for row in comparison)
        text += f" Hypervolume of what each way found: {shares}."
    return text
