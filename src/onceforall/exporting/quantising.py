"""Layers in 8 bits: ONNX files by ONNX Runtime's post-training quantisation, and which layers better stay in 32.

Activations are unsigned 8-bit numbers with a range for each tensor, learned from calibration inputs; weights are signed
with a range for each output channel. Layers are named as in PyTorch.
"""

import fnmatch
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from onceforall.bundles import INPUT, open_part
from onceforall.errors import UserError, suggestion
from onceforall.exporting.onnx_model import WEIGHTED

if TYPE_CHECKING:
    import onnx

__all__ = ["layer_names", "layers_to_keep", "most_harmed", "named_layers", "quantise_onnx"]

SHARES = (1 / 8, 1 / 4, 1 / 2)  # of the layers that stay in float32, if the first and the last are not enough
JUDGED_INPUTS = 8  # on which the harm of a single layer is measured


def layer_names(model: "onnx.ModelProto") -> list[str]:
    """Names of the layers that can be computed in 8 bits, in the order in which they run."""
    return [node.name for node in model.graph.node if node.op_type in WEIGHTED]


def named_layers(model: "onnx.ModelProto", patterns: Sequence[str]) -> tuple[str, ...]:
    """The layers that `patterns` name, with * for any letters; `UserError` for a pattern that names none."""
    names = layer_names(model)
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = fnmatch.filter(names, pattern)
        if not matches:
            listed = ", ".join(names)
            raise UserError(f"no layer is called {pattern!r}.{suggestion(pattern, names)} There are: {listed}.")
        found |= dict.fromkeys(matches)
    return tuple(name for name in names if name in found)


def layers_to_keep(model: "onnx.ModelProto", asked: Sequence[str], images: np.ndarray) -> Iterator[tuple[str, ...]]:
    """Which layers to keep in float32, one attempt after the other, each with more of them.

    First those that were asked for alone; then with the first layer and the last, which see the image and decide; then
    with the eighth, the quarter and the half of all layers that harm the answers to `images` most when they alone are
    in 8 bits (`most_harmed`).
    """
    names = layer_names(model)
    kept = set(asked)
    yield tuple(asked)
    ends = {names[0], names[-1]}
    if not ends <= kept:
        kept |= ends
        yield tuple(name for name in names if name in kept)
    ordered = most_harmed(model, [name for name in names if name not in kept], images)
    for share in SHARES:
        wanted = kept | set(ordered[: round(share * len(names))])
        if wanted != kept:
            kept = wanted
            yield tuple(name for name in names if name in kept)


def most_harmed(model: "onnx.ModelProto", names: Sequence[str], images: np.ndarray) -> list[str]:
    """`names`, the layer first that changes the answers most when it alone is computed in 8 bits."""
    images = images[:JUDGED_INPUTS]
    exact = _answers(model, images)
    harm = {}
    for name in names:
        alone = quantise_onnx(model, images, only=[name])
        harm[name] = float(np.abs(_answers(alone, images) - exact).mean())
    return sorted(names, key=lambda name: -harm[name])


def _answers(model: "onnx.ModelProto", images: np.ndarray) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        part = open_part(path, "onnxruntime", 1)
    return np.concatenate([output.reshape(len(images), -1) for output in part.run({INPUT: images}).values()], axis=1)


def quantise_onnx(
    model: "onnx.ModelProto", images: np.ndarray, keep: Sequence[str] = (), only: Sequence[str] | None = None
) -> "onnx.ModelProto":
    """The model with its layers in 8 bits, by the ranges of numbers that `images` (N, channels, ...) give.

    Args:
        model: from `to_onnx`; it is not changed.
        images: calibration inputs.
        keep: layers that stay in float32.
        only: layers that are computed in 8 bits, instead of all.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    @final
    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {INPUT: np.ascontiguousarray(image[None], np.float32)}

    with tempfile.TemporaryDirectory() as folder:
        source, prepared, written = (Path(folder) / f"{name}.onnx" for name in ("source", "prepared", "int8"))
        source.write_bytes(model.SerializeToString())
        # symbolic shapes cannot be inferred for volumes, and are not needed for images
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(written),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=None if only is None else list(WEIGHTED),
            nodes_to_exclude=list(keep),
            nodes_to_quantize=None if only is None else list(only),
        )
        return onnx.load(str(written))
