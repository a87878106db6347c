"""Teachers: batch statistics, calibrated statistics, native resolution, several exits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from onceforall.errors import UserError
from onceforall.evaluation.calibration import calibrate
from onceforall.evaluation.tasks import classification
from onceforall.layers.elastic import ElasticBatchNorm
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.training.distillation import objective
from onceforall.training.phases import Teacher
from onceforall.training.schedules import exit_weights_of
from onceforall.training.teachers import TeacherNetwork, as_teacher, teaching_phase
from tiny_runs import one_phase, small_supernet


def images(size=24, count=8, seed=0):
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def uneven(supernet):
    """Running statistics far from those of any batch."""
    for module in supernet.modules():
        if isinstance(module, ElasticBatchNorm):
            module.running_mean.fill_(3.0)
            module.running_var.fill_(9.0)
    return supernet


def largest_of(supernet):
    return supernet.subnet(supernet.space.largest())


def state_of(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same_state(net, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def in_training_without_dropout(net, x):
    """The answer of an ordinary network in training mode: batch statistics."""
    net = net.train()
    net.set_dropout(0.0)
    return net(x)


def no_images(_):
    raise AssertionError("no calibration was asked for")


def test_by_batch_it_answers_as_in_training_and_moves_nothing():
    supernet = uneven(small_supernet())
    supernet.set_dropout(0.5)
    expected = in_training_without_dropout(largest_of(supernet), images()).detach()
    network, before = largest_of(supernet), state_of(supernet)
    teacher = TeacherNetwork(network, Teacher("first", batchnorm="batch"), no_images)
    own = state_of(network)
    answers = [teacher.soft_targets(images(), 24) for _ in range(2)]
    assert torch.equal(answers[0], answers[1]), "dropout is on"
    torch.testing.assert_close(answers[0], expected)
    assert not torch.allclose(answers[0], network.eval()(images()[:4].repeat(2, 1, 1, 1)))  # the batch matters
    assert same_state(network, own) and same_state(supernet, before)
    assert not answers[0].requires_grad and not any(p.requires_grad for p in network.parameters())
    assert all(p.requires_grad for p in supernet.parameters())


def test_calibrated_it_keeps_statistics_for_each_resolution():
    network = uneven(largest_of(small_supernet()))
    asked = []

    def calibration(resolution):
        asked.append(resolution)
        return [images(resolution, 16, seed=resolution)]

    expected = {}
    for size in (16, 24):
        twin = uneven(largest_of(small_supernet()))
        expected[size] = calibrate(twin, [images(size, 16, seed=size)]).eval()(images(size))
    teacher = TeacherNetwork(network, Teacher("first", batchnorm="calibrated"), calibration)
    for size in (24, 16, 24, 16):
        torch.testing.assert_close(teacher.soft_targets(images(size), size), expected[size].detach())
    assert asked == [24, 16], "statistics are estimated once for each resolution"
    alone = teacher.soft_targets(images()[:1], 24)  # eval mode: an image's answer does not depend on the others
    torch.testing.assert_close(alone, teacher.soft_targets(images(), 24)[:1], atol=1e-5, rtol=1e-5)


def test_calibrated_it_follows_the_rule_that_is_given():
    """One pass of all images, and not the mean of the batches' variances."""
    batches = [images(24, 4, seed=1), 3 * images(24, 4, seed=2) + 1]
    answers = []
    for rule in ("reference", "population"):
        twin = calibrate(uneven(largest_of(small_supernet())), batches, rule).eval()
        teacher = TeacherNetwork(
            uneven(largest_of(small_supernet())), Teacher("first", batchnorm="calibrated"), lambda _: batches, rule
        )
        answers.append(teacher.soft_targets(images(), 24))
        torch.testing.assert_close(answers[-1], twin(images()).detach())
    assert not torch.allclose(*answers, atol=1e-3)


def test_statistics_that_are_in_place_are_not_copied_again(monkeypatch):
    network = uneven(largest_of(small_supernet()))
    teacher = TeacherNetwork(network, Teacher("first", batchnorm="calibrated"), lambda size: [images(size)])
    for size in (24, 16):
        teacher.soft_targets(images(size), size)
    copied = []
    monkeypatch.setattr(network, "named_buffers", lambda: copied.append(1) or iter(()))
    for size, copies in ((16, 0), (16, 0), (24, 1), (24, 1), (16, 2)):
        teacher.soft_targets(images(size), size)
        assert len(copied) == copies


@pytest.mark.parametrize(("wanted", "at_16", "at_24"), [("student", 16, 24), ("native", 24, 24)])
def test_which_resolution_it_wants(wanted, at_16, at_24):
    teacher = TeacherNetwork(largest_of(small_supernet()), Teacher("first", input=wanted), no_images)
    assert (teacher.resolution(16), teacher.resolution(24)) == (at_16, at_24)


