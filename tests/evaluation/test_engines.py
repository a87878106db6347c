"""Oracles: PyTorch's outputs, what the process says of itself, the settings that were asked. No time is judged."""

import os
import sys

import numpy as np
import onnx
import pytest
import torch

from onceforall.bundles import INPUT
from onceforall.errors import UserError
from onceforall.evaluation import engines
from onceforall.evaluation.engines import EngineProcess, EngineSettings, TorchNetwork, installed_backends
from onceforall.evaluation.latency import Latency
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3

QUICK = {"warmup_seconds": 0.0, "min_runs": 2, "max_seconds": 0.0}
SHAPE = (2, 3)


def linear(weights: np.ndarray) -> bytes:
    """A file that multiplies (2, 3) by `weights`."""
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", [INPUT, "weights"], ["out"])],
        "linear",
        [value(INPUT, kind, list(SHAPE))],
        [value("out", kind, [SHAPE[0], weights.shape[1]])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    opset = [onnx.helper.make_opsetid("", 20)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def small() -> OFAMobileNetV3:
    space = SearchSpace.build(1, resolutions=(16,), depths=(1,), kernel_sizes=(3,), expand_ratios=(3,))
    return OFAMobileNetV3(space, num_classes=2, in_channels=1, width_mult=0.25)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_files_are_timed_in_a_process_of_the_engine(backend: str) -> None:
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    file, present = linear(np.ones((3, 4), np.float32)), set(sys.modules)
    with EngineProcess(EngineSettings(backend, batch=2)) as engine:
        got = engine.measure([file, file], [SHAPE, SHAPE], rounds=2, **QUICK)
    assert [(each.engine, each.runs, each.batch_size, each.threads) for each in got] == [(backend, 4, 2, 1)] * 2
    assert all(each.median_ms > 0 and each.precision == "float32" for each in got)
    if backend == "openvino":
        assert "openvino" not in set(sys.modules) - present  # nothing of it was loaded in this process


def test_the_first_network_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    if "onnxruntime" not in installed_backends():
        pytest.skip("onnxruntime is not installed")
    prepared = []
    usual = engines.PREPARE["onnxruntime"]

    def prepare(file: bytes, *more):
        prepared.append(file)
        return usual(file, *more)

    monkeypatch.setitem(engines.PREPARE, "onnxruntime", prepare)
    a, b, c = (linear(np.full((3, 4), value, np.float32)) for value in (1, 2, 3))
    for files in ([a, b], [a, c], [b, b]):
        engines._measure(EngineSettings("onnxruntime", batch=2), files, [SHAPE] * 2, QUICK)
    assert prepared == [a, b, c, b, b]


def test_pytorch_builds_the_network_there() -> None:
    net = small()
    job = TorchNetwork(type(net), net.options, net.space.smallest())
    with EngineProcess(EngineSettings("pytorch")) as engine:
        [got] = engine.measure([job], [(1, 1, 16, 16)], **QUICK)
    assert (got.engine, got.runs, got.device) == ("pytorch", 2, "cpu")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_call_runs_the_network_on_noise(backend: str) -> None:
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed")
    weights = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    out = engines.PREPARE[backend](linear(weights), SHAPE, EngineSettings(backend))()
    found = out[0] if isinstance(out, list) else next(iter(out.values()))  # pyright: ignore
    noise = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    np.testing.assert_allclose(found, noise @ weights, rtol=1e-5)  # also: float32, not bfloat16


def test_pytorch_call_is_of_the_asked_architecture() -> None:
    net = small()
    job = TorchNetwork(type(net), net.options, net.space.smallest())
    with torch.inference_mode():
        out = engines.PREPARE["pytorch"](job, (3, 1, 16, 16), EngineSettings())()
    assert isinstance(out, torch.Tensor) and out.shape == (3, 2)


def test_a_process_that_dies_is_told_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with EngineProcess(EngineSettings("onnxruntime")) as engine:
        monkeypatch.setattr(engines, "_measure", _die)
        with pytest.raises(UserError, match="process of onnxruntime died"):
            engine.measure([b""], [SHAPE])
        monkeypatch.undo()
        assert len(engine.measure([linear(np.ones((3, 1), np.float32))], [SHAPE], **QUICK)) == 1


def _die(*_: object) -> list[Latency]:
    os._exit(1)


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="Did you mean 'openvino'"):
        EngineSettings("openvio")
    with pytest.raises(UserError, match="precision of onnxruntime 'bfloat16'"):
        EngineSettings("onnxruntime", precision="bfloat16")
    with pytest.raises(UserError, match="threads 0"):
        EngineSettings(threads=0)
    with pytest.raises(UserError, match="measured on 'cpu' only"):
        EngineSettings("openvino", device="cuda")
    for device in ("cuda:77", "gpu"):
        with pytest.raises(UserError, match=f"device '{device}': there is none here"):
            EngineSettings(device=device).check_installed()
    with EngineProcess(EngineSettings("onnxruntime")) as engine, pytest.raises(UserError, match="no ONNX file"):
        engine.measure([b"nonsense"], [SHAPE])
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'onceforall\[openvino\]'"):
        EngineProcess(EngineSettings("openvino"))
