"""Many architectures measured by one process or several: the same numbers, and nothing measured twice."""

import json
import random
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
import torch

from onceforall.errors import UserError
from onceforall.runs import open_run
from onceforall.searching import measuring
from onceforall.searching.executors import Executor
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
def test_processes_give_the_same_numbers(finished):
    run = open_run(finished)
    architectures = drawn(run, 3)
    expected = measure_all(run, architectures, calibration_images=16)
    written = lines(finished)
    (finished / "results" / "cache" / f"{run.phase}.jsonl").unlink()
    found = measure_all(run, architectures, calibration_images=16, workers=2)
    assert lines(finished) == written
    for one, other in zip(found, expected, strict=True):
        assert one.architecture == other.architecture and one.metrics == other.metrics
        np.testing.assert_array_equal(one.correct, other.correct)
    assert len({evaluation.metrics["log_loss"] for evaluation in found}) == 3


class Death(Exception):
    pass


@pytest.fixture
def dying(monkeypatch):
    """An executor that calls at once in this process; the numbers of the calls in which the worker dies."""
    when, count = set(), iter(range(1000))

    @contextmanager
    def start(name, workers):
        def submit(function, *given):
            call = Future()
            if next(count) in when:
                call.set_exception(Death())
            else:
                call.set_result(function(*given))
            return call

        yield Executor(submit, (Death,))

    monkeypatch.setattr(measuring, "start_executor", start)
    monkeypatch.setattr(measuring, "_opened", cache(measuring._opened.__wrapped__))
    return when


def test_what_a_dying_worker_leaves_is_measured_by_another(finished, dying):
    run = open_run(finished)
    architectures = drawn(run, 5)
    dying |= {1, 3, 4, 5}
    told = []
    how = {"calibration_images": 16, "progress": lambda *now: told.append(now)}
    found = measure_all(run, architectures, workers=2, **how)
    assert told == [(count, 5) for count in range(6)], "each is told once, whatever died"
    assert [evaluation.architecture for evaluation in found] == architectures
    assert set(lines(finished)) == {architecture.digest() for architecture in architectures}


def test_workers_that_die_again_and_again_end_in_words(finished, dying):
    run = open_run(finished)
    dying |= set(range(1, 1000))
    with pytest.raises(UserError, match="died 4 times in a row while 2 architectures were left.*try fewer workers"):
        measure_all(run, drawn(run, 3), calibration_images=16, workers=2)
    assert len(lines(finished)) == 1, "what was measured is kept"


def test_weights_that_changed_meanwhile_are_refused(finished, dying, monkeypatch):
    run = open_run(finished)
    digests = iter(["0" * 32, "1" * 32])
    monkeypatch.setattr(measuring, "digest_of_weights", lambda _: next(digests))
    with pytest.raises(UserError, match="were changed while they were measured"):
        measure_all(run, drawn(run, 2), calibration_images=16, workers=2)


def test_each_worker_checks_its_images(finished, dying, monkeypatch):
    run = open_run(finished)
    monkeypatch.setitem(run.described["data"], "fingerprint", "other")
    settings = json.loads((finished / "run.json").read_text())
    settings["data"]["fingerprint"] = "other"
    (finished / "run.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="are not those that"):
        measure_all(run, drawn(run, 2), calibration_images=16, workers=2)
    with pytest.raises(UserError, match="workers 0: give at least 1"):
        measure_all(run, [], calibration_images=16, workers=0)
