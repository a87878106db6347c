"""A network with several exits cut into a chain of parts, of which a later one runs only for images that need it.

Part 1 is the stem and the stages up to the first exit, with it; each further part the stages up to the next exit. All
but the last also give the maps that the next one reads. A bundle holds them as `model-1.onnx`, `model-2.onnx`, ... with
the confidence from which on an image goes no further; `Predictor` runs it like any other.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch import Tensor, nn

from onceforall.architecture import Architecture
from onceforall.bundles import ANSWER, INPUT, Part, open_session
from onceforall.errors import UserError, check_choice
from onceforall.evaluation.latency import IN_TURN, time_callables, torch_threads
from onceforall.exporting.onnx_model import to_onnx
from onceforall.exporting.openvino_model import to_openvino, write_openvino
from onceforall.exporting.options import ExportOptions
from onceforall.exporting.verifying import Difference, compare, run_torch
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.supernets.supernet import Freeze, Supernet

if TYPE_CHECKING:
    import onnx

__all__ = [
    "ExitPart",
    "chain_difference",
    "cut_at_exits",
    "engine_of",
    "keep_exits",
    "part_model",
    "run_all_parts",
    "segments_of",
    "time_segments",
    "write_parts",
]

Segment = tuple[int, int, bool]
"""The exit behind which a part begins (0 for the images), its own exit, whether another part follows."""

MAPS = "maps"
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
BATCHES = (1, 32)  # with which the files are compared


# -- cutting ------------------------------------------------------------------------------------------------------


@final
class ExitPart(nn.Module):
    """The stages behind one exit up to the next, with the next exit.

    Args:
        net: a sub-network in evaluation mode; the part uses its layers.
        before: number of the exit behind which it begins, 0 for the images.
        exit: number of the exit that answers.
        goes_on: whether it also gives the maps that the exit reads, for a further part.
    """

    def __init__(self, net: OFAMobileNetV3, before: int, exit: int, goes_on: bool) -> None:
        super().__init__()
        self.net, self.before, self.exit, self.goes_on = net, before, exit, goes_on
        self.architecture = net.space.largest(exits="all")
        self.training = net.training

    @property
    def reads(self) -> str:
        """Name of its input."""
        return f"{MAPS}_{self.before}" if self.before else INPUT

    @property
    def gives(self) -> tuple[str, ...]:
        """Names of its outputs, the answer first."""
        return f"{ANSWER}_{self.exit}", *([f"{MAPS}_{self.exit}"] if self.goes_on else [])

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Images or maps (N, channels, height, width) to logits (N, classes), and maps where a part follows."""
        freeze = Freeze()
        x = x if self.before else self.net.run_stem(x, freeze)
        for number in range(self.before + 1, self.exit + 1):
            x = self.net.run_stage(x, number, self.architecture.stages[number - 1], freeze)
        logits = self.net.run_exit(x, self.exit, freeze)
        return (logits, x) if self.goes_on else logits


def cut_at_exits(net: Supernet) -> list[ExitPart]:
    """The parts of a sub-network with several exits, one for each; `UserError` for a network that has none."""
    architecture = net.space.largest(exits="all")
    if not isinstance(net, OFAMobileNetV3) or len(architecture.exits) < 2:
        raise UserError(
            "this network answers at one exit; early exits need one such as ee_d_ofa_mbv3, and an architecture of "
            "height 2 or more."
        )
    return [ExitPart(net, *segment) for segment in segments_of(architecture.exits)]


def keep_exits(net: Supernet, exits: Sequence[int]) -> Supernet:
    """A sub-network with only some of its exits, and without what is behind the last of them; weights are shared."""
    whole = net.space.largest(exits="all")
    architecture = Architecture(
        whole.resolution, whole.stages[: exits[-1]], stem=whole.stem, head=whole.head, exits=tuple(exits)
    )
    with torch.device("meta"):
        out = type(net)(SearchSpace.only(architecture), **net.options)
    state = net.state_dict()
    out.load_state_dict({name: state[name] for name in out.state_dict()}, assign=True)
    return out.eval()


