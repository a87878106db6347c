"""Functions run elsewhere, and workers that die. The functions are of the standard library: quick to import."""

import os
import signal
import time
from concurrent.futures import wait

import pytest

from onceforall.errors import UserError
from onceforall.searching import executors
from onceforall.searching.executors import check_executor, start_executor


@pytest.fixture(params=["loky", "ray", "dask"])
def name(request):
    if request.param in executors.MODULES:
        pytest.importorskip(executors.MODULES[request.param], reason=f"needs the extra {request.param!r}")
    return request.param


def test_answers_come_from_other_processes(name):
    with start_executor(name, 2) as executor:
        calls = [executor.submit(divmod, number, 3) for number in (7, 11)]
        assert [call.result() for call in calls] == [(2, 1), (3, 2)]
        assert executor.submit(os.getpid).result() != os.getpid()
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result()


def test_the_death_of_a_worker_costs_only_its_call():
    with start_executor("loky", 2) as executor:
        first, second = executor.submit(os.getpid), executor.submit(time.sleep, 1.5)
        process = first.result()
        dying = executor.submit(os._exit, 1)
        with pytest.raises(executor.deaths):
            dying.result()
        again = executor.submit(os.getpid)
        assert again.result() not in (process, os.getpid())
        assert second.result() is None, "the other one went on"


def test_what_was_started_ends_with_it():
    with start_executor("loky", 1) as executor:
        process = executor.submit(os.getpid).result()
        call = executor.submit(time.sleep, 600)
        while not call.running():
            time.sleep(0.01)
    for _ in range(50):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("the process lives on")


def test_interruptions_are_for_the_parent():
    with start_executor("loky", 1) as executor:
        process = executor.submit(os.getpid).result()
        call = executor.submit(time.sleep, 0.3)
        os.kill(process, signal.SIGINT)
        assert wait([call]).done.pop().result() is None


def test_mistakes(monkeypatch):
    with pytest.raises(UserError, match="executor 'lokky' is not one of.*Did you mean 'loky'"):
        check_executor("lokky", 1)
    with pytest.raises(UserError, match="workers 0: give at least 1"):
        check_executor("loky", 0)
    monkeypatch.setattr(executors, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"'dask' needs distributed: pip install 'onceforall\[dask\]'"):
        check_executor("dask", 2)
