"""ProX's elastic U-Net (ICIP 2022) for volumes and images, with any number of poolings, inputs and classes.

Feature maps of three poolings for a volume of (48, 64, 48) at base width 16 and width multiplier 1. Stages of an
architecture are the sections, in the order of this table; depth is the number of convolutions of a section:

    section        reads                        full width  size
    encoder 1      the volume                   16          (48, 64, 48)
    encoder 2      encoder 1, pooled            32          (24, 32, 24)
    encoder 3      encoder 2, pooled            64          (12, 16, 12)
    bottleneck     encoder 3, pooled            128         (6, 8, 6)
    decoder 3      encoder 3 | bottleneck       64          (12, 16, 12)
    decoder 2      encoder 2 | decoder 3        32          (24, 32, 24)
    decoder 1      encoder 1 | decoder 2        16          (48, 64, 48)
    head           decoder 1                    classes     (48, 64, 48)

Pooling takes the maximum of 2 positions on each axis, up-sampling repeats the nearest one. `a | b` stands for the
channels of a before those of b, up-sampled. A section that is narrower keeps the leading channels of each of the two.

    part                  sound (default)                               published
    first convolution     normalisation, ReLU                           ReLU, normalisation
    further ones          x + conv(relu(norm(x)))                       none: depth is 1
    head                  1x1, or of elastic kernel size, with bias     elastic kernel size, without bias

Both return what the head computes. The published code clamps it to 0..1, where nothing outside learns; a loss that
needs probabilities makes them itself.
"""

from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onceforall.architecture import MAIN_PATH, Architecture, Stage
from onceforall.errors import UserError, check_choice
from onceforall.layers.blocks import ResidualUnit, Shape, parts
from onceforall.layers.channels import ChannelGroup, ChannelSlice
from onceforall.layers.elastic import (
    Channels,
    Cost,
    ElasticBatchNorm,
    ElasticConv,
    batch_norm_cost,
    make_divisible,
)
from onceforall.layers.kernels import Frozen
from onceforall.search_space import SearchSpace, StageChoices
from onceforall.supernets.supernet import Freeze, Outputs, Supernet

__all__ = ["ProXUNet"]

LAYOUTS = ("sound", "published")


@final
class Section(nn.Module):
    """The convolutions of one section: the first changes the width, each further one is a residual unit.

    Args:
        in_channels: largest number of channels of the input, or of each of two inputs.
        out_channels: largest width.
        choices: kernel size of each convolution.
        published: whether ReLU comes before normalisation, and initial values are those of the published code.
        kernel_rule: how smaller kernels are made.
        spatial_dims: 2 for images, 3 for volumes.
    """

    def __init__(
        self,
        in_channels: Channels,
        out_channels: int,
        choices: StageChoices,
        published: bool,
        kernel_rule: str,
        spatial_dims: int,
    ) -> None:
        super().__init__()
        first, *further = choices.blocks
        self.published = published
        self.conv = ElasticConv(
            in_channels,
            out_channels,
            first.kernel_sizes,
            kernel_rule=kernel_rule,
            spatial_dims=spatial_dims,
            init="uniform" if published else "fan_out",
        )
        self.norm = ElasticBatchNorm(out_channels)
        self.units = nn.ModuleList(
            ResidualUnit(out_channels, block.kernel_sizes, kernel_rule, spatial_dims) for block in further
        )

    def forward(
        self, x: Tensor | tuple[Tensor, ...], width: int, kernel_sizes: Sequence[int], frozen: Sequence[Frozen]
    ) -> Tensor:
        """(N, in, ...), or two of these, to (N, width, ...); a kernel size and what is frozen for each convolution."""
        y = self.conv(x, width, kernel_sizes[0], frozen[0])
        y = self.norm(F.relu(y), frozen[0]) if self.published else F.relu(self.norm(y, frozen[0]))
        further = zip(parts(self.units, ResidualUnit), kernel_sizes[1:], frozen[1:], strict=False)
        for unit, kernel_size, part in further:
            y = unit(y, kernel_size, part)
        return y

    def cost(self, shape: Shape, in_channels: Channels, width: int, kernel_sizes: Sequence[int]) -> Cost:
        """Cost of the active convolutions on maps of spatial `shape`."""
        total = self.conv.cost(shape, in_channels, width, kernel_sizes[0])[0] + batch_norm_cost(width)
        for unit, kernel_size in zip(parts(self.units, ResidualUnit), kernel_sizes[1:], strict=False):
            total += unit.cost(shape, width, kernel_size)
        return total

    def places(self) -> tuple[ChannelSlice, ...]:
        """Where its channels appear inside it: the sums make all its convolutions share one order."""
        units = (place for unit in parts(self.units, ResidualUnit) for place in unit.places())
        return ChannelSlice(self.conv, "out"), ChannelSlice(self.norm, "out"), *units


