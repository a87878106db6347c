"""Learning rates worked out by hand; one step of the optimiser against its formula, on the tensors of a network."""

import io
import math
import random

import pytest
import torch
from torch import nn

from common_checks import randomised
from onceforall.layers.channels import sort_channels
from onceforall.layers.elastic import ElasticBatchNorm, ElasticConv, ElasticLinear
from onceforall.layers.kernels import TransformMatrices, center_crop
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.supernets.supernet import Freeze
from onceforall.training.optimizers import PhaseOptimizer, learning_rate_factor
from tiny_runs import one_phase, small_supernet, two_stages

SPACE = small_supernet().space


# -- learning rate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "epochs_done", "factor"),
    [
        # cosine over 4 epochs: (1 + cos(pi t / 4)) / 2
        ({"epochs": 4}, 0, 1.0),
        ({"epochs": 4}, 1, (2 + math.sqrt(2)) / 4),
        ({"epochs": 4}, 2, 0.5),
        ({"epochs": 4}, 3, (2 - math.sqrt(2)) / 4),
        ({"epochs": 4}, 4, 0.0),
        ({"epochs": 3}, 0.5, (1 + math.sqrt(3) / 2) / 2),  # a step in the middle of an epoch: cos(30 degrees)
        # two epochs of warm-up come in addition: from a tenth to all, then the whole cosine
        ({"epochs": 4, "warmup_epochs": 2}, 0, 0.1),
        ({"epochs": 4, "warmup_epochs": 2}, 0.5, 0.325),
        ({"epochs": 4, "warmup_epochs": 2}, 1, 0.55),
        ({"epochs": 4, "warmup_epochs": 2}, 2, 1.0),
        ({"epochs": 4, "warmup_epochs": 2}, 4, 0.5),
        ({"epochs": 4, "warmup_epochs": 2}, 6, 0.0),
        ({"epochs": 4, "warmup_epochs": 2, "warmup_start": 1.0}, 0, 1.0),
        ({"epochs": 4, "warmup_epochs": 2, "warmup_start": 0.0}, 1, 0.5),
        ({"epochs": 4, "decay": "constant"}, 3.9, 1.0),
        ({"epochs": 4, "decay": "constant", "warmup_epochs": 1}, 0.5, 0.55),
        ({"epochs": 0, "warmup_epochs": 2}, 1, 0.55),
    ],
)
def test_learning_rate(fields, epochs_done, factor):
    assert learning_rate_factor(one_phase(SPACE, **fields), epochs_done) == pytest.approx(factor, abs=1e-12)


def test_a_step_uses_it():
    optimizer = PhaseOptimizer(small_supernet(), one_phase(SPACE, epochs=4, learning_rate=0.3), scaled=False)
    optimizer.begin_step(epochs_done=2)
    assert {group["lr"] for group in optimizer.optimizer.param_groups} == {0.15}


# -- which parameters decay --------------------------------------------------------------------------------------------


def made(supernet=None, **fields):
    supernet = supernet or small_supernet()
    optimizer = PhaseOptimizer(supernet, one_phase(supernet.space, **fields), scaled=False)
    optimizer.begin_step(0)
    return supernet, optimizer


def after_zero_gradients(**fields):
    """Parameters before and after one step whose gradients are all zero: what moves is decay."""
    supernet, optimizer = made(weight_decay=0.5, learning_rate=0.1, momentum=0.0, **fields)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.25)
            parameter.grad = torch.zeros_like(parameter)
    before = {name: parameter.detach().clone() for name, parameter in supernet.named_parameters()}
    optimizer.step()
    return supernet, before, dict(supernet.named_parameters())


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_weights_decay_and_biases_and_normalisation_do_not(kind):
    supernet, before, after = after_zero_gradients(optimizer=kind)
    decaying = set()
    for name, module in supernet.named_modules():
        if isinstance(module, ElasticConv | ElasticLinear):
            decaying.add(f"{name}.weight")
        if isinstance(module, TransformMatrices):
            decaying |= {f"{name}.{key}" for key, _ in module.named_parameters()}
    assert any("matrices" in name for name in decaying)
    resting = set(before) - decaying
    norms = {
        f"{name}.{key}"
        for name, module in supernet.named_modules()
        if isinstance(module, ElasticBatchNorm)
        for key in ("weight", "bias")
    }
    assert norms < resting and any(name.endswith("bias") for name in resting - norms)
    for name in decaying:
        torch.testing.assert_close(after[name], before[name] * (1 - 0.1 * 0.5))
    for name in resting:
        assert torch.equal(after[name], before[name]), name


