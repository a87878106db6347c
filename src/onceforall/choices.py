"""What one block and one stage may be: the parts of a search space.

A *variable* is a factor at one place of the network, such as the kernel size of the second block. Blocks and stages
list their variables in a fixed order, turn values of them into a block or a stage (`take`), and the reverse (`codes`).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, TypedDict, final

from onceforall.architecture import (
    MAIN_PATH,
    Block,
    Resolution,
    Stage,
    as_number,
    as_resolution,
    is_whole,
    paths_of_code,
)
from onceforall.errors import UserError, check_keys

__all__ = [
    "ABSENT",
    "BlockChoices",
    "Change",
    "Factors",
    "StageChoices",
    "Variable",
    "listed",
    "ordered",
    "subset",
    "superset",
]

ABSENT = -1
"""Code of a variable that does not exist in an encoded architecture."""

Variable = tuple[str, tuple]
"""Name and choices of a variable."""

Change = Callable[[str, tuple], tuple]
"""(factor, its choices) to the choices that take their place."""


class Factors(TypedDict, total=False):
    """Choices of factors by name, for every block and stage that has the factor."""

    resolutions: Sequence[Resolution]
    depths: Sequence[int]
    kernel_sizes: Sequence[int]
    expand_ratios: Sequence[float]
    paths: Sequence[tuple[str, ...] | int]
    widths: Sequence[float]
    heights: Sequence[int]


_block = lru_cache(maxsize=4096)(Block)


@final
@dataclass(frozen=True, slots=True)
class BlockChoices:
    """Choices of one block. A factor without choices does not exist in the block.

    `paths` lists sets of parallel paths, in an order of the network's own that starts with the smallest and ends with
    the largest set.
    """

    kernel_sizes: tuple[int, ...] = ()
    expand_ratios: tuple[float, ...] = ()
    paths: tuple[tuple[str, ...], ...] = ((MAIN_PATH,),)

    def __post_init__(self) -> None:
        for factor in ("kernel_sizes", "expand_ratios", "paths"):
            object.__setattr__(self, factor, ordered(factor, getattr(self, factor)))
        if not self.paths:
            raise UserError("paths (): give at least one set of names.")
        if not self.kernel_sizes and any(MAIN_PATH in names for names in self.paths):
            raise UserError(f"kernel_sizes (): the {MAIN_PATH!r} path needs at least one.")

    @staticmethod
    def only(block: Block) -> "BlockChoices":
        """The choices that leave nothing but `block`."""
        sizes = () if block.kernel_size is None else (block.kernel_size,)
        ratios = () if block.expand_ratio is None else (block.expand_ratio,)
        return BlockChoices(sizes, ratios, (block.paths,))

    def values(self) -> list[Block]:
        """Every distinct block."""
        main = list(product(self.kernel_sizes or (None,), self.expand_ratios or (None,)))
        return [
            _block(size, ratio, names)
            for names in self.paths
            for size, ratio in (main if MAIN_PATH in names else [(None, None)])
        ]

    def changed(self, change: Change) -> "BlockChoices":
        """These choices, each factor's as `change` says."""
        factors = ("kernel_sizes", "expand_ratios", "paths")
        return BlockChoices(*(change(factor, getattr(self, factor)) for factor in factors))

    def variables(self, prefix: str) -> list[Variable]:
        """The variables, in the order of codes, with `prefix` before their names."""
        factors = {"kernel_size": self.kernel_sizes, "expand_ratio": self.expand_ratios, "paths": self.paths}
        return [(f"{prefix}.{factor}", choices) for factor, choices in factors.items() if choices]

    def take(self, values: Iterator) -> Block | None:
        """The block made of the next values, one for each variable; None where one that it needs is None."""
        size = next(values) if self.kernel_sizes else None
        ratio = next(values) if self.expand_ratios else None
        names = next(values)
        if names is None or MAIN_PATH not in names:
            return None if names is None else _block(None, None, names)
        incomplete = size is None or (ratio is None and self.expand_ratios)
        return None if incomplete else _block(size, ratio, names)

    def codes(self, block: Block | None) -> list[int]:
        """The index of the chosen value of each variable of `block`, which is among these choices or None."""
        values = (None, None, None) if block is None else (block.kernel_size, block.expand_ratio, block.paths)
        factors = zip((self.kernel_sizes, self.expand_ratios, self.paths), values, strict=True)
        return [ABSENT if value is None else choices.index(value) for choices, value in factors if choices]

    def objection(self, place: str, block: Block) -> str | None:
        """Why `block`, which stands at `place`, is not among these choices; None if it is."""
        if block.paths not in self.paths:
            return f"paths {'+'.join(block.paths)} of {place}, allowed {listed(['+'.join(p) for p in self.paths])}"
        if MAIN_PATH not in block.paths:
            return None
        if block.kernel_size not in self.kernel_sizes:
            return f"kernel_size {block.kernel_size} of {place}, allowed {listed(self.kernel_sizes)}"
        if block.expand_ratio not in (self.expand_ratios or (None,)):
            return f"expand_ratio {block.expand_ratio} of {place}, allowed {listed(self.expand_ratios)}"
        return None

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        paths = [list(names) for names in self.paths]
        return {"kernel_sizes": list(self.kernel_sizes), "expand_ratios": list(self.expand_ratios), "paths": paths}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "BlockChoices":
        """The inverse of `to_dict`; raises `UserError` for a wrong key or value."""
        check_keys("choices of a block", data, ("kernel_sizes", "expand_ratios", "paths"))
        return BlockChoices(data["kernel_sizes"], data["expand_ratios"], data["paths"])


