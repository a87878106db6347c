"""Oracles: the elastic network itself in PyTorch, and the bundles' files opened again by onnx and onnxruntime.

The running statistics are random, so that a normalisation that was folded wrongly shows.
"""

import logging
import random
import re
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file

from export_networks import (
    CLASSES,
    IMAGES,
    PREPARATION,
    RESOLUTION,
    elastic_network,
    export_to,
    smallest,
    with_random_statistics,
)
from onceforall.bundles import damaged_files, read_bundle
from onceforall.data import LabelScheme, VolumePreparation
from onceforall.errors import UserError
from onceforall.exporting import ExportOptions, attempts, bundle_making, verifying
from onceforall.search_space import SearchSpace
from onceforall.supernets import create_supernet
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.training.checkpoint import load_network


@pytest.fixture(scope="module")
def supernet():
    return elastic_network()


def architectures(supernet):
    rng = random.Random(0)
    return [replace(supernet.space.sample(rng), resolution=RESOLUTION) for _ in range(2)]


@pytest.fixture(scope="module")
def exported(supernet, tmp_path_factory):
    """Two networks as bundles: (architecture, report) of each."""
    folder = tmp_path_factory.mktemp("exported")
    return [
        (architecture, export_to(folder / str(i), supernet.subnet(architecture)))
        for i, architecture in enumerate(architectures(supernet))
    ]


def outputs(folder, images=IMAGES):
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


def test_file_computes_what_the_supernet_computes(supernet, exported):
    results = []
    for architecture, report in exported:
        with torch.no_grad():
            expected = supernet(torch.from_numpy(IMAGES), architecture).numpy()
        results.append(outputs(report.path)[0])
        scale = np.abs(expected).max()
        assert expected.std(0).max() > 0.05 * scale, "the outputs hardly depend on the images"
        assert np.abs(results[-1] - expected).max() < 1e-4 * scale
        assert report.difference.relative < 1e-4
        assert report.difference.agreement == 1
        assert report.images == 40
        assert report.difference.scale == pytest.approx(scale, rel=1e-5)
        assert report.metric is None and report.objection is None
    assert np.abs(results[0] - results[1]).max() > 0.01 * np.abs(results[0]).max()


def test_graph_is_that_of_an_ordinary_network(supernet, exported):
    for architecture, report in exported:
        model = onnx.load(report.path / "model.onnx")
        found = {node.op_type for node in model.graph.node}
        assert found == {"Conv", "HardSwish", "Relu", "HardSigmoid", "GlobalAveragePool", "Flatten", "Mul", "Add"}
        assert sum(report.nodes.values()) == len(model.graph.node)
        assert report.leftovers == {}
        assert report.opset == model.opset_import[0].version
        # normalisation is folded: one bias instead of scale, shift, mean and variance
        stored = sum(np.prod(tensor.dims) for tensor in model.graph.initializer)
        assert stored < supernet.measure(architecture).weight_bytes / 4
        assert report.bytes == (report.path / "model.onnx").stat().st_size < 1.1 * 4 * stored + 50_000


