"""The ONNX files of exported networks, opened without PyTorch: what they say of themselves, and how they are run."""

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onceforall.errors import UserError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["FORMAT", "INPUT", "open_exported", "open_session", "read_onnx_info", "require"]

FORMAT = "onceforall-onnx-2"
INPUT = "images"


def require(*packages: str) -> None:
    """Raise `UserError` where one of these packages of the extra `export` is missing."""
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"ONNX files need the package {name}: pip install 'onceforall[export]'.") from error


def open_session(data: bytes, name: str, threads: int) -> "onnxruntime.InferenceSession":
    """The network in the bytes of a file, ready to run on so many threads of the processor (0: one for each core).

    Raises `UserError`, naming the file, for bytes that are no such network.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors  # pyright: ignore[reportAttributeAccessIssue]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf) as error:
        raise UserError(f"{name} is no ONNX file that onnxruntime can run: {str(error).splitlines()[0]}") from error


def open_exported(path: Path, threads: int = 0) -> tuple["onnxruntime.InferenceSession", dict[str, Any]]:
    """An exported network ready to run, and what its file says; see `open_session` and `read_onnx_info`."""
    require("onnxruntime")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file.")
    session = open_session(path.read_bytes(), str(path), threads)
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        info = {key: json.loads(text) for key, text in metadata.items()}
        known = info["format"] == FORMAT
    except (json.JSONDecodeError, KeyError):
        known = False
    if not known:
        raise UserError(f"{path} is an ONNX file, but none that this version of the package wrote.")
    return session, info | {"outputs": [output.name for output in session.get_outputs()]}


def read_onnx_info(path: Path) -> dict[str, Any]:
    """What a file that `export` wrote says of itself; of the extra's packages it needs onnxruntime only.

    Keys: format, classes, task (kind; of a segmentation also scheme and mode), input (name, channels, size),
    preparation, exit_weights (one for each output), architecture, facts, check, outputs (names).
    Raises `UserError`, naming the file, where it is missing, damaged or of another origin.
    """
    return open_exported(path)[1]