@final
@dataclass(frozen=True, slots=True)
class StageChoices:
    """Choices of one stage: how many of `blocks` run, what each may be, and the stage's width fractions."""

    depths: tuple[int, ...]
    blocks: tuple[BlockChoices, ...]
    widths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", ordered("depths", self.depths))
        object.__setattr__(self, "widths", ordered("widths", self.widths))
        if not isinstance(self.blocks, list | tuple) or set(map(type, self.blocks)) != {BlockChoices}:
            raise UserError(f"blocks of a stage: got {self.blocks!r}; give at least one BlockChoices.")
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not self.depths:
            raise UserError("depths (): give at least one.")
        if self.depths[-1] != len(self.blocks):
            raise UserError(f"depths {self.depths!r}: the largest must equal the number of blocks, {len(self.blocks)}.")

    @staticmethod
    def only(stage: Stage) -> "StageChoices":
        """The choices that leave nothing but `stage`."""
        widths = () if stage.width is None else (stage.width,)
        return StageChoices((len(stage.blocks),), tuple(map(BlockChoices.only, stage.blocks)), widths)

    def changed(self, change: Change) -> "StageChoices":
        """These choices, each factor's as `change` says; a block that is new has the choices of the one before it."""
        depths, last = change("depths", self.depths), len(self.blocks) - 1
        blocks = tuple(self.blocks[min(i, last)].changed(change) for i in range(depths[-1]))
        return StageChoices(depths, blocks, change("widths", self.widths))

    def variables(self, prefix: str) -> list[Variable]:
        """The variables, in the order of codes, with `prefix` before their names."""
        out: list[Variable] = [(f"{prefix}.depth", self.depths)]
        out += [(f"{prefix}.width", self.widths)] if self.widths else []
        return out + [v for i, block in enumerate(self.blocks) for v in block.variables(f"{prefix}.blocks.{i}")]

    def take(self, values: Iterator) -> Stage | None:
        """The stage made of the next values, one for each variable; None where one that it needs is None."""
        depth = next(values)
        width = next(values) if self.widths else None
        blocks = [choices.take(values) for choices in self.blocks][:depth]
        if depth is None or (width is None and self.widths):
            return None
        present = [block for block in blocks if block is not None]
        return Stage(tuple(present), width) if len(present) == depth else None

    def codes(self, stage: Stage | None) -> list[int]:
        """The index of the chosen value of each variable of `stage`, which is among these choices or None."""
        out = [ABSENT if stage is None else self.depths.index(len(stage.blocks))]
        if self.widths:
            out.append(ABSENT if stage is None or stage.width is None else self.widths.index(stage.width))
        blocks = () if stage is None else stage.blocks
        for i, choices in enumerate(self.blocks):
            out += choices.codes(blocks[i] if i < len(blocks) else None)
        return out

    def objection(self, place: str, stage: Stage) -> str | None:
        """Why `stage`, which stands at `place`, is not among these choices; None if it is."""
        if len(stage.blocks) not in self.depths:
            return f"depth {len(stage.blocks)} of {place}, allowed {listed(self.depths)}"
        if stage.width not in (self.widths or (None,)):
            return f"width {stage.width} of {place}, allowed {listed(self.widths)}"
        for i, (block, choices) in enumerate(zip(stage.blocks, self.blocks, strict=False), start=1):
            if objection := choices.objection(f"block {i} of {place}", block):
                return objection
        return None

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        blocks = [block.to_dict() for block in self.blocks]
        return {"depths": list(self.depths), "widths": list(self.widths), "blocks": blocks}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "StageChoices":
        """The inverse of `to_dict`; raises `UserError` for a wrong key or value."""
        check_keys("choices of a stage", data, ("depths", "widths", "blocks"))
        if not isinstance(data["blocks"], list | tuple):
            raise UserError(f"blocks {data['blocks']!r} of the choices of a stage: give a list.")
        return StageChoices(data["depths"], tuple(map(BlockChoices.from_dict, data["blocks"])), data["widths"])


