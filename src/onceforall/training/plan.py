"""What a schedule will cost before it runs: multiply-adds are analytic, time and memory come from one step on noise."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch

from onceforall.architecture import Architecture, Resolution
from onceforall.errors import UserError
from onceforall.evaluation.exits import combine_exits
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import load_network
from onceforall.training.ledger import BACKWARD_FACTOR, bytes_kept_for_backward
from onceforall.training.phases import Phase, draw_architectures, is_taught_in_place
from onceforall.training.randomness import keyed_random, seeded_layers
from onceforall.training.rows import scale_epochs

__all__ = [
    "PhasePlan",
    "activation_bytes",
    "expected_step_macs",
    "expected_work",
    "plan_schedule",
    "scale_to_macs",
    "steps_per_epoch",
    "student_macs",
    "teacher_macs",
]


def steps_per_epoch(images: int, phase: Phase) -> int:
    """Full batches in `images` training images; one smaller batch where there is no full one."""
    return max(1, images // phase.batch_size)


def student_macs(supernet: Supernet, architectures: Sequence[Architecture]) -> int:
    """Multiply-adds of forward and backward of a step's sub-networks for one image."""
    return BACKWARD_FACTOR * sum(supernet.measure(architecture).macs for architecture in architectures)


def teacher_macs(supernet: Supernet, phases: Sequence[Phase], index: int, resolution: Resolution) -> int:
    """Multiply-adds of the teacher of phase `index` for one image of the student at `resolution`."""
    teacher = phases[index].teacher
    origin = {"first": 0, "previous_phase": index - 1, "in_place": index}
    if teacher.source == "none":
        return 0
    if teacher.source in origin:
        network, space = supernet, phases[origin[teacher.source]].space
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
    for step in range(draws):
        resolution = rng.choice(phase.resolutions or phase.space.resolutions)
        architectures = draw_architectures(phase, step, resolution, rng)
        students += student_macs(supernet, architectures)
        if phase.teacher.source != "in_place" or is_taught_in_place(phase, architectures):
            teachers += teacher_macs(supernet, phases, index, resolution)
    return students / draws, teachers / draws


def expected_work(supernet: Supernet, phases: Sequence[Phase], images: int) -> list[float]:
    """Expected multiply-adds of each phase for `images` training images; they tell the time left."""
    return [
        sum(expected_step_macs(supernet, phases, index))
        * min(phase.batch_size, images)
        * steps_per_epoch(images, phase)
        * phase.total_epochs
        for index, phase in enumerate(phases)
    ]


def scale_to_macs(supernet: Supernet, phases: Sequence[Phase], images: int, total_macs: float) -> list[Phase]:
    """The phases with epochs scaled so that students and teachers are expected to need `total_macs` in all.

    Methods can so be compared at equal work. Every phase keeps at least one epoch.
    """
    present = sum(expected_work(supernet, phases, images))
    epochs = round(sum(phase.total_epochs for phase in phases) * total_macs / present)
    if epochs < len(phases):
        raise UserError(
            f"total_macs {total_macs:.3g}: enough for {epochs} epochs, and this schedule has {len(phases)} phases; "
            f"with its own epochs it needs {present:.3g}."
        )
    return scale_epochs(phases, epochs)


@final
@dataclass(frozen=True)
class PhasePlan:
    """What one phase will cost.

    Args:
        name: of the phase.
        steps: optimiser steps.
        student_macs: multiply-adds of all forward and backward passes.
        teacher_macs: multiply-adds of all teacher passes.
        seconds: of student and teacher, at the speed of a step of the largest sub-network; validation comes on top.
        activation_bytes: kept for the backward pass of the largest sub-network on a whole batch.
        micro_batches: parts into which a batch should be cut so that this fits into the memory at hand.
    """

    name: str
    steps: int
    student_macs: float
    teacher_macs: float
    seconds: float
    activation_bytes: int
    micro_batches: int


PROBE_IMAGES = 8
MEMORY_SHARE = 0.4  # of the free memory, for what is kept for the backward pass


def plan_schedule(supernet: Supernet, phases: Sequence[Phase], images: int, device: torch.device) -> list[PhasePlan]:
    """Cost of every phase for `images` training images; one step on noise measures this machine's speed.

    Nothing is trained: the step runs on a copy of the largest sub-network.
    """
    plans = []
    free = _free_memory(device)
    for index, phase in enumerate(phases):
        steps = steps_per_epoch(images, phase) * phase.total_epochs
        size = min(phase.batch_size, images)
        students, teachers = expected_step_macs(supernet, phases, index)
        largest = phase.space.largest(exits="all")
        seconds_per_mac = _seconds_per_mac(supernet, largest, device)
        whole = activation_bytes(supernet, largest, device) * size
        parts = next(p for p in range(1, size + 1) if size % p == 0 and (whole / p <= MEMORY_SHARE * free or p == size))
        total = steps * size
        seconds = seconds_per_mac * (students + teachers) * total
        plans.append(PhasePlan(phase.name, steps, students * total, teachers * total, seconds, whole, parts))
    return plans


def _seconds_per_mac(supernet: Supernet, architecture: Architecture, device: torch.device) -> float:
    """Seconds that one multiply-add takes in a step of a sub-network, the best of three."""
    network, images = _probe(supernet, architecture, device)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        outputs = combine_exits(network(images), None)
        torch.autograd.grad(outputs.sum(), list(network.parameters()))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best / (PROBE_IMAGES * student_macs(network, [architecture]))


def activation_bytes(supernet: Supernet, architecture: Architecture, device: torch.device) -> int:
    """Bytes that a sub-network keeps for the backward pass of one image, counted in a pass on zeros."""
    network, images = _probe(supernet, architecture, device)
    with bytes_kept_for_backward() as kept, seeded_layers(device, "memory"):
        network(images)
    return kept[0] // PROBE_IMAGES


def _probe(supernet: Supernet, architecture: Architecture, device: torch.device) -> tuple[Supernet, torch.Tensor]:
    """A copy of a sub-network in training mode and a few black images for it."""
    network = supernet.subnet(architecture).to(device).train()
    side = architecture.resolution
    axes = (side,) * network.options.get("spatial_dims", 2) if isinstance(side, int) else side
    first = next(network.parameters())
    return network, torch.zeros(PROBE_IMAGES, network.options["in_channels"], *axes, device=device, dtype=first.dtype)


def _free_memory(device: torch.device) -> int:
    """Bytes that are free on the device, or in the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    facts = Path("/proc/meminfo")
    if facts.is_file():
        rows = dict(line.split(":") for line in facts.read_text().splitlines() if ":" in line)
        return 1024 * int(rows["MemAvailable"].split()[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
