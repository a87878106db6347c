"""The published methods as functions that return a list of phases."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from onceforall.architecture import is_whole
from onceforall.errors import UserError, check_choice, check_truth
from onceforall.search_space import SearchSpace
from onceforall.supernets.growth import check_extension
from onceforall.supernets.supernet import Freeze
from onceforall.training.fine_tuning import fine_tuning
from onceforall.training.openings import FACTORS, closings, narrowed, openings, that_open_more, with_one_factor
from onceforall.training.phases import Phase, Teacher
from onceforall.training.rows import EXTENDED_ROWS, ROWS, Row, scale_epochs, table_of

__all__ = [
    "SCHEDULES",
    "exit_weights_of",
    "extended_progressive_shrinking",
    "progressive_expansion",
    "progressive_shrinking",
    "sandwich",
]


# -- shrinking ----------------------------------------------------------------------------------------------------


def _shrink(space: SearchSpace, factors: Sequence[str], rows: Mapping[str, Row]) -> Iterator[tuple[Phase, str]]:
    """The phases from the largest network to all of `space`, and the factor that each opens ("" for the first)."""

    def phase(label: str, row_names: Sequence[str], **further: Any) -> Phase:
        row = next((rows[name] for name in row_names if name in rows), None)
        if row is None:
            raise UserError(f"rows: none for phase {label!r}; give one named {' or '.join(map(repr, row_names))}.")
        numbers = {"learning_rate": row.learning_rate, "subnets_per_step": row.subnets_per_step}
        numbers |= {"batch_size": row.batch_size, "dropout": row.dropout}
        return Phase(label, narrowed(space, **opened), row.epochs, row.warmup_epochs, **(numbers | further))

    opened: dict[str, Any] = {factor: getattr(space, factor)[-1:] for factor in factors if getattr(space, factor)}
    yield phase("full", ["full"], sampler="largest", subnets_per_step=1), ""
    for factor in opened:
        name, offers = FACTORS[factor], that_open_more(space, opened, factor, openings(factor, getattr(space, factor)))
        for number, offered in enumerate(offers[1:], start=1):
            opened[factor] = offered
            row_names = [f"{name}_last"] if number == len(offers) - 1 else [f"{name}_{number}"]
            label = name if len(offers) == 2 else f"{name}_{number}"
            sorting = "banded" if factor in ("expand_ratios", "widths") else "none"
            yield phase(label, [*row_names, name], teacher=Teacher("first"), sort_channels=sorting), factor


def _with_subnets(phases: Sequence[Phase], count: int | None) -> list[Phase]:
    """The phases with `count` sub-networks a step, where that is given and the phase draws any."""
    return [p if count is None or p.sampler == "largest" else replace(p, subnets_per_step=count) for p in phases]


def progressive_shrinking(
    space: SearchSpace,
    *,
    rows: str | Mapping[str, Row] = "small",
    resolution: Literal["mixed", "descending"] = "mixed",
    only: str | None = None,
    fixed: Mapping[str, Any] | None = None,
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
        only: a factor, such as "depths": only it is elastic (ProX, Figs. 5 and 6).
        fixed: with `only`, the one choice of other factors, such as {"kernel_sizes": 5}; by default their largest.
        total_epochs: scale the rows' epochs, warm-up included, so that they sum to this.
        subnets_per_step: use this instead of the rows'.
    """
    check_choice("resolution", resolution, ("mixed", "descending"))
    whole = space
    space = with_one_factor(whole, only, fixed, lambda factor: getattr(whole, factor)[-1:])
    resolution = "descending" if only == "resolutions" else resolution
    factors = [factor for factor in FACTORS if factor != "resolutions" or resolution == "descending"]
    phases = [phase for phase, _ in _shrink(space, factors, table_of(rows, ROWS))]
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
        weights = tuple(strategy) if isinstance(strategy, Sequence) else ()
        numbers = all(isinstance(weight, int | float) for weight in weights)
        if not numbers or len(weights) != exits or abs(sum(weights) - 1) > 1e-6:
            raise UserError(f"exit_weights {strategy}: give {exits} numbers that sum to 1, or one of {EXIT_WEIGHTS}.")
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
    check_truth(teacher_guard=teacher_guard, train_all_exits=train_all_exits)
    several, weights = len(space.exits) > 1, exit_weights_of(exit_weights, len(space.exits))
    losses, outputs = weights if several else (None, None)
    phases = []
    factors = [factor for factor in FACTORS if factor != "resolutions"]
    for phase, factor in _shrink(space, factors, table_of(rows, EXTENDED_ROWS)):
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


