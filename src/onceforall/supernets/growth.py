"""Growing a network: what a larger one takes over from a smaller one, and what of it starts at zero.

Two rules make it compute the same before it is trained, in training and in evaluation mode:

- An output (channel) that a layer had keeps its weights and reads nothing that is new: its weights for new inputs and
  for the rim of a larger kernel are zero. So every channel that was there keeps its values, whatever the others do.
- A block that is new and adds its result to its input starts with the result zero.

The first holds for every elastic layer, the second for every block that names its `residual_output`. Only linear
outputs are set to zero: what is behind them learns from the first step on, and what is before them from the second.
"""

import torch
from torch import nn

from onceforall.choices import listed
from onceforall.errors import UserError
from onceforall.layers.blocks import PathModule, ResidualUnit
from onceforall.layers.elastic import ElasticConv, ElasticLayer
from onceforall.search_space import SearchSpace

__all__ = ["check_extension", "take_over"]


def check_extension(space: SearchSpace, larger: SearchSpace) -> None:
    """Raise `UserError`, naming what is missing, unless every architecture of `space` is one of `larger`."""
    before = dict(space.variables()) | {"exits": space.exits}
    after = dict(larger.variables()) | {"exits": larger.exits}
    for name, choices in before.items():
        missing = [choice for choice in choices if choice not in after.get(name, ())]
        if missing:
            raise UserError(
                f"{name} {listed(after.get(name, ()))}: a network grows into a space that keeps every present choice, "
                f"and {listed(missing)} is missing; make it with space.extend(...)."
            )
    places = {name.rpartition(".")[0] for name in before}
    for name in after:
        place = name.rpartition(".")[0]
        if name not in before and (place in places or not place.startswith("stages.")):
            raise UserError(f"{name} {listed(after[name])}: the network that is to grow has no such factor there.")


@torch.no_grad()
def take_over(net: nn.Module, old: nn.Module) -> None:
    """Give `net`, initialised, the weights and statistics of `old`, a network of the same class for a smaller space."""
    present = dict(old.named_modules())
    for name, module in net.named_modules():
        former = present.get(name)
        if isinstance(module, ElasticLayer) and isinstance(former, ElasticLayer):
            _inherit(module, former)
        elif isinstance(module, PathModule | ResidualUnit) and former is None and (last := module.residual_output()):
            for parameter in last.parameters():
                parameter.zero_()


def _inherit(layer: ElasticLayer, old: ElasticLayer) -> None:
    """Write the tensors of `old` to where `layer.tensors` finds them; what else its outputs read becomes zero.

    `tensors` selects entries of what a layer holds, so its transpose puts values back to their places: that is the
    gradient of a product of the two.
    """
    held = layer.axis("out")
    learns = [tensor.requires_grad for tensor, _ in held]
    with torch.enable_grad():
        for tensor, _ in held:
            tensor.requires_grad_()
        lent, values = layer.tensors(*old.sizes), old.tensors(*old.sizes)
        placed = torch.autograd.grad(
            [lent[name] for name in values],
            [tensor for tensor, _ in held],
            [values[name].detach() for name in values],
            materialize_grads=True,
        )
    first, axis = old.axis("out")[0]
    outputs = first.shape[axis]
    for (tensor, dim), learn, value in zip(held, learns, placed, strict=True):
        tensor.requires_grad_(learn).narrow(dim, 0, outputs).copy_(value.narrow(dim, 0, outputs))
    if isinstance(layer, ElasticConv) and isinstance(old, ElasticConv):
        layer.kernel_rule.adopt(old.kernel_rule)
