"""What a latency table has entries for: the pieces of a network, and the costs that they sum up to.

An architecture is taken apart into a stem, the exits that answer, and its blocks, each at its place and at the
resolution of the network. Blocks behind the first one of a stage are the same building block at every depth, except
where dense skips make them differ. Where widths are elastic, a first block also names the widths that it reads.

Every piece is known from the architecture alone, so ten thousand networks are taken apart in a second or two.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import final

import numpy as np
from scipy import sparse

from onceforall.architecture import Architecture, Block, Resolution, Stage
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet

__all__ = ["Piece", "all_pieces", "pieces_of", "split_costs"]

FACTORS = ("macs", "activations", "weight_bytes")
STEPS = 1000


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """One building block at one place.

    Args:
        place: "stem", "head", "exit <stage>", or a stage and "first" or "further"; with dense skips the block's number.
        resolution: of the whole network.
        block: of a stage, or of an elastic stem or head.
        widths: of its stage, and for a first block those of the stage before it and of the one it may skip from.
    """

    place: str
    resolution: Resolution
    block: Block | None = None
    widths: tuple[float | None, ...] = ()

    @property
    def key(self) -> str:
        """Its name in a table, such as "stage 2 further k5e4 at 48"."""
        size = self.resolution if isinstance(self.resolution, int) else "x".join(map(str, self.resolution))
        block = "" if self.block is None else f" {self.block}"
        widths = " width " + ",".join(f"{width}" for width in self.widths) if self.widths else ""
        return f"{self.place}{block}{widths} at {size}"

    def groups(self) -> Iterable[tuple]:
        """What it has in common with others: pieces in one group are expected to differ from the rest alike."""
        yield (self.place,)
        yield (self.resolution,)
        yield (self.place, self.resolution)
        yield (self.place, self.widths)
        if self.block is not None:
            yield (self.place, "kernel", self.block.kernel_size)
            yield (self.place, "expand", self.block.expand_ratio)
            yield (self.place, "paths", self.block.paths)
            yield (self.place, self.block)
        yield (self.key,)


@lru_cache(maxsize=2**17)
def _stage_pieces(
    number: int, stage: Stage, resolution: Resolution, around: tuple[float | None, ...], dense: bool
) -> tuple[Piece, ...]:
    out = []
    for j, block in enumerate(stage.blocks):
        position = "first" if j == 0 else f"block {j + 1}" if dense else "further"
        widths = () if stage.width is None else (stage.width, *around) if j == 0 else (stage.width,)
        out.append(Piece(f"stage {number} {position}", resolution, block, widths))
    return tuple(out)


def pieces_of(architecture: Architecture, dense: bool = False) -> list[Piece]:
    """The pieces of a network; one that occurs twice is there twice."""
    size, stages = architecture.resolution, architecture.stages
    out = [Piece("stem", size, architecture.stem)]
    out += [] if architecture.head is None else [Piece("head", size, architecture.head)]
    out += [Piece(f"exit {number}", size) for number in architecture.exits]
    for i, stage in enumerate(stages):
        before = stages[i - 1].width if i else None
        out += _stage_pieces(i + 1, stage, size, (before, stages[-1 - i].width), dense)
    return out


def all_pieces(space: SearchSpace, dense: bool, rng: random.Random) -> dict[Piece, Architecture]:
    """Every piece that an architecture of `space` can have, each with a random architecture that has it."""
    out: dict[Piece, Architecture] = {}

    def see(architecture: Architecture) -> None:
        for piece in pieces_of(architecture, dense):
            out.setdefault(piece, architecture)

    for resolution, height in product(space.resolutions, space.heights):
        see(_with(space, rng, resolution, height))
        for i, choices in enumerate(space.stages[:height]):
            for j, block_choices in enumerate(choices.blocks[: None if dense else 2]):
                for block, own in product(block_choices.values(), choices.widths or (None,)):
                    for before, beside in _around(space, i) if j == 0 else [(None, None)]:
                        drawn = _with(space, rng, resolution, height)
                        stages = list(drawn.stages)
                        depth = next(depth for depth in choices.depths if depth > j)
                        if len(stages[i].blocks) <= j:
                            largest = space.largest().stages[i].blocks
                            stages[i] = Stage(stages[i].blocks + largest[len(stages[i].blocks) : depth], own)
                        blocks = list(stages[i].blocks)
                        blocks[j] = block
                        if j == 0 and before is not None and i:
                            stages[i - 1] = replace(stages[i - 1], width=before)
                        if j == 0 and beside is not None:
                            stages[-1 - i] = replace(stages[-1 - i], width=beside)
                        stages[i] = Stage(tuple(blocks), own)
                        see(replace(drawn, stages=tuple(stages)))
    for resolution in space.resolutions:
        ends = product(*(c.values() if c else [None] for c in (space.stem, space.head)))
        for stem, head in ends:
            see(replace(_with(space, rng, resolution, space.heights[-1]), stem=stem, head=head))
        see(replace(space.largest(exits="all"), resolution=resolution))
    return out


def split_costs(supernet: Supernet, found: dict[Piece, Architecture], dense: bool, rng: random.Random) -> np.ndarray:
    """Analytic costs of pieces whose sums are those of networks, (pieces, 3) of `FACTORS`; none is below 0.

    What only ever occurs together, as stem and first blocks, shares its cost. Sums are right to a few parts in a
    hundred, which is enough for what they are used for: a first guess.
    """
    space, index = supernet.space, {piece: i for i, piece in enumerate(found)}
    networks = [*found.values(), *(space.sample(rng) for _ in range(2 * len(found)))]
    counts = count_pieces(networks, index, dense)
    costs = [supernet.measure(network) for network in networks]
    sums = np.array([[getattr(cost, factor) for factor in FACTORS] for cost in costs], dtype=float)  # (networks, 3)
    often = counts.sum(axis=0)[:, None]  # (pieces, 1)
    parts = np.ones((len(found), len(FACTORS))) * sums.mean(axis=0) / counts.sum(axis=1).mean()
    for _ in range(
        STEPS
    ):  # each piece is scaled as the networks that have it are short of their cost: Richardson, Lucy
        parts *= counts.T @ (sums / (counts @ parts)) / often
    return parts


def count_pieces(networks: Sequence[Architecture], index: dict[Piece, int], dense: bool) -> sparse.csr_array:
    """How often each network has each piece, (networks, pieces)."""
    rows, columns = [], []
    for i, network in enumerate(networks):
        own = pieces_of(network, dense)
        rows += [i] * len(own)
        columns += [index[piece] for piece in own]
    shape = (len(networks), len(index))
    return sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=shape).tocsr()


def _around(space: SearchSpace, i: int) -> list[tuple[float | None, float | None]]:
    """Widths of the stage before stage `i` and of the one across from it, where they are elastic."""
    stages = space.stages
    before = stages[i - 1].widths or (None,) if i else (None,)
    beside = stages[-1 - i].widths or (None,) if stages[i].widths and len(stages) != 2 * i + 1 else (None,)
    return list(product(before if stages[i].widths else (None,), beside))


def _with(space: SearchSpace, rng: random.Random, resolution: Resolution, height: int) -> Architecture:
    """A random architecture of this resolution and height."""
    given = {"resolution": space.resolutions.index(resolution), "height": space.heights.index(height)}
    return space.decode([given.get(name, rng.randrange(len(choices))) for name, choices in space.variables()])
