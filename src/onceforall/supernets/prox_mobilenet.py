"""ProX's elastic MobileNet (ICIP 2022), for images of any number of channels.

Feature maps for an input of 224 pixels at width multiplier 1; depth is 1 to 3 blocks a stage:

    part      sound (default)                                 published                             width  side
    stem      conv 3x3, normalisation, ReLU                   elastic block on the image            16     224
    stage 1   inverted residuals, the first with stride 2     maximum of 2x2, then blocks           32     112
    stage 2   same                                            same                                  64     56
    stage 3   same                                            same                                  128    28
    stage 4   same                                            same                                  256    14
    stage 5   same                                            same                                  512    7
    head      mean, linear, ReLU, linear                      same                                  64, classes

The published block activates its projection and the sum with its zero-padded input, and normalises once, at its end.
"""

from collections.abc import Iterator
from typing import Any, final

from torch import Tensor, nn
from torch.nn import functional as F

from onceforall.architecture import Architecture, Block
from onceforall.errors import UserError, check_choice
from onceforall.layers.blocks import ConvNorm, InvertedResidual, PathModule, Shape, parts
from onceforall.layers.channels import ChannelGroup, ChannelSlice
from onceforall.layers.elastic import (
    Cost,
    ElasticBatchNorm,
    ElasticConv,
    ElasticLinear,
    batch_norm_cost,
    channels_last,
    make_divisible,
)
from onceforall.layers.kernels import Frozen
from onceforall.search_space import BlockChoices, SearchSpace
from onceforall.supernets.supernet import Freeze, Outputs, Supernet

__all__ = ["ProXMobileNet"]

LAYOUTS = ("sound", "published")
STEM_WIDTH, WIDTHS, HEAD_WIDTH = 16, (32, 64, 128, 256, 512), 64


