"""Early exits of a run as a bundle: thresholds tuned, the network cut into a chain, checked, measured, written."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from onceforall.architecture import Architecture
from onceforall.bundles import INPUT, Part, open_part
from onceforall.deploying.exit_chain import chain_difference, keep_exits, write_parts
from onceforall.deploying.exit_curve import CurvePoint, MeasuredExits, curve_point, measure_exits
from onceforall.deploying.exit_thresholds import ExitPolicy, tune_exits
from onceforall.errors import UserError
from onceforall.evaluation.environment import cpu_model, version
from onceforall.evaluation.latency import time_callables, torch_threads
from onceforall.evaluation.tasks import window_of
from onceforall.exporting.bundle_writing import check_place, draft_folder, finish, requirements
from onceforall.exporting.inputs import held_out_inputs, plain_copy
from onceforall.exporting.onnx_model import to_onnx
from onceforall.exporting.openvino_model import to_openvino, write_openvino
from onceforall.exporting.verifying import Difference
from onceforall.predict.parts import run_parts
from onceforall.runs import Run
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import save_network

__all__ = ["ExitExport", "export_exits"]

TOLERANCE = 1e-3  # of the largest logit
BATCH = 128
TIMED = 32  # images whose mean time is taken
TIMING = {"warmup_seconds": 0.0, "min_runs": 1, "max_seconds": 0.0, "rounds": 7}


@final
@dataclass(frozen=True)
class ExitExport:
    """A bundle with early exits.

    Args:
        path: its folder.
        bytes: of its model files.
        point: the policy, what it does on validation and test, and the best network of one exit beside it.
        difference: of the answers of all parts to those of all exits in PyTorch.
        accuracy: of the bundle on test, run as prediction runs it.
        latency: of a test image on average: JSON types.
    """

    path: Path
    bytes: int
    point: CurvePoint
    difference: Difference
    accuracy: float
    latency: dict[str, Any]


def export_exits(
    run: Run,
    architecture: Architecture,
    folder: Path,
    *,
    min_accuracy: float | None = None,
    max_macs: float | None = None,
    format: str = "onnx",
    measured: MeasuredExits | None = None,
) -> ExitExport:
    """Tune the exits of a network on validation, and write it as a bundle whose later parts run where they must.

    Args:
        run: from `open_run`.
        architecture: with several exits, as `with_all_exits` makes it; those that do not pay are left out.
        folder: of the bundle. It is written whole or not at all; a bundle that is there is replaced.
        min_accuracy: keep this accuracy on validation, at the least mean cost.
        max_macs: be as accurate as possible with so many multiply-adds on average. Without either the accuracy is
            that of the best exit alone.
        format: "onnx" or "openvino", in float32.
        measured: of the same network, where it was measured before.

    Raises `UserError` where that is not reached, where one exit alone does it, and where a part does not compute what
    PyTorch computes.
    """
    check_place(folder)
    measured = measured or measure_exits(run, architecture)
    if min_accuracy is None and max_macs is None:
        min_accuracy = float(measured.validation.correct.mean(1).max())
    policy = tune_exits(measured.validation, measured.costs, min_accuracy=min_accuracy, max_macs=max_macs)
    if len(policy.exits) == 1:
        raise UserError(_alone(run, measured, policy))
    point = curve_point(run, measured, policy)
    net, kept = plain_copy(keep_exits(plain_copy(measured.net)[0], policy.exits))
    images = held_out_inputs(run.data, kept.resolution)
    engine = "openvino" if format == "openvino" else "onnxruntime"
    with draft_folder(folder) as draft:
        paths = write_parts(net, draft, format)
        size = sum(path.stat().st_size for path in draft.iterdir())
        parts = [open_part(path, engine, 1) for path in paths]
        difference = chain_difference(net, parts, images)
        if not (difference.clear == 1 and difference.relative <= TOLERANCE):  # NaN is refused
            raise UserError(
                f"the parts do not compute what PyTorch computes: logits differ by {difference.relative:.2g} of the "
                f"largest (accepted: {TOLERANCE:g}); nothing was written."
            )
        accuracy = _accuracy(run, parts, policy, kept)
        latency = _latency(net, parts, policy, images.numpy(), engine)
        save_network(net, draft / "weights.safetensors", {})
        about = _about(run, net, kept, point, difference, len(images), engine)
        about |= {"parts": [path.name for path in paths], "latency": latency, "bytes": size}
        about["metrics"] |= {"after": accuracy}
        finish(draft, folder, about)
    return ExitExport(folder, size, point, difference, accuracy, latency)


def _alone(run: Run, measured: MeasuredExits, policy: ExitPolicy) -> str:
    [number] = policy.exits
    whole = measured.architecture
    single = Architecture(whole.resolution, whole.stages[:number], stem=whole.stem, head=whole.head)
    return (
        f"exit {number} alone does it: no image needs to leave earlier or later. Export the network that ends there: "
        f"onceforall export {run.folder} '{single.to_json()}'"
    )


def _accuracy(run: Run, parts: Sequence[Part], policy: ExitPolicy, architecture: Architecture) -> float:
    """Share of right answers on test, as prediction gives them."""
    right = []
    for images, labels in run.data.batches("test", architecture.resolution, BATCH):
        logits, _ = run_parts(parts, images.numpy(), policy.thresholds)
        right.append(logits.argmax(1) == labels.numpy())
    return float(np.concatenate(right).mean())


def _latency(
    net: Supernet, parts: Sequence[Part], policy: ExitPolicy, images: np.ndarray, engine: str
) -> dict[str, Any]:
    """Mean time of a held-out image, one at a time on one thread: the chain, the whole network, PyTorch; in turn."""
    *_, last = policy.exits
    whole, architecture = plain_copy(keep_exits(net, (last,)))
    with tempfile.TemporaryDirectory() as folder:
        single = _whole(whole, architecture, images.shape[1:], engine, Path(folder))
        some = [images[i : i + 1] for i in range(min(TIMED, len(images)))]
        tensors = [torch.from_numpy(image) for image in some]
        ways = {
            "pytorch": lambda: [whole(tensor) for tensor in tensors],
            "whole": lambda: [single.run({INPUT: image}) for image in some],
            "exported": lambda: [run_parts(parts, image, policy.thresholds) for image in some],
        }
        with torch_threads(1), torch.inference_mode():
            timed = time_callables(list(ways.values()), engine=engine, precision="", **TIMING)
    rows = {
        name: {
            "median_ms": round(latency.median_ms / len(some), 4),
            "iqr_ms": round(latency.iqr_ms / len(some), 4),
            "runs": latency.runs,
            "noisy": latency.noisy,
            "to_pytorch": round(latency.median_ms / timed[0].median_ms, 4),
        }
        for name, latency in zip(ways, timed, strict=True)
    }
    about = {"processor": cpu_model(), "threads": 1, "batch": 1, "engine": engine, "images": len(some)}
    return about | rows


def _whole(net: Supernet, architecture: Architecture, shape: Sequence[int], engine: str, folder: Path) -> Part:
    """The network with its last exit only, in one file."""
    model = to_onnx(net, architecture, shape)
    if engine == "openvino":
        write_openvino(to_openvino(model), folder / "whole.xml")
        return open_part(folder / "whole.xml", engine, 1)
    (folder / "whole.onnx").write_bytes(model.SerializeToString())
    return open_part(folder / "whole.onnx", engine, 1)


def _about(
    run: Run,
    net: Supernet,
    architecture: Architecture,
    point: CurvePoint,
    difference: Difference,
    images: int,
    engine: str,
) -> dict[str, Any]:
    """What `model.json` says, but for what is measured of the files."""
    settings, data = run.recipe.run, run.data
    preparation = data.preparation.to_dict()
    early = {"exits": point.policy.exits, "split": "validation"}
    for name, outcome in (("validation", point.validation), ("test", point.test)):
        early[name] = {"accuracy": outcome.accuracy, "mean_macs": outcome.macs, "shares": outcome.shares}
    cost = net.measure(architecture)
    calibrated = {"inputs": min(settings.calibration_images, data.count("train")), "rule": settings.calibration_rule}
    return {
        "engine": engine,
        "precision": "fp32",
        "thresholds": list(point.policy.thresholds),
        "classes": list(data.classes),
        "task": {"kind": "classification"},
        "input": {
            "name": INPUT,
            "channels": data.channels,
            "size": list(window_of(architecture.resolution, 2)),
            "batch": None,
            "any_size": False,
        },
        "preparation": preparation,
        "exit_weights": [1.0] * len(point.policy.exits),
        "architecture": architecture.to_dict(),
        "architecture_text": str(architecture),
        "cost": {"params": cost.params, "macs": cost.macs},
        "kept_fp32": [],
        "calibration": {"int8_inputs": 0},
        "facts": {"recipe": run.recipe.name, "phase": run.phase, "batch_norm": calibrated, "early_exits": early},
        "check": {
            "inputs": images,
            "max_difference": difference.largest,
            "scale": difference.scale,
            "relative": difference.relative,
            "agreement": difference.agreement,
            "accepted_difference": TOLERANCE,
            "max_loss": None,
        },
        "accepted": True,
        "objection": None,
        "metrics": {
            "name": "accuracy",
            "before": point.test.accuracy,
            "data": data.name,
            "split": "test",
            "inputs": data.count("test"),
        },
        "opset": None,
        "versions": {name: version(name) for name in ("onceforall", "torch", "onnx", engine)},
        "requirements": requirements(engine, False, preparation),
    }
