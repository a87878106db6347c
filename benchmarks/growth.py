"""What has to be zero where a stage grows deeper, so that the network stays what it was and the new blocks learn?

    python benchmarks/growth.py

A network with one block in each stage learns digits; then it gets a second one, which starts as the identity because
either the scale of its last normalisation is zero, or the weight of its last convolution, or not at all. Loss and
accuracy are of validation images, normalised by the batch, after some steps of training on.
"""

import numpy as np
import torch
from common import begin, finish, make_parser, say
from torch import Tensor
from torch.nn import functional as F

from onceforall.data import load_data
from onceforall.layers.blocks import InvertedResidual
from onceforall.supernets import Supernet, create_supernet

ZERO = ("normalisation", "convolution", "nothing")
OPTIMIZERS = {
    "sgd": lambda net: torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, nesterov=True),
    "adam": lambda net: torch.optim.Adam(net.parameters(), 1e-3),
}


def steps(net: Supernet, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, order: list[Tensor]) -> None:
    """Train the largest sub-network, one step for each list of images."""
    for batch in order:
        optimizer.zero_grad()
        F.cross_entropy(net.train()(images[batch], net.space.largest()), labels[batch]).backward()
        optimizer.step()


@torch.no_grad()
def judge(net: Supernet, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Loss and accuracy of the largest sub-network."""
    outputs = net.train()(images, net.space.largest())
    return F.cross_entropy(outputs, labels).item(), (outputs.argmax(1) == labels).float().mean().item()


def main() -> None:
    """Print loss and accuracy after some steps for each choice."""
    arguments = make_parser(__doc__).parse_args()
    torch.set_num_threads(1)
    report = begin()
    data, numbers = load_data(max_resolution=32), {}
    [(images, labels)] = data.batches("train", 32, 1 << 20)
    [validation] = data.batches("validation", 32, 1 << 20)
    rng = np.random.default_rng(0)
    order = [torch.from_numpy(rng.permutation(len(images))[:64]) for _ in range(6 if arguments.smoke else 200)]
    before, after = (3, (0, 1, 3)) if arguments.smoke else (150, (0, 1, 3, 10, 50))
    options = {"num_classes": 10, "in_channels": 1, "width_mult": 0.35, "dropout": 0.0, "resolutions": (32,)}
    old = create_supernet("ofa_mbv3", **options, depths=(1,), expand_ratios=(3,), kernel_sizes=(3,))
    steps(old, OPTIMIZERS["sgd"](old), images, labels, order[:before])
    say(f"{'optimiser':10} {'zero':14} {'gradient':>8}  " + "  ".join(f"{f'after {n}':>13}" for n in after))
    for name, make in OPTIMIZERS.items():
        for zero in ZERO:
            net = old.grow(old.space.extend(depths=(1, 2)))
            blocks = [net.get_submodule(f"stages.{i}.1.paths.main") for i in range(5)]
            with torch.no_grad():
                for block in blocks:
                    assert isinstance(block, InvertedResidual)
                    if zero != "normalisation":
                        block.project.norm.weight.fill_(1.0)
                    if zero == "convolution":
                        block.project.conv.weight.zero_()
            optimizer, row, done = make(net), [], 0
            F.cross_entropy(net.train()(images[:64], net.space.largest()), labels[:64]).backward()
            parameters = [p for block in blocks for p in block.project.parameters()]
            gradient = max(float(p.grad.norm()) for p in parameters if p.grad is not None)
            for count in after:
                steps(net, optimizer, images, labels, order[before + done : before + count])
                done = count
                row.append(judge(net, *validation))
            numbers[f"{name}, {zero}"] = {"gradient": gradient, "after": dict(zip(map(str, after), row, strict=True))}
            say(
                f"{name:10} {zero:14} {gradient:8.3g}  " + "  ".join(f"{loss:6.3f} {right:6.3f}" for loss, right in row)
            )
    finish(report, numbers, arguments.out)


if __name__ == "__main__":
    main()
