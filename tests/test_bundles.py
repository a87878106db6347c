"""Bundles written by hand, good, damaged and of another origin, opened again."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exported_files import conv_model, write_bundle, write_network
from onceforall.bundles import (
    ABOUT,
    checksum,
    damaged_files,
    describe,
    is_bundle,
    open_bundle,
    open_part,
    open_session,
    read_bundle,
    seal,
)
from onceforall.errors import UserError

WEIGHT = np.array([[1.0], [2.0]])


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_network(tmp_path / "net", WEIGHT, [0.0, 0.5], (4, 4))


def change(folder, sealed=True, **values):
    about = json.loads((folder / ABOUT).read_text()) | values
    (folder / ABOUT).write_text(json.dumps(seal(about) | values if sealed else about))


def test_a_bundle_says_what_it_holds_and_runs(folder):
    bundle = open_bundle(folder, threads=1)
    assert bundle.about == read_bundle(folder) and is_bundle(folder)
    [part] = bundle.parts
    assert part.inputs == ("images",) and part.outputs == ("logits_0",)
    found = part.run({"images": np.full((2, 1, 4, 4), 3.0, np.float32)})["logits_0"]
    np.testing.assert_allclose(found, [[3.0, 6.5]] * 2)


def test_checksums_are_those_of_the_files(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert checksum(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_changed_byte_is_found(folder):
    data = bytearray((folder / "part_0.onnx").read_bytes())
    for place in (0, len(data) // 2, len(data) - 1):
        data[place] ^= 1
        (folder / "part_0.onnx").write_bytes(data)
        with pytest.raises(UserError, match=r"part_0\.onnx was changed or damaged.*Copy the bundle again"):
            open_bundle(folder)
        assert damaged_files(folder, read_bundle(folder)) == [
            "part_0.onnx was changed or damaged (its checksum differs)"
        ]
        data[place] ^= 1
    (folder / "part_0.onnx").unlink()
    with pytest.raises(UserError, match=r"part_0\.onnx is missing"):
        open_bundle(folder)
    assert is_bundle(folder)


def test_a_changed_description_is_found(folder):
    change(folder, sealed=False, classes=["b", "a"])
    with pytest.raises(UserError, match=r"model\.json was changed since it was written"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "onceforall-bundle-99"}, "has the format 'onceforall-bundle-99', this version"),
        ({"engine": "tvm"}, "engine of .*net 'tvm' is not one of"),
        ({"thresholds": [0.5]}, "1 thresholds for 1 parts"),
        ({"parts": ["../other.onnx"]}, r"names the file '\.\./other\.onnx' outside its folder"),
        ({"engine": "torch"}, r"a program for PyTorch.*torch\.export\.load"),
    ],
)
def test_what_cannot_be_right_is_refused(folder, values, message):
    change(folder, **values)
    with pytest.raises(UserError, match=message):
        open_bundle(folder)


def test_other_things_are_no_bundles(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.onnx").write_bytes(b"x")
    for name, message in (
        ("missing", "missing does not exist: give the folder of a bundle"),
        ("empty", "empty has no model.json"),
        ("file.onnx", "file.onnx is a file: give the folder"),
    ):
        with pytest.raises(UserError, match=message):
            open_bundle(tmp_path / name)
        assert not is_bundle(tmp_path / name)
    for text in ("{", "[]", '{"a": 1}', "\0"):
        (folder / ABOUT).write_text(text)
        with pytest.raises(UserError, match=r"model\.json is damaged or was not written by onceforall export"):
            read_bundle(folder)
        assert not is_bundle(folder)
    (folder / ABOUT).write_text(json.dumps(seal({"engine": "onnxruntime"})))
    with pytest.raises(UserError, match="lacks precision, parts"):
        read_bundle(folder)


def test_only_the_engine_is_needed(folder, monkeypatch):
    for package in ("onnx", "onnxscript", "torch", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    assert open_bundle(folder).about["classes"] == ["a", "b"]
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert read_bundle(folder), "what it says can be read without the engine"
    with pytest.raises(UserError, match=r"onnxruntime: pip install 'onceforall\[export\]'.*pip install onnxruntime"):
        open_bundle(folder)
    change(folder, engine="openvino")
    with pytest.raises(UserError, match=r"openvino: pip install 'onceforall\[openvino\]'"):
        open_bundle(folder)


def test_files_that_cannot_be_run_are_named(tmp_path):
    good = conv_model(WEIGHT, [0.0, 0.5], (4, 4))
    for data in (b"", b"garbage", good[: len(good) // 2]):
        with pytest.raises(UserError, match=r"net\.onnx is no ONNX file that onnxruntime .* can run"):
            open_session(data, "net.onnx", 1)
    model = onnx.load_from_string(good)
    model.opset_import[0].version = 99
    with pytest.raises(UserError, match=r"onnxruntime .* can run: .*99"):
        open_session(model.SerializeToString(), "net.onnx", 1)
    pytest.importorskip("openvino")
    (tmp_path / "a.xml").write_text("<net/>")
    with pytest.raises(UserError, match=r"a\.xml is no file that OpenVINO"):
        open_part(tmp_path / "a.xml", "openvino", 1)


def static(path):
    """Doubles (1, 2) only."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["images", "images"], ["logits"])],
        "double",
        [value("images", TensorProto.FLOAT, [1, 2])],
        [value("logits", TensorProto.FLOAT, [1, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_file_for_one_input_takes_several(engine, tmp_path):
    pytest.importorskip(engine)
    part = open_part(static(tmp_path / "net.onnx"), engine, 1)
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = [part.run({"images": values[i:j]})["logits"] for i, j in ((0, 3), (1, 2))]
    np.testing.assert_array_equal(found[0], 2 * values)
    np.testing.assert_array_equal(found[1], 2 * values[1:2])


def test_openvino_computes_in_float32(tmp_path):
    """A sum that bfloat16, with its eight bits, would round away."""
    pytest.importorskip("openvino")
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 64))
    (tmp_path / "net.onnx").write_bytes(conv_model(weight, [0.0] * 8, (4, 4)))
    images = rng.normal(size=(3, 64, 4, 4)).astype(np.float32)
    found = open_part(tmp_path / "net.onnx", "openvino", 1).run({"images": images})["logits_0"]
    expected = images.mean((2, 3)) @ weight.astype(np.float32).T
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_is_described_in_words(tmp_path):
    models = [conv_model(WEIGHT, [0.0, 0.0], (4, 4))] * 2
    folder = write_bundle(tmp_path / "net", models, 1, (4, 4), thresholds=[0.75], kept_fp32=["stem"])
    described = dict(describe(read_bundle(folder)))
    assert described["parts"] == "2, an answer is final from a certainty of 0.75"
    assert described["input"] == "1 channel(s), 4 x 4, any number at a time" and described["outputs"] == "2: a, b"
    assert described["metric"] == "not measured" and described["layers kept in float32"] == "stem"
