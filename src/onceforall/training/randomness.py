"""Keyed randomness: every draw of a run is a function of the seed and of where in the run it happens.

Nothing is drawn from a running state, so a resumed run and a run on other processes draw the same.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["key", "keyed_generator", "keyed_random", "seeded_layers"]


def key(*parts: object) -> int:
    """A 63-bit number that depends on the parts, given as texts and whole numbers, and on nothing else."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def keyed_random(*parts: object) -> random.Random:
    """A Python generator for this place of the run."""
    return random.Random(key(*parts))


def keyed_generator(*parts: object) -> torch.Generator:
    """A torch generator on the CPU for this place of the run."""
    return torch.Generator().manual_seed(key(*parts))


@contextmanager
def seeded_layers(device: torch.device, *parts: object) -> Iterator[None]:
    """Let layers that draw from torch's global generator (dropout) draw by key; its state is restored after."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(key(*parts))
        yield
