"""Cells of a table of runs: a network at a width, with a teacher, from a seed; and the jobs that fill them.

The phases before the teachers differ are trained once for a network, width and seed: the *stem*, whose folder is
copied for each teacher. A stem continued is bit for bit a run trained whole.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from onceforall.errors import UserError
from onceforall.studies.study import Job, Piece, Scale

if TYPE_CHECKING:
    from onceforall.recipes import Recipe
    from onceforall.supernets.supernet import Supernet
    from onceforall.training.phases import Phase

__all__ = ["Cell", "cell_recipe", "cells_in", "last_phases", "planned_phases", "planned_supernet", "study_jobs"]

STEM = "stem"
OWN_KEYS = ("network.name", "network.width_mult", "schedule.teacher", "run.seed")
TEACHER_SHARE = 0.4  # of a student's work: a teacher has no backward pass


@final
@dataclass(frozen=True, order=True)
class Cell:
    """One run of a table. `width` is the paper's width multiplier, before the scale's factor."""

    network: str
    width: float
    teacher: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder.

        >>> Cell("ee_d_ofa_mbv3", 1.2, "fixed", 0).name
        'ee_d_ofa_mbv3-w1.2-fixed-s0'
        """
        return f"{self.network}-w{float(self.width)}-{self.teacher}-s{self.seed}"


def cells_in(folder: Path) -> list[Cell]:
    """The cells whose folders are in the folder of a study, stems left out."""
    out = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        found = re.fullmatch(r"(\w+)-w(\d+\.\d+)-(\w+)-s(\d+)", path.name)
        if found and found[3] != STEM and path.is_dir():
            out.append(Cell(found[1], float(found[2]), found[3], int(found[4])))
    return out


def cell_recipe(cell: Cell, scale: Scale, overrides: Sequence[str], data: Path | None) -> "Recipe":
    """The recipe of a cell; `overrides` are the user's and may not change what makes it this cell."""
    from onceforall.recipes import make_recipe

    for text in overrides:
        if text.partition("=")[0].strip() in OWN_KEYS:
            raise UserError(f"--set {text!r}: the study sets {', '.join(OWN_KEYS)}; choose cells by its options.")
    own = [f"network.name={cell.network}", f"network.width_mult={cell.width * scale.width_factor:.6g}"]
    own += [f"schedule.teacher={cell.teacher}", f"run.seed={cell.seed}"]
    return make_recipe(scale.recipe, [*scale.overrides, *overrides, *own], data)


def planned_phases(recipe: "Recipe") -> "list[Phase]":
    """The phases that a recipe will train; its images are not needed."""
    from onceforall.recipes import build_phases

    return build_phases(recipe, planned_supernet(recipe))


def planned_supernet(recipe: "Recipe") -> "Supernet":
    """The network that a recipe will train, for images of one channel and two classes; its images are not needed."""
    from typing import cast

    from onceforall.data import ImageData
    from onceforall.recipes import build_supernet

    @final
    @dataclass
    class Classes:
        num_classes: int = 2
        channels: int = 1

    return build_supernet(recipe, cast(ImageData, Classes()))


def last_phases(names: Iterable[str], steps: Mapping[str, str]) -> dict[str, str]:
    """Step -> its last phase, of those steps that have any. `steps`: step -> how the names of its phases begin.

    >>> last_phases(["full", "depth_1", "depth_2"], {"ER": "full", "EL": "level", "ED": "depth"})
    {'ER': 'full', 'ED': 'depth_2'}
    """
    out = {}
    for step, start in steps.items():
        of_step = [name for name in names if re.fullmatch(rf"{start}(_\d+)?", name)]
        out |= {step: of_step[-1]} if of_step else {}
    return out


def study_jobs(
    cells: Sequence[Cell],
    folder: Path,
    scale: Scale,
    *,
    steps: Mapping[str, str],
    shared: Sequence[str],
    overrides: Sequence[str] = (),
    data: Path | None = None,
) -> list[Job]:
    """The jobs that fill `cells`: for each network, width and seed the stem, then a job for each teacher.

    `steps`: see `last_phases`; `shared` are the steps of the stem. What is done already stands in the jobs, too.
    """
    groups: dict[tuple[str, float, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.network, cell.width, cell.seed), []).append(cell)
    jobs = []
    for (network, width, seed), members in groups.items():
        recipes = [cell_recipe(cell, scale, overrides, data) for cell in members]
        phases = planned_phases(recipes[0])
        ends = last_phases([phase.name for phase in phases], steps)
        pieces = _pieces(phases, list(ends.values()))
        early = tuple(piece for piece in pieces if piece.phase in [ends.get(step) for step in shared])
        late = tuple(piece for piece in pieces if piece not in early)
        if not early or not late:
            raise UserError(f"{network}: its schedule needs phases of {' and '.join(shared)} and some after them.")
        stem = folder / Cell(network, width, STEM, seed).name
        options = {"resolutions": scale.resolutions, "drawn": scale.drawn}
        if not all((folder / cell.name).is_dir() for cell in members):
            jobs.append(Job(stem, recipes[0].to_dict(), early, None, **options))
        for cell, recipe in zip(members, recipes, strict=True):
            begun = (folder / cell.name).is_dir()
            jobs.append(Job(folder / cell.name, recipe.to_dict(), late, None if begun else stem, **options))
    return jobs


def _pieces(phases: "Sequence[Phase]", ends: Sequence[str]) -> list[Piece]:
    """The pieces that end with the phases `ends`, with the work of all phases since the piece before."""
    out, work = [], 0.0
    for phase in phases:
        taught = TEACHER_SHARE if phase.teacher.source != "none" else 0.0
        work += phase.total_epochs * (phase.subnets_per_step + taught)
        if phase.name in ends:
            out.append(Piece(phase.name, round(work, 3)))
            work = 0.0
    return out