def test_exits_are_summed_with_the_weights_of_the_teacher():
    class Exits(nn.Module):
        space = small_supernet().space

        def use_batch_statistics(self, enabled):
            assert enabled

        def forward(self, x):
            return x.mean((2, 3)), 3 * x.amax((2, 3))

    x = images()
    mean, most = x.mean((2, 3)), 3 * x.amax((2, 3))
    weighted = TeacherNetwork(Exits(), Teacher("first", exit_weights=(0.25, 0.75)), no_images)
    torch.testing.assert_close(weighted.soft_targets(x, 24), 0.25 * mean + 0.75 * most)
    torch.testing.assert_close(
        TeacherNetwork(Exits(), Teacher("first"), no_images).soft_targets(x, 24), (mean + most) / 2
    )
    with pytest.raises(UserError, match="2 exits"):
        TeacherNetwork(Exits(), Teacher("first", exit_weights=(1.0,)), no_images).soft_targets(x, 24)


def test_exits_of_five_are_summed_before_the_softmax():
    """ENS-KD (OFAv2, section III.E): the soft targets are softmax((5 z1 + 4 z2 + 3 z3 + 2 z4 + z5) / 15)."""
    space = SearchSpace.build(5, resolutions=(24,), depths=(1,), kernel_sizes=(3,), heights=(1, 2, 3, 4, 5))
    supernet = OFAMobileNetV3(space, num_classes=3, in_channels=1, width_mult=0.25).initialise(1).double()
    network = supernet.subnet(space.largest(exits="all"))
    x = images().double()
    with torch.no_grad():
        logits = [z.numpy() for z in in_training_without_dropout(network, x)]
    weights, _ = exit_weights_of("desc", 5)
    made = TeacherNetwork(network, Teacher("first", exit_weights=weights), no_images).soft_targets(x, 24)
    expected = sum((5 - i) * z for i, z in enumerate(logits)) / 15
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-12, atol=1e-14)

    student = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    labels = torch.arange(8) % 3
    objective(student, labels, made, classification(), one_phase(space)).backward()

    def softmax(z):
        return np.exp(z) / np.exp(z).sum(1, keepdims=True)

    probabilities = softmax(student.detach().numpy())
    smoothed = 0.9 * np.eye(3)[labels] + 0.1 / 3
    by_hand = (probabilities - smoothed + probabilities - softmax(expected)) / 8
    np.testing.assert_allclose(student.grad.numpy(), by_hand, rtol=1e-10, atol=1e-14)

    of_probabilities = Teacher("first", exit_weights=weights, ensemble="probabilities")
    made = TeacherNetwork(network, of_probabilities, no_images).soft_targets(x, 24).softmax(1)
    np.testing.assert_allclose(made.numpy(), sum((5 - i) * softmax(z) for i, z in enumerate(logits)) / 15, rtol=1e-12)


@pytest.mark.parametrize(
    ("source", "scores", "higher", "expected"),
    [
        ("first", None, True, 0),
        ("previous_phase", None, True, 3),
        ("previous_phase", [0.5, 0.4, 0.6, 0.55], True, 2),
        ("previous_phase", [0.5, 0.4, 0.5, 0.45], True, 2),
        ("previous_phase", [0.5, 0.4, 0.3, 0.2], True, 0),
        ("previous_phase", [0.5, 0.4, 0.3, 0.2], False, 3),
        ("previous_phase", [0.1, 0.2, 0.3, 0.4], True, 3),
    ],
)
def test_a_guard_passes_over_worse_teachers(source, scores, higher, expected):
    phase = one_phase(small_supernet().space, teacher=Teacher(source, guard=scores is not None))
    assert teaching_phase(phase, 4 if scores is None else len(scores), scores, higher) == expected


def test_a_supernet_in_training_can_be_asked():
    supernet = uneven(small_supernet()).train()
    supernet.set_dropout(0.5)
    architecture = replace(supernet.space.largest(), resolution=16)
    expected = in_training_without_dropout(supernet.subnet(architecture), images(16)).detach()
    before = state_of(supernet)
    torch.manual_seed(0)
    generator = torch.get_rng_state()
    with as_teacher(supernet):
        answer = supernet(images(16), architecture)
    torch.testing.assert_close(answer, expected)
    assert torch.equal(torch.get_rng_state(), generator), "something was drawn from the global generator"
    assert same_state(supernet, before) and not answer.requires_grad
    with pytest.raises(ZeroDivisionError), as_teacher(supernet):
        raise ZeroDivisionError
    assert all(module.training for module in supernet.modules())
    supernet(images(16), architecture)
    assert not same_state(supernet, before), "running statistics move again"
    assert F.dropout(torch.ones(9), 0.5).min() == 0
