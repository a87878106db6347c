"""Bundles: folders in which an exported network lies with everything that running it needs, opened without PyTorch.

    model.onnx | model.xml + model.bin | model.pt2    the network, in one or more parts
    model.json                                        what it is, how inputs are prepared, how it was checked; checksums
    weights.safetensors                               the weights, from which PyTorch can build the network again
    README.md, front.png, requirements.txt            a model card, its picture, what a device has to install

**Parts** run one after the other. The first reads "images"; each further one reads, by their names, outputs of those
before it. Outputs whose names begin with "logits" are answers. An ordinary network is one part. Of several parts each
gives one answer, and the next one runs only for the inputs of which that answer was not certain (`thresholds`).
"""

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from onceforall.errors import UserError, check_choice

if TYPE_CHECKING:
    import onnxruntime

__all__ = [
    "ABOUT",
    "ANSWER",
    "ENGINES",
    "FORMAT",
    "INPUT",
    "Bundle",
    "Part",
    "checksum",
    "damaged_files",
    "describe",
    "is_bundle",
    "open_bundle",
    "open_part",
    "open_session",
    "read_bundle",
    "require",
    "seal",
]

FORMAT = "onceforall-bundle-1"
ABOUT = "model.json"
INPUT = "images"
ANSWER = "logits"
ENGINES = ("onnxruntime", "openvino", "torch")
KEYS = (
    *("engine", "precision", "parts", "thresholds", "classes", "task", "input", "preparation", "exit_weights"),
    *("architecture", "architecture_text", "cost", "kept_fp32", "check", "accepted", "objection", "metrics"),
    *("latency", "bytes", "requirements", "files"),
)
STORED = {
    "fp32": "float32",
    "fp16": "weights stored in 16 bits, computed with in 32",
    "int8": "weights and activations in 8 bits",
}
EXTRAS = {"openvino": "openvino", "nncf": "openvino"}  # of all others: export

Values = Mapping[str, np.ndarray]


def require(*packages: str) -> None:
    """Raise `UserError`, naming its extra, where one of these packages is missing."""
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            extra = EXTRAS.get(name, "export")
            raise UserError(
                f"this needs the package {name}: pip install 'onceforall[{extra}]', on a device without PyTorch "
                f"pip install {name}."
            ) from error


# -- what a bundle says -------------------------------------------------------------------------------------------


def is_bundle(folder: Path) -> bool:
    """Whether the folder holds a bundle, whole or damaged, of any version of this package."""
    try:
        return json.loads((folder / ABOUT).read_bytes())["format"].startswith("onceforall-bundle")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def read_bundle(folder: Path) -> dict[str, Any]:
    """What `model.json` says, its own checksum compared.

    Raises `UserError`, naming the folder: there is none, it is another format, it was changed.
    """
    path = folder / ABOUT
    if not path.is_file():
        what = "is a file" if folder.is_file() else f"has no {ABOUT}" if folder.is_dir() else "does not exist"
        raise UserError(f"{folder} {what}: give the folder of a bundle, which onceforall export writes.")
    try:
        about = json.loads(path.read_bytes())
        known = about["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged or was not written by onceforall export; export again.") from error
    if known != FORMAT:
        raise UserError(f"{path} has the format {known!r}, this version of the package reads {FORMAT!r}; export again.")
    if about.get("checksum") != _own_checksum(about):
        raise UserError(f"{path} was changed since it was written (its checksum differs); export again.")
    missing = [key for key in KEYS if key not in about]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; export again.")
    check_choice(f"engine of {folder}", about["engine"], ENGINES)
    if len(about["thresholds"]) != len(about["parts"]) - 1:
        raise UserError(f"{path}: {len(about['thresholds'])} thresholds for {len(about['parts'])} parts.")
    for name in (*about["parts"], *about["files"]):
        if Path(name).name != name:
            raise UserError(f"{path} names the file {name!r} outside its folder.")
    return about


def seal(about: Mapping[str, Any]) -> dict[str, Any]:
    """`about`, in JSON types, with its format and its own checksum: the content of `model.json`."""
    out = {"format": FORMAT, **about}
    return out | {"checksum": _own_checksum(out)}


