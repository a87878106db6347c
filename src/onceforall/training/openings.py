"""What the phases of a schedule open: choices of one factor after another, in each block and stage that has them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

from onceforall.architecture import MAIN_PATH
from onceforall.choices import Factors
from onceforall.errors import UserError, check_choice
from onceforall.search_space import SearchSpace

__all__ = ["FACTORS", "closings", "narrowed", "openings", "that_open_more", "with_one_factor"]

FACTORS: dict[str, str] = {
    "kernel_sizes": "kernel",
    "paths": "level",
    "heights": "height",
    "depths": "depth",
    "expand_ratios": "expand",
    "widths": "width",
    "resolutions": "resolution",
}
"""Factors in the order in which shrinking opens them, with the names of their phases."""


def narrowed(space: SearchSpace, **given: Unpack[Factors]) -> SearchSpace:
    """This space with only the given choices, as `SearchSpace.restrict` has it, also where blocks or stages differ.

    One that has none of the given choices of a factor keeps its own choice that is nearest to them in the order of all.

    >>> from onceforall.choices import BlockChoices, StageChoices
    >>> block = BlockChoices((3, 5))
    >>> space = SearchSpace((32,), (StageChoices((1,), (block,)), StageChoices((1, 2), (block, block))))
    >>> [stage.depths for stage in narrowed(space, depths=(2,)).stages]
    [(1,), (2,)]
    """
    wanted: dict[str, Any] = dict(given)

    def kept(factor: str, present: tuple) -> tuple:
        if factor not in wanted or not present:
            return present
        own = tuple(choice for choice in present if choice in wanted[factor])
        order = getattr(space, factor)
        places = [order.index(choice) for choice in wanted[factor]]
        return own or (min(present, key=lambda choice: min(abs(order.index(choice) - place) for place in places)),)

    parts = {name: part.changed(kept) for name in ("stem", "head") if (part := getattr(space, name)) is not None}
    stages = tuple(stage.changed(kept) for stage in space.stages)
    whole: dict[str, Any] = {factor: wanted[factor] for factor in ("resolutions", "heights") if factor in wanted}
    return replace(space, stages=stages, **parts).restrict(**whole)


def with_one_factor(
    space: SearchSpace, only: str | None, fixed: Mapping[str, Any] | None, others: Callable[[str], tuple]
) -> SearchSpace:
    """`space` with all choices of the factor `only`, and of each other the `fixed` one, or else what `others` says.

    Without `only` it is the whole space.
    """
    if not isinstance(fixed, Mapping | None):
        raise UserError(f"fixed {fixed!r}: give one choice a factor, as fixed.kernel_sizes=5.")
    given = dict(fixed or {})
    if only is None:
        if given:
            raise UserError(f"fixed {', '.join(given)}: goes with only, which names the factor that is not fixed.")
        return space
    elastic = [factor for factor in FACTORS if len(getattr(space, factor)) > 1]
    check_choice("only", only, elastic)
    if only in given:
        raise UserError(f"fixed {only} {given[only]!r}: this is the factor that only leaves elastic.")
    asked: dict[str, Any] = {factor: (choice,) for factor, choice in given.items()}
    rest: dict[str, Any] = {factor: others(factor) for factor in elastic if factor not in (only, *given)}
    return narrowed(space.restrict(**asked), **rest)


def openings(factor: str, choices: tuple) -> list[tuple]:
    """What shrinking offers of a factor: its largest choice alone, and in each of its phases one smaller choice more.

    Kernel sizes come all at once, and sets of paths by their number of paths (OFAv2, Table III: three, two, one).
    """
    if factor == "kernel_sizes":
        return [choices[-1:], choices]
    if factor == "paths":
        counts = sorted({len(names) for names in choices}, reverse=True)
        return [choices[-1:], *(tuple(names for names in choices if len(names) >= count) for count in counts[1:])]
    return [choices[lowest:] for lowest in range(len(choices) - 1, -1, -1)]


def closings(factor: str, choices: tuple, present: tuple = ()) -> list[tuple]:
    """What expansion offers of a factor before its first phase, and after each: one larger choice more.

    It begins with those that are `present`. Where none are: of sets of paths the main path alone comes first, then all
    of one path, of two, and so on.
    """
    if present:
        new = [choice for choice in choices if choice not in present]
        return [tuple(c for c in choices if c in present or c in new[:count]) for count in range(len(new) + 1)]
    if factor != "paths":
        return [choices[:count] for count in range(1, len(choices) + 1)]
    first = next((names for names in choices if names == (MAIN_PATH,)), choices[0])
    counts = sorted({len(names) for names in choices})
    sets = [(first,), *(tuple(names for names in choices if len(names) <= count) for count in counts)]
    return [offered for i, offered in enumerate(sets) if i == 0 or len(offered) > len(sets[i - 1])]


def that_open_more(
    space: SearchSpace, present: Mapping[str, tuple], factor: str, offers: Sequence[tuple]
) -> list[tuple]:
    """Of the `offers` of a factor, beside what is `present` of others, the first and those that open more of `space`.

    Where blocks or stages differ, what one of them lacks may open nothing.
    """
    choices: dict[str, Any] = dict(present)
    spaces = [narrowed(space, **(choices | {factor: offered})) for offered in offers]
    return [offered for i, offered in enumerate(offers) if i == 0 or spaces[i] != spaces[i - 1]]
