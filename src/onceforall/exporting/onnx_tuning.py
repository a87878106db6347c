"""An ONNX graph in the form that onnxruntime runs fastest."""

from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    import onnx

__all__ = ["tuned_for_onnxruntime"]

POINTWISE = ("HardSigmoid", "HardSwish", "Relu")


def tuned_for_onnxruntime(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same function, with 1x1 convolutions where linear layers read the means of maps.

    Squeeze-excitation and the head are written as means over maps, linear layers and a reshape. onnxruntime holds maps
    in blocks of channels, which convolutions and global pooling read as they are; for a mean and a linear layer it
    rearranges them and back again: up to 8 % of the time of an OFA-MobileNetV3 on one thread. OpenVINO, which
    is as fast or faster with linear layers, gets the graph as it was.
    """
    import onnx

    out = onnx.ModelProto()
    out.CopyFrom(model)
    tuner = _Tuner(out.graph)
    for node in list(model.graph.node):
        tuner.add(node)
    tuner.finish()
    return out


@final
class _Tuner:
    """Rewrites a graph node by node.

    Values in `pooled` were (N, channels) and now are (N, channels, 1, 1).
    """

    def __init__(self, graph: "onnx.GraphProto") -> None:
        self.graph = graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.pooled: set[str] = set()
        self.renamed: dict[str, str] = {}  # values that another one took the place of
        self.flat: dict[str, str] = {}  # pooled values that something reads as rows

    def add(self, old: "onnx.NodeProto") -> None:
        """Take over a node in its old form or its new one."""
        import onnx

        node = onnx.NodeProto()
        node.CopyFrom(old)
        [read, *_], [made, *_] = node.input or [""], node.output
        if self._is_mean_over_maps(node):
            self._replace(node, onnx.helper.make_node("GlobalAveragePool", [read], [made]))
        elif read in self.pooled and self._is_linear(node):
            self._replace(node, self._convolution(node))
        elif read in self.pooled and node.op_type in POINTWISE:
            self._replace(node, node)
        elif read in self.pooled and self._is_to_maps(node):
            self.renamed[made] = read
        else:
            node.input[:] = [self._as_read(name) for name in node.input]
            self.nodes.append(node)

    def finish(self) -> None:
        """Put the new nodes into the graph; outputs keep their names and shapes."""
        import onnx

        graph = self.graph
        for output in graph.output:
            if output.name in self.pooled:
                inner = f"{output.name}_maps"
                for node in self.nodes:
                    for names in (node.input, node.output):
                        names[:] = [inner if name == output.name else name for name in names]
                self.nodes.append(onnx.helper.make_node("Flatten", [inner], [output.name], axis=1))
        read = {name for node in self.nodes for name in node.input}
        shapes = [value for value in graph.value_info if value.name in read - self.pooled - set(self.constants)]
        constants = [tensor for tensor in graph.initializer if tensor.name in read]
        for field, items in (("node", self.nodes), ("value_info", shapes), ("initializer", constants)):
            graph.ClearField(field)
            getattr(graph, field).extend(items)

    # -- what a node is

    def _is_mean_over_maps(self, node: "onnx.NodeProto") -> bool:
        """Whether it makes (N, channels) of (N, channels, height, width)."""
        if node.op_type != "ReduceMean" or len(node.input) < 2 or _attributes(node).get("keepdims", 1):
            return False
        return self._values(node.input[1]) == [2, 3]

    def _is_linear(self, node: "onnx.NodeProto") -> bool:
        """Whether it is a linear layer with weights of its own."""
        factors = [_attributes(node).get(name, 1) for name in ("alpha", "beta")]
        return node.op_type == "Gemm" and node.input[1] in self.constants and factors == [1, 1]

    def _is_to_maps(self, node: "onnx.NodeProto") -> bool:
        """Whether it makes (N, channels, 1, 1) of (N, channels)."""
        shape = self._values(node.input[1]) if node.op_type == "Reshape" else []
        return len(shape) == 4 and shape[2:] == [1, 1]

    def _values(self, name: str) -> list[int]:
        import onnx

        return onnx.numpy_helper.to_array(self.constants[name]).tolist() if name in self.constants else []

    # -- what it becomes

    def _replace(self, old: "onnx.NodeProto", new: "onnx.NodeProto") -> None:
        new.name = old.name
        self.nodes.append(new)
        self.pooled.add(new.output[0])

    def _convolution(self, node: "onnx.NodeProto") -> "onnx.NodeProto":
        """The linear layer as a convolution; its weights stay under their name, in four axes."""
        import onnx

        tensor = self.constants[node.input[1]]
        weight = onnx.numpy_helper.to_array(tensor)  # (out, in), or (in, out) where it is not to be transposed
        if weight.ndim == 2:
            weight = weight if _attributes(node).get("transB", 0) else weight.T
            tensor.CopyFrom(onnx.numpy_helper.from_array(weight[:, :, None, None].copy(), tensor.name))
        return onnx.helper.make_node("Conv", node.input, node.output, kernel_shape=[1, 1])

    def _as_read(self, name: str) -> str:
        """The name under which a value has the axes that nodes in their old form read."""
        import onnx

        if name not in self.pooled:
            return self.renamed.get(name, name)
        if name not in self.flat:
            self.flat[name] = f"{name}_rows"
            self.nodes.append(onnx.helper.make_node("Flatten", [name], [self.flat[name]], axis=1))
        return self.flat[name]


def _attributes(node: "onnx.NodeProto") -> dict[str, Any]:
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
