"""Measuring many architectures of a run, in this process or spread over several.

Only this process writes the file of results, a line as soon as a result is there. Each process computes with one thread
and the same batches, so results do not depend on how many there are.
"""

import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import BrokenProcessPool

from onceforall.architecture import Architecture
from onceforall.data import DataSet
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import Evaluation, evaluate_each
from onceforall.evaluation.result_cache import digest_of_weights
from onceforall.evaluation.tasks import Task
from onceforall.evaluation.trunks import group_by_trunk
from onceforall.runs import Run, measure, open_run
from onceforall.supernets.supernet import Supernet
from onceforall.training.distributed import pick_device

__all__ = ["measure_all"]

MOST_FAILURES = 3  # times in a row that a process may die before anything new was measured

Progress = Callable[[int, int], object]


def measure_all(
    run: Run,
    architectures: Sequence[Architecture],
    *,
    split: str = "validation",
    calibration_images: int,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Evaluate architectures as `onceforall evaluate` does, and keep each result in the run's folder at once.

    What the folder has is not measured again. A process that dies takes with it what was being measured at that time;
    the rest, and that, goes on in new ones.

    Args:
        run: from `open_run`; with `workers` above 1 each process opens its folder and data by itself, and refuses
            where images or weights are not those of `run`.
        architectures: which.
        split: on whose images.
        calibration_images: training images for re-estimating batch normalisation.
        workers: processes, of one thread each.
        progress: told how many of how many results are there; at first with those of earlier calls.
    """
    if workers < 1:
        raise UserError(f"workers {workers}: give at least 1.")

    def evaluate(
        supernet: Supernet,
        missing: Sequence[Architecture],
        task: Task,
        data: DataSet,
        *,
        splits: Sequence[str],
        keep: Collection[Architecture],
        **how: Any,
    ) -> Iterator[Evaluation]:
        place = None if run.recipe.data.path is None else str(run.recipe.data.path)
        return _spread((run.folder, place, run.phase, digest_of_weights(supernet), splits, how), missing, workers)

    with _one_thread():
        way = evaluate_each if workers == 1 else evaluate
        found = measure(run, architectures, [split], calibration_images, (), progress, way)
    return [found[architecture, split] for architecture in architectures]


def _spread(job: tuple, architectures: Sequence[Architecture], workers: int) -> Iterator[Evaluation]:
    """Results as they come, from processes that are replaced when one dies."""
    left, failures = dict.fromkeys(architectures), 0
    while left:
        try:
            members = [trunk.members for trunk in group_by_trunk(left)]
            with parallel_config(backend="loky", inner_max_num_threads=1):
                parallel: Any = Parallel(n_jobs=workers, batch_size=1, return_as="generator_unordered")  # pyright: ignore
                for evaluations in parallel(delayed(_evaluate)(*job, each) for each in members):
                    failures = 0
                    for evaluation in evaluations:
                        left.pop(evaluation.architecture, None)
                        yield evaluation
        except BrokenProcessPool as error:
            failures += 1
            if failures > MOST_FAILURES:
                raise UserError(
                    f"a process died {failures} times while {len(left)} architectures were left, perhaps for want of "
                    "memory; try fewer workers. What was measured is kept."
                ) from error


def _evaluate(
    folder: Path,
    data: str | None,
    phase: str,
    weights: str,
    splits: Sequence[str],
    how: dict[str, Any],
    members: Sequence[Architecture],
) -> list[Evaluation]:
    """The work of one process: architectures that share a pass."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears the interruption, and ends its processes
    torch.set_num_threads(1)
    run, own = _opened(folder, data, phase)
    if own != weights:
        raise UserError(f"the weights in {folder} were changed while they were measured; begin again.")
    return list(evaluate_each(run.supernet, members, run.task, run.data, splits=splits, **how))


@cache
def _opened(folder: Path, data: str | None, phase: str) -> tuple[Run, str]:
    """The run, opened once by each process, and the digest of its weights.

    `open_run` refuses images that are not those of the training.
    """
    run = open_run(folder, data, phase)
    run.supernet.to(pick_device("auto"))
    return run, digest_of_weights(run.supernet)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)
