"""What kind of file an export writes, and what is accepted of it, as a value."""

import math
from dataclasses import dataclass
from typing import final

from onceforall.bundles import require
from onceforall.errors import UserError, check_choice

__all__ = ["ENGINES_OF", "PRECISIONS", "ExportOptions"]

PRECISIONS = {"onnx": ("fp32", "fp16", "int8"), "openvino": ("fp32", "fp16", "int8"), "torch": ("fp32",)}
"""Formats, each with its precisions. fp16: weights are stored in 16 bits and computed with in 32."""
ENGINES_OF = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
NEEDS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "torch": (),
}
TOLERANCES = {"fp32": 1e-3, "fp16": 1e-2, "int8": math.inf}


@final
@dataclass(frozen=True)
class ExportOptions:
    """How a network is exported.

    Args:
        format: "onnx", "openvino" (made from the ONNX graph) or "torch" (a program of `torch.export`).
        precision: "fp32", "fp16" or "int8"; see `PRECISIONS`.
        batch: None for any number of inputs at once, 1 for one at a time, which some devices run faster.
        any_size: whether the file also takes other sizes than the architecture's resolution, where the network does.
        opset: version of the ONNX operators; the exporter's choice by default.
        keep_fp32: layers that int8 leaves in float32, with * for any letters.
        tolerance: largest difference of a logit that is accepted, as a part of the largest logit; by default 1e-3 in
            fp32, 1e-2 in fp16, and any in int8, which the metric judges.
        max_loss: by how much the metric may be worse than in PyTorch.
        force: accept what fails the check.

    Raises `UserError` for values that are not known or do not go together.
    """

    format: str = "onnx"
    precision: str = "fp32"
    batch: int | None = None
    any_size: bool = False
    opset: int | None = None
    keep_fp32: tuple[str, ...] = ()
    tolerance: float | None = None
    max_loss: float = 0.005
    force: bool = False

    def __post_init__(self) -> None:
        check_choice("format", self.format, PRECISIONS)
        check_choice(f"precision of {self.format}", self.precision, PRECISIONS[self.format])
        check_choice("batch", self.batch, (None, 1))
        if self.keep_fp32 and self.precision != "int8":
            raise UserError(f"keep_fp32 goes with int8; in {self.precision} every layer is computed in float32.")
        if self.format == "torch" and (self.opset is not None or self.any_size):
            raise UserError("opset and any_size go with the formats 'onnx' and 'openvino'.")
        if not self.max_loss >= 0 or not (self.tolerance is None or self.tolerance >= 0):
            raise UserError(f"max_loss {self.max_loss!r}, tolerance {self.tolerance!r}: must be 0 or more.")

    @property
    def engine(self) -> str:
        """What runs the file."""
        return ENGINES_OF[self.format]

    @property
    def accepted_difference(self) -> float:
        """The tolerance that counts."""
        return TOLERANCES[self.precision] if self.tolerance is None else self.tolerance

    def check_installed(self) -> None:
        """Raise `UserError`, naming the extra, where a package is missing."""
        needs = NEEDS[self.format]
        require(*needs, *(("nncf",) if (self.format, self.precision) == ("openvino", "int8") else ()))
