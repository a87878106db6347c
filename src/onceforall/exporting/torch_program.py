"""A network as a program of `torch.export`, for software that brings PyTorch and not this package."""

from collections.abc import Sequence
from pathlib import Path

import torch

from onceforall.bundles import ANSWER, INPUT, Part, Values
from onceforall.errors import UserError
from onceforall.exporting.onnx_model import quiet_tracing
from onceforall.supernets.supernet import Supernet

__all__ = ["open_program", "write_program"]


def write_program(net: Supernet, shape: Sequence[int], path: Path, batch: int | None = None) -> None:
    """Write the network for inputs (batch, *shape); the example input that the file holds is zeros.

    Args:
        net: in evaluation mode, from `plain_copy`.
        shape: of one input, (channels, *sizes).
        path: of the file; its name ends in ".pt2".
        batch: 1 for a program that takes one input at a time, None for any number.
    """
    example = (torch.zeros(batch or 2, *shape),)
    try:
        with quiet_tracing(), torch.no_grad():
            dynamic = ({0: torch.export.Dim("batch")},)
            program = torch.export.export(net, example, dynamic_shapes=dynamic if batch is None else None)
            for module in program.graph_module.modules():
                for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
                    node.meta.pop("stack_trace", None)  # paths of this machine
            torch.export.save(program, path)
    except (RuntimeError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"the network cannot be written for PyTorch: {reason.strip()}") from error


def open_program(path: Path, names: Sequence[str], batch: int | None) -> Part:
    """The program of a file, run like the parts of a bundle; `names` are those of its outputs."""
    with quiet_tracing():
        network = torch.export.load(path).module()
    assert all(name.startswith(ANSWER) for name in names)

    @torch.inference_mode()
    def run(values: Values) -> dict:
        images = torch.from_numpy(values[INPUT])
        results = [network(part) for part in (images.split(1) if batch == 1 else [images])]
        exits = [result if isinstance(result, tuple) else (result,) for result in results]
        joined = [torch.cat(outputs).numpy() for outputs in zip(*exits, strict=True)]
        return dict(zip(names, joined, strict=True))

    return Part((INPUT,), tuple(names), run)
