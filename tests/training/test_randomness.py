"""Draws depend on the place in the run and on nothing else."""

import hashlib
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from onceforall.training.randomness import key, keyed_generator, keyed_random, seeded_layers


def test_a_key_is_a_hash_of_the_parts():
    digest = hashlib.blake2b(b"(3, 'kernel', 17)", digest_size=8).digest()
    assert key(3, "kernel", 17) == int.from_bytes(digest, "big") // 2
    assert 0 <= key() < 2**63


def test_keys_differ_wherever_parts_differ():
    parts = [(s, phase, step) for s in range(3) for phase in ("a", "b", "ab") for step in range(40)]
    parts += [(1, 11), (11, 1), ("1", 11), (1, "11"), (1, 1, 1), (111,), ((1, 1), 1)]
    assert len({key(*part) for part in parts}) == len(parts)


def test_keys_are_those_of_another_process():
    """Unlike `hash`, which differs from process to process."""
    code = "from onceforall.training.randomness import key; print(key(0, 'full', 3, 'order'))"
    there = subprocess.check_output([sys.executable, "-W", "error", "-c", code], text=True, env=environment("7"))
    assert int(there) == key(0, "full", 3, "order")


def environment(hash_seed: str) -> dict[str, str]:
    import os

    return os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(filter(None, sys.path))}


def test_generators_repeat_and_touch_no_global_one():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    assert keyed_random(0, "a").random() == keyed_random(0, "a").random() != keyed_random(0, "b").random()
    numbers = [torch.rand(4, generator=keyed_generator(0, name)) for name in ("a", "a", "b")]
    assert torch.equal(numbers[0], numbers[1]) and not torch.equal(numbers[0], numbers[2])
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1]) and torch.equal(torch.get_rng_state(), before[2])


def test_layers_are_seeded_for_the_body_only():
    device = torch.device("cpu")
    ones = torch.ones(200)
    torch.manual_seed(5)
    before = torch.get_rng_state()

    def dropped(*parts):
        with seeded_layers(device, *parts):
            return F.dropout(ones, 0.5)

    assert torch.equal(dropped(1), dropped(1)) and not torch.equal(dropped(1), dropped(2))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ZeroDivisionError), seeded_layers(device, 1):
        torch.rand(1)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)
