"""A model file written and judged; in 8 bits again with more layers in float32, until its metric is accepted."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from onceforall.architecture import Architecture
from onceforall.bundles import INPUT, Part, open_part
from onceforall.data import LabelScheme
from onceforall.exporting.onnx_model import answer_names, with_half_weights
from onceforall.exporting.openvino_model import quantise_openvino, to_openvino, write_openvino
from onceforall.exporting.options import ExportOptions
from onceforall.exporting.quantising import layers_to_keep, named_layers, quantise_onnx
from onceforall.exporting.torch_program import open_program, write_program
from onceforall.exporting.verifying import (
    Difference,
    Judge,
    PartNetwork,
    differences,
    judged,
    latencies,
    rounding,
    same_at_another_size,
)
from onceforall.supernets.supernet import Supernet

if TYPE_CHECKING:
    import onnx

__all__ = ["FILES", "Attempt", "Job", "advice", "attempt", "time_attempt"]

FILES = {"onnx": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}


@final
@dataclass(frozen=True)
class Job:
    """What is exported, and how it is checked.

    Args:
        net: from `plain_copy`, with `architecture`.
        model: its ONNX graph; None for a program of PyTorch.
        inputs: (N, channels, ...) held-out inputs.
        learned: (M, channels, ...) from which 8-bit numbers get their ranges; None for other precisions.
        scheme: of a segmentation.
        exit_weights: one for each exit.
        judge: measures the metric, where there is one.
        options: which file, and what is accepted.
    """

    net: Supernet
    architecture: Architecture
    model: "onnx.ModelProto | None"
    inputs: Tensor
    learned: np.ndarray | None
    scheme: LabelScheme | None
    exit_weights: tuple[float, ...]
    judge: Judge | None
    options: ExportOptions


@final
@dataclass(frozen=True)
class Attempt:
    """A file and what it is worth.

    Args:
        path: the file that is opened; others may lie beside it.
        kept: layers that int8 left in float32.
        difference: of its answers to those of PyTorch.
        expected: PyTorch's outputs on the held-out inputs, one array for each exit.
        before, after: the task's numbers in PyTorch and in the file; None without a judge.
        objection: why the file is not accepted; None where it is.
    """

    path: Path
    kept: tuple[str, ...]
    difference: Difference
    expected: list[np.ndarray]
    before: dict[str, float] | None
    after: dict[str, float] | None
    objection: str | None = None


def attempt(job: Job, folder: Path) -> Attempt:
    """The file in `folder`: the first one that is accepted, or else the last, with the most layers in float32."""
    path = folder / FILES[job.options.format]
    regions = job.scheme is not None and job.scheme.kind == "regions"
    before = None if job.judge is None else _numbers(job, job.net)
    found = None
    for kept in _layers(job):
        _write(job, path, kept)
        part = _open(job, path, torch.get_num_threads())
        difference, expected = differences(job.net, part, job.inputs, regions)
        if job.options.any_size:
            difference = same_at_another_size(job.net, part, job.inputs, difference)
        after = None if job.judge is None else _numbers(job, PartNetwork(part))
        found = Attempt(path, kept, difference, expected, before, after)
        found = replace(found, objection=_objection(job, found))
        if found.objection is None:
            break
    assert found is not None
    return found


def _numbers(job: Job, network: torch.nn.Module) -> dict[str, float]:
    assert job.judge is not None
    weights = dict(zip(job.architecture.exits, job.exit_weights, strict=True))
    return judged(network, job.architecture, job.judge, weights)


def _layers(job: Job) -> Iterator[tuple[str, ...]]:
    if job.model is None or job.learned is None:
        yield ()
        return
    yield from layers_to_keep(job.model, named_layers(job.model, job.options.keep_fp32), job.learned)


def _write(job: Job, path: Path, kept: Sequence[str] = ()) -> None:
    """Write the model to `path`, and what belongs beside it."""
    options, model = job.options, job.model
    if model is None:
        write_program(job.net, tuple(job.inputs.shape[1:]), path, options.batch)
    elif options.format == "openvino":
        network = to_openvino(model)
        if job.learned is not None:
            network = quantise_openvino(network, job.learned, kept)
        write_openvino(network, path, half=options.precision == "fp16")
    else:
        if job.learned is not None:
            model = quantise_onnx(model, job.learned, kept)
        elif options.precision == "fp16":
            model = with_half_weights(model)
        path.write_bytes(model.SerializeToString())


def _open(job: Job, path: Path, threads: int) -> Part:
    if job.options.format == "torch":
        return open_program(path, answer_names(job.architecture), job.options.batch)
    return open_part(path, job.options.engine, threads)


# -- judging it ---------------------------------------------------------------------------------------------------


def _objection(job: Job, found: Attempt) -> str | None:
    options, difference = job.options, found.difference
    same = options.precision != "fp32" or difference.clear == 1
    if not (same and difference.relative <= options.accepted_difference):  # NaN is refused
        return (
            f"the {options.format} file does not compute what PyTorch computes: logits differ by "
            f"{difference.relative:.2g} of the largest (accepted: {options.accepted_difference:g}), "
            f"{difference.agreement:.2%} of the answers to {len(job.inputs)} inputs agree."
        )
    if job.judge is None or found.before is None or found.after is None:
        return None
    task, split = job.judge.task, job.judge.split
    before, after = found.before[task.metric], found.after[task.metric]
    loss = before - after if task.higher_is_better else after - before
    if loss <= options.max_loss:
        return None
    return (
        f"the {options.precision} file is worse than PyTorch: {task.metric} {after:.4f} instead of {before:.4f} on "
        f"{job.judge.data.count(split)} {split} {job.judge.data.inputs} (accepted: {options.max_loss:g} worse)."
    )


def advice(job: Job, found: Attempt) -> str:
    """What to do about a file that was not accepted."""
    if job.options.precision == "fp32":
        change = rounding(job.net, job.inputs, found.expected)
        if not change <= job.options.accepted_difference * found.difference.scale:  # or NaN
            return f"PyTorch's own rounding changes them by up to {change:.2g}: is it calibrated, or did it diverge?"
    return "use --force to accept it."


# -- how fast it is -----------------------------------------------------------------------------------------------


def time_attempt(job: Job, found: Attempt) -> dict[str, Any]:
    """Latency of PyTorch, of the file, and of the same format in float32 where that is another; see `latencies`."""
    parts = {"exported": _open(job, found.path, 1)}
    with tempfile.TemporaryDirectory() as folder:
        if job.options.precision != "fp32":
            plain = replace(job, learned=None, options=replace(job.options, precision="fp32", keep_fp32=()))
            path = Path(folder) / found.path.name
            _write(plain, path)
            parts["fp32"] = _open(plain, path, 1)
        ways = {name: lambda image, part=part: part.run({INPUT: image}) for name, part in parts.items()}
        return latencies(job.net, ways, job.options.engine, job.inputs[:1].numpy())
