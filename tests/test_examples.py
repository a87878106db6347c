"""The example network is as good as one that ships: it passes the common checks, trains, and exports."""

import importlib.util
from pathlib import Path

import pytest
import torch

from common_checks import CHECKS

PATH = Path(__file__).parents[1] / "examples" / "own_network.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("own_network", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_passes_the_common_checks(example, check):
    check(example.build)


def test_it_is_short():
    assert len(PATH.read_text().splitlines()) < 80


def test_it_trains_by_progressive_shrinking(example, tmp_path, capsys):
    example.main(tmp_path / "run", epochs=5)
    lines = capsys.readouterr().out.splitlines()
    largest, smallest = (float(line.split()[0]) for line in lines)
    assert largest > 0.5, "five epochs on digits should be far above chance"
    assert smallest > 0.1, "the smallest has learned too"
    assert largest != smallest
    assert (tmp_path / "run/checkpoints/4-expand-best.safetensors").is_file()


def test_it_exports(example, tmp_path):
    pytest.importorskip("onnxruntime")
    from onceforall.exporting import export

    net = example.build()
    architecture = net.space.smallest()
    small = net.subnet(architecture).eval()
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    names = [str(i) for i in range(10)]
    report = export(small, tmp_path / "own", images=images, classes=names, preparation={}, facts={})
    assert (report.path / "model.onnx").is_file() and report.difference.largest < 1e-3