def matrices(supernet):
    return [p for m in supernet.modules() if isinstance(m, TransformMatrices) for p in m.parameters()]


@pytest.mark.parametrize("mode", ["decay", "no_decay", "decay_to_identity"])
def test_what_decay_does_to_kernel_matrices(mode):
    supernet, _, _ = after_zero_gradients(kernel_matrices=mode)
    for matrix in matrices(supernet):
        eye = torch.eye(len(matrix))
        expected = {"decay": 0.95 * (eye + 0.25), "no_decay": eye + 0.25, "decay_to_identity": eye + 0.95 * 0.25}
        torch.testing.assert_close(matrix.detach(), expected[mode])


def test_decay_to_identity_leaves_the_identity_where_it_is():
    supernet, optimizer = made(kernel_matrices="decay_to_identity", weight_decay=0.5)
    for matrix in matrices(supernet):
        matrix.grad = torch.zeros_like(matrix)
    optimizer.step()
    assert all(torch.equal(matrix, torch.eye(len(matrix))) for matrix in matrices(supernet))


def test_frozen_matrices_get_no_gradient_and_train_again_in_a_later_phase():
    supernet, optimizer = made(kernel_matrices="frozen")
    architecture = supernet.space.uniform(kernel_size=3)
    images = torch.randn(4, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    supernet(images, architecture).square().sum().backward()
    assert all(matrix.grad is None for matrix in matrices(supernet))
    own = {id(parameter) for parameter in optimizer.parameters}
    assert not own & {id(matrix) for matrix in matrices(supernet)} and len(own) > 100
    supernet, optimizer = made(supernet, kernel_matrices="no_decay")
    supernet(images, architecture).square().sum().backward()
    assert all(matrix.grad is not None and matrix.grad.abs().sum() > 0 for matrix in matrices(supernet))


# -- steps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_what_has_no_gradient_does_not_move(kind):
    supernet, optimizer = made(optimizer=kind, weight_decay=0.5)
    for parameter in supernet.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()  # everything has momentum now
    weights = [parameter.detach().clone() for parameter in supernet.parameters()]
    moments = {name: dict(values) for name, values in optimizer.state()["moments"].items()}
    moments = {name: {key: value.clone() for key, value in values.items()} for name, values in moments.items()}
    optimizer.begin_step(0)
    trained, _ = next(supernet.named_parameters())
    supernet.get_parameter(trained).grad = torch.ones_like(supernet.get_parameter(trained))
    optimizer.step()
    for (name, parameter), before in zip(supernet.named_parameters(), weights, strict=True):
        assert torch.equal(parameter, before) == (name != trained), name
        same = [torch.equal(value, moments[name][key]) for key, value in optimizer.state()["moments"][name].items()]
        assert all(same) if name != trained else not any(same)


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_by_hand(nesterov):
    supernet, optimizer = made(learning_rate=0.2, momentum=0.9, nesterov=nesterov, weight_decay=0.0, decay="constant")
    name, parameter = next(supernet.named_parameters())
    start = parameter.detach().double().clone()
    velocity, expected = 0.0, start
    for gradient in (1.0, -0.5, 2.0):
        optimizer.begin_step(0)
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        velocity = 0.9 * velocity + gradient
        expected = expected - 0.2 * (gradient + 0.9 * velocity if nesterov else velocity)
    torch.testing.assert_close(parameter.detach().double(), expected, atol=1e-6, rtol=0)


def test_betas_of_adam_are_those_of_the_phase():
    _, optimizer = made(optimizer="adam", momentum=0.7, beta2=0.8)
    assert isinstance(optimizer.optimizer, torch.optim.Adam)
    assert {group["betas"] for group in optimizer.optimizer.param_groups} == {(0.7, 0.8)}


def test_clipping_scales_the_whole_gradient():
    supernet, optimizer = made(clip_gradient=3.0, momentum=0.0, learning_rate=1.0, weight_decay=0.0)
    before = nn.utils.parameters_to_vector(supernet.parameters()).detach().clone()
    for parameter in supernet.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    optimizer.step()
    moved = before - nn.utils.parameters_to_vector(supernet.parameters()).detach()
    assert float(moved.double().norm()) == pytest.approx(3.0, rel=1e-4)
    assert float(moved.std()) < 1e-6  # all alike: the direction stays
    supernet, optimizer = made(clip_gradient=1e9, momentum=0.0, learning_rate=1.0, weight_decay=0.0)
    for parameter in supernet.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    before = nn.utils.parameters_to_vector(supernet.parameters()).detach().clone()
    optimizer.step()
    moved = before - nn.utils.parameters_to_vector(supernet.parameters()).detach()
    torch.testing.assert_close(moved, torch.full_like(moved, 2.0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_not_finite_moves_nothing(bad, clip):
    supernet, optimizer = made(clip_gradient=clip)
    before = [parameter.detach().clone() for parameter in supernet.parameters()]
    for parameter in supernet.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert optimizer.step() is True
    assert not all(map(torch.equal, before, supernet.parameters()))
    before = [parameter.detach().clone() for parameter in supernet.parameters()]
    list(supernet.parameters())[7].grad.view(-1)[0] = bad
    assert optimizer.step() is False
    assert all(map(torch.equal, before, supernet.parameters()))


def test_scaling_for_fp16_leaves_a_step_out_and_scales_less():
    supernet = small_supernet()
    optimizer = PhaseOptimizer(supernet, one_phase(supernet.space, momentum=0.0, weight_decay=0.0), scaled=True)
    optimizer.begin_step(0)
    parameter = next(supernet.parameters())
    before = parameter.detach().clone()
    optimizer.scaled(parameter.sum()).backward()
    assert parameter.grad.max() == 65536
    assert optimizer.step() is True
    torch.testing.assert_close(parameter.detach(), before - 0.05)  # the gradient is 1
    before = parameter.detach().clone()
    optimizer.begin_step(0)
    optimizer.scaled(parameter.sum() * 1e38).backward()  # the scaled gradient overflows
    assert optimizer.step() is True
    assert torch.equal(parameter, before) and optimizer.state()["scaler"]["scale"] == 32768


# -- state -------------------------------------------------------------------------------------------------------------


def train_a_little(steps, supernet, optimizer):
    generator = torch.Generator().manual_seed(steps)
    for _ in range(steps):
        optimizer.begin_step(0)
        for parameter in supernet.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_a_state_goes_through_a_file(kind):
    one, optimizer = made(optimizer=kind)
    train_a_little(2, one, optimizer)
    other, again = made(optimizer=kind)
    other.load_state_dict(one.state_dict())
    file = io.BytesIO()
    torch.save(optimizer.state(), file)
    again.load(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for supernet, one_of_them in ((one, optimizer), (other, again)):
        train_a_little(3, supernet, one_of_them)
    assert all(map(torch.equal, one.parameters(), other.parameters()))


def test_a_state_carries_moments_and_no_settings():
    supernet, optimizer = made(optimizer="adam", momentum=0.5, weight_decay=0.1)
    train_a_little(2, supernet, optimizer)
    # another phase: matrices change their group, and all settings differ
    _, later = made(supernet, optimizer="adam", momentum=0.8, weight_decay=0.2, kernel_matrices="no_decay")
    later.load(optimizer.state())
    assert [group["betas"][0] for group in later.optimizer.param_groups] == [0.8, 0.8]
    assert [group["weight_decay"] for group in later.optimizer.param_groups] == [0.2, 0.0]
    for name, parameter in supernet.named_parameters():
        values = later.optimizer.state[parameter]
        assert torch.equal(values["exp_avg"], optimizer.optimizer.state[parameter]["exp_avg"]), name


def test_frozen_matrices_leave_their_moments_behind():
    supernet, optimizer = made(optimizer="adam")
    train_a_little(1, supernet, optimizer)
    _, later = made(supernet, optimizer="adam", kernel_matrices="frozen")
    later.load(optimizer.state())
    carried = set(later.state()["moments"])
    assert carried < set(optimizer.state()["moments"]) and not any("matrices" in name for name in carried)


# -- moments and channels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_moments_follow_channels_that_are_sorted(kind):
    """Sorting keeps the largest network, and with the moments it also keeps how that network goes on."""

    def outputs(sort, moments):
        net = randomised(two_stages()).double()
        net.set_dropout(0.0)
        optimizer = PhaseOptimizer(net, one_phase(net.space, optimizer=kind, learning_rate=0.01), scaled=False)
        largest = net.space.largest()
        for number in range(4):
            if sort and number == 3:
                kept = net.space.restrict(expand_ratios=net.space.expand_ratios[-1:])
                sort_channels(net.channel_groups(), kept, beside=optimizer.moments_of if moments else None)
            optimizer.begin_step(0)
            x = torch.randn(8, 1, 24, 24, generator=torch.Generator().manual_seed(number)).double()
            net(x, largest).square().mean().backward()
            assert optimizer.step()
        with torch.no_grad():
            return net(x, largest)

    expected = outputs(sort=False, moments=False)
    assert float((outputs(sort=True, moments=True) - expected).abs().max()) < 1e-8
    assert float((outputs(sort=True, moments=False) - expected).abs().max()) > 1e-3


def test_bytes_of_what_the_optimiser_keeps():
    """Two moments and a count for each parameter with a gradient, nothing for the others."""
    net = two_stages()
    optimizer = PhaseOptimizer(net, one_phase(net.space, optimizer="adam"), scaled=False)
    assert optimizer.state_bytes() == 0
    reached = [p for name, p in net.named_parameters() if name.startswith("stem.")]
    for parameter in reached:
        parameter.grad = torch.ones_like(parameter)
    assert optimizer.step()
    assert optimizer.state_bytes() == sum(2 * 4 * parameter.numel() + 4 for parameter in reached)


# -- frozen parts ------------------------------------------------------------------------------------------------------

# what is frozen, the choices of the sub-networks that run, and which tensors of the network must then stay
FROZEN = {
    "stem": (Freeze(stem=True), {}, lambda name: name.startswith("stem.")),
    "earlier_blocks": (Freeze(earlier_blocks=True), {"depths": (2,)}, lambda name: ".0.paths." in name),
    "head": (Freeze(head=True), {}, lambda name: name.startswith("exits.")),
    "on_sample": (
        Freeze(inner_kernels="on_sample"),
        {"kernel_sizes": (7,)},
        lambda name: name.startswith("stages.") and "depthwise.conv." in name and ".rings.7" not in name,
    ),
    "largest_ring": (
        Freeze(inner_kernels=7),
        {},
        lambda name: name.startswith("stages.") and "depthwise.conv." in name and ".rings.7" not in name,
    ),
    "all": (
        Freeze(True, True, True, 7),
        {"depths": (2,), "kernel_sizes": (7,)},
        lambda name: (
            not (
                name.startswith(("stages.0.1.", "stages.1.1."))
                and ("depthwise.conv." not in name or ".rings.7" in name)
            )
        ),
    ),
}
MOVING = {
    "sgd": {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"optimizer": "adam", "learning_rate": 0.001, "weight_decay": 0.01},
}


@pytest.mark.parametrize("kind", MOVING)
@pytest.mark.parametrize("part", FROZEN)
def test_a_hundred_steps_move_nothing_that_is_frozen(part, kind):
    """Bit for bit, running statistics too, with the momentum of earlier steps and weight decay; all else moves."""
    freeze, factors, stays = FROZEN[part]
    space = SearchSpace.build(2, resolutions=(32,), kernel_sizes=(3, 5, 7), expand_ratios=(2, 3), depths=(1, 2))
    net = OFAMobileNetV3(space, num_classes=3, in_channels=1, width_mult=0.25, kernel_rule="rings").initialise()
    optimizer = PhaseOptimizer(net.train(), one_phase(space, **MOVING[kind]), scaled=False)
    generator, rng = torch.Generator().manual_seed(0), random.Random(0)

    def steps(count, among, freeze):
        for _ in range(count):
            optimizer.begin_step(0)
            x = torch.randn(4, 1, 32, 32, generator=generator)
            net(x, among.sample(rng), freeze).square().mean().backward()
            assert optimizer.step()

    steps(12, space, Freeze())
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    conv = net.get_submodule("stages.1.0.paths.main.depthwise.conv")
    kernels = {size: conv.tensors(*conv.sizes[:2], size)["weight"].detach().clone() for size in (3, 5, 7)}
    steps(100, space.restrict(**factors), freeze)
    still = {name for name, tensor in net.state_dict().items() if torch.equal(tensor, before[name])}
    assert {name for name in before if stays(name)} <= still
    still -= {name for name in still if name.endswith("expand.norm.weight")}  # the next normalisation undoes its scale
    assert still == {name for name in before if stays(name) and not name.endswith("expand.norm.weight")}
    if freeze.inner_kernels != "off" and part != "all":
        for size in (3, 5):  # the inner part of the largest kernel is the smaller one, as it was
            now = conv.tensors(*conv.sizes[:2], 7)["weight"].detach()
            assert torch.equal(center_crop(now, size), kernels[size]) and not torch.equal(now, kernels[7])
