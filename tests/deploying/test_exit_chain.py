"""A network cut at its exits: the chain computes what the whole network computes, and no more than it must."""

from pathlib import Path

import numpy as np
import pytest
import torch

from onceforall.bundles import open_part
from onceforall.deploying.exit_chain import chain_difference, cut_at_exits, keep_exits, run_all_parts, write_parts
from onceforall.errors import UserError
from onceforall.layers.elastic import ElasticBatchNorm
from onceforall.predict.parts import run_parts
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from tiny_runs import two_stages


@pytest.fixture(scope="module")
def net():
    """A sub-network with exits behind its first three stages, and random statistics."""
    space = SearchSpace.build(
        3, resolutions=(16,), depths=(3,), kernel_sizes=(3,), expand_ratios=(3,), heights=(1, 2, 3)
    )
    supernet = OFAMobileNetV3(space, num_classes=3, in_channels=1, width_mult=0.25, dense=True).initialise(0)
    generator = torch.Generator().manual_seed(1)
    for module in supernet.modules():
        if isinstance(module, ElasticBatchNorm):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return supernet.subnet(supernet.space.largest(exits="all")).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    return torch.randn(7, 1, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def parts(net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    paths = write_parts(net, folder)
    assert [path.name for path in paths] == ["model-1.onnx", "model-2.onnx", "model-3.onnx"]
    return [open_part(path, "onnxruntime", 1) for path in paths]


def test_parts_in_turn_are_the_whole_network(net, images):
    x, answers = images, []
    for part in cut_at_exits(net):
        outputs = part(x)
        logits, x = outputs if part.goes_on else (outputs, x)
        answers.append(logits)
    whole = net(images)
    assert all(torch.equal(one, other) for one, other in zip(answers, whole, strict=True))
    assert not torch.equal(whole[0], whole[1]) and not torch.equal(whole[1], whole[2])


def test_files_give_what_the_exits_give(net, images, parts):
    assert [part.inputs for part in parts] == [("images",), ("maps_1",), ("maps_2",)]
    assert [part.outputs for part in parts] == [("logits_1", "maps_1"), ("logits_2", "maps_2"), ("logits_3",)]
    for found, expected in zip(run_all_parts(parts, images.numpy()), net(images), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert chain_difference(net, parts, images).relative < 1e-4


def test_a_part_holds_only_its_own_weights(net, parts, tmp_path):
    sizes = [path.stat().st_size for path in write_parts(net, tmp_path)]
    weights = 4 * sum(tensor.numel() for tensor in net.parameters())
    assert sum(sizes) < 1.2 * weights + 60_000 and sizes[0] < sizes[2]


def test_images_that_have_left_are_not_computed_further(net, images, parts):
    counts = []

    def counted(part):
        def run(values):
            counts.append(len(next(iter(values.values()))))
            return part.run(values)

        return type(part)(part.inputs, part.outputs, run)

    probabilities = torch.stack([logits.softmax(1) for logits in net(images)])
    confidence = probabilities.amax(2).numpy()
    first, second = np.median(confidence[0]) + 1e-6, float(np.sort(confidence[1])[-2]) - 1e-6
    logits, answered = run_parts([counted(part) for part in parts], images.numpy(), (first, second))
    expected = (confidence >= np.array([[first], [second], [0.0]])).argmax(0)
    assert np.array_equal(answered, expected) and len(set(expected.tolist())) == 3
    assert counts == [7, int((expected > 0).sum()), int((expected > 1).sum())]
    exits = np.stack([output.numpy() for output in net(images)])
    np.testing.assert_allclose(logits, exits[expected, np.arange(7)], rtol=1e-4, atol=1e-5)


def test_exits_that_are_left_out_change_no_other(net, images):
    shorter = keep_exits(net, (1, 2))
    assert all(torch.equal(one, other) for one, other in zip(shorter(images), net(images)[:2], strict=True))
    assert torch.equal(keep_exits(net, (3,))(images), net(images)[2])
    assert len(shorter.state_dict()) < len(net.state_dict())


def test_a_network_with_one_exit_has_no_chain():
    supernet = two_stages()
    with pytest.raises(UserError, match="answers at one exit; early exits need one such as ee_d_ofa_mbv3"):
        cut_at_exits(supernet.subnet(supernet.space.largest()))


def test_unknown_formats_are_refused(net):
    with pytest.raises(UserError, match="format of a chain 'torch'"):
        write_parts(net, Path(), "torch")
