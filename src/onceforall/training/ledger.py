"""What each phase of training costs: seconds by what they were spent on, samples, MACs, memory and energy."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, final

import torch

from onceforall.evaluation.environment import energy_joules_counter, peak_memory_bytes

METER_SECONDS = 20.0

__all__ = ["BACKWARD_FACTOR", "PARTS", "Ledger", "bytes_kept_for_backward"]

Part = Literal["student", "teacher", "data", "validation", "calibration", "checkpoint", "other"]
PARTS: tuple[Part, ...] = ("student", "teacher", "data", "validation", "calibration", "checkpoint", "other")
"""What time is spent on. "other" is the rest: drawing architectures, exchanging gradients, writing metrics."""

BACKWARD_FACTOR = 3
"""A training step costs three forward passes: one forward, two for the gradients of weights and of activations."""


@final
class Ledger:
    """Sums up costs; `entries` holds a dictionary of JSON types for each phase.

    Seconds are wall time of this process with the device synchronised at both ends of every part. An interrupted
    run's ledger goes on where its checkpoint was.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.entries: list[dict[str, Any]] = []
        self._energy = energy_joules_counter()
        self._last = time.perf_counter()
        self._joules = 0.0
        self._metered = self._last

    def begin_phase(self, name: str) -> None:
        """Open the entry of a phase, unless it is open already."""
        if not self.entries or self.entries[-1]["phase"] != name:
            seconds = dict.fromkeys(PARTS, 0.0)
            self.entries.append({"phase": name, "seconds": seconds, "samples": 0, "macs": 0, "steps": 0})
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._last = time.perf_counter()

    @contextmanager
    def time(self, part: Part) -> Iterator[None]:
        """Count the time of the body as `part`."""
        self._settle("other")
        try:
            yield
        finally:
            self._settle(part)

    def count(self, samples: int, macs: int) -> None:
        """Add a step of `samples` images and `macs` multiply-adds."""
        entry = self.entries[-1]
        entry["samples"] += samples
        entry["macs"] += macs
        entry["steps"] += 1
        if time.perf_counter() - self._metered > METER_SECONDS:
            self._read_meter()

    def note(self, **values: float) -> None:
        """Write further numbers into the phase's entry."""
        self.entries[-1].update(values)

    def end_phase(self) -> None:
        """Close the phase: peak memory, of the phase on an accelerator, otherwise of the process so far; and energy."""
        self._settle("other")
        cuda = self.device.type == "cuda"
        self.note(peak_memory_bytes=torch.cuda.max_memory_allocated(self.device) if cuda else peak_memory_bytes() or 0)
        self._read_meter()

    def _read_meter(self) -> None:
        """Add the energy since the last reading, where the machine tells it; its registers overflow within minutes."""
        self._metered = time.perf_counter()
        if self._energy is not None:
            now = self._energy()
            self.note(joules=self.entries[-1].get("joules", 0.0) + now - self._joules)
            self._joules = now

    def _settle(self, part: Part) -> None:
        """Give the time since the last call to `part`."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self.entries:
            self.entries[-1]["seconds"][part] += now - self._last
        self._last = now


@contextmanager
def bytes_kept_for_backward(known: Iterable[torch.Tensor] = ()) -> Iterator[list[int]]:
    """Count the bytes that autograd keeps for the backward pass while the body runs; the list's one number.

    Memory that several saved tensors share is counted once. Parameters are not counted, nor is the memory of `known`
    tensors: a frozen parameter is one only there. On the device "meta" nothing is computed, and the count is the same.
    """
    total = [0]
    seen = {tensor.untyped_storage()._cdata for tensor in known}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        owner = tensor if tensor._base is None else tensor._base  # a slice of a parameter is one too
        if storage._cdata not in seen and not isinstance(owner, torch.nn.Parameter):
            seen.add(storage._cdata)  # its address has no meaning on "meta"
            total[0] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total
