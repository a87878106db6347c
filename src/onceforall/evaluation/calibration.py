"""Re-estimating the running statistics of a sub-network's batch normalisation."""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from onceforall.errors import UserError, check_choice
from onceforall.layers.elastic import ElasticBatchNorm

__all__ = ["CalibrationRule", "calibrate"]

CalibrationRule = Literal["reference", "population"]
Net = TypeVar("Net", bound=nn.Module)


def calibrate(net: Net, batches: Iterable[Tensor | Sequence[Tensor]], rule: CalibrationRule = "reference") -> Net:
    """Set the running mean and variance of every batch normalisation of `net` from `batches`, in place.

    Every layer normalises by the batch at hand while its statistics are gathered. Nothing else of `net` changes;
    if a forward pass raises, its statistics are what they were. So are those of a layer that no image reaches.

    Args:
        net: a sub-network (it is called with the images only).
        batches: images (N, channels, ...), or tuples that start with them, of training data at the resolution at
            which the network is used.
        rule: "reference" takes the mean of the batches' means and of their *biased* variances, weighted by the
            number of images, as Once-for-All does: the variance between batches is lost. "population" passes all
            images as one batch, so that the result does not depend on the batch size; it needs the memory for that.
    """
    check_choice("calibration rule", rule, ("reference", "population"))
    images = [batch if isinstance(batch, Tensor) else batch[0] for batch in batches]
    if not images:
        raise UserError("calibration got no images; give at least one batch of training images.")
    images = [torch.cat(images)] if rule == "population" else images
    layers = [module for module in net.modules() if isinstance(module, ElasticBatchNorm)]
    before = [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]
    settings = [(layer.momentum, layer.batch_statistics) for layer in layers]
    sums = [(torch.zeros_like(layer.running_mean), torch.zeros_like(layer.running_var)) for layer in layers]
    positions: dict[nn.Module, int] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda m, args: positions.__setitem__(m, _positions(args[0])))
        for layer in layers
    ]
    modes = [(module, module.training) for module in net.modules()]
    done = False
    try:
        net.eval()
        for layer in layers:
            layer.training, layer.momentum, layer.batch_statistics = True, 1.0, False  # statistics become the batch's
            layer.running_mean.zero_()  # what was not finite would stay so
            layer.running_var.zero_()
        total = sum(len(batch) for batch in images)
        with torch.no_grad():
            for batch in images:
                net(batch)
                for layer, (mean, var) in zip(layers, sums, strict=True):
                    share, count = len(batch) / total, positions.get(layer, 1)
                    mean += share * layer.running_mean
                    var += share * layer.running_var * ((count - 1) / count)  # torch stores the unbiased variance
        done = True
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
        for layer, (momentum, batch_statistics) in zip(layers, settings, strict=True):
            layer.momentum, layer.batch_statistics = momentum, batch_statistics
        for layer, (mean, var), (old_mean, old_var) in zip(layers, sums, before, strict=True):
            estimated = done and layer in positions
            layer.running_mean.copy_(mean if estimated else old_mean)
            layer.running_var.copy_(var if estimated else old_var)
    return net


def _positions(x: Tensor) -> int:
    """Number of values of each channel."""
    count = x.numel() // x.shape[1]
    if count < 2:
        raise UserError("calibration met a single value in a channel: give batches of at least two images.")
    return count
