"""Where many evaluations run: in processes of this machine, on a Ray cluster or on a Dask cluster.

All three are used in one way: `submit` begins a call of a function elsewhere and gives its `Future`.
"""

import importlib
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, final

from joblib.externals.loky.process_executor import ProcessPoolExecutor

from onceforall.errors import UserError, check_choice

__all__ = ["EXECUTORS", "Executor", "check_executor", "start_executor"]

IDLE_SECONDS = 30  # after which a process without work ends, as one does whose parent was killed


@final
@dataclass(frozen=True)
class Executor:
    """Runs functions elsewhere, each with one thread.

    Args:
        submit: (function, *arguments) to the `Future` of its answer. At most as many calls at a time as there are
            workers. The function must be importable where it runs.
        deaths: what the future raises where a worker died during the call; other calls go on.
    """

    submit: Callable[..., Future]
    deaths: tuple[type[Exception], ...]


@contextmanager
def _loky(workers: int) -> Iterator[Executor]:
    """Processes of this machine. Each is a pool of its own: the death of one breaks no other."""
    pools: list[Any] = [None] * workers
    calls: list[Future | None] = [None] * workers

    def submit(function: Callable, *given: Any) -> Future:
        place = next(i for i, call in enumerate(calls) if call is None or call.done())
        last = calls[place]
        if last is None or isinstance(last.exception(), BrokenExecutor):
            how = {"initializer": _ignore_interrupts, "env": {"OMP_NUM_THREADS": "1"}, "timeout": IDLE_SECONDS}
            pools[place] = ProcessPoolExecutor(1, **how)
        calls[place] = call = pools[place].submit(function, *given)
        return call

    try:
        yield Executor(submit, (BrokenExecutor,))
    finally:
        for pool in pools:
            if pool is not None:
                pool.shutdown(kill_workers=True)


def _ignore_interrupts() -> None:
    """The parent hears the interruption, and ends its processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _ray(workers: int) -> Iterator[Executor]:
    """The Ray cluster of the variable RAY_ADDRESS; without it one of this machine, for the time of the `with`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anyone
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = importlib.import_module("ray")
    local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers, "include_dashboard": False}
    ray.init(**local, log_to_driver=False, logging_level="error")
    call = ray.remote(num_cpus=1, max_retries=0)(_call)
    deaths = [getattr(ray.exceptions, name) for name in ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError")]
    try:
        yield Executor(lambda function, *given: call.remote(function, *given).future(), tuple(deaths))
    finally:
        ray.shutdown()


def _call(function: Callable, *given: Any) -> Any:
    return function(*given)


@contextmanager
def _dask(workers: int) -> Iterator[Executor]:
    """The Dask cluster of the variable DASK_SCHEDULER_ADDRESS; without it one of this machine, as with Ray."""
    distributed = importlib.import_module("distributed")
    local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": "error"}
    with distributed.Client(**({} if "DASK_SCHEDULER_ADDRESS" in os.environ else local)) as client:
        yield Executor(client.get_executor(pure=False).submit, (distributed.KilledWorker,))


EXECUTORS: dict[str, Callable[[int], AbstractContextManager[Executor]]] = {"loky": _loky, "ray": _ray, "dask": _dask}
"""By name; (workers) to a context."""

MODULES = {"ray": "ray", "dask": "distributed"}


def check_executor(name: str, workers: int) -> None:
    """Raise `UserError` unless there is such an executor, it is installed, and there is a worker."""
    check_choice("executor", name, EXECUTORS)
    if workers < 1:
        raise UserError(f"workers {workers}: give at least 1.")
    if name in MODULES and find_spec(MODULES[name]) is None:
        raise UserError(f"the executor {name!r} needs {MODULES[name]}: pip install 'onceforall[{name}]'.")


def start_executor(name: str, workers: int) -> AbstractContextManager[Executor]:
    """The executor of this name; what it starts ends with the `with`."""
    check_executor(name, workers)
    return EXECUTORS[name](workers)
