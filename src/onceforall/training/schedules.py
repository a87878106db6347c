"""The published methods as functions that return a list of phases."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

from onceforall.errors import UserError, check_choice
from onceforall.search_space import SearchSpace
from onceforall.training.phases import Phase, Teacher

__all__ = [
    "EXTENDED_ROWS",
    "PAPER_ROWS",
    "ROWS",
    "SCHEDULES",
    "SMALL_ROWS",
    "TABLE_III",
    "Row",
    "exit_weights_of",
    "extended_progressive_shrinking",
    "progressive_shrinking",
    "sandwich",
]


@final
@dataclass(frozen=True)
class Row:
    """What a published table says of one phase."""

    epochs: int
    warmup_epochs: int
    learning_rate: float
    subnets_per_step: int = 1
    batch_size: int = 64
    dropout: float = 0.1


# Tables give a row to each kind of phase: "depth_1" is for the first phase that adds depths, "depth_last" for the one
# that completes them, "depth" for all without a row of their own.

_IMAGENET = {
    "full": Row(180, 5, 2.6),
    "kernel": Row(120, 5, 0.96),
    **dict.fromkeys(("level", "height", "depth"), Row(25, 0, 0.08, 2)),
    **dict.fromkeys(("level_last", "height_last", "depth_last"), Row(120, 5, 0.24, 2)),
    "expand": Row(25, 0, 0.08, 4),
    "expand_last": Row(120, 5, 0.24, 4),
    "resolution": Row(25, 0, 0.08),
    "resolution_last": Row(120, 5, 0.24),
}
PAPER_ROWS: Mapping[str, Row] = {name: replace(row, batch_size=2048) for name, row in _IMAGENET.items()}
"""Once-for-All on ImageNet. The full network's learning rate is that of the only other published configuration. The
paper has no phases for levels, heights and resolutions; theirs are those of depth."""

SMALL_ROWS: Mapping[str, Row] = {
    "full": Row(12, 1, 0.08),
    "kernel": Row(4, 0, 0.03),
    **dict.fromkeys(("level", "height", "depth", "expand", "resolution"), Row(2, 0, 0.02)),
    **dict.fromkeys(("level_last", "height_last", "depth_last", "expand_last", "resolution_last"), Row(4, 0, 0.03)),
}
"""For a few thousand images and batches of 64; one sub-network a step."""

_OFAV2 = {
    "full": Row(180, 0, 1e-3, dropout=0.2),
    "kernel": Row(120, 5, 3e-2),
    "level": Row(25, 0, 2.5e-3, 2),
    "level_last": Row(120, 5, 7.5e-3, 2),
    "height_1": Row(25, 0, 2.5e-3, 2),
    "height_2": Row(60, 5, 7.5e-3, 2),
    "height": Row(90, 5, 1e-2, 2),
    "height_last": Row(120, 5, 3e-2, 2),
    "depth": Row(25, 0, 2.5e-3, 2),
    "depth_last": Row(120, 5, 7.5e-3, 2),
    "expand": Row(25, 0, 2.5e-3, 4),
    "expand_last": Row(120, 5, 7.5e-3, 4),
    "resolution": Row(25, 0, 2.5e-3),
    "resolution_last": Row(120, 5, 7.5e-3),
}
TABLE_III: Mapping[str, Row] = {name: replace(row, batch_size=200) for name, row in _OFAV2.items()}
"""OFAv2 on Tiny ImageNet (Table III). Resolutions have no phases there; theirs are those of depth, one a step."""

ROWS: Mapping[str, Mapping[str, Row]] = {"small": SMALL_ROWS, "paper": PAPER_ROWS}
"""Tables of `progressive_shrinking` by the name that a recipe gives."""

EXTENDED_ROWS: Mapping[str, Mapping[str, Row]] = {
    "small": SMALL_ROWS,
    "paper": TABLE_III,
    "strong_teacher": {**TABLE_III, "full": replace(TABLE_III["full"], learning_rate=0.25)},
}
"""Tables of `extended_progressive_shrinking`. The last gives the full network what Once-for-All uses for 64 images
(0.08), scaled to batches of 200: Table III's 0.001 leaves the teacher far from trained."""


# -- shrinking ----------------------------------------------------------------------------------------------------

FACTORS = {
    "kernel_sizes": "kernel",
    "paths": "level",
    "heights": "height",
    "depths": "depth",
    "expand_ratios": "expand",
    "resolutions": "resolution",
}
"""Factors in the order in which shrinking opens them, with the names of their phases."""


def _openings(factor: str, choices: tuple) -> list[tuple]:
    """What each phase of a factor offers, after the largest choice alone: one smaller choice more a phase.

    Kernel sizes come all at once, and sets of paths by their number of paths (OFAv2, Table III: three, two, one).
    """
    if factor == "kernel_sizes":
        return [choices] if len(choices) > 1 else []
    if factor == "paths":
        counts = sorted({len(names) for names in choices}, reverse=True)
        return [tuple(names for names in choices if len(names) >= count) for count in counts[1:]]
    return [choices[lowest:] for lowest in range(len(choices) - 2, -1, -1)]


