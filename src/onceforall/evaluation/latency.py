"""How long one forward pass takes on this machine: simple, honest, and everything put back afterwards.

Conventions:

- `latency_ms` is the time of **one batch**, from the call to the finished result, input already on the device.
- The number is the median over the runs; beside it stands the interquartile range (IQR). A mean would be a number
  about the other programs on the machine. Several networks are compared in many short rounds of each in turn, from
  which the speed that the machine had in a round is taken out (`of_usual_round`).
- One thread means one *pinned* core, where the system can pin: a thread that wanders finds cold caches.
- One measurement at a time in a process, by a lock: engines that are called in turn slow each other (2.3 times was
  seen on a small network). Compare engines one after the other, best each in its own process.
- `processor_ms` is the time that the process' threads held a processor during a run, the median too. On one thread
  of a quiet machine it equals `median_ms`; on a busy one it leaves out the time in which others ran.
- `noisy` says that the machine was not quiet: IQR above 10 % of the median, or, on one thread of the CPU, more than
  10 % of the time in which others ran. Do not rank networks by such a median.

`time_callables` is the core and knows no engine: it takes calls without arguments. `measure_latency` is PyTorch's in
this process; `evaluation.engines` has the others, and PyTorch too, each in a process of its own.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import numpy as np

from onceforall.architecture import Architecture
from onceforall.errors import UserError

if TYPE_CHECKING:
    import torch

    from onceforall.supernets.supernet import Supernet

__all__ = ["IN_TURN", "Latency", "measure_latency", "subnet_latency", "time_callables"]

NOISY_IQR = 0.10  # of the median
NOISY_ABSENCE = 0.10  # of the time
IN_TURN: Final = {"warmup_seconds": 0.003, "min_runs": 1, "max_seconds": 0.003, "rounds": 20}  # to compare networks
ONE_AT_A_TIME = threading.RLock()  # two measurements at once would measure, and restore, each other


@final
@dataclass(frozen=True, slots=True)
class Latency:
    """The time of one batch and under what conditions it was taken; every field belongs beside the number."""

    median_ms: float
    iqr_ms: float  # third minus first quartile
    processor_ms: float  # time on processors, of all threads of the process
    runs: int  # timed ones, without the warm-up
    threads: int
    batch_size: int
    device: str
    engine: str
    precision: str  # "float32", "bfloat16", ...
    pinned: int | None  # the core it ran on; None: free to wander
    noisy: bool  # IQR > 10 % of the median, or others ran in more than 10 % of the time


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

    `warmup_seconds`, `min_runs` and `max_seconds` are those of `time_callables`. `precision` is the parameters' type,
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
        [latency] = time_callables(
            [lambda: net(images)],
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
    return latency


def subnet_latency(
    supernet: "Supernet", architecture: Architecture, *, warmup_seconds: float = 0.1, max_seconds: float = 0.5
) -> Latency:
    """Latency of a sub-network for one image or volume in float32, on one thread of the processor."""
    import torch

    side, axes = architecture.resolution, supernet.options.get("spatial_dims", 2)
    sizes = (side,) * axes if isinstance(side, int) else side
    net = supernet.subnet(architecture).to("cpu", torch.float32).eval()
    shape = (supernet.options["in_channels"], *sizes)
    return measure_latency(net, shape, warmup_seconds=warmup_seconds, max_seconds=max_seconds)


def time_callables(
    calls: Sequence[Callable[[], object]],
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
    rounds: int = 1,
) -> list[Latency]:
    """Latency of each of several calls, which are timed in turn, `rounds` times: what disturbs one disturbs all.

    Each call is made once in the beginning. Then, in every round, each is repeated until `warmup_seconds` have passed,
    untimed, and timed until `max_seconds` have passed, and **at least `min_runs` times**, however long that takes. Of
    several rounds the result is that of a usual one (`of_usual_round`): a machine that is fast in some rounds and slow
    in others is so for all calls. Many short rounds are better than few long ones. The quartiles are over all runs.

    `synchronise`, if given, is called within each timed run and must return when the device has finished. With
    `threads=1` on the CPU the calling thread is pinned to the core it is on, and unpinned in the end; the engine itself
    must have been told to use `threads` threads. `engine`, `precision`, `threads`, `batch_size` and `device` describe
    the run and are passed on into the result.
    """
    check_at_least_one(threads=threads, batch_size=batch_size, min_runs=min_runs, rounds=rounds)
    times: list[list[list[tuple[int, int]]]] = [[] for _ in calls]  # nanoseconds by the clock, and on processors
    # threads that an accelerator's driver starts would inherit the pinning and keep it, so only the CPU is pinned
    with ONE_AT_A_TIME, pinned_to_core(threads == 1 and device == "cpu") as core:
        for run in calls:
            _timed(run, synchronise, 0, 1, 0)
        for _ in range(rounds):
            for run, taken in zip(calls, times, strict=True):
                taken.append(_timed(run, synchronise, warmup_seconds, min_runs, max_seconds))
    medians = np.array([[np.median(runs, axis=0) for runs in taken] for taken in times]) / 1e6
    usual = np.stack([of_usual_round(medians[..., i]) for i in range(2)], axis=1)
    out = []
    for taken, (median_ms, usual_processor_ms) in zip(times, usual.tolist(), strict=True):
        clock_ms, processor_ms = np.concatenate(taken).T / 1e6
        first, median, third = (float(q) for q in np.quantile(clock_ms, [0.25, 0.5, 0.75]))
        alone = threads == 1 and device == "cpu"
        absent = alone and processor_ms.sum() < (1 - NOISY_ABSENCE) * clock_ms.sum()
        out.append(
            Latency(
                median_ms=median_ms,
                iqr_ms=third - first,
                processor_ms=usual_processor_ms,
                runs=len(clock_ms),
                threads=threads,
                batch_size=batch_size,
                device=device,
                engine=engine,
                precision=precision,
                pinned=core,
                noisy=bool(third - first > NOISY_IQR * median or absent),
            )
        )
    return out


def of_usual_round(medians: np.ndarray) -> np.ndarray:
    """(calls,) what each call takes in a usual round, given (calls, rounds) its median in each.

    The logarithms are split into a part of the call and one of the round by medians in turn (J. W. Tukey's median
    polish), so a round in which all were slow, or one call that was disturbed, leaves the answer as it is. With one
    round it is that round.
    """
    logs = np.log(np.maximum(medians, 1e-6))
    calls = np.median(logs, axis=1)
    for _ in range(10):
        of_rounds = np.median(logs - calls[:, None], axis=0)
        calls = np.median(logs - of_rounds, axis=1)
    return np.exp(calls + np.median(of_rounds))


def _timed(
    run: Callable[[], object],
    synchronise: Callable[[], object] | None,
    warmup_seconds: float,
    min_runs: int,
    max_seconds: float,
) -> list[tuple[int, int]]:
    """Nanoseconds of each run, by the clock and on processors."""

    def finished() -> None:
        run()
        if synchronise is not None:
            synchronise()

    warm = time.perf_counter() + warmup_seconds
    while time.perf_counter() < warm:
        finished()
    times: list[tuple[int, int]] = []
    end = time.perf_counter() + max_seconds
    while len(times) < min_runs or time.perf_counter() < end:
        on_processor, start = time.process_time_ns(), time.perf_counter_ns()
        finished()
        times.append((time.perf_counter_ns() - start, time.process_time_ns() - on_processor))
    return times


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
