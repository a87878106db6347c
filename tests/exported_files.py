"""Small networks in ONNX files as `onceforall export` writes them, made by hand: what they answer is known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from onceforall.data import LabelScheme, VolumePreparation
from onceforall.onnx_files import FORMAT

BRIGHT = LabelScheme("bright", "softmax", ("background", "bright"), ((0,), (7,)))


def write_network(
    path: Path, weight: np.ndarray, bias: Sequence[float], size: Sequence[int], outputs: int = 1, **about: Any
) -> Path:
    """`outputs` outputs that are all weight (K, C) x channels + bias (K,), in each pixel; of images its mean."""
    kernel = np.asarray(weight, np.float32).reshape(*np.shape(weight), *([1] * len(size)))
    constants = [
        helper.make_tensor("weight", TensorProto.FLOAT, kernel.shape, kernel.ravel()),
        helper.make_tensor("bias", TensorProto.FLOAT, [len(bias)], bias),
    ]
    nodes, names = [], [f"logits_{i}" for i in range(outputs)]
    for name in names:
        nodes.append(helper.make_node("Conv", ["images", "weight", "bias"], [f"{name}_maps"]))
        if len(size) == 2:
            nodes.append(helper.make_node("ReduceMean", [f"{name}_maps"], [name], keepdims=0, axes=[2, 3]))
        else:
            nodes.append(helper.make_node("Identity", [f"{name}_maps"], [name]))
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", kernel.shape[1], *size])
    answers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    graph = helper.make_graph(nodes, "network", [given], answers, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    shape = {"name": "images", "channels": int(kernel.shape[1]), "size": list(size)}
    about = {"format": FORMAT, "input": shape, "exit_weights": [1 / outputs] * outputs, **about}
    helper.set_model_props(model, {key: json.dumps(value) for key, value in about.items()})
    path.write_bytes(model.SerializeToString())
    return path


def bright_network(
    path: Path, preparation: VolumePreparation, size: Sequence[int], scheme: LabelScheme = BRIGHT
) -> Path:
    """Says "bright" (label 7) where a voxel of the first channel lies above mean + 1 standard deviation."""
    weight = np.zeros((scheme.num_outputs, preparation.channels))
    weight[-1, 0] = 20.0
    task = {"kind": "segmentation", "scheme": scheme.to_dict(), "mode": "whole" if preparation.box else "patches"}
    bias = [0.0] * (scheme.num_outputs - 1) + [-20.0]
    about = {"classes": scheme.outputs, "preparation": preparation.to_dict(), "task": task}
    return write_network(path, weight, bias, size, **about)


def bright_box(shape: tuple[int, int, int] = (12, 14, 10)) -> tuple[np.ndarray, np.ndarray]:
    """A volume (X, Y, Z) float32 that is 200 in a box off the middle and 100 elsewhere, and that box as labels 7."""
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 6:10, 3:9] = 7
    return np.where(labels, 200.0, 100.0).astype(np.float32), labels
