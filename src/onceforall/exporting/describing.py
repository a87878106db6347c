"""What `model.json` says of a bundle, whatever its format and number of parts."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from onceforall.architecture import Architecture
from onceforall.bundles import INPUT
from onceforall.evaluation.environment import version
from onceforall.exporting.bundle_writing import requirements
from onceforall.exporting.verifying import Difference
from onceforall.supernets.supernet import Supernet

__all__ = ["describe"]


def describe(
    net: Supernet,
    architecture: Architecture,
    *,
    paths: Sequence[Path],
    bytes: int,
    engine: str,
    tools: Iterable[str],
    checked: Tensor,
    difference: Difference,
    accepted_difference: float,
    objection: str | None,
    latency: Mapping[str, Any],
    classes: Sequence[str],
    preparation: Mapping[str, Any],
    segments: bool = False,
    batch: int | None = None,
    any_size: bool = False,
) -> dict[str, Any]:
    """The entries that every bundle has.

    Of a network in one file, in float32, that classifies: any other overwrites `thresholds`, `task`, `exit_weights`,
    `precision`, `kept_fp32` or `calibration`, and adds `metrics` and `facts`.

    Args:
        net: the network in PyTorch, from `plain_copy`.
        architecture: of it.
        paths: the files that are opened, in the order in which they run.
        bytes: of all files of the model.
        engine: what runs them.
        tools: packages that made them, beside this one and PyTorch.
        checked: (N, channels, ...) the inputs on which the files were compared.
        difference: of their answers to those of PyTorch.
        accepted_difference: of a logit, as a part of the largest.
        objection: why the bundle is not accepted; None where it is.
        latency: what `latencies` measured.
        classes: names of the outputs.
        preparation: how inputs are prepared.
        segments: whether it segments.
        batch: how many inputs at once; None for any number.
        any_size: whether larger inputs than those it was compared on are answered.
    """
    cost = net.measure(architecture)
    channels, *size = checked.shape[1:]
    return {
        "engine": engine,
        "precision": "fp32",
        "parts": [path.name for path in paths],
        "thresholds": [],
        "classes": list(classes),
        "task": {"kind": "classification"},
        "input": {"name": INPUT, "channels": channels, "size": size, "batch": batch, "any_size": any_size},
        "preparation": preparation,
        "exit_weights": [1.0],
        "architecture": architecture.to_dict(),
        "architecture_text": str(architecture),
        "cost": {"params": cost.params, "macs": cost.macs},
        "kept_fp32": [],
        "calibration": {"int8_inputs": 0},
        "check": {
            "inputs": len(checked),
            "max_difference": difference.largest,
            "scale": difference.scale,
            "relative": difference.relative,
            "agreement": difference.agreement,
            "accepted_difference": accepted_difference,
            "max_loss": None,
        },
        "accepted": objection is None,
        "objection": objection,
        "metrics": None,
        "latency": latency,
        "bytes": bytes,
        "opset": None,
        "versions": {name: version(name) for name in ("onceforall", "torch", *tools)},
        "requirements": requirements(engine, segments, preparation),
    }
