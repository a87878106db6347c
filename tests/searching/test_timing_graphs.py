"""Oracles: the elastic network in PyTorch with random statistics, and the file that `export` writes."""

import random
from collections import Counter

import numpy as np
import onnx
import pytest
import torch

from onceforall.bundles import INPUT, open_session
from onceforall.errors import UserError
from onceforall.layers.elastic import ElasticBatchNorm
from onceforall.searching.timing_graphs import WRITERS, input_shape, timing_graph
from onceforall.supernets import create_supernet

NETWORKS = {
    "prox_mobilenet": {"width_mult": 0.25, "resolutions": (24, 32)},
    "prox_mobilenet published": {"width_mult": 0.25, "resolutions": (26,), "layout": "published", "depths": (1, 2)},
    "ee_dp_ofa_mbv3": {"width_mult": 0.25, "num_classes": 5, "resolutions": (32,)},
    "prox_unet3d": {"base_width": 4, "resolutions": ((16, 8, 8),), "poolings": 2},
    "prox_unet3d published": {
        "base_width": 4,
        "resolutions": (16,),
        "layout": "published",
        "depths": (1,),
        "spatial_dims": 2,
    },
}


def build(name):
    supernet = create_supernet(name.split()[0], **NETWORKS[name]).eval()
    generator = torch.Generator().manual_seed(0)
    for layer in supernet.modules():
        if isinstance(layer, ElasticBatchNorm):
            layer.running_mean.copy_(torch.rand(layer.running_mean.shape, generator=generator) - 0.5)
            layer.running_var.copy_(torch.rand(layer.running_var.shape, generator=generator) + 0.5)
    return supernet


@pytest.mark.parametrize("name", NETWORKS)
def test_graph_computes_what_the_network_computes(name):
    supernet = build(name)
    smallest, largest = supernet.space.smallest(), supernet.space.largest(exits="all")
    results = []
    for architecture in (smallest, supernet.space.sample(random.Random(1)), largest):
        data = timing_graph(supernet, architecture, batch=2)
        onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
        images = torch.randn(input_shape(supernet, architecture, 2), generator=torch.Generator().manual_seed(2))
        found = open_session(data, "graph", 1).run(None, {INPUT: images.numpy()})
        with torch.no_grad():
            outputs = supernet(images, architecture)
        expected = outputs if isinstance(outputs, tuple) else (outputs,)
        assert len(found) == len(architecture.exits)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-5 * float(other.abs().max()))
        results.append(found[-1].ravel()[:4])
    assert np.abs(results[0] - results[2]).max() > 1e-3  # architectures differ


def test_graph_has_the_operations_of_the_network_and_no_traces_of_elasticity():
    supernet = build("prox_mobilenet")
    largest = supernet.space.largest()
    nodes = {
        engine: Counter(
            node.op_type for node in onnx.load_from_string(timing_graph(supernet, largest, engine=engine)).graph.node
        )
        for engine in ("onnxruntime", "openvino")
    }
    convolutions = 1 + 3 * 15  # stem, and three for each of 5 x 3 blocks
    # ReLU behind the stem, twice in a block, once in the head; the two further blocks of a stage add their input
    shared = {"BatchNormalization": convolutions, "Relu": 1 + 2 * 15 + 1, "Add": 10}
    assert nodes["onnxruntime"] == {"Conv": convolutions + 2, "GlobalAveragePool": 1, "Flatten": 1, **shared}
    assert nodes["openvino"] == {"Conv": convolutions, "ReduceMean": 1, "Gemm": 2, **shared}


def test_an_operation_that_cannot_be_written_is_named(monkeypatch):
    supernet = build("prox_mobilenet")
    monkeypatch.delitem(WRITERS, "relu")
    with pytest.raises(UserError, match="operation 'relu'"):
        timing_graph(supernet, supernet.space.smallest())
