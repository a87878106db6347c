"""Judging a phase while it trains: a fixed few sub-networks, each extracted, calibrated and measured."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from onceforall.architecture import Architecture, Resolution
from onceforall.data.dataset import DataSet
from onceforall.evaluation.evaluate import CALIBRATION_BATCH, batch_limit, calibration_batches, evaluate_each
from onceforall.evaluation.tasks import Task
from onceforall.evaluation.trunks import group_by_trunk
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet
from onceforall.training.distributed import World
from onceforall.training.ledger import Ledger
from onceforall.training.openings import narrowed
from onceforall.training.options import RunOptions
from onceforall.training.phases import Phase
from onceforall.training.randomness import keyed_random

__all__ = ["Validator", "is_best", "validation_architectures"]


def is_best(mean: float, best: float | None, higher_is_better: bool) -> bool:
    """Whether a phase's `mean` is better than the `best` so far; one that is not finite counts as none."""
    if best is None or not math.isfinite(best):
        return True
    return math.isfinite(mean) and (mean > best if higher_is_better else mean < best)


def validation_architectures(phase: Phase, seed: int, random_ones: int, most_extremes: int) -> dict[str, Architecture]:
    """The fixed few sub-networks by which a phase is judged, by name: smallest, largest, and those that it asks for.

    A phase that trains the largest with all its exits is judged by that at every resolution. Of more than
    `most_extremes` extremes some are drawn, beside the smallest and the largest.
    """
    space = phase.space
    if phase.sampler == "largest":
        largest = space.largest(exits="all")
        return {f"largest_{size}": replace(largest, resolution=size) for size in phase.resolutions or space.resolutions}
    ends = {"smallest": space.smallest(), "largest": space.largest()}
    if phase.judged_by == "extremes":
        others = [member for member in _extremes(space) if member not in ends.values()]
        count = max(0, min(len(others), most_extremes - 2))
        chosen = sorted(keyed_random(seed, phase.name, "validation").sample(range(len(others)), count))
        out = ends | {f"extreme_{i + 1}": others[i] for i in chosen}
    else:
        out = dict(ends)
        for number in range(random_ones):
            drawn = space.sample(keyed_random(seed, phase.name, "validation", number))
            if drawn not in out.values():
                out[f"random_{number + 1}"] = drawn
    return {name: arch for name, arch in out.items() if name != "smallest" or arch != out["largest"]}


def _extremes(space: SearchSpace) -> list[Architecture]:
    """Architectures with factors constant over the network, each at its smallest or largest choice.

    Of sets of paths those with the fewest and those with the most paths are extremes. Where kernel sizes alone
    differ, all of them count (OFAv2's published validation).
    """
    counts = [len(names) for names in space.paths]
    ends: dict[str, Any] = {"paths": tuple(p for p in space.paths if len(p) in (min(counts), max(counts)))}
    for factor in ("resolutions", "kernel_sizes", "expand_ratios", "depths", "heights", "widths"):
        if choices := getattr(space, factor):
            ends[factor] = tuple(dict.fromkeys((choices[0], choices[-1])))
    if space.kernel_sizes and all(
        len(c) < 2 for factor, c in ends.items() if factor not in ("resolutions", "kernel_sizes")
    ):
        ends["kernel_sizes"] = space.kernel_sizes
    return [member for member, _ in narrowed(space, **ends).grid()]


@final
class Validator:
    """Measures sub-networks on the validation split; the supernet itself is not touched."""

    def __init__(
        self, data: DataSet, task: Task, options: RunOptions, world: World, ledger: Ledger, dtype: torch.dtype
    ) -> None:
        self.data, self.task, self.options = data, task, options
        self.world, self.ledger, self.dtype = world, ledger, dtype

    def validate(self, supernet: Supernet, phase: Phase) -> dict[str, dict[str, float]]:
        """Metrics of the phase's fixed architectures, by their names; the processes share the work.

        Architectures that are beginnings of another share its pass, so what the processes share out is trunks.
        """
        options = self.options
        architectures = validation_architectures(
            phase, options.seed, options.random_validation, options.extreme_validation
        )
        trunks = group_by_trunk(architectures.values())[self.world.rank :: self.world.size]
        own = [member for trunk in trunks for member in trunk.members]
        scores = self.scores(supernet, own, phase, options.validation_images)
        found = {name: scores[arch] for name, arch in architectures.items() if arch in scores}
        return self.world.merge(found, list(architectures))

    def score(
        self, supernet: Supernet, architecture: Architecture, phase: Phase, images: int | None = None
    ) -> dict[str, float]:
        """Metrics of one architecture on the first `images` validation images, as many as the options say by default.

        Of several exits the outputs are summed with the phase's weights.
        """
        images = self.options.validation_images if images is None else images
        return self.scores(supernet, [architecture], phase, images)[architecture]

    def scores(
        self,
        supernet: Supernet,
        architectures: Sequence[Architecture],
        phase: Phase,
        images: int | None,
        split: str = "validation",
    ) -> dict[Architecture, dict[str, float]]:
        """Metrics of architectures on the first `images` images of a split, prepared without augmentation.

        They are Python's numbers also where a task gives numpy's, which a state of the run could not hold.
        """
        evaluations = evaluate_each(
            supernet,
            architectures,
            self.task,
            self.data,
            splits=(split,),
            images=images,
            calibration_images=self.options.calibration_images,
            calibration_rule=self.options.calibration_rule,
            batch_size=phase.batch_size,
            seed=self.options.seed,
            exit_weights=phase.exit_output_weights,
            timed=self.ledger.time,
        )
        return {
            evaluation.architecture: {name: float(value) for name, value in evaluation.metrics.items()}
            for evaluation in evaluations
        }

    def calibration_batches(self, supernet: Supernet, resolution: Resolution) -> Iterator[tuple[Tensor, Tensor]]:
        """Training images for re-estimating the batch normalisation of networks like `supernet`."""
        return calibration_batches(
            self.data,
            resolution,
            self.options.calibration_images,
            seed=self.options.seed,
            batch_size=batch_limit(supernet, CALIBRATION_BATCH),
            device=self.world.device,
            dtype=self.dtype,
        )
