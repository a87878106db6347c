"""The graph: names of its layers, what may stay in it, weights in 16 bits, versions of the operators."""

import numpy as np
import onnx
import pytest

from export_networks import IMAGES
from onceforall.bundles import open_part
from onceforall.errors import UserError
from onceforall.exporting.inputs import plain_copy
from onceforall.exporting.onnx_model import WEIGHTED, leftovers, to_onnx, with_half_weights


def graph_of(*nodes):
    return onnx.helper.make_graph([onnx.helper.make_node(*node) for node in nodes], "graph", [], [])


def test_only_a_normalisation_that_nothing_could_fold_may_stay():
    norm = ["x", "scale", "bias", "mean", "var"]
    alone = graph_of(("Conv", ["a", "w"], ["x"]), ("BatchNormalization", norm, ["y"]))
    assert leftovers(alone) == {"BatchNormalization": 1}
    before_a_sum = graph_of(
        ("Conv", ["a", "w"], ["x"]), ("BatchNormalization", norm, ["y"]), ("Add", ["x", "y"], ["z"])
    )
    assert leftovers(before_a_sum) == {}
    behind_an_activation = graph_of(("Relu", ["a"], ["x"]), ("BatchNormalization", norm, ["y"]), ("If", ["y"], ["z"]))
    assert leftovers(behind_an_activation) == {"If": 1}


def test_layers_are_called_as_in_pytorch(tiny):
    net, model = tiny
    modules = dict(net.named_modules())
    names = [node.name for node in model.graph.node if node.op_type in WEIGHTED]
    assert len(names) == len(set(names)) > 10 and names[0] == "stem.conv"
    assert set(names) <= set(modules), set(names) - set(modules)


def run(model, path):
    path.write_bytes(model.SerializeToString())
    return open_part(path, "onnxruntime", 1).run({"images": IMAGES})["logits"]


def test_weights_in_16_bits_take_half_the_space_and_change_little(tiny, tmp_path):
    _, model = tiny
    half = with_half_weights(model)
    assert len(half.SerializeToString()) < 0.65 * len(model.SerializeToString())
    exact, found = run(model, tmp_path / "a.onnx"), run(half, tmp_path / "b.onnx")
    assert 0 < np.abs(found - exact).max() < 1e-2 * np.abs(exact).max()
    stored = {tensor.name: tensor for tensor in half.graph.initializer}
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            expected = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored[f"{tensor.name}.half"]), expected)


@pytest.mark.parametrize("opset", [11, 17, 99])
def test_versions_that_cannot_be_written_are_refused(tiny, opset):
    copy, architecture = plain_copy(tiny[0])
    with pytest.raises(UserError, match=f"opset {opset} cannot be written; give one of 18 to"):
        to_onnx(copy, architecture, IMAGES.shape[1:], opset=opset)


def test_one_image_at_a_time_in_an_asked_version(tiny):
    copy, architecture = plain_copy(tiny[0])
    model = to_onnx(copy, architecture, IMAGES.shape[1:], batch=1, opset=18)
    assert model.opset_import[0].version == 18
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == [1, 1, 32, 32]
