"""Re-estimated statistics against numpy, and everything else as it was."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common_checks import changes, randomised, settings, snapshot, statistics
from onceforall.errors import UserError
from onceforall.evaluation.calibration import calibrate
from onceforall.layers.blocks import ConvNorm
from onceforall.layers.elastic import ElasticBatchNorm, ElasticConv
from onceforall.supernets import create_supernet


def batches(*sizes: int, channels: int = 3, side: int = 4) -> list[Tensor]:
    """Batches with means and variances of their own."""
    generator = torch.Generator().manual_seed(0)

    def draw(number: int, size: int) -> Tensor:
        noise = torch.randn(size, channels, side, side, generator=generator, dtype=torch.float64)
        return (1 + number) * noise + number

    return [draw(number, size) for number, size in enumerate(sizes)]


def one_layer() -> nn.Module:
    return randomised(nn.Sequential(ElasticBatchNorm(3))).double()


def two_layers() -> nn.Module:
    first, second = ConvNorm(ElasticConv(3, 5, (3,)), "relu"), ConvNorm(ElasticConv(5, 4), None)
    return randomised(nn.Sequential(first, nn.Dropout(0.5), second)).double()


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel."""
    mean = x.mean((0, 2, 3))
    return mean, ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))


def convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N, in, h, w), (out, in, k, k) to (N, out, h, w), zero-padded."""
    reach = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (2, 3))  # (N, in, h, w, k, k)
    return np.einsum("nihwab,oiab->nohw", windows, weight)


def check_statistics(layer: ElasticBatchNorm, mean: np.ndarray, var: np.ndarray) -> None:
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), var, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [(6,), (4, 4), (5, 3, 2), (2, 7, 1)])
def test_reference_rule_on_one_layer(sizes):
    """Means and biased variances of the batches, weighted by their images."""
    net, images = one_layer(), batches(*sizes)
    parts = [moments(x.numpy()) for x in images]
    mean = sum(size * mean for size, (mean, _) in zip(sizes, parts, strict=True)) / sum(sizes)
    var = sum(size * var for size, (_, var) in zip(sizes, parts, strict=True)) / sum(sizes)
    assert calibrate(net, images) is net
    check_statistics(net[0], mean, var)


@pytest.mark.parametrize("sizes", [(6,), (4, 4), (5, 3, 2)])
def test_population_rule_on_one_layer(sizes):
    net, images = one_layer(), batches(*sizes)
    calibrate(net, images, "population")
    mean, var = moments(torch.cat(images).numpy())
    check_statistics(net[0], mean, var)
    if len(sizes) > 1:
        calibrate(net, images)
        assert (net[0].running_var.numpy() < var - 0.1).all(), "the reference loses the variance between batches"


@pytest.mark.parametrize("rule", ["reference", "population"])
def test_two_layers(rule):
    """The second layer sees what the first makes of each batch by that batch's own statistics, without dropout."""
    net, images = two_layers(), batches(5, 3)
    seen = [torch.cat(images)] if rule == "population" else images
    sums = [np.zeros((2, 5)), np.zeros((2, 4))]
    for batch in seen:
        x = batch.numpy()
        for number, block in enumerate((net[0], net[2])):
            y = convolve(x, block.conv.weight.detach().numpy())
            mean, var = moments(y)
            sums[number] += len(batch) / 8 * np.stack([mean, var])
            scale, shift = block.norm.weight.detach().numpy(), block.norm.bias.detach().numpy()
            factor = (scale / np.sqrt(var + 1e-5))[:, None, None]
            x = np.maximum((y - mean[:, None, None]) * factor + shift[:, None, None], 0)
    calibrate(net, images, rule)
    check_statistics(net[0].norm, *sums[0])
    check_statistics(net[2].norm, *sums[1])


def test_population_does_not_depend_on_the_batch_size():
    whole = torch.cat(batches(5, 3, 4))
    expected = snapshot(calibrate(two_layers(), [whole], "population"))
    for sizes in ([6, 6], [11, 1], [1] * 12):
        assert not changes(calibrate(two_layers(), whole.split(sizes), "population"), expected)
    assert changes(calibrate(two_layers(), whole.split([6, 6])), expected)


