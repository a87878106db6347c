"""Which architectures are measured: drawn from the space that all runs share, in buckets of a cost."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.architecture import Architecture
from onceforall.choices import BlockChoices, StageChoices, listed
from onceforall.errors import UserError
from onceforall.evaluation.environment import environment
from onceforall.evaluation.latency import subnet_latency
from onceforall.files import write_text
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet
from onceforall.training.records import read_lines

__all__ = ["Bucket", "Stopwatch", "draw_buckets", "draw_networks", "shared_space"]

TRIES = 20  # draws for each network wanted, where buckets have fixed edges


# -- what the runs share ----------------------------------------------------------------------------------------------


def shared_space(spaces: Mapping[str, SearchSpace]) -> SearchSpace:
    """The architectures that are in every one of the spaces, given by the names of their runs.

    Raises `UserError` where there is none, naming the factor on which two spaces have no choice in common.
    """
    (first, space), *others = spaces.items()
    for name, other in others:
        found = _common_space(space, other)
        if isinstance(found, str):
            raise UserError(f"{first} and {name} share no architecture: {found}.")
        space = found
    return space


def _common_space(one: SearchSpace, other: SearchSpace) -> SearchSpace | str:
    """The intersection, or the factor at which there is none, with both sides' choices."""
    try:
        heights = _common("heights", one.heights, other.heights)
        stages = [
            _common_stage(f"stage {number}", a, b)
            for number, (a, b) in enumerate(zip(one.stages[: heights[-1]], other.stages, strict=False), start=1)
        ]
        exits = tuple(number for number in one.exits if number in other.exits and number <= heights[-1])
        ends = [_common_end("stem", one.stem, other.stem), _common_end("head", one.head, other.head)]
        resolutions = _common("resolutions", one.resolutions, other.resolutions)
    except _NothingShared as nothing:
        return str(nothing)
    return SearchSpace(resolutions, tuple(stages), heights, exits, *ends)


@final
class _NothingShared(Exception):
    """A factor of which two spaces have no choice in common."""


def _common(factor: str, one: tuple, other: tuple) -> tuple:
    both = tuple(choice for choice in one if choice in other)
    if not both and (one or other):
        shown = [
            listed(["+".join(map(str, choice)) if isinstance(choice, tuple) else choice for choice in side])
            for side in (one, other)
        ]
        raise _NothingShared(f"{factor} {shown[0]} against {shown[1]}")
    return both


def _common_block(place: str, one: BlockChoices, other: BlockChoices) -> BlockChoices:
    factors = ("kernel_sizes", "expand_ratios", "paths")
    return BlockChoices(*(_common(f"{name} of {place}", getattr(one, name), getattr(other, name)) for name in factors))


def _common_stage(place: str, one: StageChoices, other: StageChoices) -> StageChoices:
    depths = _common(f"depths of {place}", one.depths, other.depths)
    widths = _common(f"widths of {place}", one.widths, other.widths)
    blocks = zip(one.blocks[: depths[-1]], other.blocks, strict=False)
    return StageChoices(depths, tuple(_common_block(place, a, b) for a, b in blocks), widths)


def _common_end(place: str, one: BlockChoices | None, other: BlockChoices | None) -> BlockChoices | None:
    if one is None or other is None:
        if one is not other:
            raise _NothingShared(f"the {place}, which is elastic in one of them only")
        return None
    return _common_block(f"the {place}", one, other)


# -- buckets ----------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Bucket:
    """Architectures whose cost is at least `low` and below `high` (of the last bucket: at most), with their costs."""

    low: float
    high: float
    members: tuple[Architecture, ...]
    costs: tuple[float, ...]


