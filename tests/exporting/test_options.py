"""Values that are known and go together, and packages that are missing."""

import math
import sys

import pytest

from onceforall.errors import UserError
from onceforall.exporting import ExportOptions


def test_each_precision_has_its_tolerance():
    assert [ExportOptions(precision=name).accepted_difference for name in ("fp32", "fp16", "int8")] == [
        1e-3,
        1e-2,
        math.inf,
    ]
    assert ExportOptions(tolerance=0.5).accepted_difference == 0.5
    assert ExportOptions(format="openvino").engine == "openvino" and ExportOptions().engine == "onnxruntime"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "tflite"}, "format 'tflite' is not one of: 'onnx', 'openvino', 'torch'"),
        ({"format": "opnvino"}, "Did you mean 'openvino'"),
        ({"precision": "int4"}, "precision of onnx 'int4' is not one of: 'fp32', 'fp16', 'int8'"),
        ({"format": "torch", "precision": "int8"}, "precision of torch 'int8' is not one of: 'fp32'"),
        ({"batch": 4}, "batch 4 is not one of"),
        ({"keep_fp32": ("stem*",)}, "keep_fp32 goes with int8"),
        ({"format": "torch", "opset": 20}, "opset and any_size go with"),
        ({"max_loss": -1.0}, "must be 0 or more"),
        ({"max_loss": math.nan}, "must be 0 or more"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(UserError, match=message):
        ExportOptions(**values)


@pytest.mark.parametrize(
    ("options", "package", "extra"),
    [
        (ExportOptions(), "onnxscript", "export"),
        (ExportOptions(format="openvino"), "openvino", "openvino"),
        (ExportOptions(format="openvino", precision="int8"), "nncf", "openvino"),
    ],
)
def test_missing_packages_are_named(options, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs the package {package}: pip install 'onceforall\[{extra}\]'"):
        options.check_installed()
    ExportOptions(format="torch").check_installed()