def test_batches_with_labels():
    images = batches(4, 2)
    expected = snapshot(calibrate(two_layers(), images))
    labelled = [(x, torch.zeros(len(x))) for x in images]
    assert not changes(calibrate(two_layers(), labelled), expected)
    assert not changes(calibrate(two_layers(), iter(labelled)), expected)


def test_nothing_else_changes():
    net = two_layers()
    net.train()
    net[2].eval()
    net[2].norm.momentum = 0.3
    net[0].norm.batch_statistics = True
    net[0].conv.requires_grad_(False)
    grad_modes: list[bool] = []
    net.register_forward_hook(lambda *call: grad_modes.append(torch.is_grad_enabled()))
    before, attributes, state = snapshot(net), settings(net), torch.random.get_rng_state()
    calibrate(net, batches(4, 2))
    assert grad_modes == [False, False] and torch.is_grad_enabled()
    assert changes(net, before) == statistics(net)
    assert settings(net) == attributes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(tensor.grad_fn is None for tensor in net.state_dict().values())


def test_earlier_statistics_have_no_influence():
    expected = snapshot(calibrate(two_layers(), batches(4, 2)))
    for value in (torch.nan, torch.inf, 1e30):
        net = two_layers()
        for name in statistics(net):
            net.get_buffer(name).fill_(value)
        assert not changes(calibrate(net, batches(4, 2)), expected)
    teacher = two_layers()
    for layer in (teacher[0].norm, teacher[2].norm):
        layer.batch_statistics = True
    assert not changes(calibrate(teacher, batches(4, 2)), expected)
    assert not changes(calibrate(calibrate(two_layers(), batches(4, 2)), batches(4, 2)), expected)


class FailsAt(nn.Module):
    """Raises at the given call."""

    def __init__(self, number: int, error: type[BaseException]) -> None:
        super().__init__()
        self.left, self.error = number, error

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise self.error("on purpose")
        return x


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("call", [1, 2])
def test_everything_is_put_back_when_it_fails(call, error):
    net = nn.Sequential(*two_layers(), FailsAt(call, error)).train()
    net[0].eval()
    net[0].norm.momentum = 0.25
    before, attributes = snapshot(net), settings(net[:3])
    with pytest.raises(error):
        calibrate(net, batches(4, 2))
    assert not changes(net, before)
    assert settings(net[:3]) == attributes
    assert not any(module._forward_pre_hooks for module in net.modules())
    net[3].left = -1
    assert changes(calibrate(net, batches(4, 2)), before) == statistics(net)


def test_a_layer_that_is_not_reached_keeps_its_statistics():
    net = two_layers()
    net.spare = randomised(ElasticBatchNorm(2)).double()
    net.forward = net[0].forward
    before = snapshot(net)
    calibrate(net, batches(4, 2))
    assert changes(net, before) == {"0.norm.running_mean", "0.norm.running_var"}


def test_what_cannot_be_calibrated():
    net = two_layers()
    before, attributes = snapshot(net), settings(net)
    with pytest.raises(UserError, match="at least one batch"):
        calibrate(net, [])
    with pytest.raises(UserError, match="calibration rule 'popular'.*Did you mean 'population'"):
        calibrate(net, batches(2), "popular")
    with pytest.raises(UserError, match="batches of at least two images"):
        calibrate(net, batches(4, 1, side=1))
    assert not changes(net, before) and settings(net) == attributes
    supernet = create_supernet("ofa_mbv3", width_mult=0.35, depths=(1, 2), resolutions=(32,)).double()
    before, attributes = snapshot(supernet), settings(supernet)
    with pytest.raises(UserError, match=r"supernet\(x, arch\)"):
        calibrate(supernet, batches(2, side=32))
    assert not changes(supernet, before) and settings(supernet) == attributes
