"""How long one forward pass takes on this machine: simple, honest, and everything put back afterwards.

Conventions:

- `latency_ms` is the time of **one batch**, from the call to the finished result, input already on the device.
- The number is the median over the runs; beside it stands the interquartile range (IQR). A mean would be a number
  about the other programs on the machine.
- One thread means one *pinned* core, where the system can pin: a thread that wanders finds cold caches.
- One measurement at a time in a process, by a lock: engines that are called in turn slow each other (2.3 times was
  seen on a small network). Compare engines one after the other, best each in its own process.
- `noisy` says that the machine was not quiet: IQR above 10 % of the median. Do not rank networks by such numbers.

`time_callable` is the core and knows no engine; `measure_latency` is PyTorch's. A further engine is a further function
that prepares its session and hands `time_callable` a call without arguments.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from onceforall.errors import UserError

if TYPE_CHECKING:
    import torch

__all__ = ["Latency", "measure_latency", "time_callable"]

NOISY_IQR = 0.10  # of the median
ONE_AT_A_TIME = threading.RLock()  # two measurements at once would measure, and restore, each other


@final
@dataclass(frozen=True, slots=True)
class Latency:
    """The time of one batch and under what conditions it was taken; every field belongs beside the number."""

    median_ms: float
    iqr_ms: float  # third minus first quartile
    runs: int  # timed ones, without the warm-up
    threads: int
    batch_size: int
    device: str
    engine: str
    precision: str  # "float32", "bfloat16", ...
    pinned: int | None  # the core it ran on; None: free to wander
    noisy: bool  # IQR > 10 % of the median


def measure_latency(
    net: "torch.nn.Module",
    input_shape: tuple[int, ...],
    *,
    threads: int = 1,
    warmup_seconds: float = 0.5,
    min_runs: int = 10,
    max_seconds: float = 2.0,
    batch_size: int = 1,
    device: str = "cpu",
) -> Latency:
    """Latency of `net`, in PyTorch, on an input of shape `(batch_size, *input_shape)`.

    `input_shape` is (channels, *sizes), without the batch. The input is normal noise in the type of the parameters,
    from a generator of its own. The network runs in eval mode under `inference_mode`, on `threads` intra-operation
    threads; afterwards each module's mode, the number of threads and the core affinity are what they were, also after
    an error. `device` must be where the network is ("cpu", "cuda", "cuda:1", "mps"); it is not moved. On an accelerator
    each run waits until the device has finished, and no core is pinned.

    `warmup_seconds`, `min_runs` and `max_seconds` are those of `time_callable`. `precision` is the parameters' type,
    or that of an enclosing `torch.autocast`. Raises `UserError` for numbers below 1 and for a network elsewhere.
    """
    import torch

    place = torch.device(device)
    check_at_least_one(threads=threads, batch_size=batch_size)
    tensor = next((p for p in net.parameters() if p.is_floating_point()), None)
    if tensor is not None and (tensor.device.type != place.type or place.index not in (None, tensor.device.index)):
        raise UserError(
            f"device {device!r} was asked, but the network is on {str(tensor.device)!r}: move it there first."
        )
    dtype = torch.float32 if tensor is None else tensor.dtype
    noise = torch.randn(batch_size, *input_shape, generator=torch.Generator().manual_seed(0))
    images = noise.to(place, dtype)  # (batch, channels, *sizes)
    autocast = torch.is_autocast_enabled(place.type)
    with ONE_AT_A_TIME, torch_threads(threads), eval_mode(net), torch.inference_mode():
        return time_callable(
            lambda: net(images),
            engine="pytorch",
            precision=str(torch.get_autocast_dtype(place.type) if autocast else dtype).removeprefix("torch."),
            threads=threads,
            batch_size=batch_size,
            device=device,
            synchronise=None if place.type == "cpu" else lambda: torch.accelerator.synchronize(place),
            warmup_seconds=warmup_seconds,
            min_runs=min_runs,
            max_seconds=max_seconds,
        )


def time_callable(
    run: Callable[[], object],
    *,
    engine: str,
    precision: str,
    threads: int = 1,
    batch_size: int = 1,
    device: str = "cpu",
    synchronise: Callable[[], object] | None = None,
    warmup_seconds: float = 0.5,
    min_runs: int = 10,
    max_seconds: float = 2.0,
) -> Latency:
    """Latency of `run()`, whatever engine is behind it.

    `run` is called once and then until `warmup_seconds` have passed, untimed; then timed until `max_seconds` have
    passed, and **at least `min_runs` times**, however long that takes. `synchronise`, if given, is called within each
    timed run and must return when the device has finished. With `threads=1` on the CPU the calling thread is pinned to
    the core it is on, and unpinned in the end; the engine itself must have been told to use `threads` threads.

    `engine`, `precision`, `threads`, `batch_size` and `device` describe the run and are passed on into the result.
    """
    check_at_least_one(threads=threads, batch_size=batch_size, min_runs=min_runs)

    def finished() -> None:
        run()
        if synchronise is not None:
            synchronise()

    # threads that an accelerator's driver starts would inherit the pinning and keep it, so only the CPU is pinned
    with ONE_AT_A_TIME, pinned_to_core(threads == 1 and device == "cpu") as core:
        finished()
        warm = time.perf_counter() + warmup_seconds
        while time.perf_counter() < warm:
            finished()
        times_ns: list[int] = []
        end = time.perf_counter() + max_seconds
        while len(times_ns) < min_runs or time.perf_counter() < end:
            start = time.perf_counter_ns()
            finished()
            times_ns.append(time.perf_counter_ns() - start)
    first, median, third = (float(q) for q in np.quantile(np.array(times_ns) / 1e6, [0.25, 0.5, 0.75]))
    return Latency(
        median_ms=median,
        iqr_ms=third - first,
        runs=len(times_ns),
        threads=threads,
        batch_size=batch_size,
        device=device,
        engine=engine,
        precision=precision,
        pinned=core,
        noisy=third - first > NOISY_IQR * median,
    )


@contextlib.contextmanager
def pinned_to_core(wanted: bool) -> Iterator[int | None]:
    """Keep the calling thread on the core it is on; yields that core, or None where it stays free.

    It stays free where not `wanted`, where the system has no such call (macOS, Windows) or does not permit it. Only
    the calling thread, and threads started meanwhile, are affected.
    """
    if sys.platform != "linux" or not wanted:
        yield None
        return
    before = os.sched_getaffinity(0)
    core = current_core(before)
    try:
        os.sched_setaffinity(0, {core})
    except OSError:
        yield None
        return
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


def current_core(allowed: set[int]) -> int:
    """The core that the scheduler has the calling thread on (it is likely idle otherwise), or the first allowed one."""
    try:
        # the 39th field of proc(5) "stat"; the 2nd, in parentheses, may hold spaces
        core = int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[36])
    except (OSError, IndexError, ValueError):
        core = -1
    return core if core in allowed else min(allowed)


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Use `threads` intra-operation threads in PyTorch, and in the end as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def eval_mode(net: "torch.nn.Module") -> Iterator[None]:
    """Put `net` into eval mode, and in the end each of its modules into the mode it was in (they may differ)."""
    before = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def check_at_least_one(**numbers: int) -> None:
    """Raise `UserError` for the first of `numbers` that is below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f"{name} {number!r} must be 1 or more.")
