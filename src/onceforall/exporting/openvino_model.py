"""Files for OpenVINO, made from the ONNX graph: in float32, with weights in 16 bits, or in 8 bits by NNCF.

NNCF and OpenVINO report what is done with them to their makers where they are not told otherwise. Nothing is reported
from here: both keep silent where the environment says CI, and it does while they work.
"""

import contextlib
import io
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onceforall.bundles import require

if TYPE_CHECKING:
    import onnx
    import openvino

__all__ = ["quantise_openvino", "to_openvino", "write_openvino"]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """No telemetry, no progress bars, no notes; afterwards all as it was."""
    before, logger = os.environ.get("CI"), logging.getLogger("nncf")
    level = logger.level
    os.environ["CI"] = "true"
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


def to_openvino(model: "onnx.ModelProto") -> "openvino.Model":
    """The ONNX model as one of OpenVINO; names and sizes are kept."""
    require("openvino")
    import openvino

    return openvino.Core().read_model(model.SerializeToString())


def write_openvino(model: "openvino.Model", path: Path, half: bool = False) -> None:
    """Write `path` (.xml) and its weights beside it (.bin), these in 16 bits where `half`; computed is in 32."""
    import openvino

    with _silent():
        openvino.save_model(model, path, compress_to_fp16=half)


def quantise_openvino(model: "openvino.Model", images: np.ndarray, keep: Sequence[str] = ()) -> "openvino.Model":
    """The model with its layers in 8 bits, by the ranges of numbers that `images` (N, channels, ...) give.

    Args:
        model: from `to_openvino`.
        images: calibration inputs; all are used.
        keep: layers, by the names of `layer_names`, that stay in float32.
    """
    require("nncf")
    with _silent():
        import nncf

        dataset: Any = nncf.Dataset([np.ascontiguousarray(image[None], np.float32) for image in images])
        # the reader of ONNX splits a layer into its product and its bias; both bear the layer's name
        patterns = [f"{re.escape(name)}(/.*)?" for name in keep]
        return nncf.quantize(
            model,
            dataset,
            subset_size=len(images),
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(patterns=patterns, validate=False) if patterns else None,
        )