# -- expansion ----------------------------------------------------------------------------------------------------

GROWING = ("depths", "widths", "expand_ratios", "kernel_sizes", "paths", "heights", "resolutions")
"""Factors in the order in which expansion opens them (ProX, section 3); it has none for paths and heights."""
SMALLEST = "smallest"
"""The name of the phase with which expansion begins."""


def progressive_expansion(
    space: SearchSpace,
    *,
    mode: Literal["mixed", "increasing"] = "mixed",
    epochs_per_phase: int | Mapping[str, int] = 10,
    learning_rate: float | Mapping[str, float] = 1e-3,
    batch_size: int = 64,
    subnets_per_step: int = 1,
    newest_probability: float = 0.0,
    freeze_earlier_blocks: Literal["never", "depth", "always"] = "never",
    freeze_stem: bool = False,
    freeze_inner_kernels: Literal["off", "on_sample", "hard"] = "off",
    teacher_input: Literal["student", "native"] | None = None,
    only: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    total_epochs: int | None = None,
    start: SearchSpace | None = None,
    start_teacher: str = "none",
) -> list[Phase]:
    """Progressive expansion (ProX, ICIP 2022, section 3): the smallest network first, then depth, width, kernel.

    Each phase opens one larger choice of one factor, and is distilled from the largest sub-network of the phase before:
    half the loss against labels and half the distance to the teacher. Adam with a constant learning rate. A supernet
    grows with the phases.

    Args:
        space: all that is to be trained in the end; a factor with one choice has no phase.
        mode: "mixed" trains all resolutions from the start, "increasing" adds larger ones in phases at the end.
        epochs_per_phase: of all, or by kind of phase, such as {"width": 60, "other": 20}; kinds are "smallest" and the
            factors' names for phases ("depth", "width", "expand", "kernel", "resolution").
        learning_rate: of Adam; in the same way, such as {"kernel": 5e-4, "other": 2e-3}.
        batch_size: images of a step.
        subnets_per_step: number of architectures of a step; their gradients are averaged.
        newest_probability: with which a step draws all its blocks with the newest choice.
        freeze_earlier_blocks: in which phases the blocks of a stage before the last that runs learn nothing: "never";
            in those of "depth", as the paper's text has it; or "always" after the first phase, as its code has it.
            Frozen blocks make a step cheaper and the result worse; measured in docs/decisions/0010-freezing.md.
        freeze_stem: train the stem in the first phase only.
        freeze_inner_kernels: of which kernels the inner part learns nothing: "off", of none; "on_sample", of each that
            runs, once there are larger ones; "hard", in phases that open kernel sizes, of the newest one, and smaller
            ones nothing at all. Other than "off" it needs a network with the kernel rule "rings".
        teacher_input: whether the teacher sees the student's images, or the same views at its own largest resolution.
            By default the latter in mode "increasing", where the newest resolution is one that it never saw.
        only: a factor, such as "depths": only it is elastic (Figs. 5 and 6).
        fixed: with `only`, the one choice of other factors, such as {"kernel_sizes": 5}; by default their smallest.
            Of a network that is trained already they stay what they are.
        total_epochs: scale the epochs so that they sum to this.
        start: the space of a network that is trained already. The phases open what `space` has more, resolutions too.
        start_teacher: the path of that network; its largest sub-network teaches in the first phase.
    """
    check_choice("mode", mode, ("mixed", "increasing"))
    check_choice("freeze_earlier_blocks", freeze_earlier_blocks, ("never", "depth", "always"))
    check_choice("freeze_inner_kernels", freeze_inner_kernels, ("off", "on_sample", "hard"))
    check_truth(freeze_stem=freeze_stem)
    if start is not None and fixed:
        raise UserError(f"fixed {fixed}: a network that is trained already keeps the choices that it has.")
    origin, count = start or space, None if start else 1  # of an untrained network the smallest choice of each factor
    space = with_one_factor(space, only, fixed, lambda factor: getattr(origin, factor)[:count])
    check_extension(start or space, space)
    if only == "resolutions" or (start is not None and start.resolutions != space.resolutions):
        mode = "increasing"
    factors = [name for name in GROWING if getattr(space, name) and (name != "resolutions" or mode == "increasing")]
    offers_of = {name: closings(name, getattr(space, name), getattr(start, name, ())) for name in factors}
    present: dict[str, Any] = {factor: offers[0] for factor, offers in offers_of.items()}
    epochs, rate = _by_kind("epochs_per_phase", epochs_per_phase), _by_kind("learning_rate", learning_rate)
    common: dict[str, Any] = {"batch_size": batch_size, "subnets_per_step": subnets_per_step}
    common |= {"optimizer": "adam", "decay": "constant", "weight_decay": 0.0, "dropout": 0.0, "gradients": "mean"}
    common |= {"task_weight": 0.5, "distillation_weight": 0.5}
    phases = []
    if start is None:
        smallest = narrowed(space, **present)
        phases = [Phase(SMALLEST, smallest, epochs(SMALLEST), learning_rate=rate(SMALLEST), **common)]
    seen = teacher_input or ("native" if mode == "increasing" else "student")
    teacher = Teacher("previous_phase", batchnorm="calibrated", input=seen)
    for factor, all_offers in offers_of.items():
        offers = that_open_more(space, present, factor, all_offers)
        for number, offered in enumerate(offers[1:], start=1):
            newest = tuple(choice for choice in offered if choice not in present[factor])
            present[factor] = offered
            opened, new = narrowed(space, **present), {factor: newest}
            frozen = freeze_earlier_blocks == "always" or (freeze_earlier_blocks == "depth" and factor == "depths")
            inner = freeze_inner_kernels if len(opened.kernel_sizes) > 1 else "off"
            if inner == "hard":
                inner = newest[0] if factor == "kernel_sizes" else "off"
            kind = FACTORS[factor]
            phase = Phase(
                kind if len(offers) == 2 else f"{kind}_{number}",
                opened,
                epochs(kind),
                learning_rate=rate(kind),
                teacher=teacher if phases else replace(teacher, source=start_teacher),
                freeze=Freeze(stem=freeze_stem, earlier_blocks=frozen, inner_kernels=inner),
                favoured=narrowed(opened, **new) if newest_probability else None,
                favoured_probability=newest_probability,
                **common,
            )
            phases.append(phase)
    if not phases:
        raise UserError("nothing to grow: the space has no choice more than the network that is trained already.")
    return scale_epochs(phases, total_epochs)


def _by_kind(name: str, given: Any) -> Callable[[str], Any]:
    """What an argument says of a kind of phase: the same of all, or what its table has for this one or for "other"."""
    if not isinstance(given, Mapping):
        return lambda kind: given
    kinds = [SMALLEST, *FACTORS.values(), "other"]
    for kind in given:
        check_choice(f"kind of phase in {name}", kind, kinds)

    def find(kind: str) -> Any:
        if kind not in given and "other" not in given:
            raise UserError(f"{name} has nothing for phases of {kind!r}; give it, or 'other' for the rest.")
        return given.get(kind, given.get("other"))

    return find


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
    if not is_whole(subnets_per_step):
        raise UserError(f"subnets_per_step {subnets_per_step!r}: must be a whole number.")
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
    "progressive_expansion": progressive_expansion,
    "sandwich": sandwich,
    "fine_tuning": fine_tuning,
}
"""Functions that make a schedule from a space."""