def test_any_batch_size_and_one_image_alone(exported):
    path = exported[0][1].path
    whole = outputs(path)[0]
    for size in (1, 3):
        np.testing.assert_allclose(outputs(path, IMAGES[:size])[0], whole[:size], atol=1e-4)
    shape = onnx.load(path / "model.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["batch", 1, RESOLUTION, RESOLUTION]


def test_the_bundle_says_what_it_needs(supernet, exported):
    architecture, report = exported[0]
    about = read_bundle(report.path)
    assert about["classes"] == CLASSES and about["parts"] == ["model.onnx"] and about["thresholds"] == []
    assert about["engine"] == "onnxruntime" and about["precision"] == "fp32"
    size = [RESOLUTION, RESOLUTION]
    assert about["input"] == {"name": "images", "channels": 1, "size": size, "batch": None, "any_size": False}
    assert about["preparation"] == PREPARATION
    assert about["task"] == {"kind": "classification"} and about["exit_weights"] == [1.0]
    assert about["architecture"] == architecture.to_dict() and about["architecture_text"] == str(architecture)
    assert about["cost"]["macs"] == supernet.measure(architecture).macs
    assert about["facts"] == {"accuracy": 0.9}
    assert about["check"]["inputs"] == 40 and about["accepted"]
    assert about["check"]["max_difference"] == report.difference.largest
    latency = about["latency"]
    assert (latency["threads"], latency["batch"]) == (1, 1)
    ratio = latency["exported"]["processor_ms"] / latency["pytorch"]["processor_ms"]
    assert latency["exported"]["to_pytorch"] == pytest.approx(ratio, rel=0.05) and latency["pytorch"]["to_pytorch"] == 1
    assert {"onceforall", "torch", "onnx", "onnxruntime"} == set(about["versions"])
    assert [line.partition(">")[0] for line in about["requirements"]] == ["numpy", "click", "onnxruntime", "pillow"]
    names = ["README.md", "model.json", "model.onnx", "requirements.txt", "weights.safetensors"]
    assert sorted(path.name for path in report.path.iterdir()) == names
    assert sorted(about["files"]) == [name for name in names if name != "model.json"]
    assert damaged_files(report.path, about) == []


def test_the_weights_make_the_network_again(supernet, exported):
    architecture, report = exported[0]
    net = load_network(report.path / "weights.safetensors")
    assert net.space == SearchSpace.only(architecture)
    with torch.no_grad():
        expected = supernet(torch.from_numpy(IMAGES), architecture)
        torch.testing.assert_close(net(torch.from_numpy(IMAGES)), expected, atol=1e-5, rtol=1e-4)
    assert len(load_file(report.path / "weights.safetensors")) == len(net.state_dict())


def test_the_bundle_says_nothing_else(exported):
    for path in exported[0][1].path.iterdir():
        data = path.read_bytes()
        for word in (b".py", b"stack_trace", str(sys.prefix).encode(), bundle_making.__file__.encode()):
            assert word not in data.replace(b"json.py", b""), path.name
        assert IMAGES[0, 0, 0, :8].tobytes() not in data


def test_network_and_settings_are_left_as_they_were(supernet, tmp_path, capfd):
    net = smallest(supernet).to(torch.float64).to(memory_format=torch.channels_last)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    level = logging.getLogger("torch.onnx").level
    report = export_to(tmp_path / "new" / "net", net, images=torch.from_numpy(IMAGES[:1]), facts={"x": float("nan")})
    assert logging.getLogger("torch.onnx").level == level
    assert capfd.readouterr() == ("", "")
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.requires_grad and parameter.dtype == torch.float64 for parameter in net.parameters())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["net"]
    assert report.images == 1
    assert read_bundle(report.path)["facts"] == {"x": None}


def test_every_exit_answers(tmp_path):
    space = create_supernet("ofa_mbv3", depths=(1,), kernel_sizes=(3,), expand_ratios=(3,), resolutions=(32,)).space
    early = SearchSpace(space.resolutions, space.stages, exits=(3, 5))
    supernet = with_random_statistics(OFAMobileNetV3(early, 10, 1, 0.35).initialise(0))
    net = supernet.subnet(early.largest(exits="all"))
    with pytest.raises(UserError, match="3 exit weights for a network that answers with 2 exits"):
        export_to(tmp_path / "other", net, exit_weights=(1, 2, 3))
    report = export_to(tmp_path / "net", net, exit_weights=(0.25, 0.75))
    assert read_bundle(report.path)["exit_weights"] == [0.25, 0.75]
    session = onnxruntime.InferenceSession(str(report.path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["logits_3", "logits_5"]
    with torch.no_grad():
        expected = net(torch.from_numpy(IMAGES))
    for found, logits in zip(outputs(report.path), expected, strict=True):
        np.testing.assert_allclose(found, logits.numpy(), atol=1e-4 * report.difference.scale)


# -- what must not pass ------------------------------------------------------------------------------------------------


@pytest.fixture
def ready_model(monkeypatch, exported):
    """`export` without the seconds of tracing: it gets the graph of a file made before."""
    model = onnx.load(exported[0][1].path / "model.onnx")
    monkeypatch.setattr(bundle_making, "to_onnx", lambda *_, **__: model)
    return model


def test_changed_weights_are_rejected(supernet, exported, ready_model, tmp_path):
    net = supernet.subnet(exported[0][0])
    path = tmp_path / "net"
    assert export_to(path, net).path == path  # untouched, it passes
    good = (path / "model.onnx").read_bytes()
    (weight,) = [tensor for tensor in ready_model.graph.initializer if list(tensor.dims)[:1] == [10]][:1]
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 1.0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    with pytest.raises(UserError, match=r"does not compute what PyTorch computes.*net\.rejected"):
        export_to(path, net)
    assert (path / "model.onnx").read_bytes() == good, "an earlier bundle stays"
    refused = read_bundle(tmp_path / "net.rejected")
    assert not refused["accepted"] and "does not compute" in refused["objection"]
    assert "failed its check" in (tmp_path / "net.rejected" / "README.md").read_text()
    forced = export_to(tmp_path / "forced", net, options=ExportOptions(force=True))
    assert forced.path == tmp_path / "forced"
    assert forced.difference.relative > 1e-3 and forced.objection is not None
    assert not read_bundle(forced.path)["accepted"], "it says so for ever"


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        (lambda logits: logits, True),
        (lambda logits: logits + 5e-4 * np.abs(logits).max(), True),  # all alike: no class changes
        (lambda logits: logits + 0.1, False),
        (lambda logits: np.roll(logits, 1, axis=1), False),
        (lambda logits: logits * np.nan, False),
    ],
)
def test_wrong_answers_of_the_file_are_rejected(supernet, exported, ready_model, tmp_path, monkeypatch, change, passes):
    open_part = attempts.open_part

    def opened(*arguments):
        part = open_part(*arguments)
        return replace(part, run=lambda values: {name: change(logits) for name, logits in part.run(values).items()})

    monkeypatch.setattr(attempts, "open_part", opened)
    net, path = supernet.subnet(exported[0][0]), tmp_path / "net"
    if passes:
        assert export_to(path, net).path.is_dir()
    else:
        with pytest.raises(UserError, match="does not compute.*use --force to accept it"):
            export_to(path, net)
        assert not path.exists()


