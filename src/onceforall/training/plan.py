"""What a schedule will cost, before it runs: multiply-adds, analytic."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onceforall.architecture import Architecture, Resolution
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import load_network
from onceforall.training.ledger import BACKWARD_FACTOR
from onceforall.training.phases import Phase, draw_architectures
from onceforall.training.randomness import keyed_random

__all__ = ["expected_step_macs", "steps_per_epoch", "student_macs", "teacher_macs"]


def steps_per_epoch(images: int, phase: Phase) -> int:
    """Full batches in `images` training images; one smaller batch where there is no full one."""
    return max(1, images // phase.batch_size)


def student_macs(supernet: Supernet, architectures: Sequence[Architecture]) -> int:
    """Multiply-adds of forward and backward of a step's sub-networks for one image."""
    return BACKWARD_FACTOR * sum(supernet.measure(architecture).macs for architecture in architectures)


def teacher_macs(supernet: Supernet, phases: Sequence[Phase], index: int, resolution: Resolution) -> int:
    """Multiply-adds of the teacher of phase `index` for one image of the student at `resolution`."""
    teacher = phases[index].teacher
    if teacher.source in ("none", "in_place"):
        return 0
    if teacher.source in ("first", "previous_phase"):
        network, space = supernet, phases[0 if teacher.source == "first" else index - 1].space
    else:
        network = load_network(Path(teacher.source))
        space = network.space
    largest = space.largest(exits="all")
    own = largest.resolution if teacher.input == "native" else resolution
    return network.measure(replace(largest, resolution=own)).macs


def expected_step_macs(supernet: Supernet, phases: Sequence[Phase], index: int, draws: int = 8) -> tuple[float, float]:
    """Mean multiply-adds of a step of phase `index` for one image, of the students and of the teacher."""
    phase = phases[index]
    rng = keyed_random("plan", phase.name)
    students, teachers = 0, 0
    for _ in range(draws):
        resolution = rng.choice(phase.resolutions or phase.space.resolutions)
        students += student_macs(supernet, draw_architectures(phase, resolution, rng))
        teachers += teacher_macs(supernet, phases, index, resolution)
    return students / draws, teachers / draws