def _table(rows: str | Mapping[str, Row], tables: Mapping[str, Mapping[str, Row]]) -> Mapping[str, Row]:
    if isinstance(rows, str):
        check_choice("rows", rows, tables)
        return tables[rows]
    return rows


def _shrink(space: SearchSpace, factors: Sequence[str], rows: Mapping[str, Row]) -> Iterator[tuple[Phase, str]]:
    """The phases from the largest network to all of `space`, and the factor that each opens ("" for the first)."""

    def phase(label: str, row_names: Sequence[str], **further: Any) -> Phase:
        row = next((rows[name] for name in row_names if name in rows), None)
        if row is None:
            raise UserError(f"rows: none for phase {label!r}; give one named {' or '.join(map(repr, row_names))}.")
        numbers = {"learning_rate": row.learning_rate, "subnets_per_step": row.subnets_per_step}
        numbers |= {"batch_size": row.batch_size, "dropout": row.dropout}
        return Phase(label, space.restrict(**opened), row.epochs, row.warmup_epochs, **(numbers | further))

    opened: dict[str, tuple] = {factor: getattr(space, factor)[-1:] for factor in factors if getattr(space, factor)}
    yield phase("full", ["full"], sampler="largest", subnets_per_step=1), ""
    for factor in opened:
        openings, name = _openings(factor, getattr(space, factor)), FACTORS[factor]
        for number, opening in enumerate(openings, start=1):
            opened[factor] = opening
            row_names = [f"{name}_last"] if number == len(openings) else [f"{name}_{number}"]
            label = name if len(openings) == 1 else f"{name}_{number}"
            sorting = "banded" if factor == "expand_ratios" else "none"
            yield phase(label, [*row_names, name], teacher=Teacher("first"), sort_channels=sorting), factor


def _with_subnets(phases: Sequence[Phase], count: int | None) -> list[Phase]:
    """The phases with `count` sub-networks a step, where that is given and the phase draws any."""
    return [p if count is None or p.sampler == "largest" else replace(p, subnets_per_step=count) for p in phases]


def progressive_shrinking(
    space: SearchSpace,
    *,
    rows: str | Mapping[str, Row] = "small",
    resolution: Literal["mixed", "descending"] = "mixed",
    total_epochs: int | None = None,
    subnets_per_step: int | None = None,
) -> list[Phase]:
    """Progressive shrinking (Once-for-All, section 3.3): the largest network first, then kernel, depth and width.

    Phases: full; kernel, all sizes at once; depth, one smaller value a phase; expand, one smaller value a phase,
    with the channels sorted before. Every phase after the first is distilled from the largest network as the first
    phase left it. A space with levels or heights has phases for them before depth.

    Args:
        space: all that is to be trained; a factor with one choice has no phase.
        rows: numbers for each kind of phase, or a name of `ROWS`; `..._last` is the row of the phase that completes a
            factor.
        resolution: "mixed" trains all resolutions from the start; "descending" starts with the largest and adds
            smaller ones in phases at the end.
        total_epochs: scale the rows' epochs, warm-up included, so that they sum to this.
        subnets_per_step: use this instead of the rows'.
    """
    check_choice("resolution", resolution, ("mixed", "descending"))
    factors = [factor for factor in FACTORS if factor != "resolutions" or resolution == "descending"]
    phases = [phase for phase, _ in _shrink(space, factors, _table(rows, ROWS))]
    return scale_epochs(_with_subnets(phases, subnets_per_step), total_epochs)


EXIT_WEIGHTS = ("desc", "asc", "mix", "unif")


