"""Oracles: the elastic network itself in PyTorch, and the files opened again by onnx and onnxruntime.

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

from onceforall import exporting
from onceforall.data import LabelScheme, VolumePreparation, load_data, load_volumes
from onceforall.errors import UserError
from onceforall.exporting import export, held_out_inputs
from onceforall.layers.elastic import ElasticBatchNorm
from onceforall.onnx_files import read_onnx_info
from onceforall.search_space import SearchSpace
from onceforall.supernets import create_supernet
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from volume_files import make_volumes

RESOLUTION = 32
CLASSES = [f"class {i}" for i in range(10)]
PREPARATION = {"channels": 1, "mean": [0.3], "std": [0.2], "fit": "pad"}
IMAGES = np.random.default_rng(0).normal(size=(40, 1, RESOLUTION, RESOLUTION)).astype(np.float32)


def with_random_statistics(supernet):
    """`supernet` with running statistics near those of the images, and randomly off, in evaluation mode.

    With statistics of another order of magnitude the images would hardly matter for the outputs.
    """
    generator = torch.Generator().manual_seed(1)
    for layer in supernet.modules():
        if isinstance(layer, ElasticBatchNorm):
            layer.momentum = 1.0
            layer.bias.data.copy_(torch.rand(layer.bias.shape, generator=generator) - 0.5)
    with torch.no_grad():
        supernet.train()(torch.from_numpy(IMAGES), supernet.space.largest())
    for layer in supernet.modules():
        if isinstance(layer, ElasticBatchNorm):
            noise = torch.rand(layer.running_var.shape, generator=generator)
            layer.running_mean += (noise - 0.5) * layer.running_var.sqrt()
            layer.running_var *= noise + 0.5
    return supernet.eval()


@pytest.fixture(scope="module")
def supernet():
    options = {"width_mult": 0.35, "in_channels": 1, "depths": (1, 2), "resolutions": (24, RESOLUTION)}
    return with_random_statistics(create_supernet("ofa_mbv3", num_classes=10, **options))


def architectures(supernet):
    rng = random.Random(0)
    return [replace(supernet.space.sample(rng), resolution=RESOLUTION) for _ in range(3)]


def smallest(supernet):
    return supernet.subnet(replace(supernet.space.smallest(), resolution=RESOLUTION))


def export_to(path, net, **changes):
    about = {"images": IMAGES, "classes": CLASSES, "preparation": PREPARATION}
    return export(net, path, **{**about, "facts": {"accuracy": 0.9}, **changes})


@pytest.fixture(scope="module")
def exported(supernet, tmp_path_factory):
    """Three networks as files: (architecture, report) of each."""
    folder = tmp_path_factory.mktemp("exported")
    return [
        (architecture, export_to(folder / f"{i}.onnx", supernet.subnet(architecture)))
        for i, architecture in enumerate(architectures(supernet))
    ]


def outputs(path, images=IMAGES):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
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
        assert report.relative_difference < 1e-4
        assert report.agreement == 1
        assert report.images == 40
        assert report.scale == pytest.approx(scale, rel=1e-5)
        print(f"{architecture.digest()}: {report.max_difference:.2g} of {report.scale:.3g}, {report.bytes} bytes")
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(results[one] - results[other]).max() > 0.01 * np.abs(results[one]).max()


def test_graph_is_that_of_an_ordinary_network(supernet, exported):
    for architecture, report in exported:
        model = onnx.load(report.path)
        found = {node.op_type for node in model.graph.node}
        assert found == {"Conv", "HardSwish", "Relu", "HardSigmoid", "ReduceMean", "Reshape", "Gemm", "Mul", "Add"}
        assert sum(report.nodes.values()) == len(model.graph.node)
        assert report.leftovers == {}
        assert report.opset == model.opset_import[0].version
        # normalisation is folded: one bias instead of scale, shift, mean and variance
        stored = sum(np.prod(tensor.dims) for tensor in model.graph.initializer)
        assert stored < supernet.measure(architecture).weight_bytes / 4
        assert report.bytes == report.path.stat().st_size < 1.1 * 4 * stored + 50_000


def test_any_batch_size_and_one_image_alone(exported):
    path = exported[0][1].path
    whole = outputs(path)[0]
    for size in (1, 3):
        np.testing.assert_allclose(outputs(path, IMAGES[:size])[0], whole[:size], atol=1e-4)
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["batch", 1, RESOLUTION, RESOLUTION]


def test_file_says_what_it_needs(exported):
    architecture, report = exported[0]
    info = read_onnx_info(report.path)
    assert info["classes"] == CLASSES
    assert info["input"] == {"name": "images", "channels": 1, "size": [RESOLUTION, RESOLUTION]}
    assert info["preparation"] == PREPARATION
    assert info["task"] == {"kind": "classification"} and info["exit_weights"] == [1.0]
    assert info["architecture"] == architecture.to_dict()
    assert info["facts"] == {"accuracy": 0.9}
    assert info["outputs"] == ["logits"]
    assert info["check"]["images"] == 40
    assert info["check"]["max_difference"] == report.max_difference


def test_file_says_nothing_else(exported):
    data = exported[0][1].path.read_bytes()
    for word in (b".py", b"stack_trace", str(sys.prefix).encode(), str(exporting.__file__).encode()):
        assert word not in data
    assert IMAGES[0, 0, 0, :8].tobytes() not in data


def test_network_and_settings_are_left_as_they_were(supernet, tmp_path, capfd):
    net = smallest(supernet).to(torch.float64).to(memory_format=torch.channels_last)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    level = logging.getLogger("torch.onnx").level
    report = export_to(
        tmp_path / "new" / "net.onnx", net, images=torch.from_numpy(IMAGES[:1]), facts={"x": float("nan")}
    )
    assert logging.getLogger("torch.onnx").level == level
    assert capfd.readouterr() == ("", "")
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.requires_grad and parameter.dtype == torch.float64 for parameter in net.parameters())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["net.onnx"]
    assert report.images == 1
    assert read_onnx_info(report.path)["facts"] == {"x": None}


def test_every_exit_answers(tmp_path):
    space = create_supernet("ofa_mbv3", depths=(1,), kernel_sizes=(3,), expand_ratios=(3,), resolutions=(32,)).space
    early = SearchSpace(space.resolutions, space.stages, exits=(3, 5))
    supernet = with_random_statistics(OFAMobileNetV3(early, 10, 1, 0.35).initialise(0))
    net = supernet.subnet(early.largest(exits="all"))
    report = export_to(tmp_path / "net.onnx", net, exit_weights=(0.25, 0.75))
    info = read_onnx_info(report.path)
    assert info["outputs"] == ["logits_3", "logits_5"] and info["exit_weights"] == [0.25, 0.75]
    with pytest.raises(UserError, match="3 exit weights for a network that answers with 2 exits"):
        export_to(tmp_path / "other.onnx", net, exit_weights=(1, 2, 3))
    with torch.no_grad():
        expected = net(torch.from_numpy(IMAGES))
    for found, logits in zip(outputs(report.path), expected, strict=True):
        np.testing.assert_allclose(found, logits.numpy(), atol=1e-4 * report.scale)


# -- what must not pass ------------------------------------------------------------------------------------------------


@pytest.fixture
def ready_model(monkeypatch, exported):
    """`export` without the seconds of tracing: it gets the graph of a file made before."""
    model = onnx.load(exported[0][1].path)
    model.ClearField("metadata_props")
    monkeypatch.setattr(exporting, "_to_onnx", lambda *_: model)
    return model


def test_changed_weights_are_rejected(supernet, exported, ready_model, tmp_path):
    net = supernet.subnet(exported[0][0])
    path = tmp_path / "net.onnx"
    assert export_to(path, net).path == path  # untouched, it passes
    good = path.read_bytes()
    (weight,) = [tensor for tensor in ready_model.graph.initializer if list(tensor.dims)[:1] == [10]][:1]
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 1.0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    ready_model.ClearField("metadata_props")
    with pytest.raises(UserError, match=r"does not compute what PyTorch computes.*net\.onnx\.rejected"):
        export_to(path, net)
    assert path.read_bytes() == good, "an earlier file stays"
    assert (tmp_path / "net.onnx.rejected").is_file()
    ready_model.ClearField("metadata_props")
    forced = export_to(tmp_path / "forced.onnx", net, force=True)
    assert forced.path == tmp_path / "forced.onnx"
    assert forced.relative_difference > 1e-3


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
def test_wrong_answers_of_the_session_are_rejected(
    supernet, exported, ready_model, tmp_path, monkeypatch, change, passes
):
    run = exporting._run_onnx
    monkeypatch.setattr(exporting, "_run_onnx", lambda *a: [[change(logits) for logits in outs] for outs in run(*a)])
    net, path = supernet.subnet(exported[0][0]), tmp_path / "net.onnx"
    if passes:
        assert export_to(path, net).path.is_file()
    else:
        with pytest.raises(UserError, match="does not compute.*use --force to accept it"):
            export_to(path, net)
        assert not path.exists()


@pytest.mark.parametrize(("rounding", "advice"), [(1.002, "is it calibrated"), (1.0, "use --force")])
def test_a_network_that_amplifies_rounding_is_told_from_a_wrong_file(
    supernet, exported, ready_model, tmp_path, monkeypatch, rounding, advice
):
    run_torch, run_onnx = exporting._run_torch, exporting._run_onnx

    def imprecise(net, images):
        factor = rounding if images.dtype == torch.float64 else 1
        return [factor * logits for logits in run_torch(net, images)]

    monkeypatch.setattr(exporting, "_run_torch", imprecise)
    monkeypatch.setattr(exporting, "_run_onnx", lambda *a: [[1.1 * logits for logits in outs] for outs in run_onnx(*a)])
    with pytest.raises(UserError, match=f"differ by 0.1 of the largest.*{advice}"):
        export_to(tmp_path / "net.onnx", supernet.subnet(exported[0][0]))


def test_a_tie_may_change_places_but_no_clear_class():
    expected = [np.array([[1.0, 0.5], [1.0, 1.0 - 1e-6]])]
    assert exporting._compare(expected, [[expected[0][:, ::-1]]])[2:] == (0.0, 0.5)
    swapped = expected[0].copy()
    swapped[1] = swapped[1, ::-1]
    difference, scale, agreement, clear = exporting._compare(expected, [[swapped]])
    assert (scale, agreement, clear) == (1.0, 0.5, 1.0)
    assert difference == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES[:, :, :16]}, r"images of shape \(40, 1, 16, 32\).*\(1, 32, 32\)"),
        ({"images": IMAGES[:0]}, "give at least one"),
        ({"images": IMAGES * np.inf}, "not finite"),
        ({"format": "tflite"}, "is not one of: 'onnx'"),
        ({"classes": CLASSES[:9]}, "9 names of classes for a network with 10 outputs"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_what_does_not_fit_together_is_refused(supernet, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        export_to(tmp_path / "net.onnx", smallest(supernet), **changes)
    assert not any(tmp_path.iterdir())


def test_only_a_subnetwork_in_evaluation_mode_is_exported(supernet, tmp_path):
    with pytest.raises(UserError, match=r"supernet\.subnet"):
        export_to(tmp_path / "net.onnx", supernet)
    with pytest.raises(UserError, match="training mode"):
        export_to(tmp_path / "net.onnx", smallest(supernet).train())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_are_named(supernet, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=re.escape(f"{package}: pip install 'onceforall[export]'")):
        export_to(tmp_path / "net.onnx", smallest(supernet))


# -- what could not be folded, volumes, regions ------------------------------------------------------------------------


def graph_of(*nodes):
    return onnx.helper.make_graph([onnx.helper.make_node(*node) for node in nodes], "graph", [], [])


def test_only_a_normalisation_that_nothing_could_fold_may_stay():
    norm = ["x", "scale", "bias", "mean", "var"]
    alone = graph_of(("Conv", ["a", "w"], ["x"]), ("BatchNormalization", norm, ["y"]))
    assert exporting._leftovers(alone) == {"BatchNormalization": 1}
    before_a_sum = graph_of(
        ("Conv", ["a", "w"], ["x"]), ("BatchNormalization", norm, ["y"]), ("Add", ["x", "y"], ["z"])
    )
    assert exporting._leftovers(before_a_sum) == {}
    behind_an_activation = graph_of(("Relu", ["a"], ["x"]), ("BatchNormalization", norm, ["y"]), ("If", ["y"], ["z"]))
    assert exporting._leftovers(behind_an_activation) == {"If": 1}


def test_voxels_and_regions_are_compared_one_by_one():
    expected = [np.array([[[2.0, -1.0, 1e-5, 0.5]]])]  # one volume, one region, four voxels
    found = [np.array([[[2.0, -1.0, -1e-5, -0.5]]])]
    difference, scale, agreement, clear = exporting._compare(expected, [found], regions=True)
    assert (difference, scale, agreement, clear) == (1.0, 2.0, 0.5, 0.75), "the third is a tie, the fourth is wrong"
    classes = [np.array([[[2.0, -1.0, 1.0], [0.0, 0.0, 0.0]]])]
    other = [np.array([[[2.0, 1.0, 1.0], [0.0, 0.0, 0.0]]])]
    assert exporting._compare(classes, [other])[2:] == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_regions_of_volumes_with_a_single_map(tmp_path):
    options = {"resolutions": (8,), "poolings": 1, "base_width": 4, "depths": (1,), "kernel_sizes": (3,)}
    net = create_supernet("prox_unet3d", num_classes=1, in_channels=2, **options).eval()
    net = net.subnet(net.space.largest()).eval()
    volumes = np.random.default_rng(0).normal(size=(3, 2, 8, 8, 8)).astype(np.float32)
    scheme = LabelScheme("tumour", "regions", ("tumour",), ((1,),))
    preparation = VolumePreparation(2).to_dict()
    about = {"classes": scheme.outputs, "preparation": preparation, "scheme": scheme, "exit_weights": [0.3]}
    report = export_to(tmp_path / "net.onnx", net, images=volumes, **about)
    assert report.agreement == 1 and report.relative_difference < 1e-4 and report.leftovers == {}
    info = read_onnx_info(report.path)
    assert info["task"] == {"kind": "segmentation", "scheme": scheme.to_dict(), "mode": "patches"}
    assert info["input"] == {"name": "images", "channels": 2, "size": [8, 8, 8]}
    assert info["exit_weights"] == [1.0], "one exit answers with what it says"
    with torch.no_grad():
        np.testing.assert_allclose(outputs(report.path, volumes)[0], net(torch.from_numpy(volumes)), atol=1e-5)


def test_inputs_are_held_out_and_of_the_size_of_the_network(tmp_path, monkeypatch):
    monkeypatch.setenv("ONCEFORALL_CACHE", str(tmp_path / "cache"))
    images = load_data(max_resolution=16)
    assert held_out_inputs(images, 12).shape == (64, 1, 12, 12)
    folder = make_volumes(tmp_path / "volumes", 12, (9, 13, 11))
    options = {"stride": 2, "test_fraction": 0.8}
    whole = load_volumes(folder, max_resolution=(12, 14, 12), **options)
    found = held_out_inputs(whole, (10, 12, 10))
    assert whole.count("test") > 8 and found.shape == (8, 1, 10, 12, 10)
    patches = load_volumes(folder, max_resolution=(6, 6, 12), mode="patches", **options)
    found = held_out_inputs(patches, (6, 6, 12))
    assert found.shape == (8, 1, 6, 6, 12)
    [(first, _)] = patches.batches("test", (6, 6, 12), 1, np.array([0]))
    x = (first.shape[2] - 6) // 2
    assert torch.equal(found[0], first[0, :, x : x + 6, 3:9]), "the window in the middle"
    none = load_volumes(folder, max_resolution=(12, 14, 12), stride=2, test_fraction=0.0, validation_fraction=0.25)
    assert len(held_out_inputs(none, (12, 14, 12))) == none.count("validation") > 0
