"""From a calibrated sub-network to a bundle that is known to compute what PyTorch computes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from torch import Tensor

from onceforall.data import LabelScheme
from onceforall.errors import UserError
from onceforall.evaluation.tasks import window_of
from onceforall.exporting.attempts import Attempt, Job, advice, attempt, time_attempt
from onceforall.exporting.bundle_writing import check_place, draft_folder, finish, rejected_place
from onceforall.exporting.describing import describe
from onceforall.exporting.inputs import checked_images, plain_copy
from onceforall.exporting.onnx_model import leftovers, to_onnx
from onceforall.exporting.options import ExportOptions
from onceforall.exporting.verifying import Difference, Judge
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import save_network

__all__ = ["ExportReport", "export"]

WEIGHTS = "weights.safetensors"


@final
@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares with PyTorch on `images` images or volumes.

    Args:
        path: the bundle's folder; its name ends in ".rejected" where it was not accepted.
        bytes: size of the model files.
        difference: how its answers differ from PyTorch's.
        images: how many images or volumes were compared.
        opset: version of the ONNX operators; 0 for a program of PyTorch.
        nodes: number of nodes for each operator of the ONNX graph, before anything is computed in 8 bits.
        leftovers: nodes of `LEFTOVERS` in it: none, unless the network itself computes with them.
        metric: name of the task's metric; None where there was no judge.
        split: on which it was measured.
        before, after: its value in PyTorch and in the file.
        kept_fp32: layers that int8 left in float32.
        latency: what `latencies` measured.
        objection: why it was not accepted; None where it was.
    """

    path: Path
    bytes: int
    difference: Difference
    images: int
    opset: int
    nodes: dict[str, int]
    leftovers: dict[str, int]
    metric: str | None
    split: str | None
    before: float | None
    after: float | None
    kept_fp32: tuple[str, ...]
    latency: dict[str, Any]
    objection: str | None


def export(
    net: Supernet,
    folder: str | Path,
    *,
    images: np.ndarray | Tensor,
    classes: Sequence[str],
    preparation: Mapping[str, Any],
    facts: Mapping[str, Any],
    options: ExportOptions | None = None,
    scheme: LabelScheme | None = None,
    exit_weights: Sequence[float] | None = None,
    judge: Judge | None = None,
    calibration: np.ndarray | Tensor | None = None,
    front: bytes | None = None,
) -> ExportReport:
    """Write `net` as a bundle, run its file on `images`, and keep it only if it computes what PyTorch computes.

    Args:
        net: a calibrated sub-network in evaluation mode; it is not changed.
        folder: of the bundle. It is written whole or not at all; a bundle that is there is replaced.
        images: (N, channels, ...) real, prepared images or volumes that training never saw; 100 images or 8
            volumes are plenty. None of them gets into the bundle, they are compared only.
        classes: names of the outputs.
        preparation: how they are prepared, as JSON types (`Preparation.to_dict()`, `VolumePreparation.to_dict()`).
        facts: anything else that the bundle shall tell, as JSON types.
        options: which file, and what is accepted; an ONNX file in float32 by default.
        scheme: what the output maps of a segmentation stand for; None for a classification.
        exit_weights: of a network with several exits the weight of each one's output in the answer; equal by default.
        judge: measures the task's metric before and after; int8 needs it.
        calibration: (N, channels, ...) prepared training images for int8, of which the ranges of numbers are learned.
        front: a picture (PNG) of the network's place among others.

    Raises `UserError` where packages are missing, arguments do not fit together, the network cannot be exported, or
    the file is not accepted: in fp32 and fp16 a logit differs by more than the tolerance, in fp32 an answer that is no
    tie is another, or the metric falls by more than `max_loss`. The bundle then stays beside `folder` with ".rejected"
    behind its name.
    """
    options, folder = options or ExportOptions(), Path(folder)
    options.check_installed()
    check_place(folder)
    copy, architecture = plain_copy(net)
    size = window_of(net.space.resolutions[-1], net.options.get("spatial_dims", 2))
    shape = (net.options["in_channels"], *size)
    inputs = checked_images(images, shape)
    learned = _calibration(options, judge, calibration, shape)
    weights = _exit_weights(exit_weights, len(architecture.exits))
    if net.options["num_classes"] != len(classes):
        raise UserError(f"{len(classes)} names of classes for a network with {net.options['num_classes']} outputs.")
    model = None
    if options.format != "torch":
        model = to_onnx(
            copy, architecture, shape, options.batch, options.opset, options.any_size, engine=options.engine
        )
    job = Job(copy, architecture, model, inputs, learned, scheme, weights, judge, options)
    with draft_folder(folder) as draft:
        found = attempt(job, draft)
        size_in_bytes = sum(path.stat().st_size for path in draft.iterdir())
        report = _report(job, found, folder, size_in_bytes, time_attempt(job, found))
        save_network(copy, draft / WEIGHTS, {})
        about = _about(job, found, report, classes, preparation) | {"facts": facts}
        finish(draft, report.path, about, front)
    if report.objection is not None and not options.force:
        raise UserError(f"{report.objection} It was kept as {report.path}; {advice(job, found)}")
    return report