def exit_weights_of(strategy: str | Sequence[float], exits: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Weights of each exit's loss and of its outputs, each summing to 1 (AEP, as OFAv2 section III.C uses it).

    Args:
        strategy: "desc" weighs the first exit most and the last least, (5, 4, 3, 2, 1) / 15 of five; "asc" the
            reverse; "mix" losses as desc and outputs as asc; "unif" all equally. Or the weights, used for both.
        exits: their number.

    >>> exit_weights_of("mix", 2)
    ((0.6666666666666666, 0.3333333333333333), (0.3333333333333333, 0.6666666666666666))
    """
    if not isinstance(strategy, str):
        weights = tuple(float(weight) for weight in strategy)
        return weights, weights
    check_choice("exit_weights", strategy, EXIT_WEIGHTS)
    rising = tuple(number / (exits * (exits + 1) / 2) for number in range(1, exits + 1))
    falling, equal = rising[::-1], (1 / exits,) * exits
    return {"desc": (falling, falling), "asc": (rising, rising), "mix": (falling, rising), "unif": (equal, equal)}[
        strategy
    ]


def extended_progressive_shrinking(
    space: SearchSpace,
    *,
    rows: str | Mapping[str, Row] = "small",
    teacher: Literal["fixed", "previous_phase"] = "previous_phase",
    exit_weights: str | Sequence[float] = "desc",
    teacher_guard: bool = False,
    train_all_exits: bool = False,
    total_epochs: int | None = None,
    subnets_per_step: int | None = None,
) -> list[Phase]:
    """Extended progressive shrinking (OFAv2, section III.D): full, kernel, level, height, depth, expand.

    The first phase trains the largest network, all its exits together; all others train sub-networks with one exit
    against the labels and the teacher's exits, whose outputs are summed with weights before the softmax (ENS-KD,
    section III.E). Each phase is judged by a fixed list of extreme architectures and the next starts from its best
    weights. Levels and heights have phases where the space has choices of them.

    Args:
        space: all that is to be trained; a factor with one choice has no phase.
        rows: numbers for each kind of phase, or a name of `EXTENDED_ROWS`; "paper" is Table III.
        teacher: "fixed", the largest network as the first phase left it, or "previous_phase", the largest as the
            phase before left it.
        exit_weights: of losses and outputs where the network has several exits; see `exit_weights_of`.
        teacher_guard: not in the paper: a teacher worse on validation than the one before it is passed over.
        train_all_exits: not in the paper: phases before height train all exits, so that none grows stale before the
            teacher uses it.
        total_epochs: scale the rows' epochs, warm-up included, so that they sum to this.
        subnets_per_step: use this instead of the rows'.
    """
    check_choice("teacher", teacher, ("fixed", "previous_phase"))
    several = len(space.exits) > 1
    losses, outputs = exit_weights_of(exit_weights, len(space.exits)) if several else (None, None)
    phases = []
    factors = [factor for factor in FACTORS if factor != "resolutions"]
    for phase, factor in _shrink(space, factors, _table(rows, EXTENDED_ROWS)):
        moving = teacher == "previous_phase" and factor not in ("", "kernel_sizes")
        source = "previous_phase" if moving else phase.teacher.source
        made = replace(
            phase,
            teacher=Teacher(source, exit_weights=outputs, guard=teacher_guard and moving),
            exit_loss_weights=losses,
            exit_output_weights=outputs,
            exits="all" if train_all_exits and several and factor in ("kernel_sizes", "paths") else "last",
            judged_by="extremes",
        )
        phases.append(made)
    return scale_epochs(_with_subnets(phases, subnets_per_step), total_epochs)


def sandwich(
    space: SearchSpace,
    *,
    epochs: int = 24,
    warmup_epochs: int = 1,
    learning_rate: float = 0.08,
    subnets_per_step: int = 4,
    total_epochs: int | None = None,
) -> list[Phase]:
    """The sandwich rule (US-Nets, BigNAS) in one phase.

    Each step trains the largest sub-network on labels, and the smallest and random ones on the largest one's outputs
    of the same step. Gradients are averaged. With fewer than three `subnets_per_step` steps take turns: the largest,
    the smallest, a random one, another; the soft targets are then a pass of the largest without gradient.
    """
    phase = Phase(
        "sandwich",
        space,
        epochs,
        warmup_epochs,
        learning_rate=learning_rate,
        sampler="sandwich" if subnets_per_step > 2 else "sandwich_in_turn",
        subnets_per_step=subnets_per_step,
        gradients="mean",
        teacher=Teacher(source="in_place"),
        task_weight=0.0,
    )
    return scale_epochs([phase], total_epochs)


SCHEDULES: dict[str, Callable[..., list[Phase]]] = {
    "progressive_shrinking": progressive_shrinking,
    "extended_progressive_shrinking": extended_progressive_shrinking,
    "sandwich": sandwich,
}
"""Functions that make a schedule from a space."""


def scale_epochs(phases: Sequence[Phase], total_epochs: int | None) -> list[Phase]:
    """The phases with epochs scaled in proportion so that they sum, warm-up included, to `total_epochs`.

    Every phase keeps at least one epoch; fractions are given to the phases that lost most by rounding down.
    """
    if total_epochs is None:
        return list(phases)
    if isinstance(total_epochs, bool) or not isinstance(total_epochs, int):
        raise UserError(f"total_epochs {total_epochs!r}: must be a whole number.")
    if total_epochs < len(phases):
        raise UserError(
            f"total_epochs {total_epochs}: this schedule has {len(phases)} phases and needs one epoch for each."
        )
    present = sum(phase.total_epochs for phase in phases)
    exact = [phase.total_epochs * total_epochs / present for phase in phases]
    counts = [max(1, int(share)) for share in exact]
    while sum(counts) != total_epochs:
        step = 1 if sum(counts) < total_epochs else -1
        open_ones = [i for i, count in enumerate(counts) if count + step >= 1]
        counts[max(open_ones, key=lambda i: step * (exact[i] - counts[i]))] += step
    scaled = []
    for phase, count in zip(phases, counts, strict=True):
        warmup = min(round(phase.warmup_epochs * total_epochs / present), count - 1)
        scaled.append(replace(phase, epochs=count - warmup, warmup_epochs=warmup))
    return scaled
