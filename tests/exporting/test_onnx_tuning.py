"""The tuned graph computes the same, in convolutions, whatever else reads the means."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export_networks import IMAGES, elastic_network, smallest
from onceforall.bundles import open_session
from onceforall.exporting.inputs import plain_copy
from onceforall.exporting.onnx_model import WEIGHTED, to_onnx
from onceforall.exporting.onnx_tuning import tuned_for_onnxruntime

RNG = np.random.default_rng(0)


def run(model, values):
    session = open_session(model.SerializeToString(), "graph", 1)
    return session.run(None, {session.get_inputs()[0].name: values})


def kinds(model):
    return Counter(node.op_type for node in model.graph.node)


@pytest.fixture(scope="module")
def graphs():
    """A network with squeeze-excitation for OpenVINO and for onnxruntime."""
    copy, architecture = plain_copy(smallest(elastic_network()))
    return [to_onnx(copy, architecture, IMAGES.shape[1:], engine=engine) for engine in ("openvino", "onnxruntime")]


def test_a_network_computes_the_same_with_fewer_kinds_of_nodes(graphs):
    plain, tuned = graphs
    [expected], [found] = (run(model, IMAGES) for model in graphs)
    assert expected.shape == found.shape == (40, 10) and expected.std(0).max() > 0.01 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    before, after = kinds(plain), kinds(tuned)
    assert set(after) == {"Conv", "HardSwish", "Relu", "HardSigmoid", "GlobalAveragePool", "Mul", "Add", "Flatten"}
    assert after["Conv"] == before["Conv"] + before["Gemm"] and after["Flatten"] == 1
    assert after["GlobalAveragePool"] == before["ReduceMean"] > 1


def test_layers_keep_their_names_and_nothing_is_left_behind(graphs):
    plain, tuned = graphs
    names = [[node.name for node in model.graph.node if node.op_type in WEIGHTED] for model in graphs]
    assert names[0] == names[1]
    read = {name for node in tuned.graph.node for name in node.input}
    assert {tensor.name for tensor in tuned.graph.initializer} <= read
    stored = [
        sum(np.prod(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) > 1) for model in graphs
    ]
    assert stored[0] == stored[1]


def graph_of(nodes, outputs, **constants):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "graph",
        [value("x", TensorProto.FLOAT, [None, 4, 5, 6])],
        [value(name, TensorProto.FLOAT, [None, 3]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_rows_are_given_to_what_reads_rows():
    weight, bias = RNG.normal(size=(4, 3)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "weight", "bias"], ["logits"], name="classify"),
        helper.make_node("Relu", ["logits"], ["positive"]),
        helper.make_node("Softmax", ["positive"], ["shares"], axis=1),
        helper.make_node("Mul", ["logits", "shares"], ["product"]),
    ]
    model = graph_of(nodes, ["logits", "product"], axes=np.array([2, 3]), weight=weight, bias=bias)
    before = model.SerializeToString()
    tuned = tuned_for_onnxruntime(model)
    assert model.SerializeToString() == before, "what was given is not changed"
    onnx.checker.check_model(tuned)
    assert kinds(tuned) == {"GlobalAveragePool": 1, "Conv": 1, "Relu": 1, "Flatten": 3, "Softmax": 1, "Mul": 1}
    x = RNG.normal(size=(2, 4, 5, 6)).astype(np.float32)
    logits = x.mean((2, 3)) @ weight + bias
    powers = np.exp(np.maximum(logits, 0))
    expected = [logits, logits * powers / powers.sum(1, keepdims=True)]
    for found, other in zip(run(tuned, x), expected, strict=True):
        np.testing.assert_allclose(found, other, atol=1e-5)


@pytest.mark.parametrize("axes, keepdims", [([2, 3], 1), ([1, 2], 0), ([3], 0)])
def test_other_means_stay(axes, keepdims):
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=keepdims)]
    assert kinds(tuned_for_onnxruntime(graph_of(nodes, ["mean"], axes=np.array(axes)))) == {"ReduceMean": 1}
