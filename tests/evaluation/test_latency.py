"""Oracles: a callable of known duration, a clock under the test's control, the state before against the state after."""

import os
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from onceforall.errors import UserError
from onceforall.evaluation import latency
from onceforall.evaluation.latency import Latency, measure_latency, subnet_latency, time_callables
from onceforall.supernets.registry import create_supernet

QUICK = {"warmup_seconds": 0.0, "min_runs": 3, "max_seconds": 0.0}


def time_callable(run, **options) -> Latency:
    """One call alone."""
    [latency] = time_callables([run], **options)
    return latency


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux pins")


class Watching(nn.Module):
    """Notes what state it is called in; fails at call number `fail_at`."""

    def __init__(self, fail_at: int = -1) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.norm = nn.BatchNorm1d(2)
        self.fail_at = fail_at
        self.seen: list[dict[str, object]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(
            {
                "shape": tuple(x.shape),
                "dtype": x.dtype,
                "training": any(module.training for module in self.modules()),
                "inference": torch.is_inference_mode_enabled(),
                "threads": torch.get_num_threads(),
                "cores": sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else [],
            }
        )
        if len(self.seen) == self.fail_at:
            raise RuntimeError("broken on purpose")
        return self.norm(self.linear(x.flatten(1)[:, :4]))


@pytest.fixture
def unchanged() -> Iterator[None]:
    """Threads and cores must be after the test what they were before; both start at unusual values."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    cores = os.sched_getaffinity(0) if sys.platform == "linux" else set()
    try:
        yield
        assert torch.get_num_threads() == 2
        if sys.platform == "linux":
            assert os.sched_getaffinity(0) == cores
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("unchanged")
def test_state_while_measuring() -> None:
    net = Watching()
    got = measure_latency(net, (1, 2, 2), batch_size=3, **QUICK)
    assert len(net.seen) == 4
    assert got.runs == 3
    assert all(s["shape"] == (3, 1, 2, 2) and s["inference"] and not s["training"] for s in net.seen)
    assert all(s["threads"] == 1 for s in net.seen)
    assert (got.threads, got.batch_size, got.device) == (1, 3, "cpu")
    assert (got.engine, got.precision) == ("pytorch", "float32")
    if got.pinned is not None:
        assert all(s["cores"] == [got.pinned] for s in net.seen)


@linux
def test_one_thread_is_pinned_where_permitted_and_several_are_not() -> None:
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cores)
    except OSError:
        pytest.skip("this system does not permit pinning")
    assert measure_latency(Watching(), (4,), **QUICK).pinned in cores
    net = Watching()
    assert measure_latency(net, (4,), threads=2, **QUICK).pinned is None
    assert all(s["threads"] == 2 and s["cores"] == sorted(cores) for s in net.seen)


@linux
def test_refused_pinning_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, cores: set[int]) -> None:
        raise PermissionError(pid, cores)

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    assert time_callable(lambda: None, engine="none", precision="none", **QUICK).pinned is None


def test_current_core_is_an_allowed_one() -> None:
    assert latency.current_core({10_000, 10_001}) == 10_000
    if sys.platform == "linux":
        assert latency.current_core(os.sched_getaffinity(0)) in os.sched_getaffinity(0)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("fail_at", [-1, 1, 3])
def test_everything_is_restored_even_after_an_error(fail_at: int) -> None:
    net = Watching(fail_at)
    net.train()
    net.norm.eval()  # a mixture, as a frozen part makes it
    modes = {name: module.training for name, module in net.named_modules()}
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    generator = torch.get_rng_state()
    if fail_at > 0:
        with pytest.raises(RuntimeError, match="on purpose"):
            measure_latency(net, (4,), batch_size=2, **QUICK)
    else:
        measure_latency(net, (4,), batch_size=2, **QUICK)
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert len(set(modes.values())) == 2
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_mode_of_a_module_with_two_parents_is_restored() -> None:
    shared = nn.Dropout()
    net = nn.Sequential(shared, nn.Sequential(shared)).train()
    shared.eval()
    measure_latency(net, (4,), **QUICK)
    assert [module.training for module in (net, shared, net[1])] == [True, False, True]


def test_time_is_in_milliseconds_and_of_the_right_size() -> None:
    got = time_callable(lambda: time.sleep(0.02), engine="sleep", precision="none", **QUICK)
    assert 20 <= got.median_ms < 200  # a busy machine oversleeps


def fake_clock(monkeypatch: pytest.MonkeyPatch, durations_ms: list[float], share: float = 1.0) -> list[float]:
    """A clock that only `run` moves, by the next of `durations_ms`; returns what was run.

    The process is on a processor for a `share` of the time.
    """
    now_ns, ran = [0], []
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: now_ns[0])
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now_ns[0] / 1e9)
    monkeypatch.setattr(latency.time, "process_time_ns", lambda: round(now_ns[0] * share))

    def run() -> None:
        ran.append(durations_ms[len(ran) % len(durations_ms)])
        now_ns[0] += round(ran[-1] * 1e6)

    monkeypatch.setattr(latency, "run_for_test", run, raising=False)
    return ran


def timed(**options: float) -> Latency:
    return time_callable(latency.run_for_test, engine="e", precision="p", **options)  # pyright: ignore


def test_median_and_iqr_leave_outliers_and_the_first_call_out(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [10.0, 10.1, 10.2, 10.3, 10.4, 10.5, 10.6, 900.0]
    fake_clock(monkeypatch, [5000.0, *times])
    got = timed(warmup_seconds=0, min_runs=8, max_seconds=0)
    first, third = np.percentile(times, [25, 75])
    assert got.median_ms == pytest.approx(10.35)
    assert got.iqr_ms == pytest.approx(third - first)
    assert not got.noisy


@pytest.mark.parametrize(("spread", "noisy"), [(0.9, False), (1.1, True)])
def test_noisy_above_a_tenth_of_the_median(monkeypatch: pytest.MonkeyPatch, spread: float, noisy: bool) -> None:
    fake_clock(monkeypatch, [10.0, 10 - spread / 2, 10 - spread / 2, 10, 10 + spread / 2, 10 + spread / 2])
    got = timed(warmup_seconds=0, min_runs=5, max_seconds=0)
    assert got.iqr_ms == pytest.approx(spread)
    assert got.noisy is noisy


@pytest.mark.parametrize(("share", "threads", "noisy"), [(0.85, 1, True), (0.95, 1, False), (0.85, 2, False)])
def test_noisy_where_others_ran_meanwhile(
    monkeypatch: pytest.MonkeyPatch, share: float, threads: int, noisy: bool
) -> None:
    fake_clock(monkeypatch, [10.0], share)
    got = timed(warmup_seconds=0, min_runs=5, max_seconds=0, threads=threads)
    assert got.processor_ms == pytest.approx(10 * share)
    assert got.median_ms == pytest.approx(10)
    assert got.noisy is noisy


def test_several_are_timed_in_turn_and_each_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns, order = [0], []
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: now_ns[0])
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now_ns[0] / 1e9)
    monkeypatch.setattr(latency.time, "process_time_ns", lambda: now_ns[0])

    def call(name: str, milliseconds: int) -> None:
        order.append(name)
        now_ns[0] += milliseconds * 10**6

    calls = [lambda: call("a", 2), lambda: call("b", 5)]
    options = {"warmup_seconds": 0.0, "min_runs": 2, "max_seconds": 0.0, "rounds": 3}
    got = latency.time_callables(calls, engine="e", precision="p", **options)
    assert "".join(order) == "ab" + "aabb" * 3
    assert [each.median_ms for each in got] == pytest.approx([2, 5]) and [each.runs for each in got] == [6, 6]


def test_the_speed_that_the_machine_had_in_a_round_is_taken_out() -> None:
    """Twelve of twenty rounds at half speed, and one call disturbed twice: exact, where plain medians are not."""
    true, speeds = np.array([1.0, 2.0, 5.0]), np.repeat([1.0, 2.0], [8, 12])
    medians = np.outer(true, speeds)
    medians[1, [0, 9]] *= 30
    np.testing.assert_allclose(latency.of_usual_round(medians), 2 * true)
    rng = np.random.default_rng(0)
    for each in medians:
        each *= np.exp(rng.normal(0, 0.01, 20))
    found = latency.of_usual_round(medians)
    np.testing.assert_allclose(found / found[0], true, rtol=0.01)
    one = np.array([[3.0], [4.0]])
    np.testing.assert_allclose(latency.of_usual_round(one), [3, 4])


def test_how_many_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = fake_clock(monkeypatch, [10.0])
    assert timed(warmup_seconds=0.1, min_runs=5, max_seconds=0.3).runs == 30
    assert len(ran) == 1 + 10 + 30  # first call, warm-up, timed
    fake_clock(monkeypatch, [1000.0])
    assert timed(warmup_seconds=0, min_runs=5, max_seconds=0.3).runs == 5  # slow: never fewer than asked


def test_the_device_is_waited_for_within_the_time() -> None:
    order: list[str] = []
    got = time_callable(
        lambda: order.append("run"),
        engine="e",
        precision="p",
        device="accelerator",
        synchronise=lambda: (order.append("wait"), time.sleep(0.01)),
        **QUICK,
    )
    assert order == ["run", "wait"] * 4
    assert got.median_ms >= 10
    assert got.pinned is None


def test_one_at_a_time() -> None:
    inside, most = [0], [0]

    def run() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.002)
        inside[0] -= 1

    def measure() -> None:
        time_callable(run, engine="e", precision="p", **QUICK)

    workers = [threading.Thread(target=measure) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most[0] == 1


def test_a_larger_network_takes_longer() -> None:
    small = measure_latency(nn.Conv2d(3, 8, 3), (3, 32, 32), warmup_seconds=0.05, max_seconds=0.1)
    large = measure_latency(nn.Conv2d(3, 256, 7), (3, 32, 32), warmup_seconds=0.05, max_seconds=0.1)
    assert large.median_ms > 2 * small.median_ms  # 174 times the work


def test_precision_is_that_of_the_work() -> None:
    assert measure_latency(Watching().to(torch.float64), (4,), **QUICK).precision == "float64"
    with torch.autocast("cpu", torch.bfloat16):
        assert measure_latency(Watching(), (4,), **QUICK).precision == "bfloat16"
    assert measure_latency(nn.Flatten(), (2, 2), **QUICK).precision == "float32"  # no parameters


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="threads 0"):
        measure_latency(Watching(), (4,), threads=0)
    with pytest.raises(UserError, match="batch_size 0"):
        measure_latency(Watching(), (4,), batch_size=0)
    with pytest.raises(UserError, match="min_runs 0"):
        measure_latency(Watching(), (4,), min_runs=0)
    with pytest.raises(UserError, match="device 'cpu' was asked, but the network is on 'meta'"):
        measure_latency(nn.Linear(2, 2, device="meta"), (2,))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_wait_counts() -> None:
    net = nn.Sequential(*[nn.Linear(4096, 4096) for _ in range(8)]).to("cuda")
    got = measure_latency(net, (4096,), batch_size=4096, device="cuda", warmup_seconds=0.2, max_seconds=0.2)
    assert got.pinned is None
    assert got.median_ms > 8 * 2 * 4096**3 / 2e15 * 1e3  # 1.1e12 operations; without the wait microseconds


def test_a_sub_network_is_timed_on_an_input_of_its_size(monkeypatch):
    seen = []
    monkeypatch.setattr(latency, "measure_latency", lambda net, shape, **options: seen.append((shape, options)))
    volumes = create_supernet("prox_unet3d", in_channels=2, width_mult=0.25, poolings=1, resolutions=((8, 10, 12),))
    images = create_supernet("ofa_mbv3", in_channels=1, width_mult=0.25, resolutions=(32,))
    for supernet in (volumes, images):
        subnet_latency(supernet, supernet.space.smallest(), max_seconds=0.2)
    assert [shape for shape, _ in seen] == [(2, 8, 10, 12), (1, 32, 32)]
    assert seen[0][1] == {"warmup_seconds": 0.1, "max_seconds": 0.2}
