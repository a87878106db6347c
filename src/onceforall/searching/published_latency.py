"""Latency tables in the format in which those of Once-for-All were published, for OFA-MobileNetV3.

A YAML file of `key: {count, mean, std}`, times in milliseconds; a network takes the sum of its layers' means. Keys name
sizes of input and output, and of an inverted residual also its hidden channels, kernel, stride, and whether it has an
identity, squeeze-excitation and h-swish, so a table fits one width multiplier and those resolutions it was measured at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.architecture import MAIN_PATH, Architecture, side
from onceforall.errors import UserError
from onceforall.layers.elastic import make_divisible
from onceforall.supernets.mobilenet_v3 import STAGES, STEM_WIDTH, OFAMobileNetV3
from onceforall.supernets.supernet import Supernet

__all__ = ["PublishedTable", "read_published_table"]

FEATURES, MIXED = 960, 1280  # of the exit behind the last stage, times the width multiplier


@final
@dataclass(frozen=True)
class PublishedTable:
    """Means by key, and the network that they are asked for.

    Args:
        means: milliseconds.
        width_mult: width multiplier of the network.
        num_classes: its number of classes.
        in_channels: its number of input channels.
    """

    means: Mapping[str, float]
    width_mult: float = 1.0
    num_classes: int = 1000
    in_channels: int = 3

    def predict_ms(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Milliseconds of each network, (architectures,); `UserError` names an entry that the table lacks."""
        return np.array([sum(self._mean(key) for key in self.keys(each)) for each in architectures])

    def keys(self, architecture: Architecture) -> Iterator[str]:
        """The key of each layer of `architecture`, from the image to the classes."""
        if architecture.height != len(STAGES) or len(architecture.exits) > 1:
            raise UserError("a published latency table is of networks with all five stages and one exit.")
        size, width = side(architecture.resolution), self._width(STEM_WIDTH)
        out = (size + 1) // 2
        yield f"Conv-input:{size}x{size}x{self.in_channels}-output:{out}x{out}x{width}"
        size = out
        yield _block(size, width, size, width, width, 3, 1, identity=True, squeeze=False, swish=False)
        for stage, (base, stride, activation, squeeze) in zip(architecture.stages, STAGES, strict=True):
            to = self._width(base)
            for j, block in enumerate(stage.blocks):
                if block.paths != (MAIN_PATH,) or block.kernel_size is None or block.expand_ratio is None:
                    raise UserError(f"block {block}: a published latency table is of inverted residuals only.")
                step = stride if j == 0 else 1
                out, hidden = (size - 1) // step + 1, make_divisible(round(width * block.expand_ratio))
                alike = step == 1 and width == to
                swish = activation == "hard_swish"
                yield _block(
                    size, width, out, to, hidden, block.kernel_size, step, identity=alike, squeeze=squeeze, swish=swish
                )
                size, width = out, to
        features, mixed = self._width(FEATURES), self._width(MIXED)
        yield f"Conv_1-input:{size}x{size}x{width}-output:{size}x{size}x{features}"
        yield f"AvgPool2D-input:{size}x{size}x{features}-output:1x1x{features}"
        yield f"Conv_2-input:1x1x{features}-output:1x1x{mixed}"
        yield f"Logits-input:1x1x{mixed}-output:{self.num_classes}"

    def _width(self, base: int) -> int:
        return make_divisible(base * self.width_mult)

    def _mean(self, key: str) -> float:
        if key not in self.means:
            raise UserError(f"the latency table has no entry {key!r}: another width multiplier or resolution?")
        return self.means[key]


def read_published_table(path: Path, supernet: Supernet) -> PublishedTable:
    """Read a YAML file for the networks of `supernet`; `UserError` where it is none, or for another kind of network.

    Only plain values are read from the file, never objects.
    """
    import yaml  # with omegaconf

    if not isinstance(supernet, OFAMobileNetV3) or supernet.dense:
        raise UserError("published latency tables are of ofa_mbv3 only; build one: onceforall latency build.")
    try:
        data: Any = yaml.safe_load(path.read_text())
        means = {str(key): float(entry["mean"]) for key, entry in data.items()}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no latency table of 'key: {{count, mean, std}}' in YAML: {error}.") from error
    options = supernet.options
    return PublishedTable(means, options["width_mult"], options["num_classes"], options["in_channels"])


def _block(
    size: int,
    width: int,
    out: int,
    to: int,
    hidden: int,
    kernel_size: int,
    stride: int,
    *,
    identity: bool,
    squeeze: bool,
    swish: bool,
) -> str:
    return (
        f"expanded_conv-input:{size}x{size}x{width}-output:{out}x{out}x{to}-expand:{hidden}-kernel:{kernel_size}"
        f"-stride:{stride}-idskip:{int(identity)}-se:{int(squeeze)}-hs:{int(swish)}"
    )
