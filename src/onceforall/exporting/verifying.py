"""Whether a file computes what PyTorch computes: differences, the task's metric, latency.

The file is run as prediction runs it (`bundles.open_part`), on inputs that training never saw.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from onceforall.architecture import Architecture
from onceforall.bundles import INPUT, Part
from onceforall.data import DataSet
from onceforall.evaluation.environment import cpu_model
from onceforall.evaluation.exits import exit_answer
from onceforall.evaluation.latency import IN_TURN, ONE_AT_A_TIME, Latency, time_callables, torch_threads
from onceforall.evaluation.tasks import Task
from onceforall.supernets.supernet import Outputs, Supernet

__all__ = [
    "Difference",
    "Judge",
    "PartNetwork",
    "compare",
    "differences",
    "judged",
    "latencies",
    "rounding",
    "run_part",
    "run_torch",
    "same_at_another_size",
]

BATCH_SIZES = {4: (1, 32), 5: (1, 2)}  # of images and of volumes, by their axes: with which the file is compared
JUDGED_BATCH = {4: 128, 5: 4}  # inputs at once when the metric is measured
TIE = 1e-4  # logits nearer than this part of the largest one may change places by rounding alone


# -- difference ---------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Difference:
    """How the answers of two networks to the same inputs differ.

    Args:
        largest: the largest absolute difference of a logit; NaN where one is not a number.
        scale: the largest absolute logit, by which the difference is to be judged.
        agreement: share of the inputs, or of the voxels of volumes, with the same answer (over all exits).
        clear: that share where answers that are a tie, up to rounding, count as the same.
    """

    largest: float
    scale: float
    agreement: float
    clear: float

    @property
    def relative(self) -> float:
        """The largest difference as a part of the largest logit."""
        return self.largest / self.scale if self.scale else self.largest


def differences(
    net: Supernet, part: Part, images: Tensor, regions: bool = False
) -> tuple[Difference, list[np.ndarray]]:
    """How `part` differs from `net` on `images`, in batches of one and of several; and PyTorch's outputs."""
    expected = run_torch(net, images)
    return compare(expected, run_part(part, images.numpy()), regions), expected


def same_at_another_size(net: Supernet, part: Part, images: Tensor, known: Difference) -> Difference:
    """`known`, with the larger difference where `part` differs more on an input twice as long in its first axis."""
    longer = torch.cat([images[:1], images[:1]], dim=2)
    with torch.inference_mode():
        outputs = net(longer)
    exits = outputs if isinstance(outputs, tuple) else (outputs,)
    found = part.run({INPUT: longer.numpy()})
    pairs = [(logits.numpy(), found[name]) for logits, name in zip(exits, part.outputs, strict=True)]
    largest = [float(np.abs(logits - others).max()) for logits, others in pairs]
    scale = max(known.scale, *(float(np.abs(logits).max()) for logits, _ in pairs))
    return replace(known, largest=float(np.max([known.largest, *largest])), scale=scale)  # NaN if one of them is


@torch.inference_mode()
def run_torch(net: Supernet, images: Tensor) -> list[np.ndarray]:
    """The network's outputs (N, classes, ...), one for each exit, on all images."""
    outputs = [net(batch) for batch in images.split(max(BATCH_SIZES[images.ndim]))]
    results = [output if isinstance(output, tuple) else (output,) for output in outputs]
    return [torch.cat(parts).numpy() for parts in zip(*results, strict=True)]


def run_part(part: Part, images: np.ndarray) -> list[list[np.ndarray]]:
    """For each batch size the file's outputs (N, classes, ...), one for each exit, on all images."""
    out = []
    for size in BATCH_SIZES[images.ndim]:
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        results = [part.run({INPUT: batch}) for batch in batches]
        out.append([np.concatenate([result[name] for result in results]) for name in part.outputs])
    return out


def compare(expected: Sequence[np.ndarray], found: Sequence[Sequence[np.ndarray]], regions: bool = False) -> Difference:
    """Outputs of PyTorch, one array for each exit, with those of a file, the same for each batch size.

    An answer is the class with the largest logit; of `regions` there is one for each, whether its logit is positive.
    """
    scale = max(float(np.abs(logits).max()) for logits in expected)
    largest, same, tied = [], [], []
    for outputs in found:
        for logits, others in zip(expected, outputs, strict=True):
            largest.append(float(np.abs(logits - others).max()))
            if regions:
                same.append(((logits >= 0) == (others >= 0)).ravel())
                tied.append((np.abs(logits) <= TIE * scale).ravel())
                continue
            same.append((logits.argmax(1) == others.argmax(1)).ravel())
            ordered = np.sort(logits, axis=1)  # (N, classes, ...)
            tied.append((ordered[:, -1] - ordered[:, -2] <= TIE * scale).ravel())
    equal, tie = np.concatenate(same), np.concatenate(tied)
    difference = math.nan if any(map(math.isnan, largest)) else max(largest)
    return Difference(difference, scale, float(equal.mean()), float((equal | tie).mean()))


