"""`onceforall latency` as it is typed; the engine's process is replaced, but in one command."""

import json
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from onceforall.cli import main
from onceforall.evaluation.latency import Latency
from onceforall.searching import latency_measuring
from onceforall.searching.latency_table import LatencyTable
from onceforall.training.checkpoint import load_network


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    words = ("network.width_mult=0.25", "network.resolutions=[16]", "network.depths=[1]", "data.classes=3")
    words += ("schedule.total_epochs=2", "run.calibration_images=64", "run.random_validation=0")
    words += ("phases.all.batch_size=128", "network.kernel_sizes=[3,5]", "network.expand_ratios=[3]")
    result = invoke("train", "digits-prox", "--out", folder, *(word for text in words for word in ("--set", text)))
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def fake_engine(monkeypatch):
    """Times as the multiply-adds say."""

    @contextmanager
    def measuring(supernet, settings, **_):
        def measure(architectures):
            times = [0.1 + supernet.measure(architecture).macs / 1e6 for architecture in architectures]
            known = (
                settings.threads,
                settings.batch,
                settings.device,
                settings.backend,
                settings.precision,
                None,
                True,
            )
            return [Latency(ms, 0.1, ms, 5, *known) for ms in times]

        yield measure

    monkeypatch.setattr(latency_measuring, "measuring", measuring)


@pytest.mark.usefixtures("fake_engine")
def test_a_table_is_built_shown_and_measured_against(finished, tmp_path):
    path = tmp_path / "cpu.json"
    result = invoke("latency", "build", finished, "--backend", "onnxruntime", "--out", path, "-n", 16, "--held-out", 8)
    assert result.exit_code == 0, result.output
    assert f"written: {path}" in result.output and "on 8 others of" in result.output
    assert "ProXMobileNet on onnxruntime" in result.output and "other programs ran meanwhile" in result.output
    table = LatencyTable.load(path)
    shown = invoke("latency", "show", path)
    assert "stage 5 first k5e3 at 16" in shown.output and "fitted to 16 networks" in shown.output
    assert json.loads(invoke("latency", "show", path, "--json").output)["entries"] == dict(table.entries)
    told = json.loads(invoke("latency", "measure", finished, "largest", "--json").output)
    [best] = sorted(finished.glob("checkpoints/*-best.safetensors"))[-1:]
    largest = load_network(best).space.largest()
    assert told["architecture"] == largest.to_dict()
    assert table.predict_ms([largest])[0] == pytest.approx(told["median_ms"], rel=0.1)


def test_an_interrupted_build_says_how_to_go_on(finished, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("onceforall.searching.latency_build.build_table", interrupted)
    result = invoke("latency", "build", finished, "--out", tmp_path / "cpu.json")
    assert result.exit_code == 130 and "the same command goes on" in result.output and "--resume" not in result.output


def test_one_network_is_measured_on_the_engine(finished):
    result = invoke("latency", "measure", finished, "smallest", "--backend", "onnxruntime")
    assert result.exit_code == 0, result.output
    assert " ms, interquartile range " in result.output and "onnxruntime 1." in result.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("build", "RUN", "--out", "t.json", "--backend", "onnxruntim"), "Did you mean 'onnxruntime'?"),
        (("build", "nowhere", "--out", "t.json"), "holds no run"),
        (("build", "RUN", "--out", "t.json", "--backend", "pytorch", "--device", "cuda:77"), "device 'cuda:77'"),
        (("show", "nowhere.json"), "no latency table"),
        (("measure", "RUN", "huge"), "give 'largest', 'smallest'"),
        (("measure", "RUN", "largest", "--precision", "int3"), "precision of onnxruntime 'int3'"),
    ],
)
def test_mistakes_are_one_line(finished, words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("latency", *(finished if word == "RUN" else word for word in words))
    assert result.exit_code == 2 and expected in result.output and result.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
