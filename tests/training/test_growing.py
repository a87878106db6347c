"""Training that makes the network larger on the way, and goes on exactly after an interruption there."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.supernets.mobilenet_v3 import OFAMobileNetV3
from onceforall.supernets.prox_mobilenet import ProXMobileNet
from onceforall.training.checkpoint import load_network
from onceforall.training.growing import (
    beginning,
    final_space,
    fitted,
    placed_by_growth,
    spaces_in_phases,
    without_weights,
)
from onceforall.training.optimizers import PhaseOptimizer
from onceforall.training.phases import Teacher
from onceforall.training.records import Records
from onceforall.training.schedules import progressive_expansion, progressive_shrinking
from tiny_runs import one_phase, run, striped

SMALL = SearchSpace.build(2, resolutions=(16,), kernel_sizes=(3,), expand_ratios=(3,), depths=(1,))
DEEP = SMALL.extend(depths=(1, 2))
LARGE = DEEP.extend(kernel_sizes=(3, 5), expand_ratios=(3, 4), resolutions=(16, 24))
DATA = striped(48)


def small():
    return OFAMobileNetV3(SMALL, num_classes=3, in_channels=1, width_mult=0.25).initialise(3)


def small_prox():
    space = SearchSpace.build(5, resolutions=(16,), kernel_sizes=(3,), expand_ratios=(3,), depths=(1,))
    return ProXMobileNet(space, num_classes=3, in_channels=1, width_mult=0.25).initialise(3)


def phases(**fields):
    given = {"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 16, "dropout": 0.1} | fields
    taught = given | {"teacher": Teacher("previous_phase", batchnorm="calibrated")}
    return [
        one_phase(SMALL, name="small", **given),
        one_phase(DEEP, name="deep", **taught),
        one_phase(LARGE, name="large", **taught),
    ]


def grown(folder, fields=None, **options):
    return run(folder, phases(**fields or {}), supernet=small(), data=DATA, threads=1, **options)


def test_each_phase_has_a_network_of_its_size(tmp_path):
    trained = grown(tmp_path / "run")
    assert trained.space == LARGE
    sizes = []
    for number, (name, space) in enumerate((("small", SMALL), ("deep", DEEP), ("large", LARGE)), start=1):
        saved = load_network(tmp_path / f"run/checkpoints/{number}-{name}-last.safetensors")
        assert saved.space == space
        sizes.append(sum(parameter.numel() for parameter in saved.parameters()))
    assert sizes == sorted(set(sizes))
    described = json.loads((tmp_path / "run/run.json").read_text())
    assert described["network"]["space"] == json.loads(json.dumps(SMALL.to_dict()))


def test_a_phase_begins_with_the_function_that_the_one_before_had(tmp_path):
    still = phases(learning_rate=1e-60, dropout=0.0)
    trained = run(tmp_path / "run", still, supernet=small(), data=DATA, threads=1).eval()
    before = load_network(tmp_path / "run/checkpoints/1-small-best.safetensors").eval()
    x = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for net in (trained, before):
        net.use_batch_statistics()
    with torch.no_grad():
        expected = before(x, SMALL.largest())
        assert torch.equal(trained(x, SMALL.largest()), expected)
        torch.testing.assert_close(trained(x, LARGE.uniform(resolution=16)), expected, rtol=1e-4, atol=1e-5)


class Killed(BaseException):
    pass


@contextmanager
def killed_at(moment, monkeypatch):
    """Whatever trains in the body ends after so many steps."""
    own, calls = Records.advance, []

    def advance(*arguments):
        own(*arguments)
        calls.append(1)
        if len(calls) == moment:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Records, "advance", advance)
        yield


CARRY = {"optimizer_state": "carry"}


@pytest.mark.parametrize(
    ("moment", "fields"), [(2, {}), (3, {}), (5, {}), (4, CARRY), (5, CARRY), (5, CARRY | {"optimizer": "sgd"})]
)
def test_it_goes_on_across_a_growth(tmp_path, monkeypatch, moment, fields):
    """Six steps in three phases; the run is killed in or between them and ends with the very same weights."""
    expected = grown(tmp_path / "whole", fields, checkpoint_every=1).state_dict()
    with killed_at(moment, monkeypatch):
        grown(tmp_path / "run", fields, checkpoint_every=1)
    found = grown(tmp_path / "run", fields, checkpoint_every=1, resume=True).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_it_goes_on_in_a_phase_smaller_than_the_one_before(tmp_path, monkeypatch):
    """The network has grown beyond what the phase trains; a run that goes on finds it as large."""

    def trained(folder, **options):
        first, deep, large = phases()
        return run(folder, [first, large, deep], supernet=small(), data=DATA, threads=1, checkpoint_every=1, **options)

    expected = trained(tmp_path / "whole")
    with killed_at(6, monkeypatch):
        trained(tmp_path / "run")
    found = trained(tmp_path / "run", resume=True)
    assert found.space == expected.space == LARGE
    assert all(
        torch.equal(tensor, other)
        for tensor, other in zip(found.state_dict().values(), expected.state_dict().values(), strict=True)
    )


def test_spaces_that_are_no_extension_are_refused():
    assert final_space(SMALL, phases()) == LARGE
    assert final_space(LARGE, phases()) == LARGE
    assert spaces_in_phases(SMALL, [*phases(), phases()[0]]) == [SMALL, DEEP, LARGE, LARGE]
    other = one_phase(SMALL.extend(kernel_sizes=(3, 7)), name="other")
    with pytest.raises(UserError, match="phase 'other' trains architectures that the supernet does not .*missing"):
        final_space(SMALL, [*phases(), other])


def test_a_run_begins_with_what_its_first_phase_needs():
    whole = OFAMobileNetV3(LARGE, num_classes=3, in_channels=1, width_mult=0.25).initialise(3)
    first = beginning(whole, progressive_expansion(LARGE), seed=3)
    assert first.space == SMALL.extend(resolutions=(16, 24)) and first.options == whole.options
    weights = small().state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in first.state_dict().items())
    assert beginning(whole, progressive_shrinking(LARGE), seed=3) is whole
    narrow = progressive_shrinking(LARGE, only="depths", fixed={"kernel_sizes": 3})
    assert beginning(whole, narrow, seed=3).space.kernel_sizes == (3,)


def test_what_a_run_must_not_begin_with_anew():
    whole = OFAMobileNetV3(LARGE, num_classes=3, in_channels=1, width_mult=0.25).initialise(3)
    expansion = progressive_expansion(LARGE)
    only = [one_phase(LARGE.restrict(kernel_sizes=sizes), name=f"only_{sizes[0]}") for sizes in ((3,), (5,))]
    assert beginning(whole, only, seed=3) is whole, "the second is no larger one than the first"
    other = one_phase(LARGE.extend(kernel_sizes=(3, 5, 7)).restrict(kernel_sizes=(7,)))
    assert beginning(whole, [other], seed=3) is whole
    assert beginning(small(), expansion, seed=3).space == SMALL
    assert beginning(whole, [], seed=3) is whole
    whole.train()(torch.rand(2, 1, 16, 16), LARGE.uniform(resolution=16))
    assert beginning(whole, expansion, seed=3) is whole, "it has seen images, and its weights would be lost"


def test_expansion_of_a_whole_supernet_begins_small(tmp_path):
    """What is trained is what the same phases make of the small network, bit for bit."""
    schedule = progressive_expansion(LARGE.restrict(resolutions=(16,)), total_epochs=4, batch_size=16)
    whole = OFAMobileNetV3(schedule[-1].space, num_classes=3, in_channels=1, width_mult=0.25).initialise(7)
    trained = run(tmp_path / "whole", schedule, supernet=whole, data=DATA, threads=1, seed=3)
    found = load_network(tmp_path / "whole/checkpoints/1-smallest-last.safetensors")
    assert found.space == SMALL and trained.space == schedule[-1].space
    expected = run(tmp_path / "small", schedule, supernet=small(), data=DATA, threads=1, seed=3).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained.state_dict().items())


def test_a_trained_supernet_stays_whole(tmp_path):
    first = run(tmp_path / "first", [one_phase(DEEP, batch_size=32)], supernet=small().grow(DEEP), data=DATA, threads=1)
    again = run(tmp_path / "again", [one_phase(SMALL, batch_size=32)], supernet=first, data=DATA, threads=1)
    assert again is first and again.space == DEEP


def test_shrinking_of_one_factor_beside_smaller_ones(tmp_path):
    schedule = progressive_shrinking(LARGE, only="depths", fixed={"kernel_sizes": 3}, total_epochs=2)
    whole = OFAMobileNetV3(LARGE, num_classes=3, in_channels=1, width_mult=0.25).initialise(3)
    trained = run(tmp_path / "run", schedule, supernet=whole, data=DATA, threads=1)
    assert trained.space == LARGE.restrict(kernel_sizes=(3,), expand_ratios=(4,), resolutions=(24,))


def test_a_choice_between_those_that_are_there_is_grown_too():
    """The extremes of the larger space are in the smaller one, and the middle is not."""
    ends = SearchSpace.build(2, resolutions=(16, 24), kernel_sizes=(3, 7), expand_ratios=(3, 6), depths=(1, 3))
    supernet = OFAMobileNetV3(ends, num_classes=3, in_channels=1, width_mult=0.25).initialise(3)
    for factor, choices in (
        ("resolutions", (16, 20, 24)),
        ("kernel_sizes", (3, 5, 7)),
        ("expand_ratios", (3, 4, 6)),
        ("depths", (1, 2, 3)),
    ):
        phase = one_phase(ends.extend(**{factor: choices}))
        assert final_space(ends, [phase]) == phase.space
        assert fitted(supernet, phase.space, seed=0).space == phase.space
    assert fitted(supernet, ends.restrict(depths=(1,), kernel_sizes=(7,)), seed=0) is supernet


def test_what_is_large_enough_stays_itself():
    supernet = small()
    assert fitted(supernet, SMALL, seed=0) is supernet
    larger = fitted(supernet, DEEP, seed=0)
    assert larger.space == DEEP and larger is not supernet
    probe = without_weights(supernet, LARGE)
    assert all(tensor.is_meta for tensor in probe.parameters())
    assert probe.measure(LARGE.largest()).macs > supernet.measure(SMALL.largest()).macs


# -- the optimiser's state ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [small, small_prox])
def test_values_go_where_growth_puts_parameters(make):
    """What is marked in a parameter is what growth takes over: to change it in the small network changes it there."""
    before = make()
    space = before.space.extend(kernel_sizes=(3, 5), expand_ratios=(3, 4), depths=(1, 2))
    after = before.grow(space)
    marks = placed_by_growth(dict.fromkeys(dict(before.named_parameters()), torch.ones(())), before, after)
    generator = torch.Generator().manual_seed(1)
    values = {name: torch.randn(p.shape, generator=generator) for name, p in before.named_parameters()}
    placed = placed_by_growth(values, before, after)
    assert marks.keys() == dict(after.named_parameters()).keys()
    with torch.no_grad():
        for name, parameter in before.named_parameters():
            parameter.copy_(values[name])
    again = dict(before.grow(space, seed=9).named_parameters())
    old = dict(before.named_parameters())
    for name, mark in marks.items():
        count = old[name].numel() if name in old else 0
        assert set(mark.unique().tolist()) <= {0.0, 1.0} and mark.count_nonzero() == count, name
        assert torch.equal(again[name][mark.bool()], placed[name][mark.bool()]), name
        assert torch.equal(placed[name], placed[name] * mark), name
    assert any(0 < mark.count_nonzero() < mark.numel() for mark in marks.values())


def stepped(supernet, optimizer, count, seed=0):
    """The gradients of `count` steps that were made, by parameter."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(count):
        optimizer.begin_step(0)
        made.append({name: rng.normal(size=p.shape) for name, p in supernet.named_parameters()})
        for name, parameter in supernet.named_parameters():
            parameter.grad = torch.from_numpy(made[-1][name])
        assert optimizer.step()
    return made


