"""A study as values: at which scale it is made, the jobs it consists of, and the settings its folder remembers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from onceforall.errors import UserError, check_choice
from onceforall.files import write_json

__all__ = ["Job", "Piece", "Scale", "check_study", "keep_study", "parse_list"]

SETTINGS = "study.json"


@final
@dataclass(frozen=True)
class Scale:
    """How large a study is made.

    Args:
        name: of the scale.
        differs: in what it is smaller than the paper, as it stands on every output; empty where in nothing.
        recipe: the name of the recipe that every run starts from.
        overrides: changes of the recipe, as `make_recipe` takes them.
        width_factor: multiplies the paper's width multipliers.
        resolutions: at which sub-networks are evaluated; None for all that are trained.
        drawn: evaluate at most so many members of each grid, drawn by the seed; None for whole grids.
    """

    name: str
    differs: str
    recipe: str
    overrides: tuple[str, ...] = ()
    width_factor: float = 1.0
    resolutions: tuple[int, ...] | None = None
    drawn: int | None = None


@final
@dataclass(frozen=True)
class Piece:
    """Part of a job: train to the end of `phase`, then evaluate the grid of that phase. `work` weighs it in time."""

    phase: str
    work: float = 1.0


@final
@dataclass(frozen=True)
class Job:
    """One run of a study, or the beginning that several runs share.

    Args:
        folder: its run directory.
        recipe: as `Recipe.to_dict` gives it.
        pieces: in their order.
        starts_from: the run directory that is copied to begin with, of a job that has to be done before.
        resolutions, drawn: see `Scale`.
    """

    folder: Path
    recipe: Mapping[str, Any]
    pieces: tuple[Piece, ...]
    starts_from: Path | None = None
    resolutions: tuple[int, ...] | None = None
    drawn: int | None = None

    def grid(self, piece: Piece) -> Path:
        """The file that a piece leaves behind when it is done."""
        return self.folder / "results" / "grids" / f"{piece.phase}.json"

    def open_pieces(self) -> list[Piece]:
        """What is still to do."""
        return [piece for piece in self.pieces if not self.grid(piece).is_file()]

    def to_json(self) -> str:
        """One line for the process that does it."""
        paths = {"folder": str(self.folder), "starts_from": self.starts_from and str(self.starts_from)}
        return json.dumps({**asdict(self), **paths})

    @staticmethod
    def from_json(text: str) -> "Job":
        """The inverse of `to_json`."""
        given = json.loads(text)
        start, sizes = given["starts_from"], given["resolutions"]
        return Job(
            Path(given["folder"]),
            given["recipe"],
            tuple(Piece(**piece) for piece in given["pieces"]),
            None if start is None else Path(start),
            None if sizes is None else tuple(sizes),
            given["drawn"],
        )


def check_study(folder: Path, study: str, scale: Scale, overrides: Sequence[str], data: Path | None) -> Path | None:
    """The place of a study's images: `data`, or where they were when its folder was made.

    Cells, seeds and workers may differ from call to call. Raises `UserError` where the folder belongs to another
    study, scale or settings, or holds something else.
    """
    path = folder / SETTINGS
    if not path.is_file():
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise UserError(f"{folder} is not empty and holds no study; choose another --out.")
        return data
    try:
        present = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is damaged: {error}.") from error
    for key, value in _settings(study, scale, overrides).items():
        before = present.get(key)
        if before != value:
            raise UserError(f"{folder} holds {_difference(key, before, value)}; choose another --out for this one.")
    return data or (Path(present["data"]) if present.get("data") else None)


def keep_study(folder: Path, study: str, scale: Scale, overrides: Sequence[str], data: Path | None) -> None:
    """Write what `check_study` will compare."""
    write_json(folder / SETTINGS, _settings(study, scale, overrides) | {"data": str(data) if data else None})


def _settings(study: str, scale: Scale, overrides: Sequence[str]) -> dict[str, Any]:
    return json.loads(json.dumps({"study": study, "scale": asdict(scale), "set": sorted(overrides)}))


def _difference(key: str, before: Any, now: Any) -> str:
    if key == "scale" and isinstance(before, Mapping):
        if before.get("name") != now["name"]:
            return f"a study of scale {before.get('name')!r}, not {now['name']!r}"
        names = [name for name in now if before.get(name) != now[name]]
        return f"a study whose scale {now['name']!r} had another {' and '.join(names)}"
    words = {"study": "the study", "set": "a study with --set"}
    old, new = (", ".join(value) if isinstance(value, list) else value for value in (before, now))
    return f"{words.get(key, key)} {old or 'nothing'}, not {new or 'nothing'}"


def parse_list(name: str, text: str | None, allowed: Sequence[str]) -> list[str]:
    """The items of a comma-separated text, each once; all that are allowed where nothing is given.

    >>> parse_list("teacher", "fixed", ["fixed", "previous_phase"])
    ['fixed']
    """
    if text is None:
        return list(allowed)
    items = list(dict.fromkeys(item.strip() for item in text.split(",") if item.strip()))
    if not items:
        raise UserError(f"no {name} given; allowed are {', '.join(allowed)}.")
    for item in items:
        check_choice(name, item, allowed)
    return items
