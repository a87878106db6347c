"""Measuring sub-networks on data that training never saw."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from onceforall.architecture import Architecture, Resolution, is_whole, side
from onceforall.data.images import ImageData
from onceforall.errors import UserError, check_choice
from onceforall.evaluation.calibration import CalibrationRule, calibrate
from onceforall.evaluation.cost import Cost, cost
from onceforall.evaluation.tasks import Task
from onceforall.supernets.supernet import Supernet

__all__ = ["Evaluation", "calibrated_subnet", "calibration_batches", "evaluate", "predict"]

CALIBRATION_BATCH = 128


@final
@dataclass(frozen=True)
class Evaluation:
    """What was measured of one architecture.

    Args:
        architecture: which one.
        cost: its analytic cost.
        metrics: the task's numbers.
        calibration_images: training images from which its batch normalisation was re-estimated; 0 if it was not.
        probabilities: (images, outputs, ...) in the order of the split, where they were asked for.
    """

    architecture: Architecture
    cost: Cost
    metrics: dict[str, float]
    calibration_images: int
    probabilities: np.ndarray | None = None


def calibration_batches(
    data: ImageData,
    resolution: Resolution,
    images: int,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a fixed random part of the training images, prepared as for evaluation.

    The part is the same for every resolution. Batches have equal sizes of at most 128, up to one image, and mix
    classes as training batches do: of batches sorted by class the mean of the variances would be far too small.
    """
    count = min(images, data.count("train"))
    if count < 1:
        raise UserError(f"calibration with {images} of {data.count('train')} training images: must be at least 1.")
    indices = np.random.default_rng([seed, 0xCA11]).permutation(data.count("train"))[:count]
    size = -(-count // -(-count // CALIBRATION_BATCH))
    return data.batches("train", side(resolution), size, indices=indices, device=device, dtype=dtype)


def calibrated_subnet(
    supernet: Supernet,
    architecture: Architecture,
    data: ImageData,
    *,
    images: int = 512,
    rule: CalibrationRule = "reference",
    seed: int = 0,
) -> Supernet:
    """`architecture` as a network of its own in evaluation mode, calibrated on training images at its resolution."""
    net = supernet.subnet(architecture)
    first = next(net.parameters())
    batches = calibration_batches(
        data, architecture.resolution, images, seed=seed, device=first.device, dtype=first.dtype
    )
    return calibrate(net, batches, rule).eval()


@torch.inference_mode()
def predict(
    net: torch.nn.Module, batches: Iterable[tuple[Tensor, Tensor]], task: Task
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Probabilities and targets of each batch; the network is put into evaluation mode."""
    net.eval()
    for images, targets in batches:
        outputs = net(images)
        if isinstance(outputs, tuple):
            outputs = torch.stack(outputs).mean(0)  # (N, outputs, ...) over the exits
        yield task.to_probabilities(outputs.float()).cpu().numpy(), targets.cpu().numpy()


def evaluate(
    supernet: Supernet,
    architectures: Sequence[Architecture],
    task: Task,
    data: ImageData,
    *,
    split: str = "test",
    calibration_images: int = 512,
    calibration_rule: CalibrationRule = "reference",
    batch_size: int = 256,
    seed: int = 0,
    keep_probabilities: bool = False,
    progress: Callable[[Evaluation], object] | None = None,
) -> list[Evaluation]:
    """Evaluate each architecture: extract, re-estimate batch normalisation on training images, predict `split`.

    With `calibration_images=0` the supernet's own running statistics are used; that shows what calibration is worth
    and nothing else. `progress` is called with each result as it comes.
    """
    check_choice("split", split, ("train", "validation", "test"))
    if not data.count(split):
        raise UserError(f"split {split!r} has no images.")
    if not is_whole(calibration_images) or calibration_images < 0:
        raise UserError(f"calibration_images {calibration_images!r}: must be a whole number, 0 for none.")
    first = next(supernet.parameters())
    out = []
    for architecture in architectures:
        if calibration_images:
            net = calibrated_subnet(
                supernet, architecture, data, images=calibration_images, rule=calibration_rule, seed=seed
            )
        else:
            net = supernet.subnet(architecture)
        batches = data.batches(split, side(architecture.resolution), batch_size, device=first.device, dtype=first.dtype)
        results = list(predict(net, batches, task))
        evaluation = Evaluation(
            architecture,
            cost(supernet, architecture),
            task.measure(results),
            min(calibration_images, data.count("train")),
            np.concatenate([probabilities for probabilities, _ in results]) if keep_probabilities else None,
        )
        out.append(evaluation)
        if progress is not None:
            progress(evaluation)
    return out
