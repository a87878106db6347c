"""A search space is data: for every factor of a network the choices it has, with pure functions on them.

The choices are kept for each stage and block, so that the space of a whole supernet, the space of one phase of a
schedule and the space that holds a single architecture are the same kind of value. Nothing here draws from a
global generator: functions that need chance take a `random.Random`.
"""

import math
import operator
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal, Unpack, final

from onceforall.architecture import MAIN_PATH, Architecture, Resolution, as_resolution
from onceforall.choices import ABSENT, BlockChoices, Factors, StageChoices, Variable, listed, ordered, subset, superset
from onceforall.errors import UserError, check_choice, check_keys

__all__ = ["BlockChoices", "SearchSpace", "StageChoices"]


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
    _variables: tuple[Variable, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.stages, list | tuple) or set(map(type, self.stages)) != {StageChoices}:
            raise UserError(f"stages of a search space: got {self.stages!r}; give at least one StageChoices.")
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "resolutions", ordered("resolutions", self.resolutions))
        object.__setattr__(self, "heights", ordered("heights", self.heights) or (len(self.stages),))
        object.__setattr__(self, "exits", ordered("exits", self.exits) or self.heights)
        if not self.resolutions:
            raise UserError("resolutions (): give at least one.")
        if self.heights[-1] != len(self.stages):
            raise UserError(f"heights {self.heights!r}: the largest must be the number of stages, {len(self.stages)}.")
        if not set(self.heights) <= set(self.exits) <= set(range(1, len(self.stages) + 1)):
            raise UserError(f"exits {self.exits!r}: must be stages (1 to {len(self.stages)}), all heights among them.")
        for name, choices in (("stem", self.stem), ("head", self.head)):
            if choices is not None and not isinstance(choices, BlockChoices):
                raise UserError(f"{name} {choices!r}: must be BlockChoices, or None where the {name} is not elastic.")
        object.__setattr__(self, "_variables", tuple(self._list_variables()))

    # -- making spaces ------------------------------------------------------------------------------------------

    @staticmethod
    def build(
        num_stages: int,
        *,
        resolutions: Sequence[Resolution],
        depths: Sequence[int],
        kernel_sizes: Sequence[int] = (),
        expand_ratios: Sequence[float] = (),
        paths: Sequence[tuple[str, ...] | int] = ((MAIN_PATH,),),
        widths: Sequence[float] = (),
        heights: Sequence[int] = (),
        stem: BlockChoices | None = None,
        head: BlockChoices | None = None,
    ) -> "SearchSpace":
        """A space that offers the same choices in every block and stage."""
        counts = ordered("depths", depths)
        block = BlockChoices(
            ordered("kernel_sizes", kernel_sizes), ordered("expand_ratios", expand_ratios), ordered("paths", paths)
        )
        stage = StageChoices(counts, (block,) * max(counts, default=1), ordered("widths", widths))
        sizes, ends = ordered("resolutions", resolutions), ordered("heights", heights)
        return SearchSpace(sizes, (stage,) * num_stages, ends, (), stem, head)

    @staticmethod
    def only(architecture: Architecture) -> "SearchSpace":
        """The space that holds `architecture` and nothing else."""
        return SearchSpace(
            (architecture.resolution,),
            tuple(map(StageChoices.only, architecture.stages)),
            (architecture.height,),
            architecture.exits,
            None if architecture.stem is None else BlockChoices.only(architecture.stem),
            None if architecture.head is None else BlockChoices.only(architecture.head),
        )

    def restrict(self, **given: Unpack[Factors]) -> "SearchSpace":
        """This space with only the given choices of the given factors; each must be among the present ones.

        Exits stay, also those of stages at which no network ends any more, up to the last stage.

        >>> space = SearchSpace.build(2, resolutions=[32], depths=[1, 2], kernel_sizes=[3, 5, 7])
        >>> space.restrict(kernel_sizes=[3, 7], depths=[2]).size()
        16
        """
        return self._with_choices(given, subset)

    def extend(self, **given: Unpack[Factors]) -> "SearchSpace":
        """This space with the given choices of the given factors; the present ones must be among them.

        A block or stage that is new has the choices of the last one before it.
        """
        return self._with_choices(given, superset)

    def _with_choices(self, given: Factors, change: Callable[[str, tuple, tuple], tuple]) -> "SearchSpace":
        checked: dict[str, tuple] = {}
        for name, choices in given.items():
            check_choice("factor of a search space", name, Factors.__annotations__)
            checked[name] = ordered(name, choices)
            if not checked[name]:
                raise UserError(f"{name} (): give at least one choice.")
            if not getattr(self, name):
                raise UserError(f"{name} {checked[name]!r}: this search space has no such factor.")

        def factor(name: str, present: tuple) -> tuple:
            return change(name, present, checked[name]) if name in checked and present else present

        heights, last = factor("heights", self.heights), len(self.stages) - 1
        return SearchSpace(
            factor("resolutions", self.resolutions),
            tuple(self.stages[min(i, last)].changed(factor) for i in range(heights[-1])),
            heights,
            tuple({number for number in self.exits if number <= heights[-1]} | set(heights)),
            None if self.stem is None else self.stem.changed(factor),
            None if self.head is None else self.head.changed(factor),
        )

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
        """Kernel sizes that any block offers, the stem and the head among them."""
        return _union(block.kernel_sizes for block in self._blocks())

    @property
    def expand_ratios(self) -> tuple[float, ...]:
        """Expansion ratios that any block offers, the stem and the head among them."""
        return _union(block.expand_ratios for block in self._blocks())

    @property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """Sets of paths that any block offers, in the order of the first block that has them."""
        return tuple(dict.fromkeys(names for block in self._blocks() for names in block.paths))

    def _blocks(self) -> Iterator[BlockChoices]:
        yield from (block for stage in self.stages for block in stage.blocks)
        yield from (block for block in (self.stem, self.head) if block is not None)

    def size(self) -> int:
        """Number of distinct networks with one exit: factors that a network does not have are not counted for it."""
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

    def single(self) -> Architecture | None:
        """The one architecture of this space, with all its exits; None where there is a choice."""
        return self.largest(exits="all") if self.size() == 1 else None

    def __contains__(self, architecture: object) -> bool:
        return isinstance(architecture, Architecture) and self._objection(architecture) is None

    def check(self, architecture: Architecture) -> None:
        """Raise `UserError`, naming the factor and what it allows, unless `architecture` is in this space."""
        if not isinstance(architecture, Architecture):
            raise UserError(f"architecture {architecture!r}: give an Architecture, such as space.largest().")
        objection = self._objection(architecture)
        if objection is not None:
            raise UserError(f"architecture outside the search space: {objection}.")

    def _objection(self, architecture: Architecture) -> str | None:
        if architecture.resolution not in self.resolutions:
            return f"resolution {architecture.resolution}, allowed {listed(self.resolutions)}"
        if architecture.height not in self.heights:
            return f"height {architecture.height}, allowed {listed(self.heights)}"
        if not set(architecture.exits) <= set(self.exits):
            return f"exits {architecture.exits}, allowed {listed(self.exits)}"
        for name, block, choices in (("stem", architecture.stem, self.stem), ("head", architecture.head, self.head)):
            if block is None or choices is None:
                if block is not choices:
                    return f"{name} {block}, which is {'not ' if choices is None else ''}elastic here"
            elif objection := choices.objection(f"the {name}", block):
                return objection
        for i, (stage, choices) in enumerate(zip(architecture.stages, self.stages, strict=False), start=1):
            if objection := choices.objection(f"stage {i}", stage):
                return objection
        return None

    # -- taking architectures -----------------------------------------------------------------------------------

    def sample(self, rng: random.Random) -> Architecture:
        """A random architecture: every factor is drawn independently and uniformly, then the value is built."""
        return self._take([choices[int(rng.random() * len(choices))] for _, choices in self._variables])

    def largest(self, exits: Literal["last", "all"] = "last") -> Architecture:
        """The architecture with the largest choice of every factor, with its last exit or with all exits."""
        check_choice("exits", exits, ("last", "all"))
        architecture = self._take([choices[-1] for _, choices in self._variables])
        return architecture if exits == "last" else replace(architecture, exits=self.exits)

    def smallest(self) -> Architecture:
        """The architecture with the smallest choice of every factor."""
        return self._take([choices[0] for _, choices in self._variables])

    def uniform(
        self,
        *,
        kernel_size: int | None = None,
        expand_ratio: float | None = None,
        depth: int | None = None,
        resolution: Resolution | None = None,
        height: int | None = None,
        paths: tuple[str, ...] | str | int | None = None,
        width: float | None = None,
    ) -> Architecture:
        """The architecture whose factors are constant over the network; what is left out takes its largest value.

        `paths` is a set of names, one name, or the paper's level code.
        """
        chosen: dict[str, Any] = {"kernel_size": kernel_size, "expand_ratio": expand_ratio, "depth": depth}
        chosen |= {"width": width, "paths": None}
        chosen |= {"height": height, "resolution": None if resolution is None else as_resolution(resolution)}
        if paths is not None:
            [chosen["paths"]] = ordered("paths", [(paths,) if isinstance(paths, str) else paths])
        names = {_factor(name) for name, _ in self._variables}
        for factor, value in chosen.items():
            if value is not None and factor not in names:
                raise UserError(f"{factor} {value!r}: this search space has no such factor.")

        def value(name: str, choices: tuple) -> Any:
            wanted = chosen[_factor(name)]
            if wanted is not None and wanted not in choices:
                raise UserError(f"{name} {wanted!r}: allowed are {listed(choices)}.")
            return choices[-1] if wanted is None else choices[choices.index(wanted)]

        return self._take([value(name, choices) for name, choices in self._variables])

    def grid(self) -> Iterator[tuple[Architecture, int]]:
        """Every architecture whose factors are constant over the network, with its multiplicity.

        The multiplicity is the number of combinations of values that give the architecture; averages over a grid
        are weighted by it (OFAv2, section V). A factor whose choices differ between blocks takes its largest value.
        """
        factors: dict[str, tuple] = {}
        for name, choices in self._variables:
            factor = _factor(name)
            factors[factor] = choices if factors.get(factor, choices) == choices else (None,)
        counts: dict[Architecture, int] = {}
        for values in product(*factors.values()):
            architecture = self.uniform(**dict(zip(factors, values, strict=True)))
            counts[architecture] = counts.get(architecture, 0) + 1
        yield from counts.items()

    # -- codes --------------------------------------------------------------------------------------------------

    def variables(self) -> tuple[Variable, ...]:
        """Name and choices of every variable of the space, in the order in which codes list them."""
        return self._variables

    def _list_variables(self) -> Iterator[Variable]:
        yield from (("resolution", self.resolutions), ("height", self.heights))
        yield from () if self.stem is None else self.stem.variables("stem")
        yield from () if self.head is None else self.head.variables("head")
        for i, stage in enumerate(self.stages):
            yield from stage.variables(f"stages.{i}")

    def _take(self, values: Sequence) -> Architecture:
        """The architecture made of one value for each variable; None stands for a variable that does not exist."""
        supply = iter(values)
        resolution, height = next(supply), next(supply)
        stem = None if self.stem is None else self.stem.take(supply)
        head = None if self.head is None else self.head.take(supply)
        stages = [stage.take(supply) for stage in self.stages][:height]
        present = tuple(stage for stage in stages if stage is not None)
        ends = (stem is None) == (self.stem is None) and (head is None) == (self.head is None)
        if resolution is None or len(present) != height or not ends:
            raise UserError("the code marks a variable as absent that its architecture has.")
        return Architecture(resolution, present, stem, head)

    def encode(self, architecture: Architecture) -> tuple[int, ...]:
        """The index of the chosen value of every variable; -1 for a variable that does not exist.

        Raises `UserError` for an architecture outside the space or with more than one exit.
        """
        self.check(architecture)
        if len(architecture.exits) > 1:
            raise UserError(f"exits {architecture.exits}: only an architecture with one exit has a code.")
        codes = [self.resolutions.index(architecture.resolution), self.heights.index(architecture.height)]
        codes += [] if self.stem is None else self.stem.codes(architecture.stem)
        codes += [] if self.head is None else self.head.codes(architecture.head)
        for i, choices in enumerate(self.stages):
            codes += choices.codes(architecture.stages[i] if i < architecture.height else None)
        return tuple(codes)

    def decode(self, codes: Sequence[int]) -> Architecture:
        """The architecture of a code; codes of variables that turn out not to exist are ignored."""
        if len(codes) != len(self._variables):
            raise UserError(f"a code of this space has {len(self._variables)} numbers, got {len(codes)}.")

        def value(code: int, name: str, choices: tuple) -> Any:
            try:
                index = operator.index(code)
            except TypeError:
                index = len(choices)
            if not ABSENT <= index < len(choices):
                raise UserError(f"code {code!r} of {name}: allowed are 0 to {len(choices) - 1}, and -1 for absent.")
            return None if index == ABSENT else choices[index]

        return self._take([value(code, *variable) for code, variable in zip(codes, self._variables, strict=True)])

    def mutate(self, architecture: Architecture, rng: random.Random, probability: float = 0.1) -> Architecture:
        """`architecture` with every variable drawn anew with the given probability."""
        if not 0 <= probability <= 1:
            raise UserError(f"probability {probability!r} of a mutation: must be between 0 and 1.")
        own = self._full_code(architecture, rng)
        drawn = [(rng.random(), int(rng.random() * len(choices))) for _, choices in self._variables]
        return self.decode([new if u < probability else old for (u, new), old in zip(drawn, own, strict=True)])

    def crossover(self, one: Architecture, other: Architecture, rng: random.Random) -> Architecture:
        """A child that takes every variable from one of its parents at random."""
        pairs = zip(self._full_code(one, rng), self._full_code(other, rng), strict=True)
        return self.decode([a if rng.random() < 0.5 else b for a, b in pairs])

    def _full_code(self, architecture: Architecture, rng: random.Random) -> list[int]:
        """The code of `architecture` in which variables that do not exist are drawn at random."""
        codes = zip(self.encode(architecture), self._variables, strict=True)
        return [int(rng.random() * len(choices)) if code == ABSENT else code for code, (_, choices) in codes]

    # -- JSON ---------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        return {
            "resolutions": [r if isinstance(r, int) else list(r) for r in self.resolutions],
            "heights": list(self.heights),
            "exits": list(self.exits),
            "stages": [stage.to_dict() for stage in self.stages],
            "stem": None if self.stem is None else self.stem.to_dict(),
            "head": None if self.head is None else self.head.to_dict(),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "SearchSpace":
        """The inverse of `to_dict`; raises `UserError` for a wrong key or value."""
        check_keys("search space", data, ("resolutions", "heights", "exits", "stages", "stem", "head"))
        if not isinstance(data["stages"], list | tuple):
            raise UserError(f"stages {data['stages']!r} of a search space: give a list.")
        return SearchSpace(
            data["resolutions"],
            tuple(map(StageChoices.from_dict, data["stages"])),
            data["heights"],
            data["exits"],
            None if data["stem"] is None else BlockChoices.from_dict(data["stem"]),
            None if data["head"] is None else BlockChoices.from_dict(data["head"]),
        )


def _factor(name: str) -> str:
    """`depth` for the variable `stages.0.depth`."""
    return name.rpartition(".")[2]


def _union(choices: Iterator[tuple]) -> tuple:
    return tuple(sorted({value for values in choices for value in values}))