@final
class PublishedBlock(PathModule):
    """The block of the paper's code: expansion, depthwise and projection without normalisation, each with ReLU.

    The input, with zero channels before and behind it where the block is wider, is added; ReLU and one normalisation
    follow. Hidden width is input width times the expansion ratio.
    """

    def __init__(self, in_channels: int, out_channels: int, choices: BlockChoices, kernel_rule: str) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.ratios = in_channels, out_channels, choices.expand_ratios
        hidden = self.hidden(max(self.ratios))
        self.expand = ElasticConv(in_channels, hidden)
        sizes = choices.kernel_sizes
        self.depthwise = ElasticConv(hidden, hidden, sizes, depthwise=True, kernel_rule=kernel_rule)
        self.project = ElasticConv(hidden, out_channels)
        self.norm = ElasticBatchNorm(out_channels)

    def hidden(self, expand_ratio: float | None) -> int:
        """Hidden width for an expansion ratio."""
        assert expand_ratio is not None
        return round(self.in_channels * expand_ratio)

    def forward(self, x: Tensor, block: Block, frozen: Frozen = False) -> Tensor:
        """(N, in, H, W) to (N, out, H, W)."""
        y = F.relu(self.expand(x, self.hidden(block.expand_ratio), frozen=frozen))
        y = F.relu(self.depthwise(y, kernel_size=block.kernel_size, frozen=frozen))
        y = F.relu(self.project(y, frozen=frozen))
        surplus = self.out_channels - self.in_channels
        x = F.pad(x, (0, 0, 0, 0, surplus // 2, surplus - surplus // 2)) if surplus else x
        return self.norm(F.relu(y + x), frozen)

    def cost(self, shape: Shape, block: Block) -> tuple[Cost, Shape]:
        hidden = self.hidden(block.expand_ratio)
        expand, _ = self.expand.cost(shape, self.in_channels, hidden, 1)
        depthwise, _ = self.depthwise.cost(shape, hidden, hidden, block.kernel_size or 1)
        project, _ = self.project.cost(shape, hidden, self.out_channels, 1)
        return expand + depthwise + project + batch_norm_cost(self.out_channels), shape

    def channel_groups(self, name: str) -> Iterator[ChannelGroup]:
        """The hidden width."""
        project = ChannelSlice(self.project, "in")
        slices = (ChannelSlice(self.expand, "out"), ChannelSlice(self.depthwise, "out"), project)
        sizes = {ratio: self.hidden(ratio) for ratio in self.ratios}
        yield ChannelGroup(f"{name}.expand_ratio", sizes, slices, project)


@final
class ProXMobileNet(Supernet):
    """ProX's MobileNet with elastic depth, expansion, kernel size and resolution.

    Args:
        space: choices of its five stages, and of the stem in the published layout.
        num_classes: number of classes.
        in_channels: channels of the images.
        width_mult: multiplies every width of the table above; results are rounded to multiples of 8.
        layout: "sound" or "published".
        kernel_rule: how smaller kernels are made; see `layers.kernels`.
    """

    def __init__(
        self,
        space: SearchSpace,
        num_classes: int = 4,
        in_channels: int = 1,
        width_mult: float = 1.0,
        layout: str = "sound",
        kernel_rule: str = "rings",
    ) -> None:
        options: dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels, "width_mult": width_mult}
        super().__init__(space, options | {"layout": layout, "kernel_rule": kernel_rule})
        check_choice("layout", layout, LAYOUTS)
        self.published = layout == "published"
        if self.published:
            self.changed_by_growth = ("depths",)  # a new block normalises what passes it
        if len(space.stages) != len(WIDTHS) or len(space.exits) > 1 or space.widths or space.head:
            raise UserError("prox_mobilenet has five stages and one exit; no elastic stage widths and no elastic head.")
        if (space.stem is not None) != self.published:
            raise UserError(f"prox_mobilenet's {layout} layout has {'an' if self.published else 'no'} elastic stem.")
        width = make_divisible(STEM_WIDTH * width_mult)
        if space.stem is None:
            self.stem: nn.Module = ConvNorm(ElasticConv(in_channels, width, (3,)), "relu")
        else:
            self.stem = PublishedBlock(in_channels, width, space.stem, kernel_rule)
        self.stages = nn.ModuleList()
        for base, choices in zip(WIDTHS, space.stages, strict=True):
            out, stride, stage = make_divisible(base * width_mult), 2, nn.ModuleList()
            for block in choices.blocks:
                stage.append(
                    PublishedBlock(width, out, block, kernel_rule)
                    if self.published
                    else InvertedResidual(width, out, block, stride, kernel_rule=kernel_rule)
                )
                width, stride = out, 1
            self.stages.append(stage)
        hidden = make_divisible(HEAD_WIDTH * width_mult)
        self.head = nn.ModuleList([ElasticLinear(width, hidden), ElasticLinear(hidden, num_classes)])

    def run(self, x: Tensor, architecture: Architecture, freeze: Freeze) -> Outputs:
        if isinstance(self.stem, PublishedBlock):
            assert architecture.stem is not None
            x = self.stem(x, architecture.stem, freeze.part(freeze.stem))
        else:
            x = self.stem(x, frozen=freeze.stem)
        x = channels_last(x)
        for blocks, stage in zip(self._blocks(), architecture.stages, strict=True):
            x = F.max_pool2d(x, 2, ceil_mode=True) if self.published else x
            for module, block, frozen in zip(blocks, stage.blocks, freeze.blocks(stage), strict=False):
                x = module(x, block, frozen)
        mix, classify = parts(self.head, ElasticLinear)
        return classify(F.relu(mix(x.mean((2, 3)), frozen=freeze.head)), frozen=freeze.head)

    def measure(self, architecture: Architecture) -> Cost:
        size = architecture.resolution
        shape = (size, size) if isinstance(size, int) else size
        if isinstance(self.stem, ConvNorm):
            total, shape = self.stem.cost(shape, *self.stem.conv.sizes)
        else:
            assert isinstance(self.stem, PublishedBlock) and architecture.stem is not None
            total, shape = self.stem.cost(shape, architecture.stem)
        for blocks, stage in zip(self._blocks(), architecture.stages, strict=True):
            shape = tuple(-(-side // 2) for side in shape) if self.published else shape
            for module, block in zip(blocks, stage.blocks, strict=False):
                cost, shape = module.cost(shape, block)
                total += cost
        return sum((layer.cost(*layer.sizes) for layer in parts(self.head, ElasticLinear)), total)

    def channel_groups(self) -> Iterator[ChannelGroup]:
        if isinstance(self.stem, PublishedBlock):
            yield from self.stem.channel_groups("stem")
        for i, blocks in enumerate(self._blocks()):
            for j, module in enumerate(blocks):
                yield from module.channel_groups(f"stages.{i}.blocks.{j}")

    def _blocks(self) -> list[list[PathModule]]:
        """The blocks of each stage."""
        return [parts(stage, PathModule) for stage in self.stages]
