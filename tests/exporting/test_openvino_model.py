"""Files for OpenVINO against onnxruntime and numpy: float32 exact, 16 bits, 8 bits, nothing said to anyone."""

import os
import sys

import numpy as np
import pytest

from export_networks import IMAGES
from onceforall.bundles import open_part
from onceforall.errors import UserError
from onceforall.exporting.openvino_model import quantise_openvino, to_openvino, write_openvino
from onceforall.exporting.quantising import layer_names

pytest.importorskip("openvino")


def run(path, engine="openvino"):
    return open_part(path, engine, 1).run({"images": IMAGES})["logits"]


@pytest.fixture(scope="module")
def exact(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_bytes(tiny[1].SerializeToString())
    return run(path, "onnxruntime")


def written(model, path, half=False):
    write_openvino(model, path, half)
    return run(path), path.with_suffix(".bin").stat().st_size


def test_float32_is_computed_and_16_bits_are_stored_only_where_asked(tiny, exact, tmp_path):
    found, size = written(to_openvino(tiny[1]), tmp_path / "a.xml")
    assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max(), "bfloat16 would differ in the third digit"
    half, half_size = written(to_openvino(tiny[1]), tmp_path / "b.xml", half=True)
    assert half_size < 0.6 * size
    assert 1e-6 < np.abs(half - exact).max() / np.abs(exact).max() < 1e-2
    for path in tmp_path.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes() and b".py" not in path.read_bytes()


def eight_bit_layers(model):
    """Layers whose weights are constants of 8 bits, found by walking back from each to its constant."""
    out = set()
    for operation in model.get_ops():
        if operation.get_type_name() not in ("Convolution", "GroupConvolution", "MatMul"):
            continue
        node = operation.input_value(1).get_node()
        while node.get_type_name() in ("Multiply", "Subtract", "Convert", "Reshape"):
            node = node.input_value(0).get_node()
        if node.get_type_name() == "FakeQuantize" or "8" in str(node.get_output_element_type(0)):
            out.add(operation.get_friendly_name().partition("/")[0])
    return out


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_8_bits_but_for_the_layers_that_are_kept(tiny, exact, tmp_path, monkeypatch, capfd):
    pytest.importorskip("nncf")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    names = layer_names(tiny[1])
    quantised = quantise_openvino(to_openvino(tiny[1]), IMAGES[:8])
    assert eight_bit_layers(quantised) == set(names)
    kept = (names[0], names[4])
    assert eight_bit_layers(quantise_openvino(to_openvino(tiny[1]), IMAGES[:8], kept)) == set(names) - set(kept)
    found, _ = written(quantised, tmp_path / "c.xml")
    assert 0 < np.abs(found - exact).mean() < 0.6 * np.abs(exact).mean()
    assert capfd.readouterr().out == "" and "CI" not in os.environ
    assert not (tmp_path / "home").exists(), "telemetry wrote something"


def test_missing_packages_are_named(tiny, monkeypatch):
    model = to_openvino(tiny[1])
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(UserError, match=r"nncf: pip install 'onceforall\[openvino\]'"):
        quantise_openvino(model, IMAGES)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"openvino: pip install 'onceforall\[openvino\]'"):
        to_openvino(tiny[1])
