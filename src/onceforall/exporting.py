"""An ONNX file of a sub-network that is known to compute what PyTorch computes, and that says what it needs.

The file takes images that are prepared already, "images" (batch, channels, height, width) float32 with any batch
size, and returns "logits" (batch, classes), or "logits_<stage>" for each exit of a network with several. It carries
everything else that prediction needs as metadata (JSON texts): classes, input, preparation, architecture, facts, and
how it was checked. It holds no image, and nothing of the machine on which it was made.
"""

import importlib
import json
import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from onceforall.architecture import Architecture, Resolution
from onceforall.errors import UserError, check_choice
from onceforall.evaluation.results import json_types
from onceforall.files import write_atomically
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet

if TYPE_CHECKING:
    import onnx
    import onnxruntime

__all__ = ["LEFTOVERS", "ExportReport", "export", "read_onnx_info"]

FORMAT = "onceforall-onnx-1"
INPUT = "images"
BATCH_SIZES = (1, 32)  # with which the file is run for the comparison
TIE = 1e-4  # logits nearer than this part of the largest one may change places by rounding alone
LEFTOVERS = ("BatchNormalization", "Gather", "If", "Loop", "Shape", "Slice")
"""Operations that an ordinary network has no need of: normalisation that was not folded, and traces of elasticity."""


