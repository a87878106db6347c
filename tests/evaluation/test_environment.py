"""Oracles: the standard library's and torch's own answers, memory that the test takes, a made-up powercap tree."""

import json
import os
import platform
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from onceforall.evaluation import environment as module
from onceforall.evaluation.environment import energy_joules_counter, environment, peak_memory_bytes


def test_environment_is_json_and_true() -> None:
    facts = environment()
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["python"], facts["torch"]) == (platform.python_version(), str(torch.__version__))
    assert facts["numpy"] == np.__version__
    assert facts["torch_threads"] == torch.get_num_threads()
    assert len(facts["gpus"]) == torch.cuda.device_count() + torch.backends.mps.is_available()
    assert 1 <= facts["usable_cores"] <= facts["cores"] == os.cpu_count()
    assert facts["cpu"]
    if platform.node():
        assert platform.node() not in json.dumps(facts)  # no names of computers


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_memory_is_what_linux_says() -> None:
    total_kib = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
    assert environment()["memory_bytes"] == pytest.approx(total_kib * 1024, rel=0.02)


def test_environment_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    facts = environment()
    assert facts["gpus"] == []
    assert facts["torch_threads"] is None
    assert module.version("no-such-package-of-ours") is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_cpu_model(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel\t\t: 7\nmodel name\t: Some CPU @ 2: GHz\nmodel name\t: other\n")
    assert module.cpu_model(file) == "Some CPU @ 2: GHz"
    file.write_text("processor\t: 0\nHardware\t: x\nModel\t\t: Some Board Rev 1\n")
    assert module.cpu_model(file) == "Some Board Rev 1"
    assert module.cpu_model(tmp_path / "missing") == (platform.processor() or platform.machine())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_peak_memory_is_in_bytes_and_stays() -> None:
    before = peak_memory_bytes()
    assert before is not None
    assert 20e6 < before < 1e12
    size = before + 64 * 2**20  # more than was ever held
    block = np.ones(size, dtype=np.uint8)
    after = peak_memory_bytes()
    assert after is not None
    assert size <= after < 2 * size + before
    del block
    assert peak_memory_bytes() == after


def test_peak_memory_units(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")

    class Usage:
        ru_maxrss = 5000

    monkeypatch.setattr(resource, "getrusage", lambda _: Usage)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_memory_bytes() == 5000
    monkeypatch.setattr(sys, "platform", "linux")
    assert peak_memory_bytes() == 5000 * 1024
    monkeypatch.setattr(sys, "platform", "win32")
    assert peak_memory_bytes() is None


def powercap_domain(root: Path, folder: str, name: str, energy: int, wraps_at: int = 1_000_000) -> Path:
    domain = root / folder
    domain.mkdir()
    (domain / "name").write_text(name + "\n")
    (domain / "energy_uj").write_text(f"{energy}\n")
    (domain / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    return domain / "energy_uj"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "nvml_registers", list)


@pytest.mark.usefixtures("no_gpu")
def test_energy_counts_packages_and_memory_once_across_overflows(tmp_path: Path) -> None:
    package = powercap_domain(tmp_path, "intel-rapl:0", "package-0", 900_000)
    other = powercap_domain(tmp_path, "intel-rapl:1", "package-1", 0, wraps_at=500_000)
    memory = powercap_domain(tmp_path, "intel-rapl:0:1", "dram", 100)
    inside = [
        powercap_domain(tmp_path, "intel-rapl:0:0", "core", 7),  # in package-0
        powercap_domain(tmp_path, "intel-rapl:2", "psys", 7),  # holds the packages
        powercap_domain(tmp_path, "intel-rapl-mmio:0", "package-0", 7),  # package-0 a second time
    ]
    counter = energy_joules_counter(tmp_path)
    assert counter is not None
    assert {source.split()[0] for source in counter.sources} == {"package-0", "package-1", "dram"}
    assert counter() == 0
    for file in inside:
        file.write_text("999999")
    package.write_text("950000")
    other.write_text("400000")
    memory.write_text("600")
    assert counter() == pytest.approx((50_000 + 400_000 + 500) * 1e-6)
    package.write_text("20000")  # overflowed: 50,000 to the end, 20,000 after it
    other.write_text("100000")  # overflowed: 100,000 to the end, 100,000 after it
    assert counter() == pytest.approx((120_000 + 600_000 + 500) * 1e-6)
    package.write_text("10000")  # and once more
    assert counter() == pytest.approx((1_110_000 + 600_000 + 500) * 1e-6)


@pytest.mark.usefixtures("no_gpu")
def test_energy_is_none_where_the_machine_does_not_tell(tmp_path: Path) -> None:
    assert energy_joules_counter(tmp_path / "missing") is None
    assert energy_joules_counter(tmp_path) is None
    unreadable = powercap_domain(tmp_path, "intel-rapl:0", "package-0", 1)
    unreadable.unlink()
    unreadable.mkdir()  # reading it is an OSError, for root too
    assert energy_joules_counter(tmp_path) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_gpu_no_register() -> None:
    assert module.nvml_registers() == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_energy_grows_with_work(tmp_path: Path) -> None:
    counter = energy_joules_counter(tmp_path)
    if counter is None:
        pytest.skip("this GPU does not tell its energy")
    x = torch.randn(4096, 4096, device="cuda")
    for _ in range(200):
        x = torch.tanh(x @ x)
    torch.cuda.synchronize()
    assert 1 < counter() < 1e5
