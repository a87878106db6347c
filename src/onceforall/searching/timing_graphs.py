"""A sub-network as an ONNX graph for timing, in a fraction of the time that `export` takes.

`export` traces symbolically, optimises and checks: seconds for each network, and a latency table needs hundreds. Here
the operations of one real pass are noted as they happen and written down one for one; the engine folds and fuses them
itself. Shapes are fixed, batch included, as in a file for a device. The graph computes what the network computes, so
the engine can be checked on it, but it is not made to be kept: `export` is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from onceforall.architecture import Architecture
from onceforall.bundles import INPUT, require
from onceforall.errors import UserError
from onceforall.exporting.onnx_tuning import tuned_for_onnxruntime
from onceforall.supernets.supernet import Supernet

if TYPE_CHECKING:
    import onnx

__all__ = ["input_shape", "timing_graph"]

OPSET = 20


def input_shape(supernet: Supernet, architecture: Architecture, batch: int = 1) -> tuple[int, ...]:
    """(batch, channels, *sizes) of what the architecture reads."""
    side, axes = architecture.resolution, supernet.options.get("spatial_dims", 2)
    return (batch, supernet.options["in_channels"], *((side,) * axes if isinstance(side, int) else side))


def timing_graph(supernet: Supernet, architecture: Architecture, batch: int = 1, engine: str = "onnxruntime") -> bytes:
    """The ONNX file, as bytes, of `architecture` with the weights it has in `supernet`, for `batch` inputs in float32.

    It is in the form that `engine`, "onnxruntime" or "openvino", gets in an export.

    Raises `UserError`, naming it, for an operation that has no row in `WRITERS`.
    """
    require("onnx")
    import onnx

    net = supernet.subnet(architecture).to("cpu", torch.float32).eval()
    x = torch.zeros(input_shape(supernet, architecture, batch))
    recorder = _Recorder()
    recorder.names[id(x)] = INPUT
    recorder.kept.append(x)
    with torch.no_grad(), recorder:
        outputs = net(x)
    results = outputs if isinstance(outputs, tuple) else (outputs,)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        recorder.nodes,
        "network",
        [value(INPUT, onnx.TensorProto.FLOAT, list(x.shape))],
        [value(recorder.name(result), onnx.TensorProto.FLOAT, list(result.shape)) for result in results],
        recorder.constants,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=10)
    return (tuned_for_onnxruntime(model) if engine == "onnxruntime" else model).SerializeToString()


@final
class _Recorder(TorchDispatchMode):
    """Writes each operation that passes as a node."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here; the default imports the compiler, which takes seconds

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.names: dict[int, str] = {}
        self.kept: list[Tensor] = []  # so that no two tensors have one id

    def name(self, tensor: Tensor) -> str:
        """The name of a tensor in the graph; one that no operation made becomes a constant."""
        if id(tensor) not in self.names:
            self.names[id(tensor)] = self.constant(tensor.detach().contiguous().numpy())
            self.kept.append(tensor)
        return self.names[id(tensor)]

    def constant(self, values: Any) -> str:
        """The name of a new constant with these `values`, a numpy array."""
        import onnx

        self.constants.append(onnx.numpy_helper.from_array(values, f"constant_{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, operation: str, inputs: Sequence[str], result: Tensor, **attributes: Any) -> None:
        """A node that makes `result`."""
        import onnx

        self.names[id(result)] = f"value_{len(self.kept)}"
        self.kept.append(result)
        self.nodes.append(onnx.helper.make_node(operation, list(inputs), [self.names[id(result)]], **attributes))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.").partition(".")[0]
        with _disable_current_modes():
            if name in SAME:
                self.names[id(out)] = self.name(args[0])
                self.kept.append(out)
            elif name in WRITERS:
                WRITERS[name](self, out, *args, **(kwargs or {}))
            elif name not in IGNORED:
                raise UserError(f"the operation {name!r} of this network cannot be written for timing; use pytorch.")
        return out


# -- one writer for each operation ------------------------------------------------------------------------------------


def _simple(operation: str, **attributes: Any) -> Callable[..., None]:
    def write(to: _Recorder, out: Tensor, *inputs: Any) -> None:
        to.add(operation, [to.name(tensor) for tensor in inputs if isinstance(tensor, Tensor)], out, **attributes)

    return write


def _convolution(to: _Recorder, out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> None:
    stride, padding, dilation, _, _, groups = rest
    axes = x.ndim - 2
    pads = (list(padding) if len(padding) == axes else list(padding) * axes) * 2
    strides = list(stride) if len(stride) == axes else list(stride) * axes
    dilations = list(dilation) if len(dilation) == axes else list(dilation) * axes
    inputs = [to.name(tensor) for tensor in (x, weight, bias) if tensor is not None]
    shape = list(weight.shape[2:])
    to.add("Conv", inputs, out, kernel_shape=shape, pads=pads, strides=strides, dilations=dilations, group=groups)


def _batch_norm(to: _Recorder, out: tuple[Tensor, ...], *given: Any) -> None:
    *tensors, training, _, epsilon = given
    x, scale, shift, mean, variance = tensors
    assert not training
    to.add("BatchNormalization", [to.name(t) for t in (x, scale, shift, mean, variance)], out[0], epsilon=epsilon)


def _mean(to: _Recorder, out: Tensor, x: Tensor, axes: Sequence[int], keepdim: bool = False) -> None:
    positions = to.constant(torch.tensor(list(axes)).numpy())
    to.add("ReduceMean", [to.name(x), positions], out, keepdims=int(keepdim))


def _linear(to: _Recorder, out: Tensor, bias: Tensor, x: Tensor, weight: Tensor) -> None:
    to.add("Gemm", [to.name(tensor) for tensor in (x, weight, bias)], out)


def _reshape(to: _Recorder, out: Tensor, x: Tensor, *_: Any) -> None:
    to.add("Reshape", [to.name(x), to.constant(torch.tensor(list(out.shape)).numpy())], out)


def _transpose(to: _Recorder, out: Tensor, x: Tensor) -> None:
    if id(x) in to.names:
        to.add("Transpose", [to.name(x)], out, perm=[1, 0])
    else:
        to.name(out)  # a weight: stored as it is read


def _concatenate(to: _Recorder, out: Tensor, inputs: Sequence[Tensor], axis: int = 0) -> None:
    to.add("Concat", [to.name(tensor) for tensor in inputs], out, axis=axis)


def _pad(to: _Recorder, out: Tensor, x: Tensor, pads: Sequence[int], value: float = 0.0) -> None:
    pairs = [(0, 0)] * (x.ndim - len(pads) // 2) + list(zip(pads[0::2], pads[1::2], strict=True))[::-1]
    ends = [before for before, _ in pairs] + [after for _, after in pairs]
    filled = to.constant(torch.tensor(value, dtype=x.dtype).numpy())
    to.add("Pad", [to.name(x), to.constant(torch.tensor(ends).numpy()), filled], out)


def _max_pool(to: _Recorder, out: tuple[Tensor, Tensor], x: Tensor, size: Sequence[int], *rest: Any) -> None:
    given: tuple[Any, ...] = (*rest, *((), (0,), (1,), False)[len(rest) :])
    stride, padding, _, ceil_mode = given
    axes = x.ndim - 2
    sizes, pads = list(size) * (axes // len(size)), list(padding) * (axes // len(padding)) * 2
    strides = list(stride) * (axes // len(stride)) if stride else sizes
    to.add("MaxPool", [to.name(x)], out[0], kernel_shape=sizes, strides=strides, pads=pads, ceil_mode=int(ceil_mode))


def _upsample(to: _Recorder, out: Tensor, x: Tensor, *_: Any) -> None:
    scales = torch.tensor([new / old for new, old in zip(out.shape, x.shape, strict=True)], dtype=torch.float32)
    inputs = [to.name(x), "", to.constant(scales.numpy())]
    to.add("Resize", inputs, out, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


SAME = ("clone", "_to_copy", "detach", "alias", "contiguous", "lift_fresh")
"""Operations that leave the values as they are."""

IGNORED = ("empty", "empty_like", "slice", "select", "view_as", "zeros", "scalar_tensor", "arange")
"""Operations on weights, which become constants in the form in which they are read."""

WRITERS: dict[str, Callable[..., None]] = {
    "convolution": _convolution,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "relu": _simple("Relu"),
    "hardswish": _simple("HardSwish"),
    "hardsigmoid": _simple("HardSigmoid", alpha=1 / 6),
    "add": _simple("Add"),
    "add_": _simple("Add"),
    "mul": _simple("Mul"),
    "mean": _mean,
    "addmm": _linear,
    "mm": _simple("MatMul"),
    "t": _transpose,
    "view": _reshape,
    "_unsafe_view": _reshape,
    "cat": _concatenate,
    "constant_pad_nd": _pad,
    "max_pool2d_with_indices": _max_pool,
    "max_pool3d_with_indices": _max_pool,
    "upsample_nearest2d": _upsample,
    "upsample_nearest3d": _upsample,
}
