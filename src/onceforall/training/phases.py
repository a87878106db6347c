"""A schedule is a list of values: phases, and the functions that return the lists of the published methods.

The loop has no knowledge of any method. What a method needs is a field of `Phase`.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, final

from onceforall.architecture import Architecture, Resolution, is_whole
from onceforall.choices import listed, ordered
from onceforall.errors import UserError, check_choice
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Freeze

__all__ = [
    "PAPER_ROWS",
    "SCHEDULES",
    "SMALL_ROWS",
    "Phase",
    "Row",
    "Teacher",
    "draw_architectures",
    "progressive_shrinking",
    "sandwich",
]


@final
@dataclass(frozen=True)
class Teacher:
    """Where soft targets come from.

    Args:
        source: "none"; "first", the largest sub-network as the first phase left it; "previous_phase", the largest
            of the previous phase; "in_place", the largest of the supernet at this very step: its outputs where the
            step trains it first, otherwise those of a pass of its own; or the path of a saved network.
        batchnorm: "batch" normalises by the batch and moves nothing, as Once-for-All's teacher in training mode does,
            but with dropout off; "calibrated" uses statistics re-estimated for each resolution.
        input: "student" gives it the student's images; "native" the same views at the teacher's own resolution.
        exit_weights: for a teacher with several exits, the weight of each exit's outputs in the sum that is distilled;
            equal weights by default.
    """

    source: str = "none"
    batchnorm: Literal["batch", "calibrated"] = "batch"
    input: Literal["student", "native"] = "student"
    exit_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise UserError(f"source {self.source!r} of a teacher: must be a name or a path.")
        if not _are_weights(self.exit_weights):
            raise UserError(f"exit_weights {self.exit_weights!r} of a teacher: must be one number an exit, or none.")
        check_choice("batchnorm of a teacher", self.batchnorm, ("batch", "calibrated"))
        check_choice("input of a teacher", self.input, ("student", "native"))


# What every phase must meet, by the names of its fields.
_TYPES = {"name": str, "space": SearchSpace, "nesterov": bool, "teacher": Teacher, "freeze": Freeze}
_WHOLE = ("epochs", "warmup_epochs", "batch_size", "subnets_per_step", "validate_every")
_BOUNDS: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("learning_rate", "batch_size", "validate_every"), lambda x: x > 0, "a positive number"),
    (("epochs", "warmup_epochs", "weight_decay", "task_weight", "distillation_weight"), lambda x: x >= 0, "0 or more"),
    (("warmup_start", "favoured_probability"), lambda x: 0 <= x <= 1, "between 0 and 1"),
    (("dropout", "momentum", "beta2"), lambda x: 0 <= x < 1, "at least 0 and below 1"),
)
# sub-networks a step; in turn, the largest must never come after others of its step, for it teaches them
_COUNTS: dict[str, tuple[Sequence[int], str]] = {
    "random": (range(1, 1 << 31), "1 or more"),
    "sandwich": (range(2, 1 << 31), "2 or more"),
    "sandwich_in_turn": ((1, 2, 4), "1, 2 or 4"),
    "largest": ((1,), "1"),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "decay": ("cosine", "constant"),
    "optimizer": ("sgd", "adam", "adamw"),
    "optimizer_state": ("fresh", "carry"),
    "gradients": ("sum", "mean"),
    "sampler": tuple(_COUNTS),
    "kernel_matrices": ("decay", "no_decay", "decay_to_identity", "frozen"),
    "sort_channels": ("none", "banded", "reference"),
    "start_from": ("best", "last"),
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_weights(value: object) -> bool:
    return value is None or (isinstance(value, tuple) and len(value) > 0 and all(map(_is_number, value)))


@final
@dataclass(frozen=True)
class Phase:
    """One phase of a schedule: what is trained, for how long, how, and from what.

    Args:
        name: unique in its schedule; letters, digits and underscores.
        space: the architectures that are trained.
        epochs: passes over the training data after the warm-up.
        warmup_epochs: passes before, in addition, in which the learning rate rises linearly.
        warmup_start: fraction of the learning rate at which it starts; 1 holds it constant.
        learning_rate: for a whole batch (not per process).
        decay: "cosine" to zero over `epochs`, step by step, or "constant".
        optimizer: "sgd", "adam" or "adamw".
        momentum: of SGD, or the first beta of Adam.
        nesterov: whether SGD's momentum is Nesterov's.
        beta2: the second beta of Adam.
        weight_decay: for weights; biases and normalisation have none.
        kernel_matrices: what weight decay does to the matrices of kernel transformation: "decay" pulls them to zero
            like any weight, as the reference does; "no_decay"; "decay_to_identity"; "frozen" does not train them
            (the paper's text, for the phases after the kernel phase).
        optimizer_state: "fresh" starts a new optimiser, "carry" goes on with that of the previous phase.
        batch_size: images of a step, over all processes.
        resolutions: what each step draws its resolution from; those of `space` by default.
        sampler: what a step trains: "random" draws `subnets_per_step` architectures; "sandwich" takes the largest,
            the smallest and random ones; "sandwich_in_turn" goes through the largest, the smallest and two random
            ones, as many a step as `subnets_per_step` says; "largest" takes the largest with all its exits.
        subnets_per_step: number of architectures of a step.
        favoured: a part of the space that is drawn from with `favoured_probability` instead of all of it.
        favoured_probability: between 0 and 1.
        gradients: "sum" adds the gradients of a step's sub-networks, as the reference does, so that more of them
            make larger steps; "mean" averages them.
        teacher: where soft targets come from.
        task_weight: factor of the loss against labels for a sub-network that has soft targets; without them it is 1.
        distillation_weight: factor of the distance to the soft targets.
        exit_loss_weights: factor of each exit's loss for an architecture with several exits; equal by default.
        dropout: rate in the supernet.
        freeze: parts that are not trained.
        sort_channels: at the start, put important channels first: "banded" keeps every sub-network of the previous
            phase what it was; "reference" sorts hidden units of squeeze-excitation without bands, as the published
            code does.
        start_from: weights of the previous phase to start from: "best" on validation, or the "last".
        clip_gradient: largest norm of the whole gradient, or None.
        validate_every: epochs between validations; the last epoch is always followed by one.
    """

    name: str
    space: SearchSpace
    epochs: int
    warmup_epochs: int = 0
    warmup_start: float = 0.1
    learning_rate: float = 0.08
    decay: Literal["cosine", "constant"] = "cosine"
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    beta2: float = 0.999
    weight_decay: float = 3e-5
    kernel_matrices: Literal["decay", "no_decay", "decay_to_identity", "frozen"] = "decay"
    optimizer_state: Literal["fresh", "carry"] = "fresh"
    batch_size: int = 64
    resolutions: tuple[Resolution, ...] | None = None
    sampler: Literal["random", "sandwich", "sandwich_in_turn", "largest"] = "random"
    subnets_per_step: int = 1
    favoured: SearchSpace | None = None
    favoured_probability: float = 0.0
    gradients: Literal["sum", "mean"] = "sum"
    teacher: Teacher = field(default_factory=Teacher)
    task_weight: float = 1.0
    distillation_weight: float = 1.0
    exit_loss_weights: tuple[float, ...] | None = None
    dropout: float = 0.1
    freeze: Freeze = field(default_factory=Freeze)
    sort_channels: Literal["none", "banded", "reference"] = "none"
    start_from: Literal["best", "last"] = "best"
    clip_gradient: float | None = None
    validate_every: int = 1

    def __post_init__(self) -> None:
        def refuse(name: str, rule: str) -> None:
            raise UserError(f"{name} {getattr(self, name)!r} of phase {self.name!r}: must be {rule}.")

        for name, kind in _TYPES.items():
            if not isinstance(getattr(self, name), kind):
                refuse(name, f"a {kind.__name__}")
        if not self.name.replace("_", "").isalnum():
            refuse("name", "letters, digits and underscores")
        for name in _WHOLE:
            if not is_whole(getattr(self, name)):
                refuse(name, "a whole number")
        for names, holds, rule in _BOUNDS:
            for name in names:
                if not (_is_number(getattr(self, name)) and holds(getattr(self, name))):
                    refuse(name, rule)
        for name, allowed in _CHOICES.items():
            check_choice(f"{name} of phase {self.name!r}", getattr(self, name), allowed)
        if self.epochs + self.warmup_epochs == 0:
            refuse("epochs", "at least 1 where there is no warm-up")
        counts, words = _COUNTS[self.sampler]
        if self.subnets_per_step not in counts:
            refuse("subnets_per_step", f"{words} for the sampler {self.sampler!r}")
        if self.resolutions is not None:
            object.__setattr__(self, "resolutions", ordered("resolutions", self.resolutions))
            if not self.resolutions or not set(self.resolutions) <= set(self.space.resolutions):
                refuse("resolutions", f"among those of the space, {listed(self.space.resolutions)}")
        if self.clip_gradient is not None and not (_is_number(self.clip_gradient) and self.clip_gradient > 0):
            refuse("clip_gradient", "a positive number, or none")
        if not _are_weights(self.exit_loss_weights):
            refuse("exit_loss_weights", "a number for each exit, or none")
        part = self.space if self.favoured is None and not self.favoured_probability else self.favoured
        if part is None or not (part.largest() in self.space and part.smallest() in self.space):
            refuse("favoured", "a part of the space where favoured_probability is above 0")

    @property
    def total_epochs(self) -> int:
        """Epochs with the warm-up."""
        return self.epochs + self.warmup_epochs

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        out |= {"space": self.space.to_dict(), "teacher": asdict(self.teacher), "freeze": asdict(self.freeze)}
        return out | {"favoured": None if self.favoured is None else self.favoured.to_dict()}


def draw_architectures(phase: Phase, step: int, resolution: Resolution, rng: random.Random) -> list[Architecture]:
    """The architectures that step `step` of a phase trains, in order, all at `resolution`."""
    space, count = phase.space, phase.subnets_per_step

    def draw() -> Architecture:
        favoured = phase.favoured is not None and rng.random() < phase.favoured_probability
        return (phase.favoured if favoured and phase.favoured is not None else space).sample(rng)

    turn = [space.largest, space.smallest, draw, draw]
    kinds: dict[str, list[Callable[[], Architecture]]] = {
        "random": [draw] * count,
        "sandwich": [space.largest, space.smallest, *[draw] * (count - 2)],
        "sandwich_in_turn": [turn[(step * count + i) % len(turn)] for i in range(count)],
        "largest": [lambda: space.largest(exits="all")],
    }
    return [replace(make(), resolution=resolution) for make in kinds[phase.sampler]]


def is_taught_in_place(phase: Phase, architectures: Sequence[Architecture]) -> bool:
    """Whether a step with these architectures needs a pass of the largest sub-network for its soft targets."""
    first = architectures[0]
    return phase.teacher.source == "in_place" and first != replace(phase.space.largest(), resolution=first.resolution)


# -- schedules ----------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Row:
    """What a published table says of one phase."""

    epochs: int
    warmup_epochs: int
    learning_rate: float
    subnets_per_step: int = 1


PAPER_ROWS: Mapping[str, Row] = {
    "full": Row(180, 5, 2.6),
    "kernel": Row(120, 5, 0.96),
    "depth": Row(25, 0, 0.08, 2),
    "depth_last": Row(120, 5, 0.24, 2),
    "expand": Row(25, 0, 0.08, 4),
    "expand_last": Row(120, 5, 0.24, 4),
    "resolution": Row(25, 0, 0.08),
    "resolution_last": Row(120, 5, 0.24),
}
"""Once-for-All on ImageNet with batches of 2,048 images. The full network's learning rate is that of the only other
published configuration. The rows for resolution are those of depth: the paper has all resolutions from the start."""

SMALL_ROWS: Mapping[str, Row] = {
    "full": Row(12, 1, 0.08),
    "kernel": Row(4, 0, 0.03),
    "depth": Row(2, 0, 0.02),
    "depth_last": Row(4, 0, 0.03),
    "expand": Row(2, 0, 0.02),
    "expand_last": Row(4, 0, 0.03),
    "resolution": Row(2, 0, 0.02),
    "resolution_last": Row(4, 0, 0.03),
}
"""For a few thousand images and batches of 64; one sub-network a step."""

ROWS: Mapping[str, Mapping[str, Row]] = {"small": SMALL_ROWS, "paper": PAPER_ROWS}
"""Tables by the name that a recipe gives."""


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
    phase left it.

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
    if isinstance(rows, str):
        check_choice("rows", rows, ROWS)
        rows = ROWS[rows]
    order = ["kernel_sizes", "depths", "expand_ratios"] + ["resolutions"] * (resolution == "descending")
    names = {"kernel_sizes": "kernel", "depths": "depth", "expand_ratios": "expand", "resolutions": "resolution"}
    opened: dict[str, tuple] = {factor: getattr(space, factor)[-1:] for factor in order if getattr(space, factor)}

    def phase(name: str, row: Row, count: int | None, **further: Any) -> Phase:
        count = row.subnets_per_step if count is None else count
        numbers = {"learning_rate": row.learning_rate, "subnets_per_step": count}
        return Phase(name, space.restrict(**opened), row.epochs, row.warmup_epochs, **numbers, **further)

    phases = [phase("full", rows["full"], 1, sampler="largest")]
    for factor in opened:
        choices = getattr(space, factor)
        steps = [0] if factor == "kernel_sizes" and len(choices) > 1 else range(len(choices) - 2, -1, -1)
        for number, lowest in enumerate(steps, start=1):
            opened[factor] = choices[lowest:]
            name = names[factor]
            row = rows.get(f"{name}_last", rows[name]) if lowest == 0 else rows[name]
            label = name if len(steps) == 1 else f"{name}_{number}"
            sorting = "banded" if factor == "expand_ratios" else "none"
            phases.append(phase(label, row, subnets_per_step, teacher=Teacher("first"), sort_channels=sorting))
    return scale_epochs(phases, total_epochs)


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
