"""Whole sub-networks of an elastic network, timed on an engine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.evaluation.engines import EngineProcess, EngineSettings, TorchNetwork, has_device
from onceforall.evaluation.environment import cpu_model
from onceforall.evaluation.latency import IN_TURN, Latency
from onceforall.searching.latency_table import LatencyTable, differences
from onceforall.searching.timing_graphs import input_shape, timing_graph
from onceforall.supernets.supernet import Supernet

__all__ = ["Measure", "best_estimate_ms", "identity_of", "measuring", "open_table"]

Measure = Callable[[Sequence[Architecture]], list[Latency]]
"""Times architectures, in turn with one another."""


def identity_of(supernet: Supernet, settings: EngineSettings) -> dict[str, Any]:
    """What a latency depends on beside the architecture, as JSON types; weights are not among it.

    The machine is None where it has no such device.
    """
    return {
        "network": type(supernet).__name__,
        "options": dict(supernet.options),
        **asdict(settings),
        "version": settings.version,
        "machine": _machine(settings.device),
    }


def _machine(device: str) -> str | None:
    if not has_device(device):
        return None
    return torch.cuda.get_device_name(torch.device(device)) if device.startswith("cuda") else cpu_model()


def open_table(
    path: Path, supernet: Supernet, *, backend: str | None = None, force: bool = False
) -> tuple[LatencyTable, list[str]]:
    """The latency table of a network, and in what it belongs elsewhere, as text.

    Args:
        path: the file.
        supernet: the network.
        backend: the engine that it must be of.
        force: take a table of another machine, or of another version of the engine, too.

    Raises `UserError` for what is no table, and for one of another network, backend or, without `force`, machine.
    """
    table = LatencyTable.load(path)
    if backend not in (None, table.settings.backend):
        raise UserError(f"{path} is of the backend {table.settings.backend!r}, not {backend!r}.")
    here = identity_of(supernet, table.settings)
    of_network = ({key: identity.get(key) for key in ("network", "options")} for identity in (table.identity, here))
    if others := differences(*of_network):
        raise UserError(f"{path} is of another network: {'; '.join(others)}. Build one by: onceforall latency build.")
    elsewhere = differences(table.identity, here)
    if elsewhere and not force:
        raise UserError(f"{path} belongs elsewhere: {'; '.join(elsewhere)}. Build one here, or use --force.")
    return table, elsewhere


@contextmanager
def measuring(
    supernet: Supernet,
    settings: EngineSettings,
    **timing: Any,
) -> Iterator[Measure]:
    """Gives a function that times architectures in a process of the engine's own, which ends with the `with`.

    `timing` is that of `time_callables`, where it differs from `IN_TURN`. Raises `UserError` where the engine
    is not installed.
    """
    times = IN_TURN | timing
    with EngineProcess(settings) as engine:

        def measure(architectures: Sequence[Architecture]) -> list[Latency]:
            shapes = [input_shape(supernet, architecture, settings.batch) for architecture in architectures]
            if settings.backend == "pytorch":
                kind, options = type(supernet), dict(supernet.options)
                networks = [TorchNetwork(kind, options, architecture) for architecture in architectures]
                return engine.measure(networks, shapes, **times)
            files = [timing_graph(supernet, arch, settings.batch, settings.backend) for arch in architectures]
            return engine.measure(files, shapes, **times)

        yield measure


def best_estimate_ms(latency: Latency) -> float:
    """The time on a quiet machine: that on the processor where one thread of it ran, else that by the clock."""
    alone = latency.threads == 1 and latency.device == "cpu"
    return latency.processor_ms if alone else latency.median_ms