@final
class ProXUNet(Supernet):
    """ProX's U-Net with elastic depth and width of each section, kernel size of each convolution, and resolution.

    It has no stem: `Freeze.stem` freezes the first convolution of the first section, which reads the volume, with its
    normalisation; what a growing network adds there later then stays as it starts.

    Args:
        space: choices of its sections, 3 for one pooling and 2 more for each further one. Widths are fractions of the
            full widths; without choices of widths these are used. Choices of a head make its kernel size elastic.
            Sizes on each axis are multiples of 2 to the power of the number of poolings.
        num_classes: number of output maps.
        in_channels: channels of the volumes.
        spatial_dims: 2 for images, 3 for volumes.
        base_width: full width of the first section; it doubles with each pooling.
        width_mult: multiplies every full width; results are rounded to even numbers, so that half of one is exact.
        layout: "sound" or "published".
        kernel_rule: how smaller kernels are made; see `layers.kernels`.
    """

    def __init__(
        self,
        space: SearchSpace,
        num_classes: int = 2,
        in_channels: int = 1,
        spatial_dims: int = 3,
        base_width: int = 16,
        width_mult: float = 1.0,
        layout: str = "sound",
        kernel_rule: str = "rings",
    ) -> None:
        options: dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels}
        options |= {"spatial_dims": spatial_dims, "base_width": base_width, "width_mult": width_mult}
        super().__init__(space, options | {"layout": layout, "kernel_rule": kernel_rule})
        check_choice("layout", layout, LAYOUTS)
        check_choice("spatial_dims", spatial_dims, (2, 3))
        published = layout == "published"
        _check_space(space, published)
        self.poolings = len(space.stages) // 2
        for size in space.resolutions:
            self._check_size("resolution", (size,) if isinstance(size, int) else size)
        full = base_width * width_mult
        self.full_widths = [make_divisible(full * self._scale(i), 2) for i in range(len(space.stages))]
        for i, stage in enumerate(space.stages):
            if len({self._width(i, width) for width in stage.widths}) < len(stage.widths):
                raise UserError(
                    f"widths {stage.widths}: of {self.full_widths[i]} channels two of them are the same number; give "
                    "fractions that differ more, or a larger base_width."
                )
        stored = [self._width(i, max(stage.widths, default=None)) for i, stage in enumerate(space.stages)]
        self.sections = nn.ModuleList(
            Section(self._inputs(i, stored), stored[i], stage, published, kernel_rule, spatial_dims)
            for i, stage in enumerate(space.stages)
        )
        self.head = ElasticConv(
            stored[-1],
            num_classes,
            (1,) if space.head is None else space.head.kernel_sizes,
            bias=not published,
            kernel_rule=kernel_rule,
            spatial_dims=spatial_dims,
            init="uniform",
        )

    def run(self, x: Tensor, architecture: Architecture, freeze: Freeze) -> Outputs:
        self._check_size("input of size", tuple(x.shape[2:]))
        skips: list[Tensor] = []
        pool = F.max_pool2d if x.ndim == 4 else F.max_pool3d
        for i, (section, stage) in enumerate(zip(self._sections(), architecture.stages, strict=True)):
            first, *further = freeze.blocks(stage)
            frozen = (True if freeze.stem and i == 0 else first, *further)
            if i > self.poolings:
                inputs: Tensor | tuple[Tensor, ...] = (skips.pop(), F.interpolate(x, scale_factor=2, mode="nearest"))
            else:
                inputs = x if i == 0 else pool(x, 2)
            x = section(inputs, self._width(i, stage.width), _kernel_sizes(stage), frozen)
            if x.ndim == 5 and not torch.compiler.is_compiling():  # 0.6 to 0.95 of a step's time on a CPU
                x = x.contiguous(memory_format=torch.channels_last_3d)
            if i < self.poolings:
                skips.append(x)
        return self.head(x, kernel_size=_head_kernel(architecture), frozen=freeze.part(freeze.head))

    def measure(self, architecture: Architecture) -> Cost:
        size, axes = architecture.resolution, self.head.spatial_dims
        full = (size,) * axes if isinstance(size, int) else size
        widths = [self._width(i, stage.width) for i, stage in enumerate(architecture.stages)]
        total, _ = self.head.cost(full, widths[-1], self.options["num_classes"], _head_kernel(architecture))
        for i, (section, stage) in enumerate(zip(self._sections(), architecture.stages, strict=True)):
            shape = tuple(side // self._scale(i) for side in full)
            total += section.cost(shape, self._inputs(i, widths), widths[i], _kernel_sizes(stage))
        return total

    def channel_groups(self) -> Iterator[ChannelGroup]:
        """The width of each section: its own convolutions, the section behind it, and the one that it skips to.

        Channels are ranked by the section behind it.
        """
        sections, last = self._sections(), len(self.full_widths) - 1
        for i, (section, choices) in enumerate(zip(sections, self.space.stages, strict=True)):
            if not choices.widths:
                continue
            reader = self.head if i == last else sections[i + 1].conv
            behind = ChannelSlice(reader, "in", sum(reader.parts[:-1]))  # the last of its inputs
            skip = (ChannelSlice(sections[last - i].conv, "in"),) if i < self.poolings else ()
            sizes = {width: self._width(i, width) for width in choices.widths}
            yield ChannelGroup(f"stages.{i}.width", sizes, (*section.places(), behind, *skip), behind)

    def _sections(self) -> list[Section]:
        return parts(self.sections, Section)

    def _scale(self, section: int) -> int:
        """By how much the maps of a section are smaller than the volume on each axis."""
        return 2 ** min(section, 2 * self.poolings - section)

    def _width(self, section: int, fraction: float | None) -> int:
        """Number of channels of a section for a fraction of its full width; None means all."""
        full = self.full_widths[section]
        return full if fraction is None else max(1, round(full * fraction))

    def _inputs(self, section: int, widths: Sequence[int]) -> Channels:
        """Channels that a section reads, given the widths of all: of the volume, the one before, or skip and that."""
        if section == 0:
            return self.options["in_channels"]
        before = widths[section - 1]
        return before if section <= self.poolings else (widths[2 * self.poolings - section], before)

    def _check_size(self, what: str, size: tuple[int, ...]) -> None:
        """Raise `UserError` unless every pooling halves every axis exactly."""
        step = 2**self.poolings
        if any(side % step for side in size):
            below = tuple(max(step, side // step * step) for side in size)
            above = tuple(-(-side // step) * step for side in size)
            nearest = " or ".join(dict.fromkeys("x".join(map(str, allowed)) for allowed in (below, above)))
            raise UserError(
                f"{what} {'x'.join(map(str, size))}: {self.poolings} poolings need a multiple of {step} on each axis, "
                f"such as {nearest}."
            )


def _check_space(space: SearchSpace, published: bool) -> None:
    """Raise `UserError` for a space that is none of a U-Net."""
    count = len(space.stages)
    if count < 3 or count % 2 == 0 or space.heights != (count,) or len(space.exits) > 1 or space.stem is not None:
        raise UserError(
            f"prox_unet3d has an odd number of sections, at least 3, which all run, one exit and no elastic stem; got "
            f"{count} stages, heights {space.heights} and exits {space.exits}."
        )
    if space.expand_ratios or space.paths != ((MAIN_PATH,),):
        raise UserError("prox_unet3d has no expand_ratios and no parallel paths: leave both out.")
    if published and space.depths != (1,):
        raise UserError(f"depths {space.depths}: the published layout has one convolution a section; give depths (1,).")
    if published and space.head is None:
        raise UserError("prox_unet3d's published layout has a head of elastic kernel size.")


def _kernel_sizes(stage: Stage) -> list[int]:
    return [block.kernel_size or 1 for block in stage.blocks]


def _head_kernel(architecture: Architecture) -> int:
    return 1 if architecture.head is None else architecture.head.kernel_size or 1
