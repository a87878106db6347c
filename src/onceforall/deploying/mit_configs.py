"""What `net.config` and `run.config` beside a specialised model of MIT say, held against the network of its weights.

The weights alone tell the architecture. What they do not tell, activations and strides, must be what our network has.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onceforall.errors import UserError
from onceforall.layers.blocks import ACTIVATIONS, InvertedResidual
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3

__all__ = ["check_config", "image_size"]

OUR_ACTIVATIONS = {"relu": "relu", "h_swish": "hard_swish"}
EPSILON = 1e-5


def image_size(folder: Path) -> int | None:
    """The resolution that `run.config` in a folder names; None where there is no such file."""
    path = folder / "run.config"
    if not path.is_file():
        return None
    size = _read(path).get("image_size")
    if not isinstance(size, int) or size < 1:
        raise UserError(f"{path}: image_size {size!r} is no positive whole number.")
    return size


def check_config(path: Path, network: OFAMobileNetV3) -> None:
    """Raise `UserError`, naming what differs, unless `network` is what the `net.config` at `path` describes."""
    config = _read(path)
    try:
        differing = list(_differences(config, network))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no description of a network that is known here ({error!r}).") from error
    if differing:
        raise UserError(f"{path} describes another network than the weights beside it: {'; '.join(differing[:5])}.")


def _differences(config: Mapping[str, Any], network: OFAMobileNetV3) -> Iterator[str]:
    if config["name"] != "MobileNetV3":
        yield f"it is a {config['name']}"
        return
    epsilon = config.get("bn", {}).get("eps", EPSILON)
    if epsilon != EPSILON:
        yield f"bn.eps is {epsilon}, and {EPSILON} here"
    described = [block.get("conv", block.get("mobile_inverted_conv")) for block in config["blocks"]]
    described = [block for block in described if block is not None and block["name"] != "ZeroLayer"]
    blocks = [module for module in network.modules() if isinstance(module, InvertedResidual)]
    if len(described) != len(blocks):
        yield f"it has {len(described)} blocks, and the weights {len(blocks)}"
    for number, (said, block) in enumerate(zip(described, blocks, strict=False)):
        hidden, _, kernel_size = block.depthwise.conv.sizes
        activation = ACTIVATIONS.get(OUR_ACTIVATIONS.get(said["act_func"], ""))
        for name, value, own in (
            ("kernel_size", said["kernel_size"], kernel_size),
            ("stride", said["stride"], block.depthwise.conv.stride),
            ("out_channels", said["out_channels"], block.out_channels),
            ("mid_channels", said.get("mid_channels") or hidden, hidden),
            ("use_se", bool(said["use_se"]), block.squeeze is not None),
            ("act_func", activation is block.depthwise.activation, True),
        ):
            if value != own:
                yield f"{name} of block {number} is {said[name]!r}"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no table of values.")
    return found