@final
@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares with PyTorch on `images` images.

    Args:
        path: the file; its name ends in ".rejected" where it was not accepted.
        bytes: its size.
        max_difference: the largest absolute difference of a logit.
        scale: the largest absolute logit, by which the difference is to be judged.
        agreement: share of the images (over all exits) with the same predicted class.
        images: how many images were compared.
        opset: version of the ONNX operators.
        nodes: number of nodes for each operator.
    """

    path: Path
    bytes: int
    max_difference: float
    scale: float
    agreement: float
    images: int
    opset: int
    nodes: dict[str, int]

    @property
    def relative_difference(self) -> float:
        """The largest difference as a part of the largest logit."""
        return self.max_difference / self.scale if self.scale else self.max_difference

    @property
    def leftovers(self) -> dict[str, int]:
        """Nodes of `LEFTOVERS`: none, unless the network itself computes with them."""
        return {name: count for name, count in self.nodes.items() if name in LEFTOVERS}


def export(
    net: Supernet,
    path: Path,
    *,
    format: str = "onnx",
    images: np.ndarray | Tensor,
    classes: Sequence[str],
    preparation: Mapping[str, Any],
    facts: Mapping[str, Any],
    tolerance: float = 1e-3,
    force: bool = False,
) -> ExportReport:
    """Write `net` as an ONNX file, run it on `images`, and keep it only if it computes what PyTorch computes.

    Args:
        net: a calibrated sub-network in evaluation mode; it is not changed.
        path: of the file. It is written whole or not at all.
        format: "onnx".
        images: (N, channels, ...) real, prepared images that training never saw; 100 are plenty. No image
            gets into the file, they are compared only.
        classes: names of the outputs.
        preparation: how images are prepared, as JSON types (`Preparation.to_dict()`).
        facts: anything else that the file shall tell, as JSON types.
        tolerance: largest difference of a logit that is accepted, as a part of the largest logit.
        force: keep the file under its name even so.

    Raises `UserError` where packages are missing, arguments do not fit together, the network cannot be exported, or
    the file differs: a logit by more than `tolerance`, or the class of an image that is no tie. The file then stays
    beside `path` with ".rejected" behind its name.
    """
    _require("onnx", "onnxscript", "onnxruntime")
    copy, architecture = _plain_copy(net)
    check_choice("format", format, ("onnx",))
    inputs = _checked_images(images, (net.options["in_channels"], *_sizes(net, net.space.resolutions[-1])))
    expected = _run_torch(copy, inputs)
    if expected[0].shape[1] != len(classes):
        raise UserError(f"{len(classes)} names of classes for a network with {expected[0].shape[1]} outputs.")
    model = _to_onnx(copy, architecture, inputs.shape[1:])
    found = _run_onnx(model.SerializeToString(), inputs.numpy())
    difference, scale, agreement, clear = _compare(expected, found)
    about = {
        "format": FORMAT,
        "classes": list(classes),
        "input": {"name": INPUT, "channels": inputs.shape[1], "size": list(inputs.shape[2:])},
        "preparation": preparation,
        "architecture": architecture.to_dict(),
        "facts": facts,
        "check": {"images": len(inputs), "max_difference": difference, "scale": scale, "agreement": agreement},
    }
    data = _with_metadata(model, about)
    accepted = clear == 1 and difference <= tolerance * scale  # written so that NaN is refused
    target = path if accepted or force else path.with_name(f"{path.name}.rejected")
    write_atomically(target, lambda file: file.write(data))
    nodes = dict(Counter(node.op_type for node in model.graph.node))
    opset = max(entry.version for entry in model.opset_import if entry.domain == "")
    report = ExportReport(target, len(data), difference, scale, agreement, len(inputs), opset, nodes)
    if not accepted and not force:
        raise UserError(_refusal(report, tolerance, _rounding(copy, inputs, expected)))
    return report


def read_onnx_info(path: Path) -> dict[str, Any]:
    """What a file that `export_onnx` wrote says of itself; of the extra's packages it needs onnxruntime only.

    Keys: format, classes, input (name, channels, size), preparation, architecture, facts, check, outputs (names).
    Raises `UserError`, naming the file, where it is missing, damaged or of another origin.
    """
    _require("onnxruntime")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file.")
    session = _session(path.read_bytes(), str(path))
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        info = {key: json.loads(text) for key, text in metadata.items()}
        known = info["format"] == FORMAT
    except (json.JSONDecodeError, KeyError):
        known = False
    if not known:
        raise UserError(f"{path} is an ONNX file, but none that this version of the package wrote.")
    return info | {"outputs": [output.name for output in session.get_outputs()]}


# -- what goes in -------------------------------------------------------------------------------------------------


def _require(*packages: str) -> None:
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"ONNX files need the package {name}: pip install 'onceforall[export]'.") from error


def _plain_copy(net: Supernet) -> tuple[Supernet, Architecture]:
    """A copy of the sub-network on the CPU in float32, contiguous, without gradients; and its architecture."""
    architecture = net.space.largest(exits="all")
    if net.space != SearchSpace.only(architecture):
        raise UserError("only a sub-network is exported: extract it with supernet.subnet(arch), then calibrate it.")
    if net.training:
        raise UserError("the network is in training mode: calibrate it and call net.eval() before it is exported.")
    copy = net.subnet(architecture).to("cpu", torch.float32)
    copy.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    return copy.eval().requires_grad_(False), architecture


def _sizes(net: Supernet, resolution: Resolution) -> tuple[int, ...]:
    axes = net.options.get("spatial_dims", 2)
    return (resolution,) * axes if isinstance(resolution, int) else resolution


def _checked_images(images: np.ndarray | Tensor, shape: tuple[int, ...]) -> Tensor:
    """(N, channels, ...) float32 on the CPU."""
    inputs = torch.as_tensor(images).detach().to("cpu", torch.float32)
    if inputs.ndim != len(shape) + 1 or tuple(inputs.shape[1:]) != shape or not len(inputs):
        raise UserError(f"images of shape {tuple(inputs.shape)}: give at least one, prepared, of shape {shape} each.")
    if not bool(inputs.isfinite().all()):
        raise UserError("the images hold numbers that are not finite; prepare them as for evaluation.")
    return inputs.contiguous()


# -- making the file ----------------------------------------------------------------------------------------------


def _to_onnx(net: Supernet, architecture: Architecture, shape: Sequence[int]) -> "onnx.ModelProto":
    """The network as a checked ONNX model, traced with zeros."""
    import onnx

    exits = architecture.exits
    names = ["logits"] if len(exits) == 1 else [f"logits_{number}" for number in exits]
    try:
        with _quiet():
            program = torch.onnx.export(
                net,
                (torch.zeros(2, *shape),),
                input_names=[INPUT],
                output_names=names,
                dynamic_shapes=({0: "batch"},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"the network cannot be written as ONNX: {reason.strip()}") from error
    assert program is not None
    model = program.model_proto
    _forget_origin(model)
    onnx.checker.check_model(model, full_check=True)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch says about itself while it exports."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\).*", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _forget_origin(model: "onnx.ModelProto") -> None:
    """Drop the exporter's notes: stack traces with the paths of this machine, a sixth of a small file."""
    graph = model.graph
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    model.ClearField("metadata_props")
    model.ClearField("doc_string")


