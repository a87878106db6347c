"""A file is judged by its metric: made-up files whose answers are as good as the test says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from export_networks import IMAGES
from onceforall.bundles import open_part
from onceforall.data import from_arrays
from onceforall.evaluation.tasks import classification
from onceforall.exporting import attempts
from onceforall.exporting.attempts import Job, attempt, time_attempt
from onceforall.exporting.options import ExportOptions
from onceforall.exporting.quantising import layer_names
from onceforall.exporting.verifying import Judge


@pytest.fixture(scope="module")
def judge(tiny):
    """Images whose label is what the network says, so that its accuracy is 1."""
    net, _ = tiny
    pixels = np.random.default_rng(0).integers(0, 256, (200, 32, 32)).astype(np.uint8)
    data = from_arrays(pixels, np.arange(200) % 10, max_resolution=32)
    [(images, _)] = data.batches("validation", 32, 1000)
    with torch.no_grad():
        answers = net(images).argmax(1).numpy()

    def measure(batches):
        probabilities, _ = zip(*batches, strict=True)
        return {"accuracy": float((np.concatenate(probabilities).argmax(1) == answers).mean())}

    return Judge(replace(classification(), measure=measure), data)


def job(tiny, judge, **options):
    net, model = tiny
    learned = IMAGES[:8] if options.get("precision") == "int8" else None
    inputs = torch.from_numpy(IMAGES)
    return Job(net, net.space.largest(), model, inputs, learned, None, (1.0,), judge, ExportOptions(**options))


def spoil(monkeypatch, needed):
    """Files in 8 bits answer at random, unless `needed` layers were kept."""
    written = {}
    write = attempts._write

    def noted(job, path, kept=()):
        write(job, path, kept)
        written["kept"] = kept

    def opened(path, engine, threads):
        part = open_part(path, engine, threads)
        if "kept" in written and len(written["kept"]) < needed:
            return replace(part, run=lambda values: {"logits": np.roll(part.run(values)["logits"], 1, axis=1)})
        return part

    monkeypatch.setattr(attempts, "_write", noted)
    monkeypatch.setattr(attempts, "open_part", opened)
    monkeypatch.setattr("onceforall.exporting.quantising.most_harmed", lambda model, names, images: list(names))


def test_fp32_is_as_good(tiny, judge, tmp_path):
    found = attempt(job(tiny, judge), tmp_path)
    assert found.objection is None and found.kept == ()
    assert found.before == {"accuracy": 1.0} and found.after == {"accuracy": 1.0}
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_layers_are_kept_until_the_metric_is_accepted(tiny, judge, tmp_path, monkeypatch):
    names = layer_names(tiny[1])
    spoil(monkeypatch, 3)
    loose = {"precision": "int8", "max_loss": 0.8}
    found = attempt(job(tiny, judge, **loose), tmp_path)
    assert found.objection is None and {names[0], names[-1]} < set(found.kept) and len(found.kept) < len(names) / 2
    spoil(monkeypatch, 0)
    assert attempt(job(tiny, judge, **loose), tmp_path).kept == (), "none is kept without need"
    assert attempt(job(tiny, judge, keep_fp32=("stem*",), **loose), tmp_path).kept == ("stem.conv",)


def test_what_is_not_good_enough_is_told(tiny, judge, tmp_path, monkeypatch):
    spoil(monkeypatch, 10**6)
    found = attempt(job(tiny, judge, precision="int8"), tmp_path)
    assert len(found.kept) >= len(layer_names(tiny[1])) / 2, "half of the layers were tried"
    count = judge.data.count("validation")
    assert found.objection is not None and "the int8 file is worse than PyTorch: accuracy" in found.objection
    assert f"instead of 1.0000 on {count} validation images (accepted: 0.005 worse)" in found.objection


@pytest.mark.parametrize(("higher", "accepted"), [(True, False), (False, True)])
def test_worse_is_as_the_task_says(tiny, judge, tmp_path, higher, accepted):
    values = iter([0.9, 0.8])
    task = replace(judge.task, measure=lambda batches: {"accuracy": next(values)}, higher_is_better=higher)
    found = attempt(job(tiny, replace(judge, task=task)), tmp_path)
    assert (found.objection is None) == accepted
    nothing = replace(judge, task=replace(judge.task, measure=lambda batches: {"accuracy": float("nan")}))
    assert attempt(job(tiny, nothing), tmp_path).objection is not None


def test_latency_beside_the_same_format_in_float32(tiny, judge, tmp_path):
    plain, half = job(tiny, None), job(tiny, None, precision="fp16")
    assert "fp32" not in time_attempt(plain, attempt(plain, tmp_path))
    found = time_attempt(half, attempt(half, tmp_path))
    assert {"pytorch", "fp32", "exported"} < set(found) and found["engine"] == "onnxruntime"
