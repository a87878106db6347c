"""OFA-MobileNetV3 and its variants of OFAv2 once more, with plain functions on the tensors of a state."""

import torch
from torch import Tensor
from torch.nn import functional as F

from onceforall.architecture import Architecture, Block

State = dict[str, Tensor]

STAGES = [  # width, stride, activation, squeeze-excitation
    (24, 2, F.relu, False),
    (40, 2, F.relu, True),
    (80, 2, F.hardswish, False),
    (112, 1, F.hardswish, True),
    (160, 2, F.hardswish, True),
]


def divisible(value: float) -> int:
    """The multiple of 8 nearest to it, at least 8 and at least nine tenths of it."""
    n = max(8, int(value + 4) // 8 * 8)
    return n + 8 if n < 0.9 * value else n


def plain(
    state: State, x: Tensor, architecture: Architecture, width_mult: float = 1.0, dense: bool = False
) -> list[Tensor]:
    """The outputs of the exits of `architecture`, from the supernet's tensors by name, in evaluation mode."""
    x = F.hardswish(norm(state, "stem.0.norm", F.conv2d(x, state["stem.0.conv.weight"], None, 2, 1)))
    y = F.conv2d(x, state["stem.1.depthwise.conv.weight"], None, 1, 1, 1, x.shape[1])
    y = F.relu(norm(state, "stem.1.depthwise.norm", y))
    x = x + norm(state, "stem.1.project.norm", F.conv2d(y, state["stem.1.project.conv.weight"]))
    outputs = []
    for i, (stage, row) in enumerate(zip(architecture.stages, STAGES, strict=False)):
        base, stride, activation, squeeze = row
        before = []
        for j, block in enumerate(stage.blocks):
            step = stride if j == 0 else 1
            x = level(state, f"stages.{i}.{j}.paths", x, block, step, activation, squeeze)
            assert x.shape[1] == divisible(base * width_mult)
            before.append(x)
            if dense and j == 2:
                x = before[2] + before[0]
            if dense and j == 3:
                x = before[3] + before[1] + before[0]
        if i + 1 in architecture.exits:
            outputs.append(tail(state, f"exits.{i + 1}", x))
    return outputs


def norm(state: State, name: str, x: Tensor) -> Tensor:
    """Normalisation by the running statistics of the leading channels."""
    names = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(state[f"{name}.{key}"][: x.shape[1]] for key in names))


def level(state: State, name: str, x: Tensor, block: Block, stride: int, activation, squeeze: bool) -> Tensor:
    """The sum of the paths that run."""
    total = torch.zeros(())
    if "main" in block.paths:
        y = inverted_residual(state, f"{name}.main", x, block, stride, activation, squeeze)
        total = total + (x + y if x.shape == y.shape and stride == 1 else y)
    if "pointwise" in block.paths:
        y = F.conv2d(x, state[f"{name}.pointwise.unit.conv.weight"], None, stride)
        total = total + activation(norm(state, f"{name}.pointwise.unit.norm", y))
    if "norm_act" in block.paths:
        y = x
        if stride == 2:  # the maximum of each 2 x 2, of what there is of it at the far edges
            y = F.pad(y, (0, y.shape[3] % 2, 0, y.shape[2] % 2), value=float("-inf"))
            y = y.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
        reshape = f"{name}.norm_act.reshape"
        if f"{reshape}.weight" in state:
            y = F.conv2d(y, state[f"{reshape}.weight"], state[f"{reshape}.bias"])
        total = total + activation(norm(state, f"{name}.norm_act.norm", y))
    return total


def inverted_residual(state: State, name: str, x: Tensor, block: Block, stride: int, activation, squeeze: bool):
    """Expansion, depthwise convolution, squeeze-excitation and projection, without the identity."""
    hidden = divisible(round(x.shape[1] * block.expand_ratio))
    y = activation(norm(state, f"{name}.expand.norm", F.conv2d(x, state[f"{name}.expand.conv.weight"][:hidden])))
    weight = kernel(state, f"{name}.depthwise.conv", hidden, block.kernel_size)
    y = F.conv2d(y, weight, None, stride, block.kernel_size // 2, 1, hidden)
    y = activation(norm(state, f"{name}.depthwise.norm", y))
    if squeeze:
        units, z = divisible(hidden // 4), y.mean((2, 3))
        reduce, expand = (f"{name}.squeeze.{part}" for part in ("reduce", "expand"))
        z = F.relu(F.linear(z, state[f"{reduce}.weight"][:units, :hidden], state[f"{reduce}.bias"][:units]))
        z = F.linear(z, state[f"{expand}.weight"][:hidden, :units], state[f"{expand}.bias"][:hidden])
        y = y * (F.relu6(z + 3) / 6)[:, :, None, None]
    return norm(state, f"{name}.project.norm", F.conv2d(y, state[f"{name}.project.conv.weight"][:, :hidden]))


def kernel(state: State, name: str, channels: int, size: int) -> Tensor:
    """The depthwise kernel of `size`: from 7 through the matrices of 5 and 3."""
    weight, have = state[f"{name}.weight"][:channels], 7
    for smaller in (5, 3):
        if size <= smaller:
            crop = weight[:, :, 1:-1, 1:-1].reshape(channels, smaller**2)
            matrix = state[f"{name}.kernel_rule.matrices.{have}to{smaller}"]
            weight = (crop @ matrix.T).view(-1, 1, smaller, smaller)
            have = smaller
    return weight


def tail(state: State, name: str, x: Tensor) -> Tensor:
    """An exit."""
    x = F.hardswish(norm(state, f"{name}.expand.norm", F.conv2d(x, state[f"{name}.expand.conv.weight"])))
    x = F.hardswish(F.linear(x.mean((2, 3)), state[f"{name}.mix.weight"]))
    return F.linear(x, state[f"{name}.classify.weight"], state[f"{name}.classify.bias"])