def draw_buckets(
    space: SearchSpace,
    cost: Callable[[Architecture], float],
    *,
    networks: int = 60,
    buckets: int = 5,
    edges: Sequence[float] | None = None,
    per_bucket: int | None = None,
    seed: int = 0,
) -> list[Bucket]:
    """Different random architectures in buckets of a cost, the cheapest first.

    Without `edges`, `networks` are drawn (or `per_bucket` for each of `buckets`) and cut at the quantiles of their
    costs: so many in each bucket, but for equal costs. With n + 1 `edges` there are n buckets; networks are drawn until
    each has its share or twenty times as many were tried. Buckets in which there is nothing are left out.
    """
    if buckets < 1 or networks < 1 or (per_bucket is not None and per_bucket < 1):
        raise UserError(f"{networks} networks in {buckets} buckets of {per_bucket}: each must be at least 1.")
    if edges is None:
        wanted = networks if per_bucket is None else per_bucket * buckets
        drawn = draw_networks(space, wanted, seed)
        costs = [cost(architecture) for architecture in drawn]
        bounds = np.quantile(costs, np.linspace(0, 1, buckets + 1))
        found = [(architecture, value) for architecture, value in zip(drawn, costs, strict=True)]
        return _cut(found, bounds, len(drawn))
    if len(edges) < 2 or list(edges) != sorted(set(edges)):
        raise UserError(f"edges {', '.join(f'{edge:g}' for edge in edges)}: give at least two, from small to large.")
    share = per_bucket or -(-networks // (len(edges) - 1))
    counts = [0] * (len(edges) - 1)
    kept = []
    for architecture in _distinct(space, seed, TRIES * share * len(counts)):
        value = cost(architecture)
        place = _place(value, edges)
        if place is not None and counts[place] < share:
            counts[place] += 1
            kept.append((architecture, value))
        if min(counts) == share:
            break
    if not kept:
        raise UserError(f"no architecture was found between {edges[0]:g} and {edges[-1]:g}; give other edges.")
    return _cut(kept, edges, share)


def draw_networks(space: SearchSpace, networks: int, seed: int) -> list[Architecture]:
    """So many different random architectures, or all that were found in twenty times as many draws."""
    return list(islice(_distinct(space, seed, TRIES * networks), networks))


def _distinct(space: SearchSpace, seed: int, tries: int) -> Iterator[Architecture]:
    """Different architectures, as far as so many draws find them."""
    rng = random.Random(f"{seed}:comparison")
    seen: set[Architecture] = set()
    for _ in range(tries):
        drawn = space.sample(rng)
        if drawn not in seen:
            seen.add(drawn)
            yield drawn


def _place(value: float, edges: Sequence[float]) -> int | None:
    """Number of the bucket that holds `value`; the last one holds its upper edge."""
    if not edges[0] <= value <= edges[-1]:
        return None
    return min(int(np.searchsorted(edges, value, side="right")) - 1, len(edges) - 2)


def _cut(found: Sequence[tuple[Architecture, float]], edges: Any, most: int) -> list[Bucket]:
    groups: list[list[tuple[Architecture, float]]] = [[] for _ in edges[1:]]
    for architecture, value in found:
        place = _place(value, edges)
        if place is not None and len(groups[place]) < most:
            groups[place].append((architecture, value))
    return [
        Bucket(float(low), float(high), *(tuple(side) for side in zip(*group, strict=True)))
        for low, high, group in zip(edges[:-1], edges[1:], groups, strict=True)
        if group
    ]


# -- latency ----------------------------------------------------------------------------------------------------------


@final
class Stopwatch:
    """Measures sub-networks on this machine's processor, one thread, one image, and keeps the numbers in a file.

    A network whose runs differ much is measured twice and the quieter number kept. Numbers are found again for the same
    network, processor and torch, so that a comparison that is made again has the same buckets.

    Args:
        path: JSON lines.
        supernet: whose sub-networks.
    """

    def __init__(self, path: Path, supernet: Supernet) -> None:
        self.path, self.supernet = path, supernet
        known = environment()
        self.key = {"network": repr((type(supernet).__name__, sorted(supernet.options.items())))}
        self.key |= {name: known[name] for name in ("cpu", "torch")}
        self.lines = {line["digest"]: line for line in read_lines(path) if self.key.items() <= line.items()}

    def __call__(self, architecture: Architecture) -> float:
        """Median milliseconds."""
        digest = architecture.digest()
        if digest not in self.lines:
            found = self._measure(architecture)
            again = self._measure(architecture) if found.noisy else found
            best = min(found, again, key=lambda latency: latency.iqr_ms / latency.median_ms)
            self.lines[digest] = {"digest": digest, **self.key, **asdict(best)}
            others = [line for line in read_lines(self.path) if not self.key.items() <= line.items()]
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in [*others, *self.lines.values()]))
        return self.lines[digest]["median_ms"]

    def noisy_share(self, architectures: Sequence[Architecture]) -> float:
        """Of these, which were measured, the share whose runs differed by more than a latency may."""
        return sum(self.lines[a.digest()]["noisy"] for a in architectures) / len(architectures)

    def _measure(self, architecture: Architecture) -> Any:
        return subnet_latency(self.supernet, architecture, warmup_seconds=0.05, max_seconds=0.25)
