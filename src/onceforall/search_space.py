"""A search space is data: for every factor of a network the choices it has, with pure functions on them.

The choices are kept for each stage and block, so that the space of a whole supernet, the space of one phase of a
schedule and the space that holds a single architecture are the same kind of value. Nothing here draws from a
global generator: functions that need chance take a `random.Random`.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, final

from onceforall.architecture import MAIN_PATH, Architecture, Block, Resolution, Stage, as_resolution
from onceforall.errors import UserError

__all__ = ["BlockChoices", "SearchSpace", "StageChoices"]

ABSENT = -1
"""Code of a variable that does not exist in an encoded architecture."""


@final
@dataclass(frozen=True, slots=True)
class BlockChoices:
    """Choices of one block. A factor without choices does not exist in the block.

    `paths` lists sets of parallel paths from the smallest to the largest set.
    """

    kernel_sizes: tuple[int, ...] = ()
    expand_ratios: tuple[float, ...] = ()
    paths: tuple[tuple[str, ...], ...] = ((MAIN_PATH,),)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel_sizes", _ordered("kernel_sizes", self.kernel_sizes))
        object.__setattr__(self, "expand_ratios", _ordered("expand_ratios", self.expand_ratios))
        paths = tuple(tuple(sorted(names)) for names in self.paths)
        if not paths or len(set(paths)) != len(paths) or not all(paths):
            raise UserError(f"paths {self.paths!r}: give at least one set of names, each set once, none empty.")
        object.__setattr__(self, "paths", paths)
        for block in self.values():  # every combination is a valid block, or says which value is not
            assert isinstance(block, Block)

    def values(self) -> list[Block]:
        """Every distinct block."""
        main = list(product(self.kernel_sizes or (None,), self.expand_ratios or (None,)))
        return [
            Block(size, ratio, names)
            for names in self.paths
            for size, ratio in (main if MAIN_PATH in names else [(None, None)])
        ]


@final
@dataclass(frozen=True, slots=True)
class StageChoices:
    """Choices of one stage: how many of `blocks` run, what each may be, and the stage's width fractions."""

    depths: tuple[int, ...]
    blocks: tuple[BlockChoices, ...]
    widths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", _ordered("depths", self.depths))
        object.__setattr__(self, "widths", _ordered("widths", self.widths))
        if not self.depths or not isinstance(self.depths[0], int) or self.depths[0] < 1:
            raise UserError(f"depths {self.depths!r}: give at least one positive whole number.")
        if self.depths[-1] != len(self.blocks):
            raise UserError(f"depths {self.depths!r}: the largest must equal the number of blocks, {len(self.blocks)}.")
        if self.widths and not 0 < self.widths[0] <= self.widths[-1] <= 1:
            raise UserError(f"widths {self.widths!r}: must be fractions in (0, 1].")


