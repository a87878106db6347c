"""An architecture is a value: what one sub-network consists of, and nothing about how it is trained.

It lists only what exists. The depth of a stage is `len(stage.blocks)`, the height of the network is
`len(architecture.stages)`, and a block that does not run its main path has no kernel and no expansion. Two
architectures are therefore equal exactly when their networks are.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, final

from onceforall.errors import UserError, check_keys

__all__ = [
    "MAIN_PATH",
    "NORM_PATH",
    "POINTWISE_PATH",
    "Architecture",
    "Block",
    "Resolution",
    "Stage",
    "as_number",
    "as_resolution",
    "is_whole",
    "path_code",
    "paths_of_code",
    "side",
]

MAIN_PATH = "main"
"""The path that carries kernel and expansion: the inverted residual of a MobileNet, the convolution of a U-Net."""

POINTWISE_PATH, NORM_PATH = "pointwise", "norm_act"
"""The other two paths of a level in OFAv2: 1x1 convolution, and normalisation with activation."""

_BITS = {MAIN_PATH: 4, POINTWISE_PATH: 2, NORM_PATH: 1}

Resolution = int | tuple[int, ...]
"""Side of a square or cube in pixels, or one size for each axis where they differ."""


@final
@dataclass(frozen=True, slots=True)
class Block:
    """One block (level) of a stage.

    Args:
        kernel_size: odd side of its kernel; None where the main path does not run.
        expand_ratio: hidden width divided by input width; None where the block has no expansion.
        paths: names of the parallel paths that run and are summed, kept sorted; or a level code of OFAv2, 1 to 7.
    """

    kernel_size: int | None = None
    expand_ratio: float | None = None
    paths: tuple[str, ...] = (MAIN_PATH,)

    def __post_init__(self) -> None:
        given = paths_of_code(self.paths) if is_whole(self.paths) else self.paths
        names = _as_tuple("paths of a block", given, "names")
        if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) != len(names):
            raise UserError(f"paths {self.paths!r} of a block: give at least one name, each once, as a tuple.")
        object.__setattr__(self, "paths", tuple(sorted(names)))
        size, ratio = self.kernel_size, self.expand_ratio
        if MAIN_PATH not in names:
            if size is not None or ratio is not None:
                raise UserError(
                    f"a block without its {MAIN_PATH!r} path has no kernel_size ({size}) or expand_ratio ({ratio})."
                )
            return
        if size is None or not is_whole(size) or size < 1 or size % 2 == 0:
            raise UserError(f"kernel_size {size!r} of a block: must be a positive odd whole number.")
        if ratio is not None:
            object.__setattr__(self, "expand_ratio", as_number("expand_ratio", ratio, 1000))

    def __str__(self) -> str:
        main = "" if self.kernel_size is None else f"k{self.kernel_size}"
        main += "" if self.expand_ratio is None else f"e{self.expand_ratio:g}"
        return "+".join(main if path == MAIN_PATH else path for path in self.paths)


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: its blocks in order, and its width as a fraction of the full one where width is elastic."""

    blocks: tuple[Block, ...]
    width: float | None = None

    def __post_init__(self) -> None:
        blocks = _as_tuple("blocks of a stage", self.blocks, "Block values")
        if set(map(type, blocks)) != {Block}:
            raise UserError(f"blocks of a stage: got {self.blocks!r}; a stage has at least one Block.")
        object.__setattr__(self, "blocks", blocks)
        if self.width is not None:
            object.__setattr__(self, "width", as_number("width", self.width, 1))

    def __str__(self) -> str:
        width = "" if self.width is None else f"w{self.width:g} "
        return width + " ".join(str(block) for block in self.blocks)


