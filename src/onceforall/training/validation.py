"""Judging a phase while it trains: a fixed few sub-networks, each extracted, calibrated and measured."""

from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from torch import Tensor

from onceforall.architecture import Architecture, Resolution
from onceforall.data.images import ImageData
from onceforall.evaluation.calibration import calibrate
from onceforall.evaluation.evaluate import calibration_batches, predict
from onceforall.evaluation.tasks import Task
from onceforall.supernets.supernet import Supernet
from onceforall.training.distributed import World
from onceforall.training.ledger import Ledger
from onceforall.training.options import RunOptions
from onceforall.training.phases import Phase
from onceforall.training.randomness import keyed_random

__all__ = ["Validator", "validation_architectures"]


def validation_architectures(phase: Phase, seed: int, random_ones: int) -> dict[str, Architecture]:
    """The fixed few sub-networks by which a phase is judged: smallest, largest and random ones."""
    out = {"smallest": phase.space.smallest(), "largest": phase.space.largest()}
    for number in range(random_ones):
        drawn = phase.space.sample(keyed_random(seed, phase.name, "validation", number))
        if drawn not in out.values():
            out[f"random_{number + 1}"] = drawn
    return {name: arch for name, arch in out.items() if name != "smallest" or arch != out["largest"]}


@final
class Validator:
    """Measures sub-networks on the validation split; the supernet itself is not touched."""

    def __init__(
        self, data: ImageData, task: Task, options: RunOptions, world: World, ledger: Ledger, dtype: torch.dtype
    ) -> None:
        self.data, self.task, self.options = data, task, options
        self.world, self.ledger, self.dtype = world, ledger, dtype

    def validate(self, supernet: Supernet, phase: Phase) -> dict[str, dict[str, float]]:
        """Metrics of the phase's fixed architectures, by their names; the processes share the work."""
        architectures = validation_architectures(phase, self.options.seed, self.options.random_validation)
        own = {
            name: self.score(supernet, architecture, phase.batch_size, self.options.validation_images)
            for number, (name, architecture) in enumerate(architectures.items())
            if number % self.world.size == self.world.rank
        }
        return self.world.merge(own, list(architectures))

    def score(
        self, supernet: Supernet, architecture: Architecture, batch_size: int, images: int | None
    ) -> dict[str, float]:
        """Metrics of one architecture on the first `images` validation images, all by default."""
        net = supernet.subnet(architecture)
        with self.ledger.time("calibration"):
            calibrate(net, self.calibration_batches(architecture.resolution), self.options.calibration_rule)
        with self.ledger.time("validation"):
            count = self.data.count("validation")
            indices = np.arange(count if images is None else min(images, count))
            batches = self.data.batches(
                "validation", architecture.resolution, batch_size, indices, self.world.device, self.dtype
            )
            return self.task.measure(predict(net, batches, self.task))

    def calibration_batches(self, resolution: Resolution) -> Iterator[tuple[Tensor, Tensor]]:
        """Training images for re-estimating batch normalisation."""
        return calibration_batches(
            self.data,
            resolution,
            self.options.calibration_images,
            seed=self.options.seed,
            device=self.world.device,
            dtype=self.dtype,
        )
