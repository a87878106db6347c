"""Measuring many architectures of a run, in this process or spread over several, here or on other machines.

Only this process writes the file of results, a line as soon as a result is there. Each process computes with one thread
and the same batches, so results do not depend on how many there are, nor on what runs them.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from onceforall.architecture import Architecture
from onceforall.data import DataSet
from onceforall.errors import UserError
from onceforall.evaluation.evaluate import Evaluation, evaluate_each
from onceforall.evaluation.result_cache import digest_of_weights
from onceforall.evaluation.tasks import Task
from onceforall.evaluation.trunks import group_by_trunk
from onceforall.runs import Run, measure, open_run
from onceforall.searching.executors import check_executor, start_executor
from onceforall.supernets.supernet import Supernet
from onceforall.training.distributed import pick_device

__all__ = ["measure_all"]

MOST_DEATHS = 3  # of workers in a row, before anything new was measured

Progress = Callable[[int, int], object]


def measure_all(
    run: Run,
    architectures: Sequence[Architecture],
    *,
    split: str = "validation",
    calibration_images: int,
    workers: int = 1,
    executor: str = "loky",
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Evaluate architectures as `onceforall evaluate` does, and keep each result in the run's folder at once.

    What the folder has is not measured again. A worker that dies takes with it what it was measuring at that time,
    which is measured again by another one.

    Args:
        run: from `open_run`. Each worker opens its folder and data by itself, under the same paths, and refuses where
            images or weights are not those of `run`.
        architectures: which.
        split: on whose images.
        calibration_images: training images for re-estimating batch normalisation.
        workers: how many measure at a time, each with one thread.
        executor: where they run, a name of `EXECUTORS`; one worker of "loky" is this process.
        progress: told how many of how many results are there; at first with those of earlier calls.
    """
    check_executor(executor, workers)

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
        path = run.recipe.data.path
        place = None if path is None else Path(path).absolute()
        job = (run.folder.absolute(), place, run.phase, digest_of_weights(supernet), splits, how)
        return _spread(job, missing, executor, workers)

    way = evaluate_each if executor == "loky" and workers == 1 else evaluate
    with _one_thread():
        found = measure(run, architectures, [split], calibration_images, (), progress, way)
    return [found[architecture, split] for architecture in architectures]


def _spread(job: tuple, architectures: Sequence[Architecture], name: str, workers: int) -> Iterator[Evaluation]:
    """Results as they come from the workers; what a dying one leaves goes to the end of the line."""
    left = [trunk.members for trunk in group_by_trunk(architectures)]
    if not left:
        return
    running: dict[Future, tuple[Architecture, ...]] = {}
    deaths = 0
    with start_executor(name, workers) as executor:
        while left or running:
            while left and len(running) < workers:
                members = left.pop(0)
                running[executor.submit(_evaluate, *job, members)] = members
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                members = running.pop(future)
                try:
                    answer = future.result()
                except executor.deaths as error:
                    deaths += 1
                    left.append(members)
                    if deaths > MOST_DEATHS:
                        count = sum(map(len, [*left, *running.values()]))
                        raise UserError(
                            f"workers died {deaths} times in a row while {count} architectures were left, perhaps for "
                            "want of memory; try fewer workers. What was measured is kept."
                        ) from error
                    continue
                if isinstance(answer, UserError):
                    raise answer
                deaths = 0
                yield from answer


def _evaluate(
    folder: Path,
    data: Path | None,
    phase: str,
    weights: str,
    splits: Sequence[str],
    how: dict[str, Any],
    members: Sequence[Architecture],
) -> list[Evaluation] | UserError:
    """The work of one call: architectures that share a pass. What the user must know comes back as a value.

    Executors wrap what is raised, each in its own way.
    """
    torch.set_num_threads(1)
    try:
        run, own = _opened(folder, data, phase)
        if own != weights:
            raise UserError(f"the weights in {folder} were changed while they were measured; begin again.")
        return list(evaluate_each(run.supernet, members, run.task, run.data, splits=splits, **how))
    except UserError as error:
        return error


@cache
def _opened(folder: Path, data: Path | None, phase: str) -> tuple[Run, str]:
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
