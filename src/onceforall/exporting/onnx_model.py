"""A network as an ONNX graph: traced with zeros, cleaned, its layers named as in PyTorch; weights in 16 bits."""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from onceforall.architecture import Architecture
from onceforall.bundles import ANSWER, INPUT
from onceforall.errors import UserError
from onceforall.exporting.onnx_tuning import tuned_for_onnxruntime

if TYPE_CHECKING:
    import onnx

__all__ = ["LEFTOVERS", "WEIGHTED", "answer_names", "leftovers", "quiet_tracing", "to_onnx", "with_half_weights"]

LEFTOVERS = ("BatchNormalization", "Gather", "If", "Loop", "Shape", "Slice")
"""Operations that an ordinary network has no need of: normalisation that was not folded, and traces of elasticity."""
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operations with weights: normalisation folds into them, and they are what is computed in 8 bits."""
OLDEST_OPSET = 18  # older ones are made by conversion, which fails for means over axes


def answer_names(architecture: Architecture) -> list[str]:
    """Names of the outputs: "logits", or "logits_<stage>" for each of several exits."""
    exits = architecture.exits
    return [ANSWER] if len(exits) == 1 else [f"{ANSWER}_{number}" for number in exits]


def to_onnx(
    net: nn.Module,
    architecture: Architecture,
    shape: Sequence[int],
    batch: int | None = None,
    opset: int | None = None,
    any_size: bool = False,
    names: tuple[str, Sequence[str]] | None = None,
    engine: str = "onnxruntime",
) -> "onnx.ModelProto":
    """The network for inputs (batch, *shape) as a checked ONNX model.

    Args:
        net: in evaluation mode, from `plain_copy`.
        architecture: its own.
        shape: of one input, (channels, *sizes).
        batch: 1 for a file that takes one input at a time, None for any number.
        opset: version of the ONNX operators; the exporter's choice by default.
        any_size: whether the file takes other sizes too, where the network does.
        names: of the input and of the outputs, where they are not those of a whole network.
        engine: what shall run it: "onnxruntime" or "openvino".

    Raises `UserError` where the network, or this network in this opset, cannot be written.
    """
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if opset is not None and not OLDEST_OPSET <= opset <= newest:
        raise UserError(f"opset {opset} cannot be written; give one of {OLDEST_OPSET} to {newest}, or leave it out.")
    dynamic = ({} if batch else {0: "batch"}) | (
        {2 + i: f"size_{i}" for i in range(len(shape) - 1)} if any_size else {}
    )
    read, given = names or (INPUT, answer_names(architecture))
    try:
        with quiet_tracing():
            program = torch.onnx.export(
                net,
                (torch.zeros(batch or 2, *shape),),
                input_names=[read],
                output_names=list(given),
                dynamic_shapes=(dynamic,) if dynamic else None,
                dynamo=True,
                external_data=False,
                verbose=False,
                opset_version=opset,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"the network cannot be written as ONNX: {reason.strip()}") from error
    assert program is not None
    model = program.model_proto
    written = max(entry.version for entry in model.opset_import if entry.domain == "")
    if opset not in (None, written):
        raise UserError(f"opset {opset}: this network cannot be written in it, only in {written}; leave it out.")
    _name_layers(model)
    _forget_origin(model)
    if engine == "onnxruntime":
        model = tuned_for_onnxruntime(model)
    onnx.checker.check_model(model, full_check=True)
    return model


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Keep back what torch says about itself while it exports."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\).*", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _name_layers(model: "onnx.ModelProto") -> None:
    """Give each node that has weights the name of its layer in PyTorch, by the name of these weights."""
    stored = {tensor.name for tensor in model.graph.initializer}
    taken: Counter[str] = Counter()
    for node in model.graph.node:
        weight = next((name for name in node.input if name in stored and name.endswith(".weight")), None)
        if node.op_type in WEIGHTED and weight is not None:
            name = weight.removesuffix(".weight")
            taken[name] += 1
            node.name = name if taken[name] == 1 else f"{name}.{taken[name]}"


def _forget_origin(model: "onnx.ModelProto") -> None:
    """Drop the exporter's notes: stack traces with the paths of this machine, a sixth of a small file."""
    graph = model.graph
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    model.ClearField("metadata_props")
    model.ClearField("doc_string")


def leftovers(graph: "onnx.GraphProto") -> dict[str, int]:
    """How many nodes of `LEFTOVERS` there are, without normalisation that nothing could fold.

    A normalisation counts where it could have been folded, that is where it alone reads what a convolution gives; one
    before a sum, as in a residual unit, could not.
    """
    makers = {name: node.op_type for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)

    def counts(node: "onnx.NodeProto") -> bool:
        if node.op_type != "BatchNormalization":
            return node.op_type in LEFTOVERS
        return makers.get(node.input[0]) in WEIGHTED and readers[node.input[0]] == 1

    return dict(Counter(node.op_type for node in graph.node if counts(node)))


def with_half_weights(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same graph with its weights stored in 16 bits and computed with in 32, as OpenVINO's files in fp16.

    Biases stay as they are: they are small, and add up.
    """
    import numpy as np
    import onnx

    out = onnx.ModelProto()
    out.CopyFrom(model)
    casts = []
    for tensor in out.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *out.graph.node]
    out.graph.ClearField("node")
    out.graph.node.extend(nodes)
    onnx.checker.check_model(out, full_check=True)
    return out