@pytest.mark.parametrize(("rounding", "advice"), [(1.002, "is it calibrated"), (1.0, "use --force")])
def test_a_network_that_amplifies_rounding_is_told_from_a_wrong_file(
    supernet, exported, ready_model, tmp_path, monkeypatch, rounding, advice
):
    run_torch, run_part = verifying.run_torch, verifying.run_part

    def imprecise(net, images):
        factor = rounding if images.dtype == torch.float64 else 1
        return [factor * logits for logits in run_torch(net, images)]

    monkeypatch.setattr(verifying, "run_torch", imprecise)
    monkeypatch.setattr(verifying, "run_part", lambda *a: [[1.1 * logits for logits in outs] for outs in run_part(*a)])
    with pytest.raises(UserError, match=f"differ by 0.1 of the largest.*{advice}"):
        export_to(tmp_path / "net", supernet.subnet(exported[0][0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES[:, :, :16]}, r"images of shape \(40, 1, 16, 32\).*\(1, 32, 32\)"),
        ({"images": IMAGES[:0]}, "give at least one"),
        ({"images": IMAGES * np.inf}, "not finite"),
        ({"classes": CLASSES[:9]}, "9 names of classes for a network with 10 outputs"),
        ({"options": ExportOptions(precision="int8")}, "int8 needs calibration images: without them its accuracy"),
        (
            {"options": ExportOptions(precision="int8"), "calibration": IMAGES},
            "int8 needs labelled data to judge it by: without them its accuracy would be unknown",
        ),
        ({"options": ExportOptions(opset=11)}, "opset 11 cannot be written; give one of 18 to"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_what_does_not_fit_together_is_refused(supernet, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        export_to(tmp_path / "net", smallest(supernet), **changes)
    assert not any(tmp_path.iterdir())


def test_only_a_subnetwork_in_evaluation_mode_is_exported(supernet, tmp_path):
    with pytest.raises(UserError, match=r"supernet\.subnet"):
        export_to(tmp_path / "net", supernet)
    with pytest.raises(UserError, match="training mode"):
        export_to(tmp_path / "net", smallest(supernet).train())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_are_named(supernet, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=re.escape(f"{package}: pip install 'onceforall[export]'")):
        export_to(tmp_path / "net", smallest(supernet))


# -- volumes, regions --------------------------------------------------------------------------------------------------


def test_regions_of_volumes_of_any_size_with_a_single_map(tmp_path):
    options = {"resolutions": (8,), "poolings": 1, "base_width": 4, "depths": (1,), "kernel_sizes": (3,)}
    net = create_supernet("prox_unet3d", num_classes=1, in_channels=2, **options).eval()
    net = net.subnet(net.space.largest()).eval()
    volumes = np.random.default_rng(0).normal(size=(3, 2, 8, 8, 8)).astype(np.float32)
    scheme = LabelScheme("tumour", "regions", ("tumour",), ((1,),))
    preparation = VolumePreparation(2).to_dict()
    about = {"classes": scheme.outputs, "preparation": preparation, "scheme": scheme, "exit_weights": [0.3]}
    report = export_to(tmp_path / "net", net, images=volumes, options=ExportOptions(any_size=True), **about)
    assert report.difference.agreement == 1 and report.difference.relative < 1e-4 and report.leftovers == {}
    about = read_bundle(report.path)
    assert about["task"] == {"kind": "segmentation", "scheme": scheme.to_dict(), "mode": "patches"}
    size = {"name": "images", "channels": 2, "size": [8, 8, 8], "batch": None, "any_size": True}
    assert about["input"] == size
    assert about["exit_weights"] == [1.0], "one exit answers with what it says"
    assert about["requirements"][-1].startswith("nibabel")
    other = np.random.default_rng(1).normal(size=(1, 2, 12, 6, 8)).astype(np.float32)
    for given in (volumes, other):
        with torch.no_grad():
            np.testing.assert_allclose(outputs(report.path, given)[0], net(torch.from_numpy(given)), atol=1e-5)
