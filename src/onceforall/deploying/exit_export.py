"""Early exits of a run as a bundle: thresholds tuned, the network cut into a chain, checked, measured, written."""

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.architecture import Architecture
from onceforall.bundles import INPUT, Part, open_part
from onceforall.deploying.exit_chain import chain_difference, engine_of, keep_exits, write_parts
from onceforall.deploying.exit_curve import CurvePoint, MeasuredExits, curve_point, measure_exits
from onceforall.deploying.exit_thresholds import ExitPolicy, tune_exits
from onceforall.errors import UserError
from onceforall.exporting.bundle_writing import check_place, draft_folder, finish, rejected_place
from onceforall.exporting.describing import describe
from onceforall.exporting.inputs import held_out_inputs, plain_copy
from onceforall.exporting.onnx_model import to_onnx
from onceforall.exporting.openvino_model import to_openvino, write_openvino
from onceforall.exporting.verifying import Difference, latencies
from onceforall.predict.parts import run_parts
from onceforall.runs import Run, phase_option
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import save_network

__all__ = ["ExitExport", "export_exits"]

TOLERANCE = 1e-3  # of the largest logit
BATCH = 128
TIMED = 32  # images whose mean time is taken


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
    PyTorch computes; the bundle then stays beside `folder` with ".rejected" behind its name.
    """
    check_place(folder)
    engine = engine_of(format)
    measured = measured or measure_exits(run, architecture)
    if min_accuracy is None and max_macs is None:
        min_accuracy = float(measured.validation.correct.mean(1).max())
    policy = tune_exits(measured.validation, measured.costs, min_accuracy=min_accuracy, max_macs=max_macs)
    if len(policy.exits) == 1:
        raise UserError(_alone(run, measured, policy))
    point = curve_point(run, measured, policy)
    net, kept = plain_copy(keep_exits(plain_copy(measured.net)[0], policy.exits))
    images = held_out_inputs(run.data, kept.resolution)
    with draft_folder(folder) as draft:
        paths = write_parts(net, draft, format)
        size = sum(path.stat().st_size for path in draft.iterdir())
        parts = [open_part(path, engine, 1) for path in paths]
        difference = chain_difference(net, parts, images)
        objection = _objection(difference)
        place = folder if objection is None else rejected_place(folder)
        accuracy = _accuracy(run, parts, policy, kept)
        latency = _latency(net, parts, policy, images[:TIMED].numpy(), engine)
        save_network(net, draft / "weights.safetensors", {})
        about = describe(
            net,
            kept,
            paths=paths,
            bytes=size,
            engine=engine,
            tools=("onnx", engine),
            checked=images,
            difference=difference,
            accepted_difference=TOLERANCE,
            objection=objection,
            latency=latency,
            classes=run.data.classes,
            preparation=run.data.preparation.to_dict(),
        )
        finish(draft, place, about | _entries(run, point, accuracy))
    if objection is not None:
        raise UserError(f"{objection} It was kept as {place}.")
    return ExitExport(folder, size, point, difference, accuracy, latency)


def _objection(difference: Difference) -> str | None:
    if difference.clear == 1 and difference.relative <= TOLERANCE:  # NaN is refused
        return None
    return (
        f"the parts do not compute what PyTorch computes: logits differ by {difference.relative:.2g} of the largest "
        f"(accepted: {TOLERANCE:g}), {difference.agreement:.2%} of the answers agree."
    )


def _alone(run: Run, measured: MeasuredExits, policy: ExitPolicy) -> str:
    [number] = policy.exits
    whole = measured.architecture
    single = Architecture(whole.resolution, whole.stages[:number], stem=whole.stem, head=whole.head)
    command = shlex.join(["onceforall", "export", str(run.folder), single.to_json(), *phase_option(run)])
    return (
        f"exit {number} alone does it: no image needs to leave earlier or later. Export the network that ends "
        f"there: {command}"
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
    """Mean time of an image: of the network with its last exit alone, in PyTorch and in a file, and of the chain."""
    whole, architecture = plain_copy(keep_exits(net, policy.exits[-1:]))
    with tempfile.TemporaryDirectory() as folder:
        single = _whole(whole, architecture, images.shape[1:], engine, Path(folder))
        ways = {
            "whole": lambda image: single.run({INPUT: image}),
            "exported": lambda image: run_parts(parts, image, policy.thresholds),
        }
        return latencies(whole, ways, engine, images)


def _whole(net: Supernet, architecture: Architecture, shape: Sequence[int], engine: str, folder: Path) -> Part:
    """The network with its last exit only, in one file."""
    model = to_onnx(net, architecture, shape, engine=engine)
    if engine == "openvino":
        write_openvino(to_openvino(model), folder / "whole.xml")
        return open_part(folder / "whole.xml", engine, 1)
    (folder / "whole.onnx").write_bytes(model.SerializeToString())
    return open_part(folder / "whole.onnx", engine, 1)


def _entries(run: Run, point: CurvePoint, accuracy: float) -> dict[str, Any]:
    """What `model.json` says of early exits."""
    settings, data = run.recipe.run, run.data
    early = {"exits": point.policy.exits, "split": "validation"}
    for name, outcome in (("validation", point.validation), ("test", point.test)):
        early[name] = {"accuracy": outcome.accuracy, "mean_macs": outcome.macs, "shares": outcome.shares}
    calibrated = {"inputs": min(settings.calibration_images, data.count("train")), "rule": settings.calibration_rule}
    return {
        "thresholds": list(point.policy.thresholds),
        "exit_weights": [1.0] * len(point.policy.exits),
        "facts": {"recipe": run.recipe.name, "phase": run.phase, "batch_norm": calibrated, "early_exits": early},
        "metrics": {
            "name": "accuracy",
            "before": point.test.accuracy,
            "after": accuracy,
            "data": data.name,
            "split": "test",
            "inputs": data.count("test"),
        },
    }
