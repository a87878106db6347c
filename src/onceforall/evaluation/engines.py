"""Latency on any engine that is installed, in a process of its own.

An engine that shares a process with others is slowed by them (2.3 times was seen on a small network), so each gets a
fresh process that imports no other; networks are sent to it one group after the other. What the numbers mean is said in
`evaluation.latency`.

Conventions: the input is normal noise in float32; onnxruntime and OpenVINO run an ONNX file, PyTorch runs the network
itself, eagerly. OpenVINO runs in the precision that was asked, float32 by default, where it would take bfloat16 by
itself on processors that have it; one stream, and its telemetry stays off.
"""

import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self, final

import numpy as np

from onceforall.architecture import Architecture
from onceforall.errors import UserError, check_choice
from onceforall.evaluation.environment import version
from onceforall.evaluation.latency import Latency, check_at_least_one, time_callables, torch_threads

__all__ = ["BACKENDS", "EngineProcess", "EngineSettings", "TorchNetwork", "has_device", "installed_backends"]

BACKENDS = {"pytorch": ("torch", None), "onnxruntime": ("onnxruntime", "export"), "openvino": ("openvino", "openvino")}
"""Engines by name: the package that each needs, and the extra of this one that installs it."""

PRECISIONS = {"pytorch": ("float32",), "onnxruntime": ("float32",), "openvino": ("float32", "bfloat16")}


@final
@dataclass(frozen=True)
class TorchNetwork:
    """What PyTorch needs to build a network in another process; its weights are drawn there.

    Args:
        supernet: class of the elastic network, importable there.
        options: with which it is built.
        architecture: the sub-network.
    """

    supernet: type
    options: dict[str, Any]
    architecture: Architecture


@final
@dataclass(frozen=True)
class EngineSettings:
    """How networks are run; beside each number, for the number means nothing without.

    Args:
        backend: a name of `BACKENDS`.
        threads: of the processor; with one the process is pinned to one core where the system allows.
        batch: inputs at once.
        precision: "float32", or of OpenVINO also "bfloat16".
        device: "cpu", or of PyTorch an accelerator such as "cuda".
    """

    backend: str = "pytorch"
    threads: int = 1
    batch: int = 1
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_choice("backend", self.backend, BACKENDS)
        check_at_least_one(threads=self.threads, batch=self.batch)
        check_choice(f"precision of {self.backend}", self.precision, PRECISIONS[self.backend])
        if self.device != "cpu" and self.backend != "pytorch":
            raise UserError(f"device {self.device!r}: {self.backend} is measured on 'cpu' only.")

    @property
    def version(self) -> str | None:
        """The installed version of the engine."""
        return version(BACKENDS[self.backend][0])

    def check_installed(self) -> None:
        """Raise `UserError` where the engine is not installed, naming the extra, or there is no such device."""
        if self.backend not in installed_backends():
            package, extra = BACKENDS[self.backend]
            raise UserError(f"backend {self.backend!r} needs the package {package}: pip install 'onceforall[{extra}]'.")
        if not has_device(self.device):
            raise UserError(f"device {self.device!r}: there is none here; give 'cpu', or an accelerator of PyTorch.")


def has_device(name: str) -> bool:
    """Whether this machine has the device that PyTorch calls `name`, such as "cuda" or "cuda:1"."""
    if name == "cpu":
        return True
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        return False
    own = torch.accelerator.current_accelerator(check_available=True)
    return own is not None and own.type == device.type and (device.index or 0) < torch.accelerator.device_count()


def installed_backends() -> list[str]:
    """Names of the engines that can be used here."""
    return [name for name, (package, _) in BACKENDS.items() if importlib.util.find_spec(package) is not None]


