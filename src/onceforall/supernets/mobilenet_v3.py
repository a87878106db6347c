"""OFA-MobileNetV3 (Once-for-All, ICLR 2020; OFAv2, 2023, Table I).

Feature maps for an input of 224 (or 64) pixels at width multiplier 1:

    part      operator                                        channels  stride  side  activation  squeeze-excitation
    stem      conv 3x3, then inverted residual k3 unexpanded  16        2       112 (32)  h-swish / ReLU
    stage 1   inverted residuals                              24        2       56 (16)   ReLU
    stage 2   inverted residuals                              40        2       28 (8)    ReLU        yes
    stage 3   inverted residuals                              80        2       14 (4)    h-swish
    stage 4   inverted residuals                              112       1       14 (4)    h-swish     yes
    stage 5   inverted residuals                              160       2       7 (2)     h-swish     yes
    exit      conv 1x1, mean, linear, dropout, linear         960, 1280, classes      h-swish

The seven further networks of OFAv2 (sections III.A and III.B, Table II) are this one with more choices in its search
space and one flag. Parallel blocks: `space.paths` offers sets of paths beside the inverted residual. Early exits:
`space.exits` names stages with an exit of their own, of 6 and 8 times the stage's width. Dense skips: `dense`.
"""

from collections.abc import Iterator
from typing import Any, final

from torch import Tensor, nn

from onceforall.architecture import Architecture, Block, Stage
from onceforall.errors import UserError
from onceforall.layers.blocks import ConvNorm, Exit, InvertedResidual, Level, add_up, parts
from onceforall.layers.channels import ChannelGroup
from onceforall.layers.elastic import Cost, ElasticConv, channels_last, make_divisible
from onceforall.layers.paths import PathSite, build_level
from onceforall.search_space import BlockChoices, SearchSpace
from onceforall.supernets.supernet import Freeze, Outputs, Supernet

__all__ = ["OFAMobileNetV3"]

STEM_WIDTH = 16
#                width  stride  activation    squeeze-excitation
STAGES = (
    (24, 2, "relu", False),
    (40, 2, "relu", True),
    (80, 2, "hard_swish", False),
    (112, 1, "hard_swish", True),
    (160, 2, "hard_swish", True),
)
STEM_BLOCK = Block(kernel_size=3)