@pytest.mark.parametrize("make", [small, small_prox])
def test_carried_state_is_that_of_each_entry(make):
    """Two growths: every entry of every parameter ends where Adam takes it that knows its own history only."""
    supernet, history, taken = make().double(), {}, None
    space, rate = supernet.space, 0.01
    fields = {"optimizer": "adam", "optimizer_state": "carry", "learning_rate": rate, "weight_decay": 0.0}
    fields |= {"decay": "constant"}
    for number, factors in enumerate(({}, {"kernel_sizes": (3, 5)}, {"expand_ratios": (3, 4), "depths": (1, 2)})):
        space = space.extend(**factors)
        before, supernet = supernet, supernet.grow(space) if factors else supernet
        optimizer = PhaseOptimizer(supernet, one_phase(space, **fields), scaled=False)
        if taken is not None:
            optimizer.carry_on(taken)
            history = {
                key: placed_by_growth({n: torch.from_numpy(v) for n, v in values.items()}, before, supernet)
                for key, values in history.items()
            }
        else:
            history = {key: {n: torch.zeros_like(p) for n, p in supernet.named_parameters()} for key in "tmv"}
        history = {key: {n: v.numpy().copy() for n, v in values.items()} for key, values in history.items()}
        expected = {name: p.detach().numpy().copy() for name, p in supernet.named_parameters()}
        for gradients in stepped(supernet, optimizer, 3, seed=number):
            for name, g in gradients.items():
                t, m, v = (history[key][name] for key in "tmv")
                t += 1
                m[...] = 0.9 * m + 0.1 * g
                v[...] = 0.999 * v + 0.001 * g**2
                expected[name] -= rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        for name, parameter in supernet.named_parameters():
            np.testing.assert_allclose(parameter.detach().numpy(), expected[name], rtol=1e-9, atol=1e-12, err_msg=name)
        taken = optimizer
    steps = [values["step"] for values in taken.state()["moments"].values()]
    assert {tuple(step.unique().tolist()) for step in steps} > {(3.0,), (9.0,), (3.0, 9.0)}