def ordered(factor: str, values: Any) -> tuple:
    """The choices of a factor, checked: numbers from small to large, paths as they were given (as sets or codes).

    >>> ordered("kernel_sizes", [7, 3, 5])
    (3, 5, 7)
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UserError(f"{factor} {values!r}: give a tuple of choices.")
    checked = [_CHECKS[factor](value) for value in values]
    if len(set(checked)) < len(checked):
        raise UserError(f"{factor} {tuple(values)!r}: a choice stands there twice.")
    if factor == "paths":
        return tuple(checked)
    return _from_small_to_large(checked) if factor == "resolutions" else tuple(sorted(checked))


def subset(name: str, present: tuple, given: tuple) -> tuple:
    """The `present` choices of a factor that are also `given`; raises `UserError` for one that is not present."""
    strange = [value for value in given if value not in present]
    if strange:
        raise UserError(f"{name} {listed(strange)}: not among the present choices {listed(present)}.")
    return tuple(value for value in present if value in given)


def superset(name: str, present: tuple, given: tuple) -> tuple:
    """The `given` choices of a factor; raises `UserError` where a present one is missing."""
    missing = [value for value in present if value not in given]
    if missing:
        raise UserError(
            f"{name} {listed(given)}: extending keeps every present choice, and {listed(missing)} is missing."
        )
    return given


def listed(values: Sequence) -> str:
    """The values as they are shown in messages."""
    return ", ".join(str(value) for value in values) or "none"


def _from_small_to_large(resolutions: list[Resolution]) -> tuple[Resolution, ...]:
    """By number of pixels."""
    axes = {len(size) for size in resolutions if not isinstance(size, int)} or {1}
    if len(axes) > 1:
        raise UserError(f"resolutions {tuple(resolutions)!r}: all must have the same number of axes.")
    (count,) = axes

    def key(size: Resolution) -> tuple[int, tuple[int, ...]]:
        sides = (size,) * count if isinstance(size, int) else size
        return math.prod(sides), sides

    return tuple(sorted(resolutions, key=key))


def _as_paths(value: Any) -> tuple[str, ...]:
    if isinstance(value, int):
        return paths_of_code(value)
    named = isinstance(value, list | tuple) and all(isinstance(name, str) and name for name in value)
    if not named or not value or len(set(value)) < len(value):
        raise UserError(f"paths {value!r}: each choice is a tuple of names, at least one, each once.")
    return tuple(sorted(value))


def _as_count(factor: str) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not is_whole(value) or value < 1:
            raise UserError(f"{factor} {value!r}: must be a positive whole number.")
        return value

    return check


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "resolutions": as_resolution,
    "kernel_sizes": lambda value: Block(value).kernel_size,
    "expand_ratios": lambda value: as_number("expand_ratio", value, 1000),
    "widths": lambda value: as_number("width", value, 1),
    "paths": _as_paths,
    "depths": _as_count("depth"),
    "heights": _as_count("height"),
    "exits": _as_count("exit"),
}