@final
@dataclass(frozen=True, slots=True)
class SearchSpace:
    """All sub-networks of a supernet.

    Args:
        resolutions: input sizes.
        stages: choices of each stage.
        heights: how many stages may run; the default is all of them.
        exits: numbers of the stages, from 1, that have an exit of their own; the default is `heights`.
        stem: choices of the stem where it is elastic.
        head: choices of the head where it is elastic.
    """

    resolutions: tuple[Resolution, ...]
    stages: tuple[StageChoices, ...]
    heights: tuple[int, ...] = ()
    exits: tuple[int, ...] = ()
    stem: BlockChoices | None = None
    head: BlockChoices | None = None

    def __post_init__(self) -> None:
        resolutions = {as_resolution(value) for value in self.resolutions}
        if not resolutions or not self.stages:
            raise UserError("a search space needs at least one resolution and one stage.")
        object.__setattr__(self, "resolutions", tuple(sorted(resolutions, key=_pixels)))
        object.__setattr__(self, "heights", _ordered("heights", self.heights or (len(self.stages),)))
        object.__setattr__(self, "exits", _ordered("exits", self.exits or self.heights))
        if self.heights[0] < 1 or self.heights[-1] != len(self.stages):
            raise UserError(f"heights {self.heights!r}: between 1 and {len(self.stages)}, which must be among them.")
        if not set(self.heights) <= set(self.exits):
            raise UserError(f"heights {self.heights!r}: each needs an exit, and exits are {self.exits!r}.")

    # -- making spaces ------------------------------------------------------------------------------------------

    @staticmethod
    def build(
        num_stages: int,
        *,
        resolutions: Sequence[Resolution],
        depths: Sequence[int],
        kernel_sizes: Sequence[int] = (),
        expand_ratios: Sequence[float] = (),
        paths: Sequence[tuple[str, ...]] = ((MAIN_PATH,),),
        widths: Sequence[float] = (),
        heights: Sequence[int] = (),
        stem: BlockChoices | None = None,
        head: BlockChoices | None = None,
    ) -> "SearchSpace":
        """A space that offers the same choices in every block and stage."""
        depths = _ordered("depths", depths)
        block = BlockChoices(tuple(kernel_sizes), tuple(expand_ratios), tuple(paths))
        stage = StageChoices(depths, (block,) * (depths[-1] if depths else 0), tuple(widths))
        return SearchSpace(tuple(resolutions), (stage,) * num_stages, tuple(heights), (), stem, head)

    @staticmethod
    def only(architecture: Architecture) -> "SearchSpace":
        """The space that holds `architecture` and nothing else."""
        stages = tuple(
            StageChoices(
                (len(stage.blocks),),
                tuple(_only_block(block) for block in stage.blocks),
                () if stage.width is None else (stage.width,),
            )
            for stage in architecture.stages
        )
        stem = None if architecture.stem is None else _only_block(architecture.stem)
        head = None if architecture.head is None else _only_block(architecture.head)
        return SearchSpace(
            (architecture.resolution,), stages, (architecture.height,), architecture.exits, stem=stem, head=head
        )

    def restrict(
        self,
        *,
        resolutions: Sequence[Resolution] | None = None,
        depths: Sequence[int] | None = None,
        kernel_sizes: Sequence[int] | None = None,
        expand_ratios: Sequence[float] | None = None,
        paths: Sequence[tuple[str, ...]] | None = None,
        widths: Sequence[float] | None = None,
        heights: Sequence[int] | None = None,
    ) -> "SearchSpace":
        """This space with only the given choices of the given factors; each must be among the present ones."""
        given = _given(resolutions, depths, kernel_sizes, expand_ratios, paths, widths, heights)
        return self._with_choices(given, _subset)

    def extend(
        self,
        *,
        resolutions: Sequence[Resolution] | None = None,
        depths: Sequence[int] | None = None,
        kernel_sizes: Sequence[int] | None = None,
        expand_ratios: Sequence[float] | None = None,
        paths: Sequence[tuple[str, ...]] | None = None,
        widths: Sequence[float] | None = None,
        heights: Sequence[int] | None = None,
    ) -> "SearchSpace":
        """This space with the given choices of the given factors; the present ones must be among them.

        A block or stage that is new has the choices of the last one before it.
        """
        given = _given(resolutions, depths, kernel_sizes, expand_ratios, paths, widths, heights)
        return self._with_choices(given, _superset)

    def _with_choices(self, given: Mapping[str, tuple], change: Callable[[str, tuple, tuple], tuple]) -> "SearchSpace":
        def factor(name: str, present: tuple) -> tuple:
            return change(name, present, given[name]) if name in given and present else present

        def block_choices(block: BlockChoices) -> BlockChoices:
            return BlockChoices(
                factor("kernel_sizes", block.kernel_sizes),
                factor("expand_ratios", block.expand_ratios),
                factor("paths", block.paths),
            )

        def stage_choices(stage: StageChoices) -> StageChoices:
            depths = factor("depths", stage.depths)
            blocks = tuple(block_choices(stage.blocks[min(i, len(stage.blocks) - 1)]) for i in range(max(depths)))
            return StageChoices(depths, blocks, factor("widths", stage.widths))

        for name in given:
            if name in _BLOCK_AND_STAGE_FACTORS and not self._has(name):
                raise UserError(f"{name} {given[name]!r}: this search space has no such factor.")
        heights = factor("heights", self.heights)
        stages = tuple(stage_choices(self.stages[min(i, len(self.stages) - 1)]) for i in range(max(heights)))
        exits = tuple(sorted({e for e in self.exits if e <= max(heights)} | set(heights)))
        stem = None if self.stem is None else block_choices(self.stem)
        head = None if self.head is None else block_choices(self.head)
        return SearchSpace(factor("resolutions", self.resolutions), stages, heights, exits, stem, head)

    # -- looking at a space -------------------------------------------------------------------------------------

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths that any stage offers."""
        return _union(stage.depths for stage in self.stages)

    @property
    def widths(self) -> tuple[float, ...]:
        """Width fractions that any stage offers."""
        return _union(stage.widths for stage in self.stages)

    @property
    def kernel_sizes(self) -> tuple[int, ...]:
        """Kernel sizes that any block offers."""
        return _union(block.kernel_sizes for block in self._blocks())

    @property
    def expand_ratios(self) -> tuple[float, ...]:
        """Expansion ratios that any block offers."""
        return _union(block.expand_ratios for block in self._blocks())

    @property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """Sets of paths that any block offers, in the order of the first block that has them."""
        return tuple(dict.fromkeys(names for block in self._blocks() for names in block.paths))

    def _blocks(self) -> Iterator[BlockChoices]:
        yield from (block for stage in self.stages for block in stage.blocks)

    def _has(self, factor: str) -> bool:
        blocks = [*self._blocks(), *(block for block in (self.stem, self.head) if block is not None)]
        values = {
            "kernel_sizes": any(block.kernel_sizes for block in blocks),
            "expand_ratios": any(block.expand_ratios for block in blocks),
            "widths": any(stage.widths for stage in self.stages),
        }
        return values[factor]

    def size(self) -> int:
        """Number of distinct networks: factors that a network does not have are not counted for it."""
        return self._count(lambda block: len(block.values()))

    def encodings(self) -> int:
        """Number of codes: kernel and expansion count for every existing block, also where no path uses them."""
        return self._count(
            lambda block: (len(block.kernel_sizes) or 1) * (len(block.expand_ratios) or 1) * len(block.paths)
        )

    def _count(self, block_count: Callable[[BlockChoices], int]) -> int:
        def stage_count(stage: StageChoices) -> int:
            counts = [block_count(block) for block in stage.blocks]
            return (len(stage.widths) or 1) * sum(math.prod(counts[:depth]) for depth in stage.depths)

        counts = [stage_count(stage) for stage in self.stages]
        ends = math.prod(block_count(block) for block in (self.stem, self.head) if block is not None)
        return len(self.resolutions) * ends * sum(math.prod(counts[:height]) for height in self.heights)

    def __contains__(self, architecture: object) -> bool:
        return isinstance(architecture, Architecture) and self._objection(architecture) is None

    def check(self, architecture: Architecture) -> None:
        """Raise `UserError`, naming the factor and what it allows, unless `architecture` is in this space."""
        objection = self._objection(architecture)
        if objection is not None:
            raise UserError(f"architecture outside the search space: {objection}.")

    def _objection(self, architecture: Architecture) -> str | None:
        if architecture.resolution not in self.resolutions:
            return f"resolution {architecture.resolution}, allowed {_listed(self.resolutions)}"
        if architecture.height not in self.heights:
            return f"height {architecture.height}, allowed {_listed(self.heights)}"
        if not set(architecture.exits) <= set(self.exits):
            return f"exits {architecture.exits}, allowed {_listed(self.exits)}"
        for name, block, choices in (("stem", architecture.stem, self.stem), ("head", architecture.head, self.head)):
            if (block is None) != (choices is None):
                return f"{name} {block}, which is {'not ' if choices is None else ''}elastic here"
            if block is not None and choices is not None and (objection := _block_objection(name, block, choices)):
                return objection
        for i, (stage, choices) in enumerate(zip(architecture.stages, self.stages, strict=False)):
            if len(stage.blocks) not in choices.depths:
                return f"depth {len(stage.blocks)} of stage {i + 1}, allowed {_listed(choices.depths)}"
            if stage.width not in (choices.widths or (None,)):
                return f"width {stage.width} of stage {i + 1}, allowed {_listed(choices.widths)}"
            for j, (block, block_choices) in enumerate(zip(stage.blocks, choices.blocks, strict=False)):
                if objection := _block_objection(f"block {j + 1} of stage {i + 1}", block, block_choices):
                    return objection
        return None

    # -- taking architectures -----------------------------------------------------------------------------------

    def sample(self, rng: random.Random) -> Architecture:
        """A random architecture: every factor is drawn independently and uniformly, then the value is built."""
        return self.decode([rng.randrange(len(choices)) for _, choices in self.variables()])

    def largest(self, exits: Literal["last", "all"] = "last") -> Architecture:
        """The architecture with the largest choice of every factor, with its last exit or with all exits."""
        architecture = self.decode([len(choices) - 1 for _, choices in self.variables()])
        return architecture if exits == "last" else replace(architecture, exits=self.exits)

    def smallest(self) -> Architecture:
        """The architecture with the smallest choice of every factor."""
        return self.decode([0 for _ in self.variables()])

    def uniform(
        self,
        *,
        kernel_size: int | None = None,
        expand_ratio: float | None = None,
        depth: int | None = None,
        resolution: Resolution | None = None,
        height: int | None = None,
        paths: tuple[str, ...] | None = None,
        width: float | None = None,
    ) -> Architecture:
        """The architecture whose factors are constant over the network; what is left out takes its largest value."""
        chosen = {"kernel_size": kernel_size, "expand_ratio": expand_ratio, "depth": depth, "width": width}
        chosen |= {"resolution": resolution, "height": height, "paths": None if paths is None else tuple(sorted(paths))}
        names = {factor for factor, _ in ((name.rpartition(".")[2], None) for name, _ in self.variables())}
        for factor, value in chosen.items():
            if value is not None and factor not in names:
                raise UserError(f"{factor} {value!r}: this search space has no such factor.")

        def code(name: str, choices: tuple) -> int:
            value = chosen[name.rpartition(".")[2]]
            if value is None:
                return len(choices) - 1
            if value not in choices:
                raise UserError(f"{name} {value!r}: allowed are {_listed(choices)}.")
            return choices.index(value)

        return self.decode([code(name, choices) for name, choices in self.variables()])

    def grid(self) -> Iterator[tuple[Architecture, int]]:
        """Every architecture whose factors are constant over the network, with its multiplicity.

        The multiplicity is the number of combinations of values that give the architecture; averages over a grid
        are weighted by it (OFAv2, section V). A factor whose choices differ between blocks takes its largest value.
        """
        factors: dict[str, tuple] = {}
        for name, choices in self.variables():
            factor = name.rpartition(".")[2]
            factors[factor] = choices if factors.get(factor, choices) == choices else (None,)
        counts: dict[Architecture, int] = {}
        for values in product(*factors.values()):
            architecture = self.uniform(**dict(zip(factors, values, strict=True)))
            counts[architecture] = counts.get(architecture, 0) + 1
        yield from counts.items()

    # -- codes --------------------------------------------------------------------------------------------------

    def variables(self) -> list[tuple[str, tuple]]:
        """Name and choices of every variable of the space, in the order in which codes list them."""
        out: list[tuple[str, tuple]] = [("resolution", self.resolutions), ("height", self.heights)]
        out += _block_variables("stem", self.stem) + _block_variables("head", self.head)
        for i, stage in enumerate(self.stages):
            out.append((f"stages.{i}.depth", stage.depths))
            out += [(f"stages.{i}.width", stage.widths)] if stage.widths else []
            for j, block in enumerate(stage.blocks):
                out += _block_variables(f"stages.{i}.blocks.{j}", block)
        return out

    def encode(self, architecture: Architecture) -> tuple[int, ...]:
        """The index of the chosen value of every variable; -1 for a variable that does not exist.

        Raises `UserError` for an architecture outside the space or with more than one exit.
        """
        self.check(architecture)
        if len(architecture.exits) > 1:
            raise UserError(f"exits {architecture.exits}: only an architecture with one exit has a code.")
        codes = [self.resolutions.index(architecture.resolution), self.heights.index(architecture.height)]
        codes += _block_codes(self.stem, architecture.stem) + _block_codes(self.head, architecture.head)
        for i, choices in enumerate(self.stages):
            stage = architecture.stages[i] if i < architecture.height else None
            codes.append(ABSENT if stage is None else choices.depths.index(len(stage.blocks)))
            if choices.widths:
                codes.append(ABSENT if stage is None else choices.widths.index(stage.width))
            for j, block_choices in enumerate(choices.blocks):
                block = stage.blocks[j] if stage is not None and j < len(stage.blocks) else None
                codes += _block_codes(block_choices, block)
        return tuple(codes)

    def decode(self, codes: Sequence[int]) -> Architecture:
        """The architecture of a code; codes of variables that turn out not to exist are ignored."""
        variables = self.variables()
        if len(codes) != len(variables):
            raise UserError(f"a code of this space has {len(variables)} numbers, got {len(codes)}.")
        supply = iter(zip(codes, variables, strict=True))

        def take(choices: tuple) -> int | None:
            """Index of the next variable, or None where the code says that it is absent."""
            if not choices:
                return None
            code, (name, _) = next(supply)
            if not ABSENT <= code < len(choices):
                raise UserError(f"code {code} of {name}: allowed are 0 to {len(choices) - 1}.")
            return None if code == ABSENT else code

        def pick(choices: tuple) -> Any:
            code = take(choices)
            return None if code is None else choices[code]

        def block(choices: BlockChoices) -> tuple:
            return pick(choices.kernel_sizes), pick(choices.expand_ratios), pick(choices.paths)

        def build(values: tuple) -> Block:
            size, ratio, names = values
            if names is None:
                raise UserError("the code marks a block as absent that the depth of its stage needs.")
            return Block(size, ratio, names) if MAIN_PATH in names else Block(paths=names)

        resolution, height = pick(self.resolutions), pick(self.heights)
        stem = None if self.stem is None else block(self.stem)
        head = None if self.head is None else block(self.head)
        stages = []
        for choices in self.stages:
            depth, width = pick(choices.depths), pick(choices.widths)
            stages.append((depth, width, [block(block_choices) for block_choices in choices.blocks]))
        if resolution is None or height is None or any(depth is None for depth, _, _ in stages[:height]):
            raise UserError("the code marks the resolution, the height or a needed depth as absent.")
        return Architecture(
            resolution,
            tuple(Stage(tuple(build(b) for b in blocks[:depth]), width) for depth, width, blocks in stages[:height]),
            stem=None if stem is None else build(stem),
            head=None if head is None else build(head),
        )

    def mutate(self, architecture: Architecture, rng: random.Random, probability: float = 0.1) -> Architecture:
        """`architecture` with every variable drawn anew with the given probability."""
        full = self._filled(architecture, rng)
        draws = [(rng.random(), rng.randrange(len(choices))) for _, choices in self.variables()]
        return self.decode([new if u < probability else old for (u, new), old in zip(draws, full, strict=True)])

    def crossover(self, one: Architecture, other: Architecture, rng: random.Random) -> Architecture:
        """A child that takes every variable from one of its parents at random."""
        pairs = zip(self._filled(one, rng), self._filled(other, rng), strict=True)
        return self.decode([rng.choice(pair) for pair in pairs])

    def _filled(self, architecture: Architecture, rng: random.Random) -> list[int]:
        """The code of `architecture` in which variables that do not exist are drawn at random."""
        codes = zip(self.encode(architecture), self.variables(), strict=True)
        return [rng.randrange(len(choices)) if code == ABSENT else code for code, (_, choices) in codes]

    # -- JSON ---------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        return {
            "resolutions": [r if isinstance(r, int) else list(r) for r in self.resolutions],
            "heights": list(self.heights),
            "exits": list(self.exits),
            "stages": [
                {
                    "depths": list(stage.depths),
                    "widths": list(stage.widths),
                    "blocks": [_choices_to_dict(block) for block in stage.blocks],
                }
                for stage in self.stages
            ],
            "stem": None if self.stem is None else _choices_to_dict(self.stem),
            "head": None if self.head is None else _choices_to_dict(self.head),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "SearchSpace":
        """The inverse of `to_dict`."""
        return SearchSpace(
            tuple(as_resolution(value) for value in data["resolutions"]),
            tuple(
                StageChoices(
                    tuple(stage["depths"]),
                    tuple(_choices_from_dict(block) for block in stage["blocks"]),
                    tuple(stage["widths"]),
                )
                for stage in data["stages"]
            ),
            tuple(data["heights"]),
            tuple(data["exits"]),
            None if data["stem"] is None else _choices_from_dict(data["stem"]),
            None if data["head"] is None else _choices_from_dict(data["head"]),
        )


_BLOCK_AND_STAGE_FACTORS = ("kernel_sizes", "expand_ratios", "widths")


def _given(
    resolutions: Sequence[Resolution] | None,
    depths: Sequence[int] | None,
    kernel_sizes: Sequence[int] | None,
    expand_ratios: Sequence[float] | None,
    paths: Sequence[tuple[str, ...]] | None,
    widths: Sequence[float] | None,
    heights: Sequence[int] | None,
) -> dict[str, tuple]:
    factors = {"resolutions": resolutions, "depths": depths, "kernel_sizes": kernel_sizes, "widths": widths}
    factors |= {"expand_ratios": expand_ratios, "heights": heights}
    out = {name: _ordered(name, choices) for name, choices in factors.items() if choices is not None}
    out |= {} if paths is None else {"paths": tuple(tuple(sorted(names)) for names in paths)}
    for name, choices in out.items():
        if not choices:
            raise UserError(f"{name}: got no choice; give at least one.")
    return out


def _subset(name: str, present: tuple, given: tuple) -> tuple:
    kept = tuple(value for value in present if value in given)
    strange = [value for value in given if value not in present]
    if strange:
        raise UserError(f"{name} {_listed(strange)}: not among the present choices {_listed(present)}.")
    return kept


def _superset(name: str, present: tuple, given: tuple) -> tuple:
    missing = [value for value in present if value not in given]
    if missing:
        raise UserError(
            f"{name} {_listed(given)}: extending keeps every present choice, and {_listed(missing)} is missing."
        )
    return given


def _ordered(name: str, values: Sequence) -> tuple:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UserError(f"{name} {values!r}: give a tuple of choices.")
    try:
        out = tuple(sorted(set(values), key=_pixels if name == "resolutions" else None))
    except TypeError as error:
        raise UserError(f"{name} {values!r}: give numbers.") from error
    if len(out) != len(values):
        raise UserError(f"{name} {tuple(values)!r}: a choice stands there twice.")
    return out


def _pixels(resolution: Resolution) -> int:
    return resolution if isinstance(resolution, int) else math.prod(resolution)


def _union(choices: Iterator[tuple]) -> tuple:
    return tuple(sorted({value for values in choices for value in values}))


def _listed(values: Sequence) -> str:
    return ", ".join(str(value) for value in values) or "none"


def _only_block(block: Block) -> BlockChoices:
    sizes = () if block.kernel_size is None else (block.kernel_size,)
    ratios = () if block.expand_ratio is None else (block.expand_ratio,)
    return BlockChoices(sizes, ratios, (block.paths,))


def _block_variables(prefix: str, block: BlockChoices | None) -> list[tuple[str, tuple]]:
    if block is None:
        return []
    factors = {"kernel_size": block.kernel_sizes, "expand_ratio": block.expand_ratios, "paths": block.paths}
    return [(f"{prefix}.{factor}", choices) for factor, choices in factors.items() if choices]


def _block_codes(choices: BlockChoices | None, block: Block | None) -> list[int]:
    if choices is None:
        return []
    values = (None, None, None) if block is None else (block.kernel_size, block.expand_ratio, block.paths)
    factors = zip((choices.kernel_sizes, choices.expand_ratios, choices.paths), values, strict=True)
    return [ABSENT if value is None else options.index(value) for options, value in factors if options]


def _block_objection(name: str, block: Block, choices: BlockChoices) -> str | None:
    if block.paths not in choices.paths:
        return f"paths {'+'.join(block.paths)} of {name}, allowed {_listed(['+'.join(p) for p in choices.paths])}"
    if MAIN_PATH not in block.paths:
        return None
    if block.kernel_size not in (choices.kernel_sizes or (None,)):
        return f"kernel_size {block.kernel_size} of {name}, allowed {_listed(choices.kernel_sizes)}"
    if block.expand_ratio not in (choices.expand_ratios or (None,)):
        return f"expand_ratio {block.expand_ratio} of {name}, allowed {_listed(choices.expand_ratios)}"
    return None


def _choices_to_dict(block: BlockChoices) -> dict[str, Any]:
    return {
        "kernel_sizes": list(block.kernel_sizes),
        "expand_ratios": list(block.expand_ratios),
        "paths": [list(names) for names in block.paths],
    }


def _choices_from_dict(data: Mapping[str, Any]) -> BlockChoices:
    return BlockChoices(
        tuple(data["kernel_sizes"]), tuple(data["expand_ratios"]), tuple(tuple(names) for names in data["paths"])
    )