def _exit_weights(given: Sequence[float] | None, exits: int) -> tuple[float, ...]:
    if given is None or exits == 1:
        return (1 / exits,) * exits
    if len(given) != exits:
        raise UserError(f"{len(given)} exit weights for a network that answers with {exits} exits.")
    return tuple(given)


def _calibration(
    options: ExportOptions, judge: Judge | None, images: np.ndarray | Tensor | None, shape: tuple[int, ...]
) -> np.ndarray | None:
    """The inputs that int8 learns ranges from; None for other precisions."""
    if options.precision != "int8":
        return None
    if images is None or judge is None:
        missing = "calibration images" if images is None else "labelled data to judge it by"
        raise UserError(f"int8 needs {missing}: without them its accuracy would be unknown. Export in fp32 or fp16.")
    return checked_images(images, shape).numpy()


# -- what is said of it -------------------------------------------------------------------------------------------


def _report(job: Job, found: Attempt, folder: Path, size: int, latency: dict[str, Any]) -> ExportReport:
    graph, metric = None if job.model is None else job.model.graph, None if job.judge is None else job.judge.task.metric
    versions = [] if job.model is None else [entry.version for entry in job.model.opset_import if entry.domain == ""]
    refused = found.objection is not None and not job.options.force
    return ExportReport(
        path=rejected_place(folder) if refused else folder,
        bytes=size,
        difference=found.difference,
        images=len(job.inputs),
        opset=max(versions, default=0),
        nodes={} if graph is None else dict(Counter(node.op_type for node in graph.node)),
        leftovers={} if graph is None else leftovers(graph),
        metric=metric,
        split=None if job.judge is None else job.judge.split,
        before=None if found.before is None or metric is None else found.before[metric],
        after=None if found.after is None or metric is None else found.after[metric],
        kept_fp32=found.kept,
        latency=latency,
        objection=found.objection,
    )


def _about(
    job: Job, found: Attempt, report: ExportReport, classes: Sequence[str], preparation: Mapping[str, Any]
) -> dict[str, Any]:
    """What `model.json` says of the network, its file and its check."""
    options = job.options
    tools = [] if job.model is None else ["onnx", options.engine]
    tools += ["nncf"] if options.engine == "openvino" and job.learned is not None else []
    about = describe(
        job.net,
        job.architecture,
        paths=[found.path],
        bytes=report.bytes,
        engine=options.engine,
        tools=tools,
        checked=job.inputs,
        difference=found.difference,
        accepted_difference=options.accepted_difference,
        objection=found.objection,
        latency=report.latency,
        classes=classes,
        preparation=preparation,
        segments=job.scheme is not None,
        batch=options.batch,
        any_size=options.any_size,
    )
    return about | {
        "precision": options.precision,
        "task": _describe_task(job.scheme, preparation),
        "exit_weights": list(job.exit_weights),
        "kept_fp32": list(found.kept),
        "calibration": {"int8_inputs": 0 if job.learned is None else len(job.learned)},
        "check": about["check"] | {"max_loss": options.max_loss},
        "metrics": _metrics(job, found),
        "opset": report.opset or None,
    }


def _metrics(job: Job, found: Attempt) -> dict[str, Any] | None:
    if job.judge is None or found.before is None or found.after is None:
        return None
    name, data, split = job.judge.task.metric, job.judge.data, job.judge.split
    return {
        "name": name,
        "before": found.before[name],
        "after": found.after[name],
        "data": data.name,
        "split": split,
        "inputs": data.count(split),
        "all": {"before": found.before, "after": found.after},
    }


def _describe_task(scheme: LabelScheme | None, preparation: Mapping[str, Any]) -> dict[str, Any]:
    """What is predicted; of a segmentation also whether volumes are answered "whole" or in "patches"."""
    if scheme is None:
        return {"kind": "classification"}
    mode = "patches" if preparation.get("box") is None else "whole"
    return {"kind": "segmentation", "scheme": scheme.to_dict(), "mode": mode}