@final
@dataclass(frozen=True, slots=True)
class Architecture:
    """One sub-network.

    Args:
        resolution: input size, an int (square, cube) or one size for each axis.
        stages: the stages that run, first to last.
        stem: the stem's choices, only where the stem is elastic.
        head: the head's choices, only where the head is elastic.
        exits: numbers of the stages whose exits answer, counted from 1; the last stage always answers. With one
            exit (the default) the network returns a tensor, with several a tuple of tensors.
    """

    resolution: Resolution
    stages: tuple[Stage, ...]
    stem: Block | None = None
    head: Block | None = None
    exits: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        stages = _as_tuple("stages of an architecture", self.stages, "Stage values")
        if set(map(type, stages)) != {Stage}:
            raise UserError(f"stages of an architecture: got {self.stages!r}; give at least one Stage.")
        object.__setattr__(self, "stages", stages)
        object.__setattr__(self, "resolution", as_resolution(self.resolution))
        for name, block in (("stem", self.stem), ("head", self.head)):
            if block is not None and not isinstance(block, Block):
                raise UserError(f"{name} {block!r}: must be a Block, or None where the {name} is not elastic.")
        exits = _as_tuple("exits", self.exits, "stage numbers") or (len(stages),)
        if not all(map(is_whole, exits)) or list(exits) != sorted(set(exits)) or exits[0] < 1:
            raise UserError(f"exits {exits!r}: must be increasing stage numbers counted from 1.")
        if exits[-1] != len(stages):
            raise UserError(f"exits {exits!r}: the last one must be the last stage, {len(stages)}.")
        object.__setattr__(self, "exits", exits)

    @property
    def height(self) -> int:
        """Number of stages that run."""
        return len(self.stages)

    @property
    def depths(self) -> tuple[int, ...]:
        """Number of blocks that run in each stage."""
        return tuple(len(stage.blocks) for stage in self.stages)

    def __str__(self) -> str:
        parts = [] if self.stem is None else [f"stem {self.stem}"]
        parts += [str(stage) for stage in self.stages]
        parts += [] if self.head is None else [f"head {self.head}"]
        parts += [] if len(self.exits) == 1 else ["exits " + ",".join(map(str, self.exits))]
        size = self.resolution if isinstance(self.resolution, int) else "x".join(map(str, self.resolution))
        return f"r{size} | " + " | ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of JSON types; factors that the network does not have are left out."""
        resolution = self.resolution if isinstance(self.resolution, int) else list(self.resolution)
        out: dict[str, Any] = {"resolution": resolution, "stages": [_stage_to_dict(stage) for stage in self.stages]}
        out |= {} if self.stem is None else {"stem": _block_to_dict(self.stem)}
        out |= {} if self.head is None else {"head": _block_to_dict(self.head)}
        return out | ({} if len(self.exits) == 1 else {"exits": list(self.exits)})

    def to_json(self) -> str:
        """The canonical JSON text: equal architectures give equal texts.

        >>> Architecture(32, (Stage((Block(3, 4),)),)).to_json()
        '{"resolution":32,"stages":[{"blocks":[{"kernel_size":3,"expand_ratio":4}]}]}'
        """
        return json.dumps(self.to_dict(), separators=(",", ":"))

    def digest(self) -> str:
        """Twelve hexadecimal digits that stand for this architecture in file names and tables."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=6).hexdigest()

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Architecture":
        """The inverse of `to_dict`; raises `UserError` for an unknown or missing key or a wrong value."""
        check_keys("architecture", data, ("resolution", "stages"), ("stem", "head", "exits"))
        stages = _as_tuple("stages of an architecture", data["stages"], "stages")
        return Architecture(
            resolution=data["resolution"],
            stages=tuple(_stage_from_dict(stage) for stage in stages),
            stem=_block_from_dict(data["stem"]) if "stem" in data else None,
            head=_block_from_dict(data["head"]) if "head" in data else None,
            exits=data.get("exits", ()),
        )

    @staticmethod
    def from_json(text: str) -> "Architecture":
        """The inverse of `to_json`; raises `UserError` where the text is no JSON of an architecture."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"architecture {text[:60]!r} is not JSON: {error}.") from error
        return Architecture.from_dict(data)


def as_resolution(value: Any) -> Resolution:
    """`value` as a resolution: an int, or a tuple of ints where they differ; raises `UserError` for anything else.

    >>> as_resolution([64, 64]), as_resolution([64, 48])
    (64, (64, 48))
    """
    if is_whole(value) and value > 0:
        return value
    if isinstance(value, list | tuple) and value and all(is_whole(size) and size > 0 for size in value):
        return value[0] if len(set(value)) == 1 else tuple(value)
    raise UserError(f"resolution {value!r}: must be a positive whole number, or one for each axis.")


def path_code(paths: tuple[str, ...]) -> int | None:
    """OFAv2's number of a set of paths: 4 for the main path, 2 for pointwise, 1 for norm; None for other paths.

    >>> path_code(("main", "norm_act"))
    5
    """
    return sum(_BITS[name] for name in paths) if set(paths) <= set(_BITS) else None


def paths_of_code(code: int) -> tuple[str, ...]:
    """The set of paths that has a number in OFAv2, from 1 to 7; raises `UserError` for another number.

    >>> paths_of_code(6)
    ('main', 'pointwise')
    """
    if not is_whole(code) or not 1 <= code <= 7:
        raise UserError(f"level code {code!r}: must be a whole number from 1 to 7, the sum of its paths' 4, 2 and 1.")
    return tuple(sorted(name for name, bit in _BITS.items() if code & bit))


def side(resolution: Resolution) -> int:
    """The side of a square or cube; raises `UserError` for a resolution with a size for each axis."""
    if not isinstance(resolution, int):
        raise UserError(f"resolution {resolution!r}: images are prepared as squares; give one whole number.")
    return resolution


def as_number(name: str, value: Any, largest: float) -> float:
    """`value` as a number above 0 and at most `largest`, an int where it is whole: 4.0 and 4 are one choice."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= largest:
        raise UserError(f"{name} {value!r}: must be a number above 0 and at most {largest}.")
    return int(value) if value == int(value) else value


def is_whole(value: object) -> TypeGuard[int]:
    """Whether `value` is an int and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def _as_tuple(what: str, value: Any, content: str) -> tuple:
    if not isinstance(value, list | tuple):
        raise UserError(f"{what}: got {value!r}; give a tuple of {content}.")
    return tuple(value)


def _stage_to_dict(stage: Stage) -> dict[str, Any]:
    out: dict[str, Any] = {"blocks": [_block_to_dict(block) for block in stage.blocks]}
    return out if stage.width is None else out | {"width": stage.width}


def _block_to_dict(block: Block) -> dict[str, Any]:
    out: dict[str, Any] = {} if block.kernel_size is None else {"kernel_size": block.kernel_size}
    out |= {} if block.expand_ratio is None else {"expand_ratio": block.expand_ratio}
    return out if block.paths == (MAIN_PATH,) else out | {"paths": list(block.paths)}


def _stage_from_dict(data: Any) -> Stage:
    check_keys("stage", data, ("blocks",), ("width",))
    blocks = _as_tuple("blocks of a stage", data["blocks"], "blocks")
    return Stage(tuple(_block_from_dict(block) for block in blocks), data.get("width"))


def _block_from_dict(data: Any) -> Block:
    check_keys("block", data, (), ("kernel_size", "expand_ratio", "paths"))
    return Block(data.get("kernel_size"), data.get("expand_ratio"), data.get("paths", (MAIN_PATH,)))
