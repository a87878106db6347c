"""The card is read by a YAML parser, as Hugging Face reads it."""

import yaml

from onceforall.exporting.model_card import model_card

ABOUT = {
    "engine": "openvino",
    "precision": "int8",
    "parts": ["model.xml"],
    "thresholds": [],
    "classes": ["left: eye", 'a "b"'],
    "task": {"kind": "classification"},
    "input": {"name": "images", "channels": 3, "size": [48, 48], "batch": 1, "any_size": False},
    "architecture_text": "r48 | k3e3 k5e6 | k7e4",
    "cost": {"params": 10, "macs": 20},
    "kept_fp32": ["stem.conv"],
    "check": {"inputs": 64, "relative": 0.25, "agreement": 0.984},
    "accepted": True,
    "objection": None,
    "metrics": {"name": "accuracy", "before": 0.99, "after": 0.985, "data": "photos", "split": "test", "inputs": 300},
    "latency": {
        "threads": 1,
        "processor": "Some CPU",
        "exported": {"median_ms": 5.6, "processor_ms": 0.284, "to_pytorch": 0.07, "noisy": True},
    },
    "bytes": 2_000_000,
}


def parsed(text):
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    return yaml.safe_load(front), body


def test_the_front_matter_is_that_of_hugging_face():
    front, body = parsed(model_card(ABOUT, picture="front.png"))
    assert front["library_name"] == "onceforall" and front["pipeline_tag"] == "image-classification"
    assert {"onceforall", "openvino", "int8"} <= set(front["tags"])
    [entry] = front["model-index"]
    [result] = entry["results"]
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {"name": "photos", "type": "photos", "split": "test"}
    assert result["metrics"] == [{"type": "accuracy", "value": 0.985}]
    for text in (
        "0.9850, in PyTorch 0.9900, on 300 inputs of photos, test",
        "left: eye",
        "0.284 ms, 0.07 of PyTorch's time (1 thread, Some CPU), noisy",
        "98.40% equal answers to 64 held-out inputs",
        "layers kept in float32: stem.conv",
        "3 channel(s), 48 x 48, one at a time",
        "![its place among other sub-networks](front.png)",
        "pip install --no-deps onceforall",
    ):
        assert text in body, text


def test_a_bundle_that_knows_the_time_of_the_clock_alone():
    clock = ABOUT["latency"] | {"exported": {"median_ms": 5.6, "to_pytorch": 0.07, "noisy": False}}
    assert "5.6 ms, 0.07 of PyTorch's time" in parsed(model_card(ABOUT | {"latency": clock}))[1]


def test_what_is_not_known_is_said():
    about = ABOUT | {"metrics": None, "latency": None, "accepted": False, "objection": "it is worse."}
    about |= {"engine": "torch", "precision": "fp32", "parts": ["model.pt2"], "task": {"kind": "segmentation"}}
    front, body = parsed(model_card(about | {"check": {"inputs": 4, "relative": None, "agreement": 0.0}}))
    assert "model-index" not in front and front["pipeline_tag"] == "image-segmentation"
    for text in ("not measured", "judged on no labelled data", "failed its check**: it is worse.", "torch.export.load"):
        assert text in body
    assert "front.png" not in body and "unknown of the largest logit" in body
