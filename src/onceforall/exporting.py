"""An ONNX file of a sub-network that is known to compute what PyTorch computes, and that says what it needs.

The file takes inputs that are prepared already, "images" (batch, channels, height, width) or, of volumes, (batch,
channels, x, y, z) float32 with any batch size, and returns "logits" (batch, classes) or maps (batch, classes, x, y, z),
or "logits_<stage>" for each exit of a network with several. It carries everything else that prediction needs as
metadata (JSON texts): classes, task, input, preparation, exit weights, architecture, facts, and how it was checked. It
holds no image, and nothing of the machine on which it was made.
"""

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
from onceforall.data import DataSet, LabelScheme, VolumeData
from onceforall.errors import UserError, check_choice
from onceforall.evaluation.results import json_types
from onceforall.evaluation.tasks import window_of
from onceforall.files import write_atomically
from onceforall.onnx_files import FORMAT, INPUT, open_session, require
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet

if TYPE_CHECKING:
    import onnx

__all__ = ["LEFTOVERS", "ExportReport", "export", "held_out_inputs"]

BATCH_SIZES = {4: (1, 32), 5: (1, 2)}  # of images and of volumes, by their axes: with which the file is compared
VERIFY_IMAGES, VERIFY_VOLUMES = 64, 8
TIE = 1e-4  # logits nearer than this part of the largest one may change places by rounding alone
LEFTOVERS = ("BatchNormalization", "Gather", "If", "Loop", "Shape", "Slice")
"""Operations that an ordinary network has no need of: normalisation that was not folded, and traces of elasticity."""
FOLDS_INTO = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@final
@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares with PyTorch on `images` images or volumes.

    Args:
        path: the file; its name ends in ".rejected" where it was not accepted.
        bytes: its size.
        max_difference: the largest absolute difference of a logit.
        scale: the largest absolute logit, by which the difference is to be judged.
        agreement: share of the images, or of the voxels of the volumes, with the same answer (over all exits).
        images: how many images or volumes were compared.
        opset: version of the ONNX operators.
        nodes: number of nodes for each operator.
        leftovers: nodes of `LEFTOVERS`: none, unless the network itself computes with them. A normalisation counts
            where it could have been folded, that is where it alone reads what a convolution gives; one before a
            sum, as in a residual unit, could not.
    """

    path: Path
    bytes: int
    max_difference: float
    scale: float
    agreement: float
    images: int
    opset: int
    nodes: dict[str, int]
    leftovers: dict[str, int]

    @property
    def relative_difference(self) -> float:
        """The largest difference as a part of the largest logit."""
        return self.max_difference / self.scale if self.scale else self.max_difference


def export(
    net: Supernet,
    path: Path,
    *,
    format: str = "onnx",
    images: np.ndarray | Tensor,
    classes: Sequence[str],
    preparation: Mapping[str, Any],
    facts: Mapping[str, Any],
    scheme: LabelScheme | None = None,
    exit_weights: Sequence[float] | None = None,
    tolerance: float = 1e-3,
    force: bool = False,
) -> ExportReport:
    """Write `net` as an ONNX file, run it on `images`, and keep it only if it computes what PyTorch computes.

    Args:
        net: a calibrated sub-network in evaluation mode; it is not changed.
        path: of the file. It is written whole or not at all.
        format: "onnx".
        images: (N, channels, ...) real, prepared images or volumes that training never saw; 100 images or 8
            volumes are plenty. None of them gets into the file, they are compared only.
        classes: names of the outputs.
        preparation: how they are prepared, as JSON types (`Preparation.to_dict()`, `VolumePreparation.to_dict()`).
        facts: anything else that the file shall tell, as JSON types.
        scheme: what the output maps of a segmentation stand for; None for a classification.
        exit_weights: of a network with several exits the weight of each one's output in the answer; equal by default.
        tolerance: largest difference of a logit that is accepted, as a part of the largest logit.
        force: keep the file under its name even so.

    Raises `UserError` where packages are missing, arguments do not fit together, the network cannot be exported, or
    the file differs: a logit by more than `tolerance`, or an answer that is no tie. The file then stays beside `path`
    with ".rejected" behind its name.
    """
    require("onnx", "onnxscript", "onnxruntime")
    copy, architecture = _plain_copy(net)
    check_choice("format", format, ("onnx",))
    size = window_of(net.space.resolutions[-1], net.options.get("spatial_dims", 2))
    inputs = _checked_images(images, (net.options["in_channels"], *size))
    expected = _run_torch(copy, inputs)
    if expected[0].shape[1] != len(classes):
        raise UserError(f"{len(classes)} names of classes for a network with {expected[0].shape[1]} outputs.")
    if exit_weights is None or len(expected) == 1:
        exit_weights = [1 / len(expected)] * len(expected)
    if len(exit_weights) != len(expected):
        raise UserError(f"{len(exit_weights)} exit weights for a network that answers with {len(expected)} exits.")
    model = _to_onnx(copy, architecture, inputs.shape[1:])
    found = _run_onnx(model.SerializeToString(), inputs.numpy())
    regions = scheme is not None and scheme.kind == "regions"
    difference, scale, agreement, clear = _compare(expected, found, regions)
    about = {
        "format": FORMAT,
        "classes": list(classes),
        "task": _describe_task(scheme, preparation),
        "input": {"name": INPUT, "channels": inputs.shape[1], "size": list(inputs.shape[2:])},
        "preparation": preparation,
        "exit_weights": list(exit_weights),
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
    leftovers = _leftovers(model.graph)
    report = ExportReport(target, len(data), difference, scale, agreement, len(inputs), opset, nodes, leftovers)
    if not accepted and not force:
        raise UserError(_refusal(report, tolerance, _rounding(copy, inputs, expected)))
    return report


def held_out_inputs(data: DataSet, resolution: Resolution) -> Tensor:
    """Prepared inputs (N, channels, *resolution) on which an export is compared, spread over a split.

    The split is "test", or "validation" where that is empty; there are at most 64 images or 8 volumes. Of a volume
    larger than the resolution, which is answered in windows, it is the window in its middle.
    """
    split = "test" if data.count("test") else "validation"
    count = VERIFY_VOLUMES if isinstance(data, VolumeData) else VERIFY_IMAGES
    indices = np.unique(np.linspace(0, data.count(split) - 1, min(count, data.count(split))).round().astype(int))
    return torch.cat([_middle(images, resolution) for images, _ in data.batches(split, resolution, count, indices)])


def _middle(images: Tensor, resolution: Resolution) -> Tensor:
    for axis, size in enumerate(window_of(resolution, images.ndim - 2), start=2):
        images = images.narrow(axis, (images.shape[axis] - size) // 2, size)
    return images


# -- what goes in -------------------------------------------------------------------------------------------------


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


def _describe_task(scheme: LabelScheme | None, preparation: Mapping[str, Any]) -> dict[str, Any]:
    """What is predicted; of a segmentation also whether volumes are answered "whole" or in "patches"."""
    if scheme is None:
        return {"kind": "classification"}
    mode = "patches" if preparation.get("box") is None else "whole"
    return {"kind": "segmentation", "scheme": scheme.to_dict(), "mode": mode}


def _leftovers(graph: "onnx.GraphProto") -> dict[str, int]:
    """How many nodes of `LEFTOVERS` there are, without normalisation that nothing could fold; see `ExportReport`."""
    makers = {name: node.op_type for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)

    def counts(node: "onnx.NodeProto") -> bool:
        if node.op_type != "BatchNormalization":
            return node.op_type in LEFTOVERS
        return makers.get(node.input[0]) in FOLDS_INTO and readers[node.input[0]] == 1

    return dict(Counter(node.op_type for node in graph.node if counts(node)))


# -- comparing ----------------------------------------------------------------------------------------------------


@torch.inference_mode()
def _run_torch(net: Supernet, images: Tensor) -> list[np.ndarray]:
    """The network's outputs (N, classes, ...), one for each exit, on all images."""
    outputs = [net(batch) for batch in images.split(max(BATCH_SIZES[images.ndim]))]
    results = [output if isinstance(output, tuple) else (output,) for output in outputs]
    return [torch.cat(parts).numpy() for parts in zip(*results, strict=True)]


