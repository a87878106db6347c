"""A phase is a value: what is trained, for how long, how, and from what.

The loop has no knowledge of any method. What a method needs is a field of `Phase`; `schedules` has the methods.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, final

from onceforall.architecture import Architecture, Resolution, is_whole
from onceforall.choices import listed, ordered
from onceforall.errors import UserError, check_choice
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Freeze
from onceforall.training.stop_rule import StopRule

__all__ = ["Phase", "Teacher", "draw_architectures", "draw_resolution", "is_taught_in_place"]


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
        ensemble: "outputs" sums what the exits put out, "probabilities" what it means.
        guard: with "previous_phase", pass over a phase that left its largest sub-network worse on validation than
            the teacher before it.
    """

    source: str = "none"
    batchnorm: Literal["batch", "calibrated"] = "batch"
    input: Literal["student", "native"] = "student"
    exit_weights: tuple[float, ...] | None = None
    ensemble: Literal["outputs", "probabilities"] = "outputs"
    guard: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise UserError(f"source {self.source!r} of a teacher: must be a name or a path.")
        if not _are_weights(self.exit_weights):
            raise UserError(f"exit_weights {self.exit_weights!r} of a teacher: must be one number an exit, or none.")
        check_choice("batchnorm of a teacher", self.batchnorm, ("batch", "calibrated"))
        check_choice("input of a teacher", self.input, ("student", "native"))
        check_choice("ensemble of a teacher", self.ensemble, ("outputs", "probabilities"))
        if not isinstance(self.guard, bool) or (self.guard and self.source != "previous_phase"):
            raise UserError(f"guard {self.guard!r} of a teacher: must be true or false, and goes with previous_phase.")


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
    "exits": ("last", "all"),
    "judged_by": ("random", "extremes"),
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
        favoured: a part of the space that is drawn from with `favoured_probability` instead of all of it. A step
            draws its resolution once and then its architectures.
        favoured_probability: between 0 and 1.
        gradients: "sum" adds the gradients of a step's sub-networks, as the reference does, so that more of them
            make larger steps; "mean" averages them.
        teacher: where soft targets come from.
        task_weight: factor of the loss against labels for a sub-network that has soft targets; without them it is 1.
        distillation_weight: factor of the distance to the soft targets.
        exits: whether a drawn architecture answers, and learns, with its last exit or with all; "all" needs one height.
        exit_loss_weights: factor of each exit's loss for an architecture with several exits; equal by default.
        exit_output_weights: factor of each exit's outputs where such an architecture is judged; equal by default.
        dropout: rate in the supernet.
        freeze: parts that are not trained.
        sort_channels: at the start, put important channels first: "banded" keeps every sub-network of the previous
            phase what it was; "reference" sorts hidden units of squeeze-excitation without bands, as the published
            code does.
        start_from: weights of the previous phase to start from: "best" on validation, or the "last".
        clip_gradient: largest norm of the whole gradient, or None.
        validate_every: epochs between validations; the last epoch is always followed by one.
        judged_by: what is validated: the smallest, the largest and "random" architectures, or the "extremes", every
            combination of smallest and largest choices that are constant over the network.
        stop_rule: asked after the phase, unless it is the first: whether what it opened pays; None for no question.
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
    exits: Literal["last", "all"] = "last"
    exit_loss_weights: tuple[float, ...] | None = None
    exit_output_weights: tuple[float, ...] | None = None
    dropout: float = 0.1
    freeze: Freeze = field(default_factory=Freeze)
    sort_channels: Literal["none", "banded", "reference"] = "none"
    start_from: Literal["best", "last"] = "best"
    clip_gradient: float | None = None
    validate_every: int = 1
    judged_by: Literal["random", "extremes"] = "random"
    stop_rule: StopRule | None = None

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
        for name in ("exit_loss_weights", "exit_output_weights"):
            if not _are_weights(getattr(self, name)):
                refuse(name, "a number for each exit, or none")
        if not isinstance(self.stop_rule, StopRule | None):
            refuse("stop_rule", "a StopRule, or none")
        if self.exits == "all" and len(self.space.heights) > 1:
            refuse("exits", "'last' where heights differ")
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
        out |= {"stop_rule": None if self.stop_rule is None else asdict(self.stop_rule)}
        return out | {"favoured": None if self.favoured is None else self.favoured.to_dict()}


def draw_resolution(phase: Phase, rng: random.Random) -> Resolution:
    """The resolution of a step, of all its sub-networks; where only a part of them is favoured, as that says."""
    sizes, favoured = phase.resolutions or phase.space.resolutions, phase.favoured
    newest = () if favoured is None else tuple(size for size in sizes if size in favoured.resolutions)
    if newest and newest != sizes and rng.random() < phase.favoured_probability:
        sizes = newest
    return rng.choice(sizes)


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
    further = {"exits": space.exits} if phase.exits == "all" else {}
    return [replace(make(), resolution=resolution, **further) for make in kinds[phase.sampler]]


def is_taught_in_place(phase: Phase, architectures: Sequence[Architecture]) -> bool:
    """Whether a step with these architectures needs a pass of the largest sub-network for its soft targets."""
    first = architectures[0]
    return phase.teacher.source == "in_place" and first != replace(phase.space.largest(), resolution=first.resolution)
