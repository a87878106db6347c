"""The order in which an epoch passes the training images."""

import numpy as np
import torch

from onceforall.data.dataset import DataSet
from onceforall.training.options import RunOptions
from onceforall.training.phases import Phase
from onceforall.training.plan import steps_per_epoch
from onceforall.training.randomness import keyed_generator

__all__ = ["epoch_order"]


def epoch_order(data: DataSet, options: RunOptions, phase: Phase, epoch: int) -> list[np.ndarray]:
    """The batches of an epoch: a new order each time; images that fill no batch are left out of this epoch."""
    generator = keyed_generator(options.seed, phase.name, "order", epoch)
    count = data.count("train")
    if options.balance == "classes":
        weights = torch.from_numpy(data.train_weights("classes"))
        order = torch.multinomial(weights, count, replacement=True, generator=generator).numpy()
    else:
        order = torch.randperm(count, generator=generator).numpy()
    size = phase.batch_size
    return [order[i * size : (i + 1) * size] for i in range(steps_per_epoch(count, phase))]
