"""What is refused before a run starts, and what is said where memory ends in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from onceforall.architecture import Architecture
from onceforall.choices import listed
from onceforall.data import VolumeData
from onceforall.data.dataset import DataSet
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import load_network
from onceforall.training.growing import final_space
from onceforall.training.options import RunOptions
from onceforall.training.phases import Phase

__all__ = ["check_run", "least_part", "memory_guard", "not_finite"]

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""Parts of the messages by which torch, its processor allocator and NVIDIA's libraries say it."""


def check_run(supernet: Supernet, phases: Sequence[Phase], data: DataSet, options: RunOptions, processes: int) -> None:
    """Raise `UserError` where a phase could not be trained, now and not when its turn comes."""
    names = [phase.name for phase in phases]
    if not phases:
        raise UserError("the schedule has no phase.")
    if len(set(names)) < len(names):
        raise UserError(f"names of phases must differ, got {', '.join(names)}.")
    if phases[0].teacher.source in ("first", "previous_phase"):
        raise UserError(f"the first phase, {names[0]!r}, has no phase before it to take a teacher from.")
    images = data.count("train")
    if not images or not data.count("validation"):
        raise UserError(
            f"training needs {data.inputs} in the splits 'train' and 'validation'; add some, or change the split."
        )
    if supernet.options["num_classes"] != data.num_classes:
        own = supernet.options["num_classes"]
        raise UserError(f"the supernet has {own} classes and the data {data.num_classes}; build it for the data.")
    final_space(supernet.space, phases)
    parts = options.micro_batches
    if parts % processes:
        raise UserError(f"micro_batches {parts}: must be a multiple of the {processes} processes.")
    for index, phase in enumerate(phases):
        _check_exit_weights(phase)
        _check_saved_teacher(supernet, phase)
        _check_views(phase, data)
        _check_kernels(phase, supernet)
        batch = min(phase.batch_size, images)
        least = least_part(phase.space, data)
        if batch // parts < least:
            raise UserError(
                f"micro_batches {parts}: cuts the {batch} {data.inputs} of a step of phase {phase.name!r} into parts "
                f"of fewer than {least}, too few for batch normalisation."
            )
        before = phases[max(0, index - 1)]
        if phase.optimizer_state == "carry" and phase.optimizer != before.optimizer:
            raise UserError(
                f"optimizer_state 'carry' of phase {phase.name!r}: its optimizer {phase.optimizer!r} cannot go on "
                f"with the state of {before.optimizer!r} in phase {before.name!r}."
            )


def least_part(space: SearchSpace, data: DataSet) -> int:
    """Inputs that batch normalisation needs: a volume has many positions of its own, unless the deepest map has one."""
    stride = 2 ** (len(space.stages) // 2)  # of a U-Net
    single = any(resolution in (stride, (stride,) * 3) for resolution in space.resolutions)
    return 1 if data.inputs == "volumes" and not single else 2


def _check_views(phase: Phase, data: DataSet) -> None:
    """A teacher at its own resolution sees what the student sees."""
    native, sizes = phase.teacher.input == "native", phase.resolutions or phase.space.resolutions
    if native and len(sizes) > 1 and isinstance(data, VolumeData) and data.mode == "patches":
        raise UserError(
            f"teacher input 'native' of phase {phase.name!r}: patches of several sizes are different parts of a "
            "volume; give 'student' (in a recipe schedule.teacher_input)."
        )


def _check_kernels(phase: Phase, supernet: Supernet) -> None:
    """Inner kernels can be frozen where they are tensors of their own."""
    rule, inner = supernet.options.get("kernel_rule", "rings"), phase.freeze.inner_kernels
    if inner not in ("off", "on_sample", *phase.space.kernel_sizes):
        sizes = listed(phase.space.kernel_sizes)
        raise UserError(f"inner_kernels {inner!r} of phase {phase.name!r}: its kernel sizes are {sizes}.")
    if inner != "off" and len(phase.space.kernel_sizes) > 1 and rule != "rings":
        raise UserError(
            f"inner_kernels {inner!r} of phase {phase.name!r}: freezing them needs kernel_rule "
            f"'rings', which keeps them apart, and the network has {rule!r}."
        )


def _check_exit_weights(phase: Phase) -> None:
    """One weight for each exit, and one in all."""
    exits = phase.space.exits
    given = {name: getattr(phase, name) for name in ("exit_loss_weights", "exit_output_weights")}
    if phase.teacher.source in ("first", "previous_phase"):
        given["exit_weights of the teacher"] = phase.teacher.exit_weights
    for name, weights in given.items():
        if weights is not None and (len(weights) != len(exits) or abs(sum(weights) - 1) > 1e-6):
            raise UserError(
                f"{name} {weights} of phase {phase.name!r}: must be {_count(len(exits), 'number')} that sum to 1, one "
                f"for each of the exits: {listed(exits)}."
            )


def _check_saved_teacher(supernet: Supernet, phase: Phase) -> None:
    """A teacher from a file fits the supernet."""
    source = phase.teacher.source
    if source in ("none", "first", "previous_phase", "in_place"):
        return
    network = load_network(Path(source))
    for option in ("num_classes", "in_channels"):
        own, other = supernet.options[option], network.options[option]
        if own != other:
            raise UserError(f"the teacher {source} has {option} {other} and the supernet {own}.")
    weights, exits = phase.teacher.exit_weights, network.space.exits
    if weights is not None and len(weights) != len(exits):
        raise UserError(f"exit_weights {weights} of the teacher {source}: it has {_count(len(exits), 'exit')}.")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def not_finite(what: str, step: int, phase: Phase, architectures: Sequence[Architecture]) -> UserError:
    """The error that ends a run whose numbers have left all bounds; its weights have not moved."""
    return UserError(
        f"{what} at step {step} of phase {phase.name!r} in {' and in '.join(map(str, architectures))}; the last state "
        f"before it is kept. Try a smaller learning_rate or clip_gradient in a folder of its own."
    )


@contextmanager
def memory_guard(phase: Phase, options: RunOptions, data: DataSet) -> Iterator[None]:
    """Turn the failure of an allocation in the body into one line that says which sizes to try."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        batch, parts, what = min(phase.batch_size, data.count("train")), options.micro_batches, data.inputs
        least = least_part(phase.space, data)
        more = [count for count in (2 * parts, 4 * parts) if batch // count >= least]
        advice = " or ".join(f"micro_batches={count} ({-(-batch // count)} {what} at a time)" for count in more)
        if not advice and batch > least:
            advice = f"batch_size={max(least, batch // 2)} with the learning rate halved"
        raise UserError(
            f"memory ended in phase {phase.name!r}, batch_size {phase.batch_size}, micro_batches {parts} "
            f"({-(-batch // parts)} {what} at a time). Start anew with {advice or 'smaller resolutions or widths'}; "
            "onceforall plan proposes a number. What was saved is kept."
        ) from error