def segments_of(exits: Sequence[int]) -> list[Segment]:
    """The parts of a chain with these exits.

    >>> segments_of((1, 3))
    [(0, 1, True), (1, 3, False)]
    """
    return [(before, number, number != exits[-1]) for before, number in zip((0, *exits[:-1]), exits, strict=True)]


def engine_of(format: str) -> str:
    """What runs the parts in this format; `UserError` for an unknown one, and where a package for it is missing."""
    check_choice("format of a chain", format, SUFFIXES)
    options = ExportOptions(format=format)
    options.check_installed()
    return options.engine


def part_model(part: ExitPart, engine: str) -> "tuple[onnx.ModelProto, tuple[int, ...]]":
    """A part as an ONNX model for any number of inputs, to run in `engine`, and the shape of one input."""
    net = part.net
    size = net.space.resolutions[-1]
    shape = (net.options["in_channels"], *((size, size) if isinstance(size, int) else size))
    if part.before:
        with torch.inference_mode():
            _, maps = ExitPart(net, 0, part.before, True)(torch.zeros(1, *shape))
        shape = tuple(maps.shape[1:])
    return to_onnx(part, part.architecture, shape, names=(part.reads, part.gives), engine=engine), shape


def run_all_parts(parts: Sequence[Part], images: np.ndarray) -> list[np.ndarray]:
    """What every part answers to all images: (N, classes) for each."""
    values, answers = {INPUT: images}, []
    for part in parts:
        values |= part.run({name: values[name] for name in part.inputs})
        answers += [values[name] for name in part.outputs if name.startswith(ANSWER)]
    return answers


def write_parts(net: Supernet, folder: Path, format: str = "onnx") -> list[Path]:
    """Write the parts of a sub-network with several exits into `folder`; the files that are opened, in order.

    Args:
        net: a calibrated sub-network in evaluation mode, from `plain_copy`.
        folder: where they go.
        format: "onnx", or "openvino", whose weights lie in a file beside each.
    """
    engine = engine_of(format)
    written = []
    for number, part in enumerate(cut_at_exits(net), start=1):
        model, _ = part_model(part, engine)
        path = folder / f"model-{number}{SUFFIXES[format]}"
        if format == "openvino":
            write_openvino(to_openvino(model), path)
        else:
            path.write_bytes(model.SerializeToString())
        written.append(path)
    return written


def chain_difference(net: Supernet, parts: Sequence[Part], images: Tensor) -> Difference:
    """How the answers of all parts to `images` differ from those of all exits of `net`, in batches of 1 and of 32."""
    found = []
    for size in BATCHES:
        batches = [run_all_parts(parts, batch.numpy()) for batch in images.split(size)]
        found.append([np.concatenate(answers) for answers in zip(*batches, strict=True)])
    return compare(run_torch(net, images), found)


# -- time ---------------------------------------------------------------------------------------------------------


def time_segments(net: Supernet, segments: Iterable[Segment]) -> dict[Segment, float]:
    """Milliseconds of each part for one image in onnxruntime on one thread, timed in turn.

    `net` is a sub-network on the CPU that has all these exits.
    """
    wanted = list(dict.fromkeys(segments))
    assert isinstance(net, OFAMobileNetV3)
    calls = []
    for segment in wanted:
        part = ExitPart(net, *segment)
        model, shape = part_model(part, "onnxruntime")
        session = open_session(model.SerializeToString(), "a part", 1)
        noise = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
        calls.append(partial(session.run, None, {part.reads: noise}))
    with torch_threads(1):
        timed = time_callables(calls, engine="onnxruntime", precision="float32", **IN_TURN)
    return {segment: latency.processor_ms for segment, latency in zip(wanted, timed, strict=True)}
