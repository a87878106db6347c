"""Adam with a number of steps for each entry, against the formula of the paper computed for every entry by itself."""

import io

import numpy as np
import pytest
import torch

from onceforall.training.adam import Adam

BETAS, EPS = (0.9, 0.999), 1e-8


def by_hand(weights, gradients, firsts, seconds, steps, rate, decay, decoupled):
    """Adam (Kingma & Ba, algorithm 1; decoupled decay: Loshchilov & Hutter, algorithm 2), one entry after another."""
    weights, firsts, seconds, steps = (np.array(values, np.float64) for values in (weights, firsts, seconds, steps))
    for step_gradients in gradients:
        for at in np.ndindex(weights.shape):
            gradient = step_gradients[at] + (0 if decoupled else decay * weights[at])
            weights[at] -= rate * decay * weights[at] if decoupled else 0
            steps[at] += 1
            firsts[at] = BETAS[0] * firsts[at] + (1 - BETAS[0]) * gradient
            seconds[at] = BETAS[1] * seconds[at] + (1 - BETAS[1]) * gradient**2
            mean, square = firsts[at] / (1 - BETAS[0] ** steps[at]), seconds[at] / (1 - BETAS[1] ** steps[at])
            weights[at] -= rate * mean / (np.sqrt(square) + EPS)
    return weights, firsts, seconds, steps


@pytest.mark.parametrize("decoupled", [False, True])
def test_every_entry_moves_by_its_own_count(decoupled):
    rng = np.random.default_rng(0)
    shape = (3, 4)
    old = np.zeros(shape, bool)
    old[:2, :3] = True
    steps = np.where(old, 40.0, 0.0)
    weights, firsts = rng.normal(size=shape), np.where(old, rng.normal(size=shape), 0)
    seconds = np.where(old, rng.uniform(0.1, 1, shape), 0)
    gradients = rng.normal(size=(6, *shape))
    parameter, other = (torch.nn.Parameter(torch.from_numpy(weights.copy())) for _ in range(2))
    groups = [{"params": [parameter, other], "weight_decay": 0.1}]
    optimizer = Adam(groups, 0.01, BETAS, EPS, decoupled_weight_decay=decoupled)
    optimizer.state[parameter] = {
        "step": torch.from_numpy(steps).float(),
        "exp_avg": torch.from_numpy(firsts.copy()),
        "exp_avg_sq": torch.from_numpy(seconds.copy()),
    }
    for number, gradient in enumerate(gradients):
        if number == 3:  # the state goes through a file that holds tensors and numbers only
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            optimizer = Adam(groups, 0.5, decoupled_weight_decay=not decoupled)
            optimizer.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
        parameter.grad, other.grad = torch.from_numpy(gradient), torch.from_numpy(gradient)
        optimizer.step()
        assert parameter.grad is not None
    found = optimizer.state[parameter]
    found = [parameter.detach(), found["exp_avg"], found["exp_avg_sq"], found["step"].double()]
    expected = by_hand(weights, gradients, firsts, seconds, steps, 0.01, 0.1, decoupled)
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-12, atol=1e-14)
    zero = np.zeros(shape)  # the parameter beside it has one count, and torch moves it
    expected, *_ = by_hand(weights, gradients, zero, zero, zero, 0.01, 0.1, decoupled)
    np.testing.assert_allclose(other.detach().numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("decoupled", [False, True])
def test_equal_counts_move_as_torch_does(decoupled):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, 7, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizer = Adam([ours], 1e-2, decoupled_weight_decay=decoupled, weight_decay=0.01)
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    reference = kind([theirs], 1e-2, weight_decay=0.01)
    optimizer.state[ours] = {name: torch.zeros(5, 7) for name in ("step", "exp_avg", "exp_avg_sq")}
    for _ in range(20):
        ours.grad = torch.randn(5, 7, generator=generator)
        theirs.grad = ours.grad.clone()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_what_has_no_gradient_rests():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = Adam([parameter], 0.1)
    optimizer.state[parameter] = {"step": torch.tensor([3.0, 0.0]), "exp_avg": torch.ones(2)}
    optimizer.step()
    assert optimizer.state[parameter]["step"].tolist() == [3.0, 0.0] and parameter.tolist() == [1.0, 1.0]


def first_moves(ages_of_new):
    """How far entries move in their first step beside some that made 1000 steps, in units of the learning rate."""
    parameter = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = Adam([parameter], 1.0)
    optimizer.state[parameter] = {
        "step": torch.tensor([1000.0, ages_of_new]),
        "exp_avg": torch.tensor([0.5, 0.0], dtype=torch.float64),
        "exp_avg_sq": torch.tensor([0.5, 0.0], dtype=torch.float64),
    }
    parameter.grad = torch.tensor([0.3, 0.3], dtype=torch.float64)
    optimizer.step()
    return parameter.abs().tolist()


def test_a_count_of_its_own_keeps_the_first_move_of_an_entry_at_the_rate():
    assert first_moves(0)[1] == pytest.approx(1.0, abs=1e-6)
    # with the count of the others: 0.1 g / sqrt(0.001 g^2 / (1 - 0.999^1001))
    assert first_moves(1000)[1] == pytest.approx(0.1 / np.sqrt(0.001 / (1 - 0.999**1001)), rel=1e-6)
    assert first_moves(1000)[1] > 2.5