def _run_onnx(data: bytes, images: np.ndarray) -> list[list[np.ndarray]]:
    """For each batch size the file's outputs (N, classes, ...), one for each exit, on all images."""
    session = open_session(data, "the exported network", torch.get_num_threads())
    out = []
    for size in BATCH_SIZES[images.ndim]:
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        results = [session.run(None, {INPUT: batch}) for batch in batches]
        out.append([np.concatenate(parts) for parts in zip(*results, strict=True)])
    return out


def _compare(
    expected: list[np.ndarray], found: list[list[np.ndarray]], regions: bool = False
) -> tuple[float, float, float, float]:
    """Largest difference, largest logit, share of equal answers; and that share where the answer is no tie.

    The shares are of the images, or voxels, for each exit and batch size. An answer is the class with the largest
    logit; of `regions` there is one for each, whether its logit is positive.
    """
    scale = max(float(np.abs(logits).max()) for logits in expected)
    differences, same, tied = [], [], []
    for outputs in found:
        for logits, others in zip(expected, outputs, strict=True):
            differences.append(float(np.abs(logits - others).max()))
            if regions:
                same.append(((logits >= 0) == (others >= 0)).ravel())
                tied.append((np.abs(logits) <= TIE * scale).ravel())
                continue
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
        f"the ONNX file does not compute what PyTorch computes: logits differ by {report.relative_difference:.2g} "
        f"of the largest (accepted: {tolerance:g}), {report.agreement:.2%} of the answers to {report.images} inputs "
        f"agree. It was kept as {report.path}; {advice}"
    )
