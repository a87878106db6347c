"""The grid by which OFAv2 judges a phase (section V): every network whose factors are constant over it.

Averages are weighted by how many combinations of values give a network: of parallel paths without the main one, all
kernel sizes and expansions are the same network. Everything here is pure; `runs.evaluate_grid` measures.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from onceforall.architecture import Architecture, Resolution, is_whole, path_code
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import Evaluation
from onceforall.search_space import SearchSpace

__all__ = [
    "Member",
    "Row",
    "draw_members",
    "exit_members",
    "factors_of",
    "grid_members",
    "grid_row",
    "grid_tables",
    "summarise",
]

LETTERS = {"r": "resolution", "h": "height", "d": "depth", "k": "kernel_size", "e": "expand_ratio", "l": "level"}

Row = Mapping[str, Any]
"""A member with what was measured of it: a row of `results/grids/<phase>.json`."""


@final
@dataclass(frozen=True)
class Member:
    """An architecture of a grid, and how many combinations of values give it."""

    architecture: Architecture
    multiplicity: int


def grid_members(
    space: SearchSpace, *, largest: bool = False, resolutions: Sequence[Resolution] | None = None
) -> list[Member]:
    """The members of the grid of `space`, at some of its resolutions if they are given.

    Where `largest` is set they are the largest network with all its exits at each resolution: what a phase that trains
    nothing else is judged by. The smallest member is the first and the largest the last one.
    """
    space = space if resolutions is None else space.restrict(resolutions=tuple(resolutions))
    if largest:
        every = space.largest(exits="all")
        return [Member(replace(every, resolution=resolution), 1) for resolution in space.resolutions]
    members = [Member(architecture, multiplicity) for architecture, multiplicity in space.grid()]
    top = space.largest()
    return sorted(members, key=lambda member: member.architecture == top)


def exit_members(ensembles: Sequence[Member], space: SearchSpace) -> list[Member]:
    """Each exit of architectures that answer with several, by itself, as far as `space` has such a network."""
    cut = (
        replace(member.architecture, stages=member.architecture.stages[:number], exits=(number,))
        for member in ensembles
        for number in member.architecture.exits
        if len(member.architecture.exits) > 1
    )
    return [Member(architecture, 1) for architecture in cut if architecture in space]


def draw_members(members: Sequence[Member], limit: int | None, seed: int) -> list[Member]:
    """At most `limit` members in their order, drawn by `seed`; the first and the last one are always among them."""
    if limit is None:
        return list(members)
    if not is_whole(limit) or limit < 2:
        raise UserError(f"limit {limit!r}: must be a whole number of at least 2, for the smallest and the largest.")
    if limit >= len(members):
        return list(members)
    drawn = random.Random(f"{seed}:grid").sample(range(1, len(members) - 1), limit - 2)
    return [members[i] for i in [0, *sorted(drawn), len(members) - 1]]


def factors_of(architecture: Architecture) -> dict[str, Any]:
    """Height, depth, kernel size, expansion, level code and resolution; None where a factor is absent or varies."""
    blocks = [block for stage in architecture.stages for block in stage.blocks]
    kernels = [block.kernel_size for block in blocks if block.kernel_size is not None]
    ratios = [block.expand_ratio for block in blocks if block.expand_ratio is not None]
    return {
        "height": architecture.height,
        "depth": _only(architecture.depths),
        "kernel_size": _only(kernels),
        "expand_ratio": _only(ratios),
        "level": _only([path_code(block.paths) for block in blocks]),
        "resolution": architecture.resolution,
    }


def _only(values: Sequence[Any]) -> Any:
    """The one value that all are; None where they differ or there is none."""
    return values[0] if len(set(values)) == 1 else None


def grid_row(member: Member, results: Mapping[str, Evaluation]) -> dict[str, Any]:
    """A member with what was measured of it on each split, as JSON has it; it is named by its factors."""
    architecture, factors = member.architecture, factors_of(member.architecture)
    costs = next(iter(results.values())).cost
    named = {letter: factors[name] for letter, name in LETTERS.items() if factors[name] is not None}
    name = " ".join(letter + _size(value) for letter, value in named.items())
    exits = "" if len(architecture.exits) == 1 else " exits " + ",".join(map(str, architecture.exits))
    row = {"name": name + exits, "digest": architecture.digest(), "multiplicity": member.multiplicity}
    row |= factors | {"params": costs.params, "macs": costs.macs}
    row |= {split: evaluation.metrics for split, evaluation in results.items()}
    return row | {"architecture": architecture.to_dict()}


def _size(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


# -- what a grid shows ----------------------------------------------------------------------------------------------


def summarise(rows: Sequence[Row], metric: str, higher_is_better: bool) -> dict[str, Any]:
    """Mean and best of each split, the member chosen on validation, and test numbers of each height and level.

    Means are weighted by multiplicity. Of equally good members the one with fewer multiply-adds counts as the best.
    The best on "test" is what the paper's tables report, and optimistic; "chosen" is not: it is the best on validation.
    """

    def best(split: str, among: Sequence[Row]) -> Row | None:
        known = [row for row in among if _is_known(row[split][metric])]
        sign = -1 if higher_is_better else 1
        return min(known, key=lambda row: (sign * row[split][metric], row["macs"]), default=None)

    def part(split: str, among: Sequence[Row]) -> dict[str, Any]:
        top = best(split, among)
        return {"mean": _mean(among, split, metric), "best": None if top is None else top[split][metric]}

    def parts(factor: str) -> dict[str, Any]:
        values = sorted({row[factor] for row in rows if row[factor] is not None})
        groups = {str(value): [row for row in rows if row[factor] == value] for value in values}
        return {value: part("test", group) | {"members": len(group)} for value, group in groups.items()}

    out: dict[str, Any] = {}
    for split in ("validation", "test"):
        top = best(split, rows)
        out[split] = part(split, rows) | {"best_digest": None if top is None else top["digest"]}
    chosen = best("validation", rows)
    out["chosen"] = chosen and {
        "digest": chosen["digest"],
        "validation": chosen["validation"][metric],
        "test": chosen["test"][metric],
    }
    return out | {"by_height": parts("height"), "by_level": parts("level")}


def _mean(rows: Sequence[Row], split: str, metric: str) -> float | None:
    """The mean of a number over the rows that have it, weighted by multiplicity; None where none has."""
    known = [(row["multiplicity"], row[split][metric]) for row in rows if _is_known(row[split][metric])]
    return sum(weight * value for weight, value in known) / sum(weight for weight, _ in known) if known else None


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


# -- tables for people ----------------------------------------------------------------------------------------------

Table = tuple[list[str], list[list[str]]]  # header, rows


def grid_tables(grids: Sequence[Mapping[str, Any]]) -> list[Table]:
    """What `runs.evaluate_grid` found as tables with a row for each phase: all, each height, level and exit.

    Mean and best are on the test split, "mean / best" where they share a cell. A table in which no phase has more
    than one column to fill is left out.
    """
    rows = []
    for grid in grids:
        test, chosen = grid["summary"]["test"], grid["summary"]["chosen"] or {}
        drawn = "" if grid["drawn"] is None else f"{grid['drawn']} of "
        row = [grid["phase"], f"{drawn}{grid['distinct']}", str(grid["combinations"])]
        row += [_number(test["mean"]), _number(test["best"])]
        rows.append([*row, f"{_number(chosen.get('validation'))} -> {_number(chosen.get('test'))}"])
    header = ["phase", "networks", "combinations", "mean", "best", "chosen on validation -> test"]
    parts = {name: {grid["phase"]: grid["summary"][f"by_{name}"] for grid in grids} for name in ("height", "level")}
    parts["exit"] = {grid["phase"]: _by_exit(grid) for grid in grids if grid["exits"]}
    return [
        (header, rows),
        *(_part_table(name, by_phase) for name, by_phase in parts.items() if _has_several(by_phase)),
    ]


def _by_exit(grid: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and best of each exit by itself, over the resolutions."""
    numbers = sorted({row["height"] for row in grid["exits"]})
    groups = {str(number): [row for row in grid["exits"] if row["height"] == number] for number in numbers}
    metric, higher = grid["metric"], grid["higher_is_better"]
    return {number: summarise(group, metric, higher)["test"] for number, group in groups.items()}


def _has_several(by_phase: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(len(parts) > 1 for parts in by_phase.values())


def _part_table(name: str, by_phase: Mapping[str, Mapping[str, Any]]) -> Table:
    values = sorted({value for parts in by_phase.values() for value in parts}, key=int)
    rows = [
        [phase, *(f"{_number(p['mean'])} / {_number(p['best'])}" if (p := parts.get(v)) else "" for v in values)]
        for phase, parts in by_phase.items()
    ]
    return ["phase", *(f"{name} {value}" for value in values)], rows


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