@final
class OFAMobileNetV3(Supernet):
    """OFA-MobileNetV3 with elastic kernel size, expansion, depth, resolution, level (paths) and height (exits).

    Args:
        space: choices of its five stages; their paths are names of `layers.paths.PATHS`.
        num_classes: number of classes.
        in_channels: channels of the images.
        width_mult: multiplies every width of the table above; results are rounded to multiples of 8.
        dropout: rate before the last linear layer.
        kernel_rule: how smaller kernels are made; see `layers.kernels`.
        dense: add to the output of each level of a stage, from the third, those of all earlier ones but the last.
    """

    def __init__(
        self,
        space: SearchSpace,
        num_classes: int = 1000,
        in_channels: int = 3,
        width_mult: float = 1.0,
        dropout: float = 0.1,
        kernel_rule: str = "transform",
        dense: bool = False,
    ) -> None:
        options: dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels, "width_mult": width_mult}
        super().__init__(space, options | {"dropout": dropout, "kernel_rule": kernel_rule, "dense": dense})
        if len(space.stages) > len(STAGES):
            raise UserError(f"OFA-MobileNetV3 has {len(STAGES)} stages; the search space has {len(space.stages)}.")
        if space.widths or space.stem or space.head:
            raise UserError("OFA-MobileNetV3 has no elastic stage widths, stem or head, and the search space has.")
        self.dense = dense
        self.changed_by_growth = ("depths",) if dense else ()
        stem_width = make_divisible(STEM_WIDTH * width_mult)
        self.stem = nn.ModuleList(
            [
                ConvNorm(ElasticConv(in_channels, stem_width, (3,), stride=2), "hard_swish"),
                InvertedResidual(stem_width, stem_width, BlockChoices((3,)), activation="relu"),
            ]
        )
        self.stages = nn.ModuleList()
        self.exits = nn.ModuleDict()
        width = stem_width
        for number, (choices, row) in enumerate(zip(space.stages, STAGES, strict=False), start=1):
            base, stride, activation, squeeze = row
            out = make_divisible(base * width_mult)
            stage = nn.ModuleList()
            for block in choices.blocks:
                stage.append(build_level(PathSite(width, out, block, stride, activation, squeeze, kernel_rule)))
                width, stride = out, 1
            self.stages.append(stage)
            if number in space.exits:
                # 6 and 8 times the stage's width; after the last stage 960 and 1280 times the multiplier, rounded
                scaled = width if number < len(STAGES) else base * width_mult
                features, mixed = make_divisible(6 * scaled), make_divisible(8 * scaled)
                self.exits[str(number)] = Exit(width, features, mixed, num_classes, dropout)

    def run(self, x: Tensor, architecture: Architecture, freeze: Freeze) -> Outputs:
        x = self.run_stem(x, freeze)
        outputs = []
        for number, stage in enumerate(architecture.stages, start=1):
            x = self.run_stage(x, number, stage, freeze)
            if number in architecture.exits:
                outputs.append(self.run_exit(x, number, freeze))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run_stem(self, x: Tensor, freeze: Freeze) -> Tensor:
        """What the first stage reads, of images."""
        conv, unexpanded = self._stem()
        return unexpanded(channels_last(conv(x, frozen=freeze.stem)), STEM_BLOCK, freeze.stem)

    def run_stage(self, x: Tensor, number: int, stage: Stage, freeze: Freeze) -> Tensor:
        """What stage `number`, counted from 1, gives for `x`, with the blocks of `stage`."""
        outs: list[Tensor] = []  # of the stage's levels, before anything is added to them
        for level, block, frozen in zip(
            parts(self.stages[number - 1], Level), stage.blocks, freeze.blocks(stage), strict=False
        ):
            outs.append(level(x, block, frozen))
            # the one before the last is in the last already, by its identity (OFAv2, section III.A)
            x = add_up([outs[-1], *outs[:-2]]) if self.dense else outs[-1]
        return x

    def run_exit(self, x: Tensor, number: int, freeze: Freeze) -> Tensor:
        """The logits of the exit behind stage `number`, of the stage's output."""
        return self._exit(number)(x, freeze.head)

    def measure(self, architecture: Architecture) -> Cost:
        size = architecture.resolution
        shape = (size, size) if isinstance(size, int) else size
        conv, unexpanded = self._stem()
        total, shape = conv.cost(shape, *conv.conv.sizes)
        cost, shape = unexpanded.cost(shape, STEM_BLOCK)
        total += cost
        for number, (levels, stage) in enumerate(zip(self._levels(), architecture.stages, strict=False), start=1):
            for level, block in zip(levels, stage.blocks, strict=False):
                cost, shape = level.cost(shape, block)
                total += cost
            if number in architecture.exits:
                total += self._exit(number).cost(shape)
        return total

    def channel_groups(self) -> Iterator[ChannelGroup]:
        for i, levels in enumerate(self._levels()):
            for j, level in enumerate(levels):
                yield from level.channel_groups(f"stages.{i}.blocks.{j}")

    def _stem(self) -> tuple[ConvNorm, InvertedResidual]:
        conv, unexpanded = self.stem
        assert isinstance(conv, ConvNorm) and isinstance(unexpanded, InvertedResidual)
        return conv, unexpanded

    def _levels(self) -> list[list[Level]]:
        """The levels of each stage."""
        return [parts(stage, Level) for stage in self.stages]

    def _exit(self, number: int) -> Exit:
        """The exit behind stage `number`, counted from 1."""
        module = self.exits[str(number)]
        assert isinstance(module, Exit)
        return module
