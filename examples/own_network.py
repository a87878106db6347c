"""An elastic network of your own, in one file: write the class, and training, search spaces, sorting and export follow.

    python examples/own_network.py

It is a plain convolutional network whose stages have elastic depth and whose blocks have elastic kernel and expansion.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import final

from torch import Tensor, nn

import onceforall as ofa
from onceforall.layers.blocks import ConvNorm, Exit, InvertedResidual
from onceforall.layers.channels import ChannelGroup
from onceforall.layers.elastic import Cost, ElasticConv, channels_last


@final
class TinyNet(ofa.Supernet):
    """Two stages of inverted residuals of 16 and 32 channels behind one convolution."""

    def __init__(self, space: ofa.SearchSpace, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__(space, {"num_classes": num_classes, "in_channels": in_channels})
        self.stem = ConvNorm(ElasticConv(in_channels, 16, (3,), stride=2), "relu")
        self.stages = nn.ModuleList()
        width = 16
        for stage, out in zip(space.stages, (16, 32), strict=True):
            blocks = nn.ModuleList()
            for choices in stage.blocks:
                blocks.append(InvertedResidual(width, out, choices, stride=1 if blocks else 2))
                width = out
            self.stages.append(blocks)
        self.exit = Exit(width, 64, 64, num_classes, dropout=0.1)

    def run(self, x: Tensor, architecture: ofa.Architecture, freeze: ofa.Freeze) -> Tensor:
        """The class scores."""
        x = channels_last(self.stem(x, frozen=freeze.stem))
        for blocks, stage in zip(self.stages, architecture.stages, strict=True):
            for module, block, frozen in zip(blocks, stage.blocks, freeze.blocks(stage), strict=False):
                x = module(x, block, frozen)
        return self.exit(x, freeze.head)

    def measure(self, architecture: ofa.Architecture) -> Cost:
        """The same path, counted."""
        total, shape = self.stem.cost((architecture.resolution,) * 2, *self.stem.conv.sizes)
        for blocks, stage in zip(self.stages, architecture.stages, strict=True):
            for module, block in zip(blocks, stage.blocks, strict=False):
                cost, shape = module.cost(shape, block)
                total += cost
        return total + self.exit.cost(shape)

    def channel_groups(self) -> Iterator[ChannelGroup]:
        """The hidden widths of all blocks."""
        for i, blocks in enumerate(self.stages):
            for j, module in enumerate(blocks):
                yield from module.channel_groups(f"stages.{i}.blocks.{j}")


def build(seed: int = 0) -> TinyNet:
    """The network, initialised, with 2 x 2 x (kernel, expansion) choices at two resolutions."""
    space = ofa.SearchSpace.build(2, resolutions=(16, 24), depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(2, 4))
    return TinyNet(space).initialise(seed)


def main(run_dir: Path = Path("runs/own-network"), epochs: int = 16) -> None:
    """Train it on digits by progressive shrinking and print what its sub-networks reach."""
    data = ofa.load_data(max_resolution=24)
    task = ofa.classification()
    phases = ofa.progressive_shrinking(build().space, total_epochs=epochs)
    supernet = ofa.train(build(), phases, task, data, run_dir=run_dir)
    for architecture in (supernet.space.largest(), supernet.space.smallest()):
        [result] = ofa.evaluate(supernet, [architecture], task, data)
        print(f"{result.metrics['accuracy']:.3f}  {result.cost.macs:>8} multiply-adds  {architecture}")


if __name__ == "__main__":
    main()
