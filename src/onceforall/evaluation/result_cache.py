"""Finished evaluations, kept as JSON lines, so that an interrupted or repeated evaluation goes on where it was.

A line is found again only where everything is the same that decides the numbers: architecture, split, the images, rule
and seed of the calibration, the weights of exits, and the network itself by the digest of its tensors.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.architecture import Architecture
from onceforall.data.dataset import DataSet
from onceforall.errors import UserError
from onceforall.evaluation.calibration import CalibrationRule
from onceforall.evaluation.cost import cost
from onceforall.evaluation.evaluate import Evaluation, evaluate_each
from onceforall.evaluation.tasks import Task
from onceforall.supernets.supernet import Supernet

__all__ = ["EvaluateEach", "ResultCache", "digest_of_weights", "pack_scores", "unpack_scores"]

EvaluateEach = Callable[..., Iterable[Evaluation]]
"""`evaluate_each`, or a function that does the same elsewhere."""


def digest_of_weights(supernet: Supernet) -> str:
    """Thirty-two hexadecimal digits for the class, options and every tensor of a network."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([type(supernet).__name__, supernet.options]).encode())
    for name, tensor in supernet.state_dict().items():
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def pack_scores(scores: np.ndarray) -> str | list[float | None]:
    """Scores of images as JSON has them: right and wrong as bits in hexadecimal digits, numbers as a list.

    NaN, for an image that is not judged, is None.

    >>> pack_scores(np.array([True, False, True, True]))
    'b0'
    """
    if scores.dtype == np.bool_:
        return np.packbits(scores).tobytes().hex()
    return [None if math.isnan(score) else score for score in scores.tolist()]


def unpack_scores(packed: str | Sequence[float | None], images: int) -> np.ndarray:
    """The inverse of `pack_scores` for so many images.

    >>> unpack_scores("b0", 4).tolist()
    [True, False, True, True]
    """
    if isinstance(packed, str):
        return np.unpackbits(np.frombuffer(bytes.fromhex(packed), np.uint8), count=images).astype(bool)
    return np.asarray(packed, np.float64)


@final
class ResultCache:
    """Evaluates the sub-networks of one network and keeps every result in a file.

    Args:
        path: the file; it is made when the first result comes.
        supernet: the network.
        calibration_images, calibration_rule, seed, exit_weights: how it is evaluated; see `evaluate`.
    """

    def __init__(
        self,
        path: Path,
        supernet: Supernet,
        *,
        calibration_images: int,
        calibration_rule: CalibrationRule,
        seed: int,
        exit_weights: Sequence[float] | None,
    ) -> None:
        self.path, self.supernet = path, supernet
        self.settings: dict[str, Any] = {
            "calibration_images": calibration_images,
            "calibration_rule": calibration_rule,
            "seed": seed,
            "exit_weights": None if exit_weights is None else list(exit_weights),
            "weights": digest_of_weights(supernet),
        }
        self._lines = {(line["digest"], line["split"]): line for line in _read(path) if self._fits(line)}

    def evaluate(
        self,
        architectures: Iterable[Architecture],
        task: Task,
        data: DataSet,
        splits: Sequence[str],
        keep: Collection[Architecture] = (),
        progress: Callable[[int, int], object] | None = None,
        evaluate: EvaluateEach = evaluate_each,
    ) -> dict[tuple[Architecture, str], Evaluation]:
        """Evaluate what is not there yet, and return every result by architecture and split.

        Args:
            architectures: which; given twice, one is measured once.
            task, data, splits: as for `evaluate_each`. The file must belong to this task and these data.
            keep: architectures whose probabilities are wanted; they are always measured, for the file has none. Of a
                task that keeps no probabilities none are.
            progress: told how many of how many results are there, at first with those of earlier.
            evaluate: what measures those that are not there.
        """
        wanted = list(dict.fromkeys(architectures))
        keep = keep if task.keeps_probabilities else ()
        found = self.find((architecture for architecture in wanted if architecture not in keep), splits)
        results = {(evaluation.architecture, evaluation.split): evaluation for evaluation in found}
        tell = progress or (lambda done, total: None)
        total = len(wanted) * len(splits)
        tell(len(results), total)
        settings = {name: value for name, value in self.settings.items() if name != "weights"}
        missing = [architecture for architecture in wanted if (architecture, splits[0]) not in results]
        for evaluation in evaluate(self.supernet, missing, task, data, splits=splits, keep=keep, **settings):
            self.add(evaluation)
            results[evaluation.architecture, evaluation.split] = evaluation
            tell(len(results), total)
        return results

    def _fits(self, line: Mapping[str, Any]) -> bool:
        return all(line.get(name) == value for name, value in self.settings.items())

    def find(self, architectures: Iterable[Architecture], splits: Sequence[str]) -> list[Evaluation]:
        """What is there of those architectures that were measured on all of `splits`, without probabilities."""
        out = []
        for architecture in architectures:
            lines = [self._lines.get((architecture.digest(), split)) for split in splits]
            out += [self._evaluation(architecture, line) for line in lines if line is not None and None not in lines]
        return out

    def _evaluation(self, architecture: Architecture, line: Mapping[str, Any]) -> Evaluation:
        metrics = {name: math.nan if value is None else value for name, value in line["metrics"].items()}
        packed = line["correct"]
        return Evaluation(
            architecture,
            cost(self.supernet, architecture),
            metrics,
            line["calibrated_on"],
            split=line["split"],
            correct=None if packed is None else unpack_scores(packed, line["images"]),
        )

    def add(self, evaluation: Evaluation) -> None:
        """Keep a result, if it is not there yet; it is in the file when this returns."""
        architecture, correct = evaluation.architecture, evaluation.correct
        key = architecture.digest(), evaluation.split
        if key in self._lines:
            return
        metrics = {name: value if math.isfinite(value) else None for name, value in evaluation.metrics.items()}
        line = {"digest": key[0], "exits": architecture.exits, "split": key[1], **self.settings}
        line |= {"calibrated_on": evaluation.calibration_images, "metrics": metrics}
        line |= {"images": None if correct is None else len(correct)}
        line |= {"correct": None if correct is None else pack_scores(correct)}
        _append(self.path, json.dumps(line, allow_nan=False))
        self._lines[key] = line


def _read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the file; one that was cut off while it was written is left out."""
    out = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            out.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return out


def _append(path: Path, line: str) -> None:
    """Write a line behind the others, in one piece; behind one that was cut off it begins anew."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            whole = file.read(1) in (b"", b"\n")
            file.write(f"{'' if whole else chr(10)}{line}\n".encode())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; what was written before is kept.") from error
