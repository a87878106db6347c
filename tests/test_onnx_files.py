"""Files written by hand, good, damaged and of another origin, opened again."""

import json
import sys

import numpy as np
import onnx
import pytest

from exported_files import write_network
from onceforall.errors import UserError
from onceforall.onnx_files import FORMAT, open_exported, read_onnx_info


@pytest.fixture
def path(tmp_path):
    about = {"classes": ["a", "b"], "task": {"kind": "classification"}}
    return write_network(tmp_path / "net.onnx", np.array([[1.0], [2.0]]), [0.0, 0.5], (4, 4), **about)


def test_a_file_says_what_it_holds_and_runs(path):
    session, info = open_exported(path, threads=1)
    assert info == read_onnx_info(path)
    assert (info["format"], info["classes"], info["outputs"]) == (FORMAT, ["a", "b"], ["logits_0"])
    [found] = session.run(None, {"images": np.full((2, 1, 4, 4), 3.0, np.float32)})
    np.testing.assert_allclose(found, [[3.0, 6.5]] * 2)


def test_only_onnxruntime_is_needed(path, monkeypatch):
    for package in ("onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, package, None)
    assert read_onnx_info(path)["classes"] == ["a", "b"]
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime: pip install 'onceforall\[export\]'"):
        read_onnx_info(path)


def test_other_files_are_refused(tmp_path, path):
    good = path.read_bytes()
    with pytest.raises(UserError, match="no such file"):
        read_onnx_info(tmp_path / "missing.onnx")
    for data in (b"", b"garbage", good[: len(good) // 2]):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"net\.onnx is no ONNX file"):
            read_onnx_info(path)
    model = onnx.load_from_string(good)
    for value in (None, json.dumps("another format"), "{"):
        model.ClearField("metadata_props")
        if value is not None:
            onnx.helper.set_model_props(model, {"format": value})
        path.write_bytes(model.SerializeToString())
        with pytest.raises(UserError, match="none that this version of the package wrote"):
            read_onnx_info(path)
