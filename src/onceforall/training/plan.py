"""What a schedule will cost before it runs.

Multiply-adds and memory are computed, not measured; time comes from a step on black images on the machine at hand.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch

from onceforall.architecture import Architecture, Resolution, as_resolution
from onceforall.errors import UserError
from onceforall.evaluation.exits import combine_exits
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Freeze, Supernet
from onceforall.training.checkpoint import described_network
from onceforall.training.growing import spaces_in_phases, without_weights
from onceforall.training.ledger import BACKWARD_FACTOR
from onceforall.training.memory import activation_bytes, black_images, state_bytes
from onceforall.training.phases import Phase, Teacher, draw_architectures, draw_resolution, is_taught_in_place
from onceforall.training.randomness import keyed_random
from onceforall.training.rows import scale_epochs

__all__ = [
    "PhaseCost",
    "PhasePlan",
    "expected_step_macs",
    "expected_work",
    "phase_to_cost",
    "plan_schedule",
    "predict_costs",
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


def teacher_macs(supernet: Supernet, phases: Sequence[Phase], index: int) -> dict[Resolution, int]:
    """Multiply-adds of the teacher of phase `index` for one image, by the resolution of the student."""
    phase = phases[index]
    teacher, sizes = phase.teacher, phase.resolutions or phase.space.resolutions
    origin = {"first": 0, "previous_phase": index - 1, "in_place": index}
    if teacher.source == "none":
        return dict.fromkeys(sizes, 0)
    if teacher.source in origin:
        network, space = supernet, phases[origin[teacher.source]].space
    else:
        network = described_network(Path(teacher.source))
        space = network.space
    largest = space.largest(exits="all")
    own = {size: largest.resolution if teacher.input == "native" else size for size in sizes}
    return {size: network.measure(replace(largest, resolution=own[size])).macs for size in sizes}


def expected_step_macs(supernet: Supernet, phases: Sequence[Phase], index: int, draws: int = 8) -> tuple[float, float]:
    """Mean multiply-adds of a step of phase `index` for one image, of the students and of the teacher."""
    phase = phases[index]
    rng, macs = keyed_random("plan", phase.name), teacher_macs(supernet, phases, index)
    students, teachers = 0, 0
    for step in range(draws):
        resolution = draw_resolution(phase, rng)
        architectures = draw_architectures(phase, step, resolution, rng)
        students += student_macs(supernet, architectures)
        if phase.teacher.source != "in_place" or is_taught_in_place(phase, architectures):
            teachers += macs[resolution]
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
class PhaseCost:
    """What one phase will cost on any machine.

    Args:
        name: of the phase.
        steps: optimiser steps.
        student_macs: multiply-adds of all forward and backward passes.
        teacher_macs: multiply-adds of all teacher passes.
        parameter_bytes: of the network as the phase has it; a network that grows has fewer in earlier phases.
        optimizer_bytes: of what the optimiser keeps for them, where all of them learn.
        activation_bytes: kept for the backward pass of the largest sub-network on a whole batch.
    """

    name: str
    steps: int
    student_macs: float
    teacher_macs: float
    parameter_bytes: int
    optimizer_bytes: int
    activation_bytes: int


@final
@dataclass(frozen=True)
class PhasePlan:
    """What one phase will cost here.

    Args:
        cost: on any machine.
        seconds: of student and teacher, at the speed of a step of the largest sub-network; validation comes on top.
        micro_batches: parts into which a batch should be cut so that it fits into the memory at hand.
    """

    cost: PhaseCost
    seconds: float
    micro_batches: int


def predict_costs(supernet: Supernet, phases: Sequence[Phase], images: int) -> list[PhaseCost]:
    """Cost of every phase for `images` training images and the network with which training begins; runs nothing."""
    spaces = spaces_in_phases(supernet.space, phases)
    dtype = next(supernet.parameters()).dtype
    whole = without_weights(supernet, spaces[-1]).to(dtype)
    kept: dict[tuple[Architecture, Freeze], int] = {}
    costs = []
    for index, (phase, space) in enumerate(zip(phases, spaces, strict=True)):
        steps, size = steps_per_epoch(images, phase) * phase.total_epochs, min(phase.batch_size, images)
        students, teachers = expected_step_macs(whole, phases, index)
        largest = phase.space.largest(exits="all")
        if (largest, phase.freeze) not in kept:
            kept[largest, phase.freeze] = activation_bytes(whole, largest, phase.freeze)
        memory = state_bytes(without_weights(supernet, space).to(dtype), phase)
        memory["activation_bytes"] = kept[largest, phase.freeze] * size
        costs.append(PhaseCost(phase.name, steps, students * steps * size, teachers * steps * size, **memory))
    return costs


def phase_to_cost(values: Mapping[str, Any]) -> Phase:
    """As much of a phase, given as the dictionary of `Phase.to_dict`, as its cost depends on."""
    names = ("name", "epochs", "warmup_epochs", "batch_size", "optimizer", "momentum", "sampler", "subnets_per_step")
    favoured, sizes = values["favoured"], values["resolutions"]
    return Phase(
        **{name: values[name] for name in (*names, "favoured_probability", "exits")},
        space=SearchSpace.from_dict(values["space"]),
        favoured=None if favoured is None else SearchSpace.from_dict(favoured),
        resolutions=None if sizes is None else tuple(map(as_resolution, sizes)),
        teacher=Teacher(values["teacher"]["source"], input=values["teacher"]["input"]),
        freeze=Freeze(**values["freeze"]),
    )


PROBE_MACS = 10**9  # of a step that measures the speed, unless two images need more
PROBE_SECONDS = 0.5  # after so many there is no further step
SLOW = 10  # so many times longer, and the first step has said enough
MEMORY_SHARE = 0.4  # of the free memory, for what is kept for the backward pass


def plan_schedule(
    supernet: Supernet,
    phases: Sequence[Phase],
    images: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> list[PhasePlan]:
    """Cost of every phase for `images` training images; steps on black images measure this machine's speed.

    Nothing is trained. `supernet` is the network with which training begins. `progress` is told how many phases are
    done, and of how many.
    """
    plans: list[PhasePlan] = []
    free, speeds = _free_memory(device), dict[Architecture, float]()
    for phase, cost in zip(phases, predict_costs(supernet, phases, images), strict=True):
        if progress is not None:
            progress(len(plans), len(phases))
        size, largest = min(phase.batch_size, images), phase.space.largest(exits="all")
        if largest not in speeds:
            speeds[largest] = _seconds_per_mac(supernet, largest, device, size)
        whole = cost.activation_bytes
        parts = next(p for p in range(1, size + 1) if size % p == 0 and (whole / p <= MEMORY_SHARE * free or p == size))
        plans.append(PhasePlan(cost, speeds[largest] * (cost.student_macs + cost.teacher_macs), parts))
    if progress is not None:
        progress(len(plans), len(phases))
    return plans


def _seconds_per_mac(supernet: Supernet, architecture: Architecture, device: torch.device, batch: int) -> float:
    """Seconds that one multiply-add takes in a step of a sub-network of this kind, the best of up to three."""
    network = type(supernet)(SearchSpace.only(architecture), **supernet.options).initialise().to(device)
    macs = student_macs(network, [architecture])

    def step(images: int) -> float:
        start = time.perf_counter()
        outputs = combine_exits(network.train()(black_images(network, images)), None)
        torch.autograd.grad(outputs.sum(), list(network.parameters()))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    count = max(2, min(batch, PROBE_MACS // macs))
    first = step(2)  # takes longer than the next ones
    if first > SLOW * PROBE_SECONDS:
        return first / (2 * macs)
    seconds = [step(count)]
    while len(seconds) < 3 and sum(seconds) < PROBE_SECONDS:
        seconds.append(step(count))
    return min(seconds) / (count * macs)


def _free_memory(device: torch.device) -> int:
    """Bytes that are free on the device, or in the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    facts = Path("/proc/meminfo")
    if facts.is_file():
        rows = dict(line.split(":") for line in facts.read_text().splitlines() if ":" in line)
        return 1024 * int(rows["MemAvailable"].split()[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