def _own_checksum(about: Mapping[str, Any]) -> str:
    """SHA-256 of all entries but itself, in one spelling."""
    rest = {key: value for key, value in about.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged_files(folder: Path, about: Mapping[str, Any]) -> list[str]:
    """A line for each file of the bundle that is missing or has another content than when it was written."""
    out = []
    for name, expected in about["files"].items():
        path = folder / name
        if not path.is_file():
            out.append(f"{name} is missing")
        elif checksum(path) != expected:
            out.append(f"{name} was changed or damaged (its checksum differs)")
    return out


def describe(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a bundle is, as pairs of a label and a text."""
    size = " x ".join(map(str, about["input"]["size"]))
    batch = about["input"]["batch"]
    out = [
        ("architecture", about["architecture_text"]),
        ("cost", f"{about['cost']['params']} parameters, {about['cost']['macs']} multiply-adds"),
        ("engine", f"{about['engine']}, {about['precision']} ({STORED[about['precision']]})"),
        (
            "input",
            f"{about['input']['channels']} channel(s), {size}, {'one' if batch == 1 else 'any number'} at a time",
        ),
        ("outputs", f"{len(about['classes'])}: {', '.join(about['classes'])}"),
    ]
    if len(about["parts"]) > 1:
        thresholds = ", ".join(f"{number:.3g}" for number in about["thresholds"])
        out.append(("parts", f"{len(about['parts'])}, an answer is final from a certainty of {thresholds}"))
    check, metrics = about["check"], about["metrics"]
    relative = "unknown" if check["relative"] is None else f"{check['relative']:.2g}"
    answers = f"{check['agreement']:.2%} equal answers to {check['inputs']} held-out inputs"
    out.append(("difference to PyTorch", f"{relative} of the largest logit, {answers}"))
    if metrics is not None:
        on = f"{metrics['inputs']} inputs of {metrics['data']}, {metrics['split']}"
        before, after = (_number(metrics[key]) for key in ("before", "after"))
        out.append((metrics["name"], f"{after}, in PyTorch {before}, on {on}"))
    else:
        out.append(("metric", "not measured"))
    if about["kept_fp32"]:
        out.append(("layers kept in float32", ", ".join(about["kept_fp32"])))
    latency = about["latency"]
    if latency is not None:
        own = latency["exported"]
        text = f"{own.get('processor_ms', own['median_ms']):.3g} ms, {own['to_pytorch']:.2f} of PyTorch's time"
        text += f" ({latency['threads']} thread, {latency['processor']})"
        out.append(("latency", text + (", noisy" if own["noisy"] else "")))
    return [*out, ("model files", f"{about['bytes'] / 1e6:.2f} MB")]


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.4f}"


# -- running it ---------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Part:
    """A model file, ready to run.

    Args:
        inputs: names of what it reads.
        outputs: names of what it gives.
        run: arrays by name, (N, ...) float32 each with any N, to outputs by name, (N, ...).
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[[Values], dict[str, np.ndarray]]


@final
@dataclass(frozen=True)
class Bundle:
    """A bundle that was opened: its folder, what it says (`read_bundle`), and its parts in the order they run."""

    folder: Path
    about: dict[str, Any]
    parts: tuple[Part, ...]


def open_bundle(folder: Path, threads: int = 0) -> Bundle:
    """Open a bundle; every file is compared with its checksum first.

    Args:
        folder: of the bundle.
        threads: of the processor; 0: the engine's choice, mostly one for each core.

    Raises `UserError` for another folder, a changed file, and where the engine is not installed or cannot run it.
    """
    about = read_bundle(folder)
    damaged = damaged_files(folder, about)
    if damaged:
        raise UserError(f"{folder}: {'; '.join(damaged)}. Copy the bundle again, or export again.")
    if about["engine"] == "torch":
        part = folder / about["parts"][0]
        raise UserError(
            f"{folder} holds a program for PyTorch, which prediction does not run: open it with "
            f"torch.export.load({str(part)!r}), or export with --format onnx."
        )
    return Bundle(folder, about, tuple(open_part(folder / name, about["engine"], threads) for name in about["parts"]))


def open_part(path: Path, engine: str, threads: int = 0) -> Part:
    """One model file on "onnxruntime" or "openvino"; see `open_bundle`.

    OpenVINO computes in float32 what the file does not say to be computed in 8 bits: by itself it would choose
    bfloat16 on processors that have it, and the answers would not be those that were checked.
    """
    return _open_openvino(path, threads) if engine == "openvino" else _open_onnx(path, threads)


def _open_onnx(path: Path, threads: int) -> Part:
    session = open_session(path.read_bytes(), str(path), threads)
    inputs = tuple(entry.name for entry in session.get_inputs())
    outputs = tuple(entry.name for entry in session.get_outputs())
    batch = session.get_inputs()[0].shape[0]

    def run(values: Values) -> dict[str, np.ndarray]:
        given = {name: np.ascontiguousarray(values[name], np.float32) for name in inputs}
        return dict(zip(outputs, map(np.asarray, session.run(None, given)), strict=True))

    return Part(inputs, outputs, _one_by_one(run) if batch == 1 else run)


def open_session(data: bytes, name: str, threads: int) -> "onnxruntime.InferenceSession":
    """The network in the bytes of an ONNX file, ready to run on so many threads of the processor (0: all cores).

    Raises `UserError`, naming the file, for bytes that are no such network, or one that this version cannot run.
    """
    require("onnxruntime")
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors  # pyright: ignore[reportAttributeAccessIssue]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    unfit = (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf, errors.NotImplemented)
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except unfit as error:
        reason = str(error).splitlines()[0]
        version = onnxruntime.__version__
        raise UserError(f"{name} is no ONNX file that onnxruntime {version} can run: {reason}") from error


def _open_openvino(path: Path, threads: int) -> Part:
    require("openvino")
    import openvino

    core = openvino.Core()
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    try:
        network = core.compile_model(core.read_model(path), "CPU", config)
    except RuntimeError as error:
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), "")
        raise UserError(f"{path} is no file that OpenVINO {openvino.__version__} can run: {reason.strip()}") from error
    inputs = tuple(entry.get_any_name() for entry in network.inputs)
    outputs = tuple(entry.get_any_name() for entry in network.outputs)
    batch = network.inputs[0].partial_shape[0]

    def run(values: Values) -> dict[str, np.ndarray]:
        results = network({name: np.ascontiguousarray(values[name], np.float32) for name in inputs})
        return {name: np.array(results[i]) for i, name in enumerate(outputs)}  # copies: the engine reuses its memory

    return Part(inputs, outputs, _one_by_one(run) if batch.is_static and batch.get_length() == 1 else run)


def _one_by_one(run: Callable[[Values], dict[str, np.ndarray]]) -> Callable[[Values], dict[str, np.ndarray]]:
    """`run` for any number of inputs where the file takes one at a time."""

    def each(values: Values) -> dict[str, np.ndarray]:
        count = len(next(iter(values.values())))
        results = [run({name: array[i : i + 1] for name, array in values.items()}) for i in range(count)]
        return _joined(results)

    return each


def _joined(results: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}
