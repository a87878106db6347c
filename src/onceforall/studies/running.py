"""Jobs in processes: as many at a time as there are workers, each with one thread or one accelerator."""

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import onceforall
from onceforall.report.wording import show_duration
from onceforall.studies.study import Job
from onceforall.studies.worker import DONE

__all__ = ["LOGS", "accelerators", "run_jobs"]

LOGS = "logs"
"""The folder beside the runs that holds what each process said."""

COMMAND = (sys.executable, "-m", "onceforall.studies.worker")

Line = tuple[int, str | None]  # worker, what it said; None when it ended


@final
@dataclass
class _Running:
    """A process at work on a job."""

    job: Job
    process: subprocess.Popen[str]
    log: Path
    started: float


def accelerators() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name here, one entry for each accelerator."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in given.split(",") if name.strip()]
    count = torch.cuda.device_count()
    return named[:count] or [str(number) for number in range(count)]


def run_jobs(
    jobs: Sequence[Job], *, workers: int, devices: Sequence[str] = (), say: Callable[[str], object] = print
) -> list[str]:
    """Do the jobs and return a line for each that failed, or that waited for one that did; the others go on.

    Every finished piece is said, with the time left by the pieces' work. Whatever ends this call ends the processes.

    Args:
        jobs: one that starts from another's folder waits until that one is done.
        workers: processes at a time.
        devices: names of accelerators that the workers take in turn; none where all work on the processor.
        say: takes a line for the person who waits.
    """
    waiting = [job for job in jobs if job.open_pieces()]
    unfinished, failures = {job.folder for job in waiting}, []
    clock = _Clock(waiting)
    running: dict[int, _Running] = {}
    lines: queue.Queue[Line] = queue.Queue()
    try:
        while waiting or running:
            free = [worker for worker in range(workers) if worker not in running]
            ready = [job for job in waiting if job.starts_from not in unfinished]
            for worker, job in zip(free, ready, strict=False):
                waiting.remove(job)
                running[worker] = _start(job, worker, devices, lines)
            if not running:  # what is left waits for jobs that failed
                failures += [f"{job.folder.name}: not begun, for {job.starts_from} is not done." for job in waiting]
                break
            worker, text = lines.get()
            current = running[worker]
            if text is not None:
                if text.startswith(DONE):
                    took = time.monotonic() - current.started
                    say(clock.line(current.job, text.removeprefix(DONE).strip(), took))
                    current.started = time.monotonic()
                continue
            del running[worker]
            if _ended(current) == 0:
                unfinished.discard(current.job.folder)
            else:
                failures.append(f"{current.job.folder.name}: {_last_words(current)}")
                say(f"failed: {failures[-1]}")
    finally:
        for current in running.values():
            current.process.kill()
            _ended(current)
    return failures


def _start(job: Job, worker: int, devices: Sequence[str], lines: "queue.Queue[Line]") -> _Running:
    log = job.folder.parent / LOGS / f"{job.folder.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    package = str(Path(onceforall.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, environment.get("PYTHONPATH")]))
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = devices[worker % len(devices)]
    else:
        environment["OMP_NUM_THREADS"] = "1"
    with log.open("a") as errors:
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C comes to this process alone, which ends the others
        )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended already, and its log says why
        process.stdin.write(job.to_json() + "\n")
        process.stdin.flush()  # and stays open: the process ends when it closes
    threading.Thread(target=_listen, args=(worker, process, lines), daemon=True).start()
    return _Running(job, process, log, time.monotonic())


def _listen(worker: int, process: subprocess.Popen[str], lines: "queue.Queue[Line]") -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            lines.put((worker, line))
    lines.put((worker, None))


def _ended(current: _Running) -> int:
    """The exit status of a process that is ending, with its input closed."""
    code = current.process.wait()
    if current.process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            current.process.stdin.close()
    return code


def _last_words(failed: _Running) -> str:
    """Why a process ended, in one line."""
    said = [line for line in failed.log.read_text(errors="replace").splitlines() if line.strip()]
    code = failed.process.returncode
    why = f"ended by signal {-code}" if code < 0 else said[-1].strip() if said else f"ended with code {code}"
    return f"{why} (log: {failed.log})"


@final
class _Clock:
    """How many pieces are done and how long the rest takes, if work goes on as fast as since the beginning."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.work = {(job.folder, piece.phase): piece.work for job in jobs for piece in job.open_pieces()}
        self.total, self.pieces, self.done = sum(self.work.values()), len(self.work), 0
        self.started = time.monotonic()

    def line(self, job: Job, phase: str, seconds: float) -> str:
        """The line of a finished piece."""
        self.work.pop((job.folder, phase), None)
        self.done += 1
        left = sum(self.work.values())
        rest = (time.monotonic() - self.started) * left / max(1e-9, self.total - left)
        until = f"; about {show_duration(rest)} left" if left else ""
        return f"{self.done}/{self.pieces} {job.folder.name}: {phase} in {show_duration(seconds)}{until}"
