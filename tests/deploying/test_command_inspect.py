"""`onceforall inspect` as it is typed, without torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from exported_files import write_network
from onceforall.bundles import ABOUT
from onceforall.cli import main


def invoke(*words):
    return CliRunner().invoke(main, ["inspect", *(str(word) for word in words)])


@pytest.fixture
def bundle(tmp_path):
    metrics = {"name": "accuracy", "before": 0.99, "after": 0.985, "data": "photos", "split": "test", "inputs": 300}
    about = {"metrics": metrics, "accepted": False, "objection": "it is slower than a snail."}
    return write_network(tmp_path / "net", np.array([[1.0], [2.0]]), [0.0, 0.5], (4, 4), **about)


def test_it_tells_what_a_bundle_is(bundle):
    result = invoke(bundle)
    assert result.exit_code == 0, result.output
    lines = dict(line.split("  ", 1) for line in result.output.splitlines())
    lines = {label.strip(): text.strip() for label, text in lines.items()}
    assert lines["outputs"] == "2: a, b" and lines["engine"] == "onnxruntime, fp32 (float32)"
    assert lines["accuracy"] == "0.9850, in PyTorch 0.9900, on 300 inputs of photos, test"
    assert lines["check"] == "failed: it is slower than a snail."
    assert lines["checksums"] == "1 files are as they were written" and lines["needs"] == "numpy, onnxruntime"
    found = json.loads(invoke(bundle, "--json").output)
    assert found["classes"] == ["a", "b"] and found["damaged"] == []


def test_what_was_changed_is_told(bundle):
    data = bytearray((bundle / "part_0.onnx").read_bytes())
    data[10] ^= 1
    (bundle / "part_0.onnx").write_bytes(data)
    result = invoke(bundle)
    assert result.exit_code == 2 and "part_0.onnx was changed or damaged" in result.output
    assert "error: " in result.output.splitlines()[-1] and "Copy the bundle again" in result.output
    result = invoke(bundle, "--json")
    assert result.exit_code == 2 and "part_0.onnx was changed" in json.loads(result.stdout)["damaged"][0]
    (bundle / ABOUT).unlink()
    assert "has no model.json" in invoke(bundle).output


def test_it_needs_neither_torch_nor_an_engine(bundle):
    program = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxruntime', 'openvino', 'sklearn'):\n    sys.modules[name] = None\n"
        f"from onceforall.cli import main\nmain(['inspect', {str(bundle)!r}], standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0 and "2: a, b" in done.stdout, done.stderr
