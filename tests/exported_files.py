"""Small networks in bundles as `onceforall export` writes them, made by hand: what they answer is known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from onceforall.bundles import ABOUT, checksum, seal
from onceforall.data import LabelScheme, VolumePreparation

BRIGHT = LabelScheme("bright", "softmax", ("background", "bright"), ((0,), (7,)))


def conv_model(weight: np.ndarray, bias: Sequence[float], size: Sequence[int], outputs: int = 1) -> bytes:
    """An ONNX file whose outputs "logits_0", ... are weight (K, C) x channels + bias (K,) in each pixel.

    Of images it is the mean over the pixels.
    """
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
    return model.SerializeToString()


def write_bundle(folder: Path, models: Sequence[bytes], channels: int, size: Sequence[int], **about: Any) -> Path:
    """A bundle of ONNX files, one for each part."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"part_{number}.onnx" for number in range(len(models))]
    for name, data in zip(names, models, strict=True):
        (folder / name).write_bytes(data)
    known = {
        "engine": "onnxruntime",
        "precision": "fp32",
        "parts": names,
        "thresholds": [],
        "classes": ["a", "b"],
        "task": {"kind": "classification"},
        "input": {"name": "images", "channels": channels, "size": list(size), "batch": None, "any_size": False},
        "preparation": {"channels": channels},
        "exit_weights": [1.0],
        "architecture": {},
        "architecture_text": "one convolution",
        "cost": {"params": 1, "macs": 2},
        "kept_fp32": [],
        "check": {"inputs": 4, "relative": 1e-6, "agreement": 1.0},
        "accepted": True,
        "objection": None,
        "metrics": None,
        "latency": None,
        "bytes": sum(map(len, models)),
        "requirements": ["numpy", "onnxruntime"],
    }
    files = {name: checksum(folder / name) for name in names}
    (folder / ABOUT).write_text(json.dumps(seal({**known, **about, "files": files})))
    return folder


def write_network(
    folder: Path, weight: np.ndarray, bias: Sequence[float], size: Sequence[int], outputs: int = 1, **about: Any
) -> Path:
    """A bundle of `conv_model`."""
    model = conv_model(weight, bias, size, outputs)
    return write_bundle(folder, [model], np.shape(weight)[1], size, **{"exit_weights": [1 / outputs] * outputs} | about)


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
