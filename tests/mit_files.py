"""Weights as Once-for-All's authors publish them: names and shapes by their rules, and a plain forward of them.

Nothing here comes from the package. The counts that tests hold against it are those of the published code: 475 entries
of a supernet, 435 of the largest network, and their parameters.
"""

import torch
from torch.nn import functional as F

WIDTHS = {
    1.0: (16, (24, 40, 80, 112, 160), 960, 1280),
    1.2: (24, (32, 48, 96, 136, 192), 1152, 1536),
    0.25: (8, (8, 16, 24, 32, 40), 240, 320),
}
SQUEEZED, SMOOTH, STRIDES = (False, True, False, True, True), (False, False, True, True, True), (2, 2, 2, 1, 2)
BN = ("weight", "bias", "running_mean", "running_var")


def eighths(value):
    """A number of channels, rounded to a multiple of 8, never by more than a tenth down."""
    rounded = max(8, (int(value) + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def shapes(width=1.0, classes=1000, blocks=None):
    """Name -> shape. `blocks` lists (kernel, expansion) of each block of each stage; None is the elastic supernet."""
    first, stages, features, mixed = WIDTHS[width]
    elastic = blocks is None
    plan = [[(7, 6)] * 4] * 5 if elastic else blocks
    out = {}

    def norm(name, channels):
        out.update({f"{name}.{entry}": (channels,) for entry in BN})
        out[f"{name}.num_batches_tracked"] = ()

    out["first_conv.conv.weight"] = (first, 3, 3, 3)
    norm("first_conv.bn", first)
    out["blocks.0.conv.depth_conv.conv.weight"] = (first, 1, 3, 3)
    norm("blocks.0.conv.depth_conv.bn", first)
    out["blocks.0.conv.point_linear.conv.weight"] = (first, first, 1, 1)
    norm("blocks.0.conv.point_linear.bn", first)
    conv, bn = ("conv.conv", "bn.bn") if elastic else ("conv", "bn")
    number, inputs = 1, first
    for stage, outputs, squeezed in zip(plan, stages, SQUEEZED, strict=True):
        for kernel, ratio in stage:
            hidden, at = eighths(round(inputs * ratio)), f"blocks.{number}.conv"
            out[f"{at}.inverted_bottleneck.{conv}.weight"] = (hidden, inputs, 1, 1)
            norm(f"{at}.inverted_bottleneck.{bn}", hidden)
            if elastic:
                out[f"{at}.depth_conv.conv.5to3_matrix"] = (9, 9)
                out[f"{at}.depth_conv.conv.7to5_matrix"] = (25, 25)
            out[f"{at}.depth_conv.{conv}.weight"] = (hidden, 1, kernel, kernel)
            norm(f"{at}.depth_conv.{bn}", hidden)
            if squeezed:
                small = eighths(hidden // 4)
                out[f"{at}.depth_conv.se.fc.reduce.weight"] = (small, hidden, 1, 1)
                out[f"{at}.depth_conv.se.fc.reduce.bias"] = (small,)
                out[f"{at}.depth_conv.se.fc.expand.weight"] = (hidden, small, 1, 1)
                out[f"{at}.depth_conv.se.fc.expand.bias"] = (hidden,)
            out[f"{at}.point_linear.{conv}.weight"] = (outputs, hidden, 1, 1)
            norm(f"{at}.point_linear.{bn}", outputs)
            number, inputs = number + 1, outputs
    out["final_expand_layer.conv.weight"] = (features, inputs, 1, 1)
    norm("final_expand_layer.bn", features)
    out["feature_mix_layer.conv.weight"] = (mixed, features, 1, 1)
    out["classifier.linear.weight"], out["classifier.linear.bias"] = (classes, mixed), (classes,)
    return out


def random_state(named, seed=0):
    """Random tensors for the names; matrices near the identity, so that signals neither vanish nor grow."""
    generator = torch.Generator().manual_seed(seed)

    def one(name, shape):
        if name.endswith("num_batches_tracked"):
            return torch.tensor(0)
        noise = torch.randn(shape, generator=generator)
        if name.endswith("_matrix"):
            return torch.eye(shape[0]) + 0.1 * noise
        if name.endswith("running_var"):
            return noise.abs() + 0.5
        if "bn" in name and name.endswith("weight"):
            return noise.abs() + 0.5
        return noise / max(1, torch.Size(shape[1:]).numel()) ** 0.5 if len(shape) > 1 else 0.3 * noise

    return {name: one(name, shape) for name, shape in named.items()}


def published(state):
    """The same under the names of published files."""
    return {
        name.replace(".conv.", ".mobile_inverted_conv.", 1) if name.startswith("blocks.") else name: tensor
        for name, tensor in state.items()
    }


def forward(state, x, blocks):
    """Outputs of an elastic supernet in evaluation mode for the (kernel, expansion) of `blocks`, stage by stage."""

    def norm(x, name):
        scale, shift, mean, var = (state[f"{name}.{entry}"][: x.shape[1], None, None] for entry in BN)
        return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift

    def hard_swish(x):
        return x * torch.clamp(x + 3, 0, 6) / 6

    def kernel_of(name, kernel, channels):
        weight = state[f"{name}.conv.conv.weight"][:channels]
        for large, small in ((7, 5), (5, 3)):
            if small >= kernel:
                flat = weight[:, :, 1:-1, 1:-1].reshape(channels, small * small)
                matrix = state[f"{name}.conv.{large}to{small}_matrix"]
                weight = torch.einsum("ab,cb->ca", matrix, flat).reshape(channels, 1, small, small)
        return weight

    x = hard_swish(norm(F.conv2d(x, state["first_conv.conv.weight"], stride=2, padding=1), "first_conv.bn"))
    at = "blocks.0.conv"
    y = F.conv2d(x, state[f"{at}.depth_conv.conv.weight"], padding=1, groups=x.shape[1])
    y = F.conv2d(torch.relu(norm(y, f"{at}.depth_conv.bn")), state[f"{at}.point_linear.conv.weight"])
    x = x + norm(y, f"{at}.point_linear.bn")
    for number, stage in enumerate(blocks):
        act = hard_swish if SMOOTH[number] else torch.relu
        for position, (kernel, ratio) in enumerate(stage):
            at = f"blocks.{1 + 4 * number + position}.conv"
            hidden = eighths(round(x.shape[1] * ratio))
            y = F.conv2d(x, state[f"{at}.inverted_bottleneck.conv.conv.weight"][:hidden])
            y = act(norm(y, f"{at}.inverted_bottleneck.bn.bn"))
            weight = kernel_of(f"{at}.depth_conv", kernel, hidden)
            stride = STRIDES[number] if position == 0 else 1
            y = act(norm(F.conv2d(y, weight, None, stride, kernel // 2, 1, hidden), f"{at}.depth_conv.bn.bn"))
            if SQUEEZED[number]:
                small, fc = eighths(hidden // 4), f"{at}.depth_conv.se.fc"
                mean = y.mean((2, 3), keepdim=True)
                reduced = F.conv2d(
                    mean, state[f"{fc}.reduce.weight"][:small, :hidden], state[f"{fc}.reduce.bias"][:small]
                )
                weight, bias = state[f"{fc}.expand.weight"][:hidden, :small], state[f"{fc}.expand.bias"][:hidden]
                y = y * torch.clamp(F.conv2d(torch.relu(reduced), weight, bias) + 3, 0, 6) / 6
            y = F.conv2d(y, state[f"{at}.point_linear.conv.conv.weight"][:, :hidden])
            y = norm(y, f"{at}.point_linear.bn.bn")
            x = x + y if position > 0 else y
    x = hard_swish(norm(F.conv2d(x, state["final_expand_layer.conv.weight"]), "final_expand_layer.bn"))
    x = hard_swish(F.conv2d(x.mean((2, 3), keepdim=True), state["feature_mix_layer.conv.weight"]))
    return F.linear(x.flatten(1), state["classifier.linear.weight"], state["classifier.linear.bias"])
