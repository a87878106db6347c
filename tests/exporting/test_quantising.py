"""ONNX files in 8 bits: which layers are, in what order layers are kept out, and that ranges come from the images."""

import re

import numpy as np
import onnx
import pytest

from export_networks import IMAGES
from onceforall.bundles import open_part
from onceforall.errors import UserError
from onceforall.exporting import quantising
from onceforall.exporting.quantising import layer_names, layers_to_keep, most_harmed, named_layers, quantise_onnx


def quantised_layers(model):
    """Layers whose weights are stored in 8 bits."""
    small = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8}
    made = {
        node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in small
    }
    return {node.name for node in model.graph.node if node.op_type in quantising.WEIGHTED and set(node.input) & made}


def run(model, path, images=IMAGES):
    path.write_bytes(model.SerializeToString())
    return open_part(path, "onnxruntime", 1).run({"images": images})["logits"]


def test_all_layers_but_those_that_are_kept(tiny, tmp_path):
    _, model = tiny
    names = layer_names(model)
    before = model.SerializeToString()
    whole = quantise_onnx(model, IMAGES[:8])
    assert quantised_layers(whole) == set(names) and model.SerializeToString() == before
    kept = (names[0], names[5])
    assert quantised_layers(quantise_onnx(model, IMAGES[:8], kept)) == set(names) - set(kept)
    assert quantised_layers(quantise_onnx(model, IMAGES[:8], only=[names[2]])) == {names[2]}
    exact, found = run(model, tmp_path / "a.onnx"), run(whole, tmp_path / "b.onnx")
    assert 0 < np.abs(found - exact).mean() < 0.6 * np.abs(exact).mean()
    narrow = run(quantise_onnx(model, 0.01 * IMAGES[:8]), tmp_path / "c.onnx")
    assert np.abs(narrow - exact).mean() > 1.2 * np.abs(found - exact).mean(), "the ranges are those of the images"
    assert re.search(rb"/tmp|\.py\b", whole.SerializeToString()) is None


def test_layers_are_named_by_patterns(tiny):
    _, model = tiny
    names = layer_names(model)
    assert named_layers(model, []) == ()
    assert named_layers(model, [names[-1], "stem*"]) == (names[0], names[-1]), "in the order in which they run"
    assert named_layers(model, ["*"]) == tuple(names)
    with pytest.raises(
        UserError, match=r"no layer is called 'stem\.cnv'\. Did you mean 'stem\.conv'\? There are: stem"
    ):
        named_layers(model, ["stem.cnv"])


def test_more_and_more_layers_are_kept(tiny, monkeypatch):
    _, model = tiny
    names = layer_names(model)
    order = []

    def ranked(model, among, images):
        order.extend(reversed(among))
        return list(reversed(among))

    monkeypatch.setattr(quantising, "most_harmed", ranked)
    attempts = list(layers_to_keep(model, [names[3]], IMAGES))
    assert attempts[0] == (names[3],) and attempts[1] == (names[0], names[3], names[-1])
    assert set(order) == set(names) - set(attempts[1])
    count = len(names)
    for attempt, share in zip(attempts[2:], (1 / 8, 1 / 4, 1 / 2), strict=True):
        assert set(attempt) == set(attempts[1]) | set(order[: round(share * count)])
        assert list(attempt) == [name for name in names if name in attempt]


def test_the_layer_that_hurts_most_comes_first(monkeypatch):
    harm = {"exact": 1.0, "a": 1.1, "b": 0.2, "c": 1.5}  # what each answers when it alone is in 8 bits
    seen = []

    def quantised(model, images, keep=(), only=None):
        seen.append(len(images))
        [name] = only
        return name

    monkeypatch.setattr(quantising, "quantise_onnx", quantised)
    monkeypatch.setattr(quantising, "_answers", lambda model, images: np.full((len(images), 3), harm[model]))
    assert most_harmed("exact", ["a", "b", "c"], IMAGES) == ["b", "c", "a"]
    assert seen == [8, 8, 8], "a few images are enough"
