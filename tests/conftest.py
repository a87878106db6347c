"""What every test gets: one thread, no window system, the same examples from hypothesis, and `data_root`."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")  # also for the programs that tests start
torch.set_num_threads(1)  # as fast on small networks, and sums in one order

# No deadline: the machine may be busy. Derandomized: a test that passed passes again.
settings.register_profile("onceforall", deadline=None, derandomize=True)
settings.load_profile("onceforall")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the real data sets, named by the environment variable ONCEFORALL_DATA."""
    named = os.environ.get("ONCEFORALL_DATA")
    if not named:
        pytest.skip("needs real data: set ONCEFORALL_DATA to the folder that holds mednist/, tiny-imagenet-200/, ...")
    root = Path(named)
    assert root.is_dir(), f"ONCEFORALL_DATA names {named}, which is no folder"
    return root