@final
class EngineProcess:
    """One engine in a process of its own, until `close` or the end of the `with`.

    A process that died is replaced at the next call; the call that it died in raises `UserError`.
    """

    def __init__(self, settings: EngineSettings) -> None:
        settings.check_installed()
        self.settings = settings
        self._pool: ProcessPoolExecutor | None = None

    def measure(
        self,
        networks: Sequence[bytes] | Sequence[TorchNetwork],
        shapes: Sequence[tuple[int, ...]],
        *,
        warmup_seconds: float = 0.1,
        min_runs: int = 10,
        max_seconds: float = 0.5,
        rounds: int = 1,
    ) -> list[Latency]:
        """Latency of each network on an input of its shape, timed in turn; see `time_callables`.

        Args:
            networks: ONNX files as bytes; for PyTorch `TorchNetwork` values. If the first is that of the call before,
                it is not prepared again.
            shapes: of the inputs, batch included.
            warmup_seconds, min_runs, max_seconds, rounds: see `time_callables`.
        """
        if self._pool is None:
            # spawned: a forked process would inherit what this one has loaded, and its threads' locks
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_quiet, initargs=(self.settings,))
        times = {"warmup_seconds": warmup_seconds, "min_runs": min_runs, "max_seconds": max_seconds, "rounds": rounds}
        try:
            return self._pool.submit(_measure, self.settings, list(networks), list(shapes), times).result()
        except BrokenProcessPool as error:
            self.close()
            raise UserError(f"the process of {self.settings.backend} died: out of memory?") from error

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- inside the process -----------------------------------------------------------------------------------------------


def _quiet(settings: EngineSettings) -> None:
    """Before anything is imported that reads them: threads of OpenMP, and OpenVINO's telemetry."""
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    os.environ["CI"] = "true"  # where openvino_telemetry never sends anything and writes no file


def _measure(
    settings: EngineSettings, networks: list[Any], shapes: list[tuple[int, ...]], times: dict[str, Any]
) -> list[Latency]:
    first, *others = zip(networks, shapes, strict=True)
    keep = _prepare if settings.backend == "pytorch" else _prepare_once
    calls = [keep(settings, *first), *(_prepare(settings, *other) for other in others)]

    def time() -> list[Latency]:
        return time_callables(
            calls,
            engine=settings.backend,
            precision=settings.precision,
            threads=settings.threads,
            batch_size=settings.batch,
            device=settings.device,
            synchronise=_synchronise(settings),
            **times,
        )

    if settings.backend != "pytorch":
        return time()
    import torch

    with torch_threads(settings.threads), torch.inference_mode():
        return time()


def _prepare(settings: EngineSettings, network: Any, shape: tuple[int, ...]) -> Callable[[], object]:
    return PREPARE[settings.backend](network, shape, settings)


_prepare_once = lru_cache(maxsize=1)(_prepare)
"""The first network of a group may be that of the group before, to compare the groups by. Prepared anew, the same small
network is up to twice as fast or slow in OpenVINO."""


def _synchronise(settings: EngineSettings) -> Callable[[], object] | None:
    if settings.device == "cpu":
        return None
    import torch

    return lambda: torch.accelerator.synchronize(torch.device(settings.device))


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _prepare_pytorch(network: TorchNetwork, shape: tuple[int, ...], settings: EngineSettings) -> Callable[[], object]:
    import torch

    from onceforall.search_space import SearchSpace

    net = network.supernet(SearchSpace.only(network.architecture), **network.options).initialise()
    net = net.to(settings.device).eval()
    images = torch.from_numpy(_noise(shape)).to(settings.device)

    return lambda: net(images)


def _prepare_onnxruntime(data: bytes, shape: tuple[int, ...], settings: EngineSettings) -> Callable[[], object]:
    from onceforall.bundles import INPUT, open_session

    session, images = open_session(data, "the network", settings.threads), _noise(shape)
    return lambda: session.run(None, {INPUT: images})


def _prepare_openvino(data: bytes, shape: tuple[int, ...], settings: EngineSettings) -> Callable[[], object]:
    import openvino

    core = openvino.Core()
    model = core.read_model(data)
    model.reshape(list(shape))
    precision = {"float32": "f32", "bfloat16": "bf16"}[settings.precision]
    config = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": settings.threads, "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", config).create_infer_request()
    request.set_input_tensor(openvino.Tensor(_noise(shape)))
    return request.infer


PREPARE: dict[str, Callable[[Any, tuple[int, ...], EngineSettings], Callable[[], object]]] = {
    "pytorch": _prepare_pytorch,
    "onnxruntime": _prepare_onnxruntime,
    "openvino": _prepare_openvino,
}
"""For each engine how a network becomes a call without arguments."""
