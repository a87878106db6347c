"""Several exits as one answer."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Outputs

__all__ = ["combine_exits", "exit_answer", "weights_of_exits"]


def combine_exits(outputs: Outputs, weights: Sequence[float] | None) -> Tensor:
    """One tensor from the outputs of several exits: their weighted sum, by default their mean."""
    if isinstance(outputs, Tensor):
        return outputs
    weights = weights or [1 / len(outputs)] * len(outputs)
    if len(weights) != len(outputs):
        raise UserError(f"exit weights {tuple(weights)}: the network answers with {len(outputs)} exits.")
    return sum(
        (weight * output for weight, output in zip(weights[1:], outputs[1:], strict=True)), weights[0] * outputs[0]
    )


def weights_of_exits(space: SearchSpace, weights: Sequence[float] | None) -> dict[int, float] | None:
    """The weight of each exit of `space` by its number; None stands for equal weights."""
    if weights is None:
        return None
    if len(weights) != len(space.exits):
        raise UserError(f"exit weights {tuple(weights)}: give one for each exit of the network, {len(space.exits)}.")
    return dict(zip(space.exits, weights, strict=True))


def exit_answer(
    outputs: Mapping[int, Tensor], architecture: Architecture, weights: Mapping[int, float] | None
) -> Tensor:
    """What `architecture` answers, from the raw outputs of exits by their numbers.

    One exit answers with its output. Several are summed with their weights, which are not scaled to sum to 1 where
    only some of the exits answer; without weights their mean is taken.
    """
    chosen = tuple(outputs[number] for number in architecture.exits)
    if len(chosen) == 1:
        return chosen[0]
    return combine_exits(chosen, None if weights is None else [weights[number] for number in architecture.exits])