def test_a_state_that_does_not_grow_is_carried_as_it_is():
    supernet = small()
    fields = {"optimizer": "adam", "optimizer_state": "carry"}
    first, second = (PhaseOptimizer(supernet, one_phase(SMALL, **fields), scaled=False) for _ in range(2))
    stepped(supernet.double(), first, 2)
    second.carry_on(first)
    for name, state in second.state()["moments"].items():
        assert all(torch.equal(value, first.state()["moments"][name][kind]) for kind, value in state.items())


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_new_entries_make_first_moves_of_the_rate(kind):
    """Beside entries that have made 200 steps; with their count it would be 2.3 times the rate."""
    before = small().double()
    fields = {"optimizer": kind, "learning_rate": 0.01, "weight_decay": 0.0, "decay": "constant"}
    first = PhaseOptimizer(before, one_phase(SMALL, **fields), scaled=False)
    stepped(before, first, 200)
    after = before.grow(LARGE)
    marks = placed_by_growth(dict.fromkeys(dict(before.named_parameters()), torch.ones(())), before, after)
    for shared, expected in ((False, 1.0), (True, 0.1 / np.sqrt(0.001 / (1 - 0.999**201)))):
        net = before.grow(LARGE)
        optimizer = PhaseOptimizer(net, one_phase(LARGE, **fields), scaled=False)
        optimizer.carry_on(first)
        for state in optimizer.optimizer.state.values():
            state["step"] = state["step"].max() if shared else state["step"]
        start = {name: p.detach().clone() for name, p in net.named_parameters()}
        stepped(net, optimizer, 1, seed=1)
        moves = [
            ((p.detach() - start[name]).abs() / 0.01)[marks[name] == 0]
            for name, p in net.named_parameters()
            if 0 < marks[name].count_nonzero() < marks[name].numel()
        ]
        assert float(torch.cat(moves).median()) == pytest.approx(expected, rel=1e-3)
