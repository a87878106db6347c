"""What every bundle says of itself is whole, and is what was found."""

import math
from pathlib import Path

import torch

from onceforall.bundles import KEYS
from onceforall.exporting.describing import describe
from onceforall.exporting.verifying import Difference

FOUND = Difference(largest=0.5, scale=2.0, agreement=0.75, clear=1.0)


def told(net, **changes):
    architecture = net.space.largest()
    values = {
        "paths": [Path("a/model-1.xml"), Path("a/model-2.xml")],
        "bytes": 7,
        "engine": "openvino",
        "tools": ("onnx",),
        "checked": torch.zeros(3, 1, 40, 32),
        "difference": FOUND,
        "accepted_difference": 1e-3,
        "objection": None,
        "latency": {},
        "classes": ("a", "b"),
        "preparation": {"white_border": "mask"},
    }
    return describe(net, architecture, **values | changes), architecture


def test_every_entry_of_a_bundle_is_there(tiny):
    net, _ = tiny
    about, architecture = told(net)
    assert set(KEYS) - set(about) == {"files"}
    assert about["parts"] == ["model-1.xml", "model-2.xml"] and about["classes"] == ["a", "b"]
    assert about["input"] == {"name": "images", "channels": 1, "size": [40, 32], "batch": None, "any_size": False}
    cost = net.measure(architecture)
    assert about["cost"] == {"params": cost.params, "macs": cost.macs} and about["bytes"] == 7
    assert about["check"]["inputs"] == 3 and about["check"]["relative"] == 0.25 and about["accepted"]
    assert set(about["versions"]) == {"onceforall", "torch", "onnx"}
    names = [line.partition(">")[0] for line in about["requirements"]]
    assert names == ["numpy", "click", "openvino", "pillow", "scipy"]


def test_an_objection_is_told(tiny):
    net, _ = tiny
    broken = Difference(math.nan, 2.0, 0.0, 0.0)
    about, _ = told(net, difference=broken, objection="it computes something else.", segments=True, batch=1)
    assert not about["accepted"] and about["objection"] == "it computes something else."
    assert math.isnan(about["check"]["relative"]) and about["input"]["batch"] == 1
    assert any(line.startswith("nibabel") for line in about["requirements"])
