"""What goes into an export: the network as a plain copy, held-out inputs, inputs to calibrate 8-bit numbers with."""

import numpy as np
import torch
from torch import Tensor

from onceforall.architecture import Architecture, Resolution
from onceforall.data import DataSet, VolumeData
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import calibration_batches
from onceforall.evaluation.tasks import window_of
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet

__all__ = ["calibration_inputs", "checked_images", "held_out_inputs", "plain_copy"]

VERIFY_IMAGES, VERIFY_VOLUMES = 64, 8


def held_out_inputs(data: DataSet, resolution: Resolution) -> Tensor:
    """Prepared inputs (N, channels, *resolution) on which an export is compared, spread over a split.

    The split is "test", or "validation" where that is empty; there are at most 64 images or 8 volumes. Of a volume
    larger than the resolution, which is answered in windows, it is the window in its middle.
    """
    split = "test" if data.count("test") else "validation"
    count = VERIFY_VOLUMES if isinstance(data, VolumeData) else VERIFY_IMAGES
    indices = np.unique(np.linspace(0, data.count(split) - 1, min(count, data.count(split))).round().astype(int))
    return torch.cat([_middle(images, resolution) for images, _ in data.batches(split, resolution, count, indices)])


def _middle(images: Tensor, resolution: Resolution) -> Tensor:
    for axis, size in enumerate(window_of(resolution, images.ndim - 2), start=2):
        images = images.narrow(axis, (images.shape[axis] - size) // 2, size)
    return images


def calibration_inputs(data: DataSet, resolution: Resolution, count: int, seed: int = 0) -> Tensor:
    """(N, channels, *resolution) training inputs, prepared as for evaluation, from which int8 learns ranges."""
    size = 1 if isinstance(data, VolumeData) else None
    batches = calibration_batches(data, resolution, count, seed=seed, batch_size=size)
    return torch.cat([images for images, _ in batches])


def plain_copy(net: Supernet) -> tuple[Supernet, Architecture]:
    """A copy of the sub-network on the CPU in float32, contiguous, without gradients; and its architecture.

    Raises `UserError` for a supernet that still has choices, and for a network in training mode.
    """
    architecture = net.space.largest(exits="all")
    if net.space != SearchSpace.only(architecture):
        raise UserError("only a sub-network is exported: extract it with supernet.subnet(arch), then calibrate it.")
    if net.training:
        raise UserError("the network is in training mode: calibrate it and call net.eval() before it is exported.")
    copy = net.subnet(architecture).to("cpu", torch.float32)
    copy.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    return copy.eval().requires_grad_(False), architecture


def checked_images(images: np.ndarray | Tensor, shape: tuple[int, ...]) -> Tensor:
    """(N, channels, ...) float32 on the CPU; `UserError` for another shape, none, or numbers that are not finite."""
    inputs = torch.as_tensor(images).detach().to("cpu", torch.float32)
    if inputs.ndim != len(shape) + 1 or tuple(inputs.shape[1:]) != shape or not len(inputs):
        raise UserError(f"images of shape {tuple(inputs.shape)}: give at least one, prepared, of shape {shape} each.")
    if not bool(inputs.isfinite().all()):
        raise UserError("the images hold numbers that are not finite; prepare them as for evaluation.")
    return inputs.contiguous()