def rounding(net: Supernet, images: Tensor, expected: Sequence[np.ndarray]) -> float:
    """What rounding does in PyTorch itself: the largest difference of a logit between float32 and float64."""
    exact = run_torch(net.to(torch.float64), images.to(torch.float64))
    net.to(torch.float32)
    return max(float(np.abs(logits - others).max()) for logits, others in zip(expected, exact, strict=True))


# -- the task's metric --------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Judge:
    """What a file's answers are worth: a task, its data, and the split on which they are judged.

    Args:
        task: measures, as in evaluation.
        data: images or volumes with labels.
        split: which of them; not the training split.
    """

    task: Task
    data: DataSet
    split: str = "validation"


@final
class PartNetwork(nn.Module):
    """A model file that is called like the network in PyTorch, so that the same code judges both."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part = part

    def forward(self, images: Tensor) -> Outputs:
        """(N, channels, ...) -> the outputs of the exits, a tensor or a tuple of them."""
        found = self.part.run({INPUT: images.contiguous().numpy()})
        outputs = tuple(torch.from_numpy(found[name]) for name in self.part.outputs)
        return outputs[0] if len(outputs) == 1 else outputs


@torch.inference_mode()
def judged(
    network: nn.Module, architecture: Architecture, judge: Judge, exit_weights: Mapping[int, float] | None
) -> dict[str, float]:
    """The task's numbers for what `network`, an extracted one or a file's, answers to the judge's split."""
    task, resolution = judge.task, architecture.resolution

    def answers() -> Any:
        size = JUDGED_BATCH[5 if judge.data.inputs == "volumes" else 4]
        for images, targets in judge.data.batches(judge.split, resolution, size):
            outputs = task.infer(network, images, resolution)
            exits = (outputs,) if isinstance(outputs, Tensor) else outputs
            by_number = dict(zip(architecture.exits, exits, strict=True))
            answer = exit_answer(by_number, architecture, exit_weights)
            yield task.to_probabilities(answer).numpy(), targets.numpy()

    return task.measure(answers())


# -- latency ------------------------------------------------------------------------------------------------------


def latencies(
    net: nn.Module, ways: Mapping[str, Callable[[np.ndarray], Any]], engine: str, images: np.ndarray
) -> dict[str, Any]:
    """How long PyTorch and each of `ways` take for an input, one at a time, in turn, on one thread; JSON types.

    Args:
        net: in PyTorch, before.
        ways: by name, what answers an array (1, channels, *sizes) on one thread.
        engine: what runs them.
        images: (N, channels, *sizes), whose mean time is taken.

    Rounds alternate, so that what disturbs one disturbs all: the ratios to PyTorch mean more than the times, which
    engines that share a process make longer. They are ratios of time on processors: on a quiet machine that is the time
    of the clock, on a busy one other programs are not in it.
    """
    arrays = [images[number : number + 1] for number in range(len(images))]
    tensors = [torch.from_numpy(array) for array in arrays]
    calls = [lambda: [net(tensor) for tensor in tensors]]
    calls += [lambda way=way: [way(array) for array in arrays] for way in ways.values()]
    with ONE_AT_A_TIME, torch_threads(1), torch.inference_mode():
        timed = time_callables(calls, engine=engine, precision="", **IN_TURN)
    rows = dict(zip(("pytorch", *ways), timed, strict=True))
    first = rows["pytorch"].processor_ms
    out: dict[str, Any] = {"processor": cpu_model(), "threads": 1, "batch": 1, "engine": engine, "inputs": len(images)}
    return out | {name: _row(latency, first, len(images)) for name, latency in rows.items()}


def _row(latency: Latency, reference_ms: float, inputs: int) -> dict[str, Any]:
    return {
        "median_ms": round(latency.median_ms / inputs, 4),
        "iqr_ms": round(latency.iqr_ms / inputs, 4),
        "processor_ms": round(latency.processor_ms / inputs, 4),
        "runs": latency.runs,
        "noisy": latency.noisy,
        "to_pytorch": round(latency.processor_ms / max(reference_ms, 1e-6), 4),
    }
