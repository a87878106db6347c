"""Many architectures measured by one process or several: the same numbers, and nothing measured twice."""

import json
import os
import random
import signal

import numpy as np
import pytest
import torch
from joblib.externals.loky import reusable_executor

from onceforall.errors import UserError
from onceforall.runs import open_run
from onceforall.searching import measuring
from onceforall.searching.measuring import measure_all


def drawn(run, count):
    rng = random.Random(0)
    return list(dict.fromkeys(run.supernet.space.sample(rng) for _ in range(count + 5)))[:count]


def lines(folder):
    [file] = (folder / "results" / "cache").glob("*.jsonl")
    return {line["digest"]: line for line in map(json.loads, file.read_text().splitlines())}


def test_one_process_measures_with_one_thread_and_keeps_everything(finished, monkeypatch):
    run = open_run(finished)
    architectures = drawn(run, 3)
    told, threads = [], torch.get_num_threads()
    found = measure_all(run, architectures, calibration_images=16, progress=lambda *now: told.append(now))
    assert [evaluation.architecture for evaluation in found] == architectures
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)] and torch.get_num_threads() == threads
    assert set(lines(finished)) == {architecture.digest() for architecture in architectures}
    monkeypatch.setattr(measuring, "evaluate_each", lambda *_, **__: iter(()))  # nothing can be measured any more
    again = measure_all(run, architectures, calibration_images=16)
    assert [evaluation.metrics for evaluation in again] == [evaluation.metrics for evaluation in found]


@pytest.mark.slow
def test_processes_give_the_same_numbers_also_when_one_dies(finished):
    run = open_run(finished)
    architectures = drawn(run, 6)
    expected = measure_all(run, architectures, calibration_images=16)
    written = lines(finished)
    (finished / "results" / "cache" / f"{run.phase}.jsonl").unlink()
    told = []

    def kill_one(done, total):
        told.append((done, total))
        if done == 1:
            os.kill(next(iter(reusable_executor._executor._processes)), signal.SIGKILL)

    found = measure_all(run, architectures, calibration_images=16, workers=2, progress=kill_one)
    assert told == [(count, 6) for count in range(7)], "each is told once, whatever died"
    assert lines(finished) == written
    for one, other in zip(found, expected, strict=True):
        assert one.architecture == other.architecture and one.metrics == other.metrics
        np.testing.assert_array_equal(one.correct, other.correct)
    assert len({evaluation.metrics["log_loss"] for evaluation in found}) == 6


def test_weights_that_changed_meanwhile_are_refused(finished, monkeypatch):
    run = open_run(finished)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process goes on hearing interruptions
    job = (run.folder, None, run.phase, "0" * 32, ("validation",), {}, run.supernet.space.smallest())
    with pytest.raises(UserError, match="were changed while they were measured"):
        measuring._evaluate(*job)


def test_processes_that_die_again_and_again_end_in_words(finished, monkeypatch):
    class Dying:
        def __init__(self, **_):
            pass

        def __call__(self, jobs):
            raise measuring.BrokenProcessPool("killed")

    run = open_run(finished)
    monkeypatch.setattr(measuring, "Parallel", Dying)
    with pytest.raises(UserError, match="died 4 times while 2 architectures were left.*try fewer workers"):
        measure_all(run, drawn(run, 2), calibration_images=16, workers=2)
    with pytest.raises(UserError, match="workers 0: give at least 1"):
        measure_all(run, [], calibration_images=16, workers=0)
