"""A network for other classes: all its weights but those of its outputs."""

from typing import TypeVar

import torch

from onceforall.supernets.supernet import Supernet

__all__ = ["with_classes"]

Network = TypeVar("Network", bound=Supernet)


def with_classes(network: Network, num_classes: int, seed: int = 0) -> Network:
    """A network of its own like `network` with outputs for `num_classes`, drawn as `initialise(seed)` draws them.

    Of the outputs are the tensors whose shapes depend on the number of classes, of all exits; every other tensor is
    taken over.
    """
    options = {**network.options, "num_classes": num_classes}
    made = type(network)(network.space, **options).initialise(seed).to(next(network.parameters()))
    with torch.device("meta"):
        other = type(network)(network.space, **{**options, "num_classes": num_classes + 1}).state_dict()
    own = made.state_dict()
    kept = {name: tensor for name, tensor in network.state_dict().items() if own[name].shape == other[name].shape}
    made.load_state_dict(own | kept)
    return made.train(network.training)
