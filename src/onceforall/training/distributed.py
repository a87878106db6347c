"""The processes of a run: who they are, and the few exchanges between them.

Started by `torchrun` (one or many machines), they find each other through its environment variables; without it
there is one process and every exchange does nothing.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor

from onceforall.errors import UserError

__all__ = ["World", "connect", "pick_device"]

T = TypeVar("T")


@final
@dataclass(frozen=True)
class World:
    """One process of a run."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items that this process works on, a contiguous part of equal size."""
        count = len(items) // self.size
        return items[self.rank * count : (self.rank + 1) * count]

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Add up every parameter's gradient over the processes, as one message for each data type."""
        if self.size == 1:
            return
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for parameter in parameters:
            if parameter.grad is not None:
                by_type.setdefault(parameter.grad.dtype, []).append(parameter.grad)
        for gradients in by_type.values():
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])  # (all numbers,)
            dist.all_reduce(flat)
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def sum(self, values: Sequence[float]) -> list[float]:
        """The element-wise sum over the processes."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def merge(self, own: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Rows of numbers by name, of which each process has some (the same columns everywhere), on every process."""
        if self.size == 1:
            return {name: dict(own[name]) for name in names}
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, {name: dict(row) for name, row in own.items()})
        rows = {name: row for part in gathered for name, row in part.items()}
        return {name: rows[name] for name in names}

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def connect(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started, or be alone; leave them at the end.

    `device` is "auto" or a name of torch; NCCL is used between GPUs and gloo between processors. A program that trains
    several times under `torchrun` calls `torch.distributed.init_process_group` itself, once; it is left as it is.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    own = pick_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1 or dist.is_initialized():
        yield World(rank, size, own)
        return
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo", rank=rank, world_size=size)
    try:
        yield World(rank, size, own)
    finally:
        dist.destroy_process_group()


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of this process: "auto" takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device {name!r} is not known; use 'auto', 'cpu' or 'cuda'.") from error
    if device.type == "mps":
        raise UserError("device 'mps' (Apple GPU) is not supported: runs on it are not reproducible; use 'cpu'.")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not supported; use 'auto', 'cpu' or 'cuda'.")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device {name!r}: this machine has no CUDA GPU that torch can use; use 'cpu'.")
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        torch.cuda.set_device(device)
    return device
