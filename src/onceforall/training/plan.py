"""What a schedule will cost before it runs: multiply-adds are analytic, time and memory come from one step on noise."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch

from onceforall.architecture import Architecture, Resolution
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import load_network
from onceforall.training.distillation import combine_exits
from onceforall.training.ledger import BACKWARD_FACTOR, bytes_kept_for_backward
from onceforall.training.phases import Phase, draw_architectures, is_taught_in_place
from onceforall.training.randomness import keyed_random

__all__ = ["PhasePlan", "expected_step_macs", "plan_schedule", "steps_per_epoch", "student_macs", "teacher_macs"]


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


@final
@dataclass(frozen=True)
class PhasePlan:
    """What one phase will cost.

    Args:
        name: of the phase.
        steps: optimiser steps.
        student_macs: multiply-adds of all forward and backward passes.
        teacher_macs: multiply-adds of all teacher passes.
        seconds: of student and teacher at the speed that `largest_step_seconds` shows; validation comes on top.
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
        seconds_per_mac, kept = _probe(supernet, phase, device)
        whole = kept * size
        parts = next(p for p in range(1, size + 1) if size % p == 0 and (whole / p <= MEMORY_SHARE * free or p == size))
        total = steps * size
        seconds = seconds_per_mac * (students + teachers) * total
        plans.append(PhasePlan(phase.name, steps, students * total, teachers * total, seconds, whole, parts))
    return plans


def _probe(supernet: Supernet, phase: Phase, device: torch.device) -> tuple[float, int]:
    """Seconds for a multiply-add, and bytes kept for the backward pass of one image, of the phase's largest network."""
    largest = phase.space.largest(exits="all")
    network = supernet.subnet(largest).to(device).train()
    side = largest.resolution
    axes = (side,) * network.options.get("spatial_dims", 2) if isinstance(side, int) else side
    images = torch.zeros(PROBE_IMAGES, network.options["in_channels"], *axes, device=device)
    best = float("inf")
    kept = 0
    for _ in range(3):
        start = time.perf_counter()
        with bytes_kept_for_backward() as bytes_kept:
            outputs = network(images)
        torch.autograd.grad(combine_exits(outputs, None).sum(), list(network.parameters()))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
        kept = bytes_kept[0]
    return best / (PROBE_IMAGES * student_macs(network, [largest])), kept // PROBE_IMAGES


def _free_memory(device: torch.device) -> int:
    """Bytes that are free on the device, or in the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    facts = Path("/proc/meminfo")
    if facts.is_file():
        rows = dict(line.split(":") for line in facts.read_text().splitlines() if ":" in line)
        return 1024 * int(rows["MemAvailable"].split()[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
