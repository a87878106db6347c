"""Measuring sub-networks on data that training never saw.

Sub-networks of which one is the beginning of another are measured in one pass; see `trunks`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from math import prod
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from onceforall.architecture import Architecture, Resolution, is_whole
from onceforall.data.dataset import DataSet
from onceforall.errors import UserError, check_choice
from onceforall.evaluation.allocation import keep_freed_memory
from onceforall.evaluation.calibration import CalibrationRule, calibrate
from onceforall.evaluation.cost import Cost, cost
from onceforall.evaluation.exits import exit_answer, weights_of_exits
from onceforall.evaluation.tasks import Task, window_of
from onceforall.evaluation.trunks import Trunk, group_by_trunk
from onceforall.supernets.supernet import Supernet

__all__ = ["Evaluation", "calibrated_subnet", "calibration_batches", "evaluate", "evaluate_each"]

CALIBRATION_BATCH = 128
VOLUMES = 4  # at most so many volumes in a batch, of calibration too
KEPT_BYTES = 2 << 30  # prepared images of one resolution that are kept for all its trunks

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
Timed = Callable[[Literal["calibration", "validation"]], AbstractContextManager]


@final
@dataclass(frozen=True)
class Evaluation:
    """What was measured of one architecture.

    Args:
        architecture: which one.
        cost: its analytic cost.
        metrics: the task's numbers.
        calibration_images: training images from which its batch normalisation was re-estimated; 0 if it was not.
        probabilities: (images, outputs, ...) in the order of the split, where they were asked for and the task
            keeps them.
        split: on which images.
        correct: (images,) the task's score of each image, where it has one: of a class, whether it is right; of a
            map, its mean Dice, NaN where the image is not judged.
    """

    architecture: Architecture
    cost: Cost
    metrics: dict[str, float]
    calibration_images: int
    probabilities: np.ndarray | None = None
    split: str = "test"
    correct: np.ndarray | None = None


def calibration_batches(
    data: DataSet,
    resolution: Resolution,
    images: int,
    *,
    seed: int = 0,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a fixed random part of the training images, prepared as for evaluation.

    The part is the same for every resolution. Batches have equal sizes of at most `batch_size`, 128 by default, up to
    one image, and mix classes as training batches do: of batches sorted by class the mean of the variances would be
    far too small. Of an image larger than the resolution a window of that size is taken, at a place drawn by `seed`.
    """
    count = min(images, data.count("train"))
    if count < 1:
        raise UserError(f"calibration with {images} of {data.count('train')} training images: must be at least 1.")
    indices = np.random.default_rng([seed, 0xCA11]).permutation(data.count("train"))[:count]
    size = -(-count // -(-count // (batch_size or CALIBRATION_BATCH)))
    batches = data.batches("train", resolution, size, indices=indices, device=device, dtype=dtype)
    return _windows(batches, resolution, np.random.default_rng([seed, 0x51DE]))


def _windows(
    batches: Iterable[tuple[Tensor, Tensor]], resolution: Resolution, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of images (n, channels, *grid) and label maps on a grid larger than `resolution` a window of that size."""
    for images, targets in batches:
        window = window_of(resolution, images.ndim - 2)
        spare = [have - want for have, want in zip(images.shape[2:], window, strict=True)]
        if any(spare):
            starts = [int(rng.integers(0, free, endpoint=True)) for free in spare]
            cut = (..., *(slice(start, start + want) for start, want in zip(starts, window, strict=True)))
            images, targets = images[cut].clone(), targets[cut].clone()  # a view would keep the whole image
        yield images, targets


def calibrated_subnet(
    supernet: Supernet,
    architecture: Architecture,
    data: DataSet,
    *,
    images: int = 512,
    rule: CalibrationRule = "reference",
    seed: int = 0,
) -> Supernet:
    """`architecture` as a network of its own in evaluation mode, calibrated on training images at its resolution."""
    net = supernet.subnet(architecture)
    first = next(net.parameters())
    batches = calibration_batches(
        data,
        architecture.resolution,
        images,
        seed=seed,
        batch_size=batch_limit(net, CALIBRATION_BATCH),
        device=first.device,
        dtype=first.dtype,
    )
    return calibrate(net, batches, rule).eval()


def batch_limit(supernet: Supernet, images: int) -> int:
    """How many inputs of `supernet` a batch may hold: `images`, but no more than 4 volumes."""
    return images if spatial_dims(supernet) == 2 else min(images, VOLUMES)


def spatial_dims(supernet: Supernet) -> int:
    """Spatial axes of the inputs of `supernet`: 2 for images, 3 for volumes."""
    return supernet.options.get("spatial_dims", 2)


def evaluate(
    supernet: Supernet,
    architectures: Sequence[Architecture],
    task: Task,
    data: DataSet,
    *,
    split: str = "test",
    calibration_images: int = 512,
    calibration_rule: CalibrationRule = "reference",
    batch_size: int = 256,
    seed: int = 0,
    exit_weights: Sequence[float] | None = None,
    keep_probabilities: bool = False,
    progress: Callable[[Evaluation], object] | None = None,
) -> list[Evaluation]:
    """Evaluate each architecture: extract, re-estimate batch normalisation on training images, predict `split`.

    With `calibration_images=0` the supernet's own running statistics are used; that shows what calibration is worth
    and nothing else. An architecture with several exits answers with the sum of their raw outputs, each with its
    number of `exit_weights`, which has one for each exit of the supernet; by default with their mean. A batch holds
    at most `batch_size` images, and no more than 4 volumes. `progress` is called with each result as it comes; they
    are returned in the order of `architectures`.
    """
    found: dict[Architecture, Evaluation] = {}
    for evaluation in evaluate_each(
        supernet,
        architectures,
        task,
        data,
        splits=(split,),
        calibration_images=calibration_images,
        calibration_rule=calibration_rule,
        batch_size=batch_size,
        seed=seed,
        exit_weights=exit_weights,
        keep=architectures if keep_probabilities else (),
    ):
        found[evaluation.architecture] = evaluation
        if progress is not None:
            progress(evaluation)
    return [found[architecture] for architecture in architectures]


def evaluate_each(
    supernet: Supernet,
    architectures: Iterable[Architecture],
    task: Task,
    data: DataSet,
    *,
    splits: Sequence[str] = ("test",),
    images: int | None = None,
    calibration_images: int = 512,
    calibration_rule: CalibrationRule = "reference",
    batch_size: int = 256,
    seed: int = 0,
    exit_weights: Sequence[float] | None = None,
    keep: Collection[Architecture] = (),
    timed: Timed = lambda _: nullcontext(),
) -> Iterator[Evaluation]:
    """Evaluate different architectures on one or more splits, each result as it comes.

    Architectures that are beginnings of another share its pass (`group_by_trunk`), and all splits the calibrated
    network; the results are those of each by itself. Of a resolution with more than one trunk the prepared images of
    calibration and splits are kept meanwhile, on the network's device, where they take at most 2 GiB
    (images x channels x pixels x 4 bytes, and label maps); otherwise they are prepared again for each trunk.

    Args:
        supernet, architectures, task, data: as for `evaluate`; an architecture that is given twice is measured once.
        splits: names of splits; their results follow one another.
        images: only the first so many of each split.
        calibration_images, calibration_rule, batch_size, seed, exit_weights: as for `evaluate`.
        keep: architectures whose probabilities are wanted, if the task keeps any.
        timed: a context for the time spent on calibration and on prediction.
    """
    keep_freed_memory()
    for split in splits:
        check_choice("split", split, ("train", "validation", "test"))
        if not data.count(split):
            raise UserError(f"split {split!r} has no images.")
    if not is_whole(calibration_images) or calibration_images < 0:
        raise UserError(f"calibration_images {calibration_images!r}: must be a whole number, 0 for none.")
    check_choice("calibration rule", calibration_rule, ("reference", "population"))
    weights = weights_of_exits(supernet.space, exit_weights)
    trunks = group_by_trunk(architectures)
    costs = {member: cost(supernet, member) for trunk in trunks for member in trunk.members}
    keep = keep if task.keeps_probabilities else ()
    calibrated = min(calibration_images, data.count("train"))

    def work() -> Iterator[Evaluation]:
        for resolution, group in groupby(trunks, key=lambda trunk: trunk.architecture.resolution):
            at_resolution = list(group)
            calibration, batches = _batches(
                supernet, data, resolution, splits, images, calibration_images, batch_size, seed, len(at_resolution) > 1
            )
            for trunk in at_resolution:
                with timed("calibration"):
                    net = supernet.subnet(trunk.architecture)
                    if calibration_images:
                        calibrate(net, calibration(), calibration_rule)
                for split in splits:
                    with timed("validation"):
                        results = _measure(net, trunk, batches[split](), task, weights, keep)
                    for member, result in zip(trunk.members, results, strict=True):
                        metrics, probabilities, correct = result
                        yield Evaluation(member, costs[member], metrics, calibrated, probabilities, split, correct)

    return work()


def _batches(
    supernet: Supernet,
    data: DataSet,
    resolution: Resolution,
    splits: Sequence[str],
    images: int | None,
    calibration_images: int,
    batch_size: int,
    seed: int,
    again: bool,
) -> tuple[Batches, dict[str, Batches]]:
    """Functions that give the batches for calibration and of each split; kept where they are needed `again`."""
    first = next(supernet.parameters())
    indices = {split: np.arange(data.count(split))[:images] for split in splits}
    total = min(calibration_images, data.count("train")) + sum(map(len, indices.values()))
    axes = window_of(resolution, spatial_dims(supernet))
    keeps = again and total * data.channels * prod(axes) * first.element_size() <= KEPT_BYTES
    room = KEPT_BYTES
    size, calibration_size = batch_limit(supernet, batch_size), batch_limit(supernet, CALIBRATION_BATCH)

    def whole(make: Batches) -> list[tuple[Tensor, Tensor]] | None:
        """All batches, or None where they take more room than is left: images may be larger than the resolution."""
        nonlocal room
        batches, taken = [], 0
        for batch in make():
            taken += sum(tensor.nbytes for tensor in batch)
            if taken > room:
                return None
            batches.append(batch)
        room -= taken
        return batches

    def made(make: Batches) -> Batches:
        if not keeps:
            return make
        kept = cache(lambda: whole(make))
        return lambda: make() if (batches := kept()) is None else batches

    def calibration() -> Iterator[tuple[Tensor, Tensor]]:
        return calibration_batches(
            data,
            resolution,
            calibration_images,
            seed=seed,
            batch_size=calibration_size,
            device=first.device,
            dtype=first.dtype,
        )

    def of_split(split: str) -> Batches:
        return lambda: data.batches(split, resolution, size, indices[split], first.device, first.dtype)

    return made(calibration), {split: made(of_split(split)) for split in splits}


# -- one trunk on one split ---------------------------------------------------------------------------------------

Measured = tuple[dict[str, float], np.ndarray | None, np.ndarray | None]  # metrics, probabilities, per-image scores


def _measure(
    net: Supernet,
    trunk: Trunk,
    batches: Iterable[tuple[Tensor, Tensor]],
    task: Task,
    weights: Mapping[int, float] | None,
    keep: Collection[Architecture],
) -> list[Measured]:
    """What each member of the trunk shows on `batches`.

    The answers of a single member pass from the network to the metrics batch by batch; those of several are gathered.
    """
    answers = _answers(net, trunk, batches, task, weights)
    if len(trunk.members) == 1:
        [member] = trunk.members
        return [_judge(((probabilities, targets) for [probabilities], targets in answers), task, member in keep)]
    gathered = list(answers)
    return [
        _judge(((probabilities[i], targets) for probabilities, targets in gathered), task, member in keep)
        for i, member in enumerate(trunk.members)
    ]


@torch.inference_mode()
def _answers(
    net: Supernet,
    trunk: Trunk,
    batches: Iterable[tuple[Tensor, Tensor]],
    task: Task,
    weights: Mapping[int, float] | None,
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """For each batch the probabilities of each member, and the targets; the network is put into evaluation mode."""
    net.eval()
    for images, targets in batches:
        outputs = task.infer(net, images, trunk.architecture.resolution)
        exits = (outputs,) if isinstance(outputs, Tensor) else outputs
        by_number = {number: output.float() for number, output in zip(trunk.architecture.exits, exits, strict=True)}
        probabilities = [
            task.to_probabilities(exit_answer(by_number, member, weights)).cpu().numpy() for member in trunk.members
        ]
        yield probabilities, targets.cpu().numpy()


def _judge(answers: Iterable[tuple[np.ndarray, np.ndarray]], task: Task, keep: bool) -> Measured:
    """Metrics of the answers of one member; what else is wanted of them is taken as they pass."""
    kept: list[np.ndarray] = []
    scores: list[np.ndarray] = []

    def passing() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for probabilities, targets in answers:
            if keep:
                kept.append(probabilities)
            if task.per_image is not None:
                scores.append(task.per_image(probabilities, targets))
            yield probabilities, targets

    metrics = task.measure(passing())
    return metrics, np.concatenate(kept) if kept else None, np.concatenate(scores) if scores else None
