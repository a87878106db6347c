"""Bundles replace bundles and nothing else, and are whole or not there."""

import json
import os
from pathlib import Path

import pytest

from onceforall.bundles import damaged_files, read_bundle
from onceforall.errors import UserError
from onceforall.exporting import bundle_writing
from onceforall.exporting.bundle_writing import check_place, draft_folder, finish, requirements

ABOUT = {
    "engine": "onnxruntime",
    "precision": "fp32",
    "parts": ["model.onnx"],
    "thresholds": [],
    "classes": ["a", "b"],
    "task": {"kind": "classification"},
    "input": {"name": "images", "channels": 1, "size": [8, 8], "batch": None, "any_size": False},
    "preparation": {"channels": 1},
    "exit_weights": [1.0],
    "architecture": {},
    "architecture_text": "r8",
    "cost": {"params": 1, "macs": 2},
    "kept_fp32": [],
    "check": {"inputs": 4, "relative": float("nan"), "agreement": 1.0},
    "accepted": True,
    "objection": None,
    "metrics": None,
    "latency": None,
    "bytes": 5,
    "requirements": ["numpy>=2.4", "onnxruntime"],
}


def write(folder, content=b"model", front=None):
    check_place(folder)
    with draft_folder(folder) as draft:
        (draft / "model.onnx").write_bytes(content)
        finish(draft, folder, ABOUT, front)


def test_a_bundle_is_whole_and_replaces_only_a_bundle(tmp_path):
    folder = tmp_path / "new" / "bundle"
    write(folder, front=b"picture")
    about = read_bundle(folder)
    assert damaged_files(folder, about) == [] and about["check"]["relative"] is None
    names = ["README.md", "front.png", "model.json", "model.onnx", "requirements.txt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "requirements.txt").read_text() == "numpy>=2.4\nonnxruntime\n"
    assert "(front.png)" in (folder / "README.md").read_text()
    write(folder, b"other")
    assert (folder / "model.onnx").read_bytes() == b"other" and not (folder / "front.png").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "model.json").write_text(json.dumps({"format": "another"}))
    for name in ("full", "file", "json"):
        with pytest.raises(UserError, match=f"{name} exists and is no bundle; nothing was written"):
            write(tmp_path / name)
    (tmp_path / "good.rejected").mkdir()
    (tmp_path / "good.rejected" / "x").write_text("x")
    with pytest.raises(UserError, match="rejected exists and is no bundle"):
        write(tmp_path / "good")


def test_a_damaged_bundle_may_be_replaced(tmp_path):
    write(tmp_path / "bundle")
    (tmp_path / "bundle" / "model.onnx").unlink()
    write(tmp_path / "bundle")
    assert damaged_files(tmp_path / "bundle", read_bundle(tmp_path / "bundle")) == []


@pytest.mark.parametrize("when", [1, 2])
def test_an_interruption_leaves_the_old_bundle(tmp_path, monkeypatch, when):
    folder = tmp_path / "bundle"
    write(folder, b"old")
    rename, calls = os.rename, []

    def stop(*names):
        calls.append(names)
        if len(calls) == when:
            raise OSError(28, "No space left on device")
        rename(*names)

    monkeypatch.setattr(bundle_writing.os, "rename", stop)
    with pytest.raises(UserError, match="cannot write .*bundle: No space left"):
        write(folder, b"new")
    assert (folder / "model.onnx").read_bytes() == b"old" and read_bundle(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_failure_while_it_is_made_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), draft_folder(tmp_path / "bundle") as draft:
        (draft / "model.onnx").write_bytes(b"half")
        raise KeyboardInterrupt
    assert not any(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"), draft_folder(tmp_path / "file" / "bundle"):
        pass


def test_what_a_device_needs():
    names = [line.partition(">")[0] for line in requirements("openvino", False, {"white_border": "black"})]
    assert names == ["numpy", "click", "openvino", "pillow", "scipy"]
    assert [line.partition(">")[0] for line in requirements("onnxruntime", True, {})] == [
        "numpy",
        "click",
        "onnxruntime",
        "nibabel",
    ]


def test_the_folder_one_is_in(tmp_path, monkeypatch):
    (tmp_path / "bundle").mkdir()
    monkeypatch.chdir(tmp_path / "bundle")
    write(Path("."))
    assert read_bundle(tmp_path / "bundle") and [path.name for path in tmp_path.iterdir()] == ["bundle"]
