"""What a phase holds in memory while it trains."""

import torch

from onceforall.architecture import Architecture
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Freeze, Supernet
from onceforall.training.growing import without_weights
from onceforall.training.ledger import bytes_kept_for_backward
from onceforall.training.phases import Phase

__all__ = ["activation_bytes", "black_images", "state_bytes", "training_bytes"]

MOMENTS = {"sgd": 1, "adam": 2, "adamw": 2}
"""Numbers that an optimiser keeps for each parameter; gradient descent keeps none where its momentum is 0."""

PROBE_IMAGES = 8


def training_bytes(supernet: Supernet, phase: Phase, images: float) -> dict[str, int]:
    """Bytes of the parameters, of the optimiser's moments, and of what a pass keeps for the backward pass.

    `activation_bytes` is for the largest sub-network of the phase on `images` images. Gradients, which are not in it,
    take at most as much as the parameters.
    """
    kept = activation_bytes(supernet, phase.space.largest(exits="all"), phase.freeze) * images
    return state_bytes(supernet, phase) | {"activation_bytes": round(kept)}


def state_bytes(supernet: Supernet, phase: Phase) -> dict[str, int]:
    """Bytes of the parameters, and of the optimiser's moments where all parameters learn."""
    parameters = sum(parameter.nbytes for parameter in supernet.parameters())
    moments = MOMENTS[phase.optimizer] if phase.momentum or phase.optimizer != "sgd" else 0
    return {"parameter_bytes": parameters, "optimizer_bytes": moments * parameters}


def activation_bytes(supernet: Supernet, architecture: Architecture, freeze: Freeze | None = None) -> int:
    """Bytes that a sub-network keeps for the backward pass of one image, of the supernet's type.

    They are counted in a pass on the device "meta", so nothing is computed or allocated; the count is that of the CPU.
    """
    dtype = next(supernet.parameters()).dtype
    network = without_weights(supernet, SearchSpace.only(architecture)).to(dtype).train()
    with bytes_kept_for_backward(network.parameters()) as kept:
        network(black_images(network, PROBE_IMAGES), architecture, freeze)
    return kept[0] // PROBE_IMAGES


def black_images(network: Supernet, count: int) -> torch.Tensor:
    """`count` images for a sub-network, on its device and of its type."""
    side, first = network.space.resolutions[0], next(network.parameters())
    axes = (side,) * network.options.get("spatial_dims", 2) if isinstance(side, int) else side
    return torch.zeros(count, network.options["in_channels"], *axes, device=first.device, dtype=first.dtype)
