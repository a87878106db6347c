"""Runs of the ProX study: a data set, a method and a seed; their recipes and the jobs that train and measure them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from onceforall.errors import UserError
from onceforall.studies.cells import planned_supernet
from onceforall.studies.prox import BASELINE, DATA_SETS, FAMILIES, METHODS, SINGLES, scale_of
from onceforall.studies.study import Job, Piece, Scale

if TYPE_CHECKING:
    from onceforall.recipes import Recipe

__all__ = ["ProxCell", "finished_cells", "parse_places", "prox_job", "prox_recipe"]

OWN_KEYS = ("network.name", "schedule.name", "schedule.mode", "data.kind", "data.path", "data.image_size", "run.seed")
IMAGES = 1000  # with which the work of runs is weighed


@final
@dataclass(frozen=True, order=True)
class ProxCell:
    """One run: of a data set (see `DATA_SETS`), a method or single network, and a seed."""

    data: str
    run: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder.

        >>> ProxCell("oct", "prox-mr", 0).name
        'oct-prox-mr-s0'
        """
        return f"{self.data}-{self.run}-s{self.seed}"


def parse_places(given: Sequence[str]) -> dict[str, str]:
    """Data set -> folder, of texts NAME=PATH.

    >>> parse_places(["oct=OCT2017"])
    {'oct': 'OCT2017'}
    """
    out: dict[str, str] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not sign or not path or name not in DATA_SETS:
            known = ", ".join(name for name in DATA_SETS if name != "digits")
            raise UserError(f"--data {text!r}: give it as NAME=PATH, where NAME is one of {known}.")
        if name == "digits":
            raise UserError("--data digits=...: the digits are built in; --scale tiny takes them by itself.")
        out[name] = path
    return out


def prox_recipe(cell: ProxCell, scale: Scale, overrides: Sequence[str], places: Mapping[str, str]) -> "Recipe":
    """The recipe of a run; `overrides` are the user's and may not change what makes it this run."""
    from onceforall.recipes import change_recipe, make_recipe

    for text in overrides:
        if text.partition("=")[0].strip() in OWN_KEYS:
            raise UserError(f"--set {text!r}: the study sets {', '.join(OWN_KEYS)}; choose runs by its options.")
    family = FAMILIES[DATA_SETS[cell.data].recipes[scale.name]]
    name, *changes = family[BASELINE if cell.run in SINGLES else cell.run]
    changes = [*changes, *scale_of(cell.data, scale).overrides, *overrides, f"run.seed={cell.seed}"]
    recipe = make_recipe(name, changes, places.get(cell.data))
    return recipe if cell.run not in SINGLES else change_recipe(recipe, _one_choice(recipe, SINGLES[cell.run]))


def _one_choice(recipe: "Recipe", which: str) -> list[str]:
    """Changes that leave the smallest, middle or largest choice of each factor, and data stored as without them.

    Where there is no choice in the middle, factors take the one below and the one above it by turns.
    """
    from onceforall.data.assembly import DataOptions
    from onceforall.recipes.building import stored_box

    network, out = recipe.network, []
    for turn, factor in enumerate(("depths", "widths", "expand_ratios", "kernel_sizes", "resolutions")):
        choices = sorted(getattr(network, factor) or (), key=_size)
        place = {"smallest": 0, "middle": (len(choices) - 1 + turn % 2) // 2, "largest": -1}[which]
        if choices:
            one = choices[place]
            out.append(f"network.{factor}=[{list(one) if isinstance(one, tuple) else one}]")
    if recipe.data.kind == "volumes":
        return [*out, f"data.volumes.box={list(stored_box(recipe))}"]
    sizes = {"max_resolution": max(network.resolutions), "image_size": recipe.data.image_size}
    stored = DataOptions(**sizes, fit=recipe.data.fit)
    if recipe.data.crop_ratio is not None:
        stored = replace(stored, crop_ratio=recipe.data.crop_ratio)
    return [*out, f"data.image_size={stored.store_size}"]


def _size(choice: Any) -> float:
    """Of a choice: itself, or of a resolution of one size for each axis the number of voxels."""
    return math.prod(choice) if isinstance(choice, list | tuple) else choice


def prox_job(cell: ProxCell, folder: Path, scale: Scale, *, overrides: Sequence[str], places: Mapping[str, str]) -> Job:
    """The job of a run: train it whole, then measure the sub-networks that the comparison will want."""
    from onceforall.recipes import build_phases
    from onceforall.training.plan import expected_work

    recipe = prox_recipe(cell, scale, overrides, places)
    supernet = planned_supernet(recipe)
    phases = build_phases(recipe, supernet)
    work = sum(expected_work(supernet, phases, IMAGES))
    piece = Piece(phases[-1].name, work)
    return Job(folder / cell.name, recipe.to_dict(), (piece,), drawn=scale_of(cell.data, scale).drawn, measures="drawn")


def finished_cells(folder: Path) -> list[ProxCell]:
    """The runs in the folder of a study that are trained and measured, in the order of its tables."""
    from onceforall.runs import is_finished

    runs = [run for runs in METHODS.values() for run in runs]
    pattern = re.compile(rf"({'|'.join(DATA_SETS)})-({'|'.join(runs)})-s(\d+)")
    found = [pattern.fullmatch(path.parents[1].name) for path in folder.glob("*/results/test.json")]
    cells = [ProxCell(each[1], each[2], int(each[3])) for each in found if each is not None]
    cells = [cell for cell in cells if is_finished(folder / cell.name)]
    return sorted(cells, key=lambda cell: (list(DATA_SETS).index(cell.data), cell.seed, runs.index(cell.run)))
