"""Differences by hand; the metric of a part beside that of the network; latency as it is written down."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from export_networks import IMAGES
from onceforall.bundles import Part
from onceforall.data import from_arrays
from onceforall.evaluation.evaluate import evaluate
from onceforall.evaluation.tasks import classification
from onceforall.exporting.verifying import Judge, PartNetwork, compare, judged, latencies, same_at_another_size
from onceforall.supernets import create_supernet


def test_a_tie_may_change_places_but_no_clear_class():
    expected = [np.array([[1.0, 0.5], [1.0, 1.0 - 1e-6]])]
    found = compare(expected, [[expected[0][:, ::-1]]])
    assert (found.agreement, found.clear) == (0.0, 0.5)
    swapped = expected[0].copy()
    swapped[1] = swapped[1, ::-1]
    found = compare(expected, [[swapped]])
    assert (found.scale, found.agreement, found.clear) == (1.0, 0.5, 1.0)
    assert found.largest == pytest.approx(1e-6)
    assert np.isnan(compare(expected, [[expected[0] * np.nan]]).relative)


def test_voxels_and_regions_are_compared_one_by_one():
    expected = [np.array([[[2.0, -1.0, 1e-5, 0.5]]])]  # one volume, one region, four voxels
    found = compare(expected, [[np.array([[[2.0, -1.0, -1e-5, -0.5]]])]], regions=True)
    assert (found.largest, found.scale, found.agreement, found.clear) == (1.0, 2.0, 0.5, 0.75), (
        "the third is a tie, the fourth is wrong"
    )
    classes = [np.array([[[2.0, -1.0, 1.0], [0.0, 0.0, 0.0]]])]
    found = compare(classes, [[np.array([[[2.0, 1.0, 1.0], [0.0, 0.0, 0.0]]])]])
    assert (found.agreement, found.clear) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def part_of(net, change=lambda logits: logits):
    def run(values):
        with torch.no_grad():
            return {"logits": change(net(torch.from_numpy(values["images"])).numpy())}

    return Part(("images",), ("logits",), run)


def test_the_metric_is_that_of_evaluation(tiny):
    net, _ = tiny
    labels = np.arange(200) % 10
    rng = np.random.default_rng(0)
    pixels = (rng.integers(0, 150, (200, 32, 32)) + 10 * labels[:, None, None]).astype(np.uint8)
    data = from_arrays(pixels, labels, max_resolution=32)
    judge, architecture = Judge(classification(), data), net.space.largest()
    [expected] = evaluate(net, [architecture], judge.task, data, split="validation", calibration_images=0)
    for network in (net, PartNetwork(part_of(net))):
        assert judged(network, architecture, judge, None) == pytest.approx(expected.metrics)
    other = judged(PartNetwork(part_of(net, lambda logits: -logits)), architecture, judge, None)
    assert other["log_loss"] != pytest.approx(expected.metrics["log_loss"])


def test_another_size_counts_where_it_is_worse():
    options = {"resolutions": (8,), "poolings": 1, "base_width": 4, "depths": (1,), "kernel_sizes": (3,)}
    net = create_supernet("prox_unet3d", num_classes=2, in_channels=1, **options).eval()
    net = net.subnet(net.space.largest()).eval()
    volumes = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = net(volumes).numpy()
    known = compare([logits], [[logits]])
    assert same_at_another_size(net, part_of(net), volumes, known).largest < 1e-5
    wrong = part_of(net, lambda logits: logits + (logits.shape[2] == 16))
    assert same_at_another_size(net, wrong, volumes, known).largest == pytest.approx(1, abs=1e-4)
    broken = part_of(net, lambda logits: logits * np.nan)
    assert np.isnan(same_at_another_size(net, broken, volumes, known).largest)


def test_latencies_are_timed_in_turn(tiny):
    net, _ = tiny
    calls = []
    part = part_of(net)
    noted = replace(part, run=lambda values: calls.append(len(values["images"])) or part.run(values))
    parts = {"exported": noted, "fp32": part}
    ways = {name: lambda image, part=part: part.run({"images": image}) for name, part in parts.items()}
    found = latencies(net, ways, "onnxruntime", IMAGES[:3])
    assert found["threads"] == found["batch"] == 1 and found["inputs"] == 3 and calls and set(calls) == {1}
    assert {"pytorch", "exported", "fp32", "processor"} < set(found)
    assert all(found[name]["median_ms"] > 0 for name in ("pytorch", "exported", "fp32"))