def _with_metadata(model: "onnx.ModelProto", about: Mapping[str, Any]) -> bytes:
    """The file's bytes, with each entry of `about` as a JSON text."""
    for key, value in about.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(json_types(value))
    return model.SerializeToString()


# -- comparing ----------------------------------------------------------------------------------------------------


@torch.inference_mode()
def _run_torch(net: Supernet, images: Tensor) -> list[np.ndarray]:
    """The network's outputs (N, classes, ...), one for each exit, on all images."""
    outputs = [net(batch) for batch in images.split(max(BATCH_SIZES))]
    results = [output if isinstance(output, tuple) else (output,) for output in outputs]
    return [torch.cat(parts).numpy() for parts in zip(*results, strict=True)]


def _session(data: bytes, name: str) -> "onnxruntime.InferenceSession":
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors  # pyright: ignore[reportAttributeAccessIssue]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf) as error:
        raise UserError(f"{name} is no ONNX file that onnxruntime can run: {str(error).splitlines()[0]}") from error


def _run_onnx(data: bytes, images: np.ndarray) -> list[list[np.ndarray]]:
    """For each batch size the file's outputs (N, classes, ...), one for each exit, on all images."""
    session = _session(data, "the exported network")
    out = []
    for size in BATCH_SIZES:
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        results = [session.run(None, {INPUT: batch}) for batch in batches]
        out.append([np.concatenate(parts) for parts in zip(*results, strict=True)])
    return out


def _compare(expected: list[np.ndarray], found: list[list[np.ndarray]]) -> tuple[float, float, float, float]:
    """Largest difference, largest logit, share of equal classes; and that share where the class is no tie.

    The shares are of the images for each exit and batch size.
    """
    scale = max(float(np.abs(logits).max()) for logits in expected)
    differences, same, tied = [], [], []
    for outputs in found:
        for logits, others in zip(expected, outputs, strict=True):
            differences.append(float(np.abs(logits - others).max()))
            same.append((logits.argmax(1) == others.argmax(1)).ravel())
            ordered = np.sort(logits, axis=1)  # (N, classes, ...)
            tied.append((ordered[:, -1] - ordered[:, -2] <= TIE * scale).ravel())
    equal, tie = np.concatenate(same), np.concatenate(tied)
    difference = math.nan if any(map(math.isnan, differences)) else max(differences)
    return difference, scale, float(equal.mean()), float((equal | tie).mean())


def _rounding(net: Supernet, images: Tensor, expected: list[np.ndarray]) -> float:
    """What rounding does in PyTorch itself: the largest difference of a logit between float32 and float64."""
    exact = _run_torch(net.to(torch.float64), images.to(torch.float64))
    return max(float(np.abs(logits - others).max()) for logits, others in zip(expected, exact, strict=True))


def _refusal(report: ExportReport, tolerance: float, rounding: float) -> str:
    advice = "use --force to accept it."
    if not rounding <= tolerance * report.scale:  # or NaN
        advice = f"PyTorch's own rounding changes them by up to {rounding:.2g}: is it calibrated, or did it diverge?"
    return (
        f"the ONNX file does not compute what PyTorch computes: logits differ by {report.relative_difference:.2g} of "
        f"the largest (accepted: {tolerance:g}), {report.agreement:.2%} of {report.images} images get the same class. "
        f"It was kept as {report.path}; {advice}"
    )
