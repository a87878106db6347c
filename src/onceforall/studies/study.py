"""A study as values: at which scale it is made, the jobs it consists of, and the settings its folder remembers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, final

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
        recipe: the name of the recipe that every run starts from; empty where that depends on the run.
        overrides: changes of the recipe, as `make_recipe` takes them.
        width_factor: multiplies the paper's width multipliers.
        resolutions: at which sub-networks are evaluated; None for all that are trained.
        drawn: evaluate at most so many sub-networks, drawn by the seed; None for whole grids.
    """

    name: str
    differs: str
    recipe: str = ""
    overrides: tuple[str, ...] = ()
    width_factor: float = 1.0
    resolutions: tuple[int, ...] | None = None
    drawn: int | None = None


@final
@dataclass(frozen=True)
class Piece:
    """Part of a job: train to the end of `phase`, then measure its sub-networks. `work` weighs it in time."""

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
        measures: what, after each piece: the "grid" of its phase, or "drawn" sub-networks, those that a comparison of
            this many draws by the seed 0.
    """

    folder: Path
    recipe: Mapping[str, Any]
    pieces: tuple[Piece, ...]
    starts_from: Path | None = None
    resolutions: tuple[int, ...] | None = None
    drawn: int | None = None
    measures: Literal["grid", "drawn"] = "grid"

    def result(self, piece: Piece) -> Path:
        """The file that a piece leaves behind when it is done."""
        name = f"grids/{piece.phase}.json" if self.measures == "grid" else "test.json"
        return self.folder / "results" / name

    def trained(self, piece: Piece) -> bool:
        """Whether the phase of a piece is complete."""
        return any(self.folder.glob(f"checkpoints/*-{piece.phase}-last.safetensors"))

    def open_pieces(self) -> list[Piece]:
        """What is still to do. Someone else may have measured a run that is not complete; that does not count."""

        def done(piece: Piece) -> bool:
            return self.result(piece).is_file() and (self.measures == "grid" or self.trained(piece))

        return [piece for piece in self.pieces if not done(piece)]

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
            given["measures"],
        )


def check_study(folder: Path, study: str, scale: Scale, overrides: Sequence[str]) -> Any:
    """What `keep_study` kept as the place of the images when this folder was made; None where there is nothing yet.

    Cells, seeds and workers may differ from call to call. Raises `UserError` where the folder belongs to another
    study, scale or settings, or holds something else.
    """
    path = folder / SETTINGS
    if not path.is_file():
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise UserError(f"{folder} is not empty and holds no study; choose another --out.")
        return None
    try:
        present = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is damaged: {error}.") from error
    for key, value in _settings(study, scale, overrides).items():
        before = present.get(key)
        if key == "scale" and isinstance(before, Mapping):
            before = {name: each for name, each in before.items() if name != "differs"}
        if before != value:
            raise UserError(f"{folder} holds {_difference(key, before, value)}; choose another --out for this one.")
    return present.get("data")


def keep_study(
    folder: Path, study: str, scale: Scale, overrides: Sequence[str], data: str | Mapping[str, str] | None
) -> None:
    """Write what `check_study` will compare, and the place of the images, or of several sets of them by name."""
    write_json(folder / SETTINGS, _settings(study, scale, overrides) | {"data": data})


def _settings(study: str, scale: Scale, overrides: Sequence[str]) -> dict[str, Any]:
    """What has to stay; the words of a scale may change."""
    known = {name: value for name, value in asdict(scale).items() if name != "differs"}
    return json.loads(json.dumps({"study": study, "scale": known, "set": sorted(overrides)}))


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
