"""What a run saves: networks as safetensors files, and the state from which it resumes.

Nothing is ever unpickled. Every file is written under another name and renamed into place; the state before the last
is kept, so that a file that a machine's crash truncated costs one interval of work and not the run.
"""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from onceforall.errors import UserError
from onceforall.files import write_atomically
from onceforall.search_space import SearchSpace
from onceforall.supernets.registry import NETWORK_CLASSES
from onceforall.supernets.supernet import Supernet

__all__ = ["described_network", "load_into", "load_network", "read_info", "read_state", "save_network", "write_state"]

STATE = "resume.pt"
PREVIOUS_STATE = "resume.previous.pt"


# -- networks -----------------------------------------------------------------------------------------------------


def save_network(network: Supernet, path: Path, info: Mapping[str, Any]) -> None:
    """Write the network's tensors, and what is needed to build it again, as one safetensors file.

    `info` is anything JSON can hold that the reader should know (phase, metrics); `read_info` returns it.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    metadata = {
        "network": type(network).__name__,
        "options": json.dumps(network.options),
        "space": json.dumps(network.space.to_dict()),
        "info": json.dumps(dict(info)),
    }
    data = save(tensors, metadata)
    write_atomically(path, lambda file: file.write(data))


def read_info(path: Path) -> dict[str, Any]:
    """The `info` with which a network was saved."""
    return json.loads(_metadata(path)["info"])


def load_network(path: Path, network_class: type[Supernet] | None = None) -> Supernet:
    """The network of a file that `save_network` wrote, in evaluation mode on the CPU.

    `network_class` is needed only for a class that is not in `NETWORK_CLASSES`.
    Raises `UserError`, naming the file, where it is missing, truncated or of another kind.
    """
    network = _built(path, network_class)
    load_into(network, path)
    return network.eval()


def described_network(path: Path) -> Supernet:
    """The network of a file without its weights, to measure with; its tensors have no values."""
    with torch.device("meta"):
        return _built(path, None)


def _built(path: Path, network_class: type[Supernet] | None) -> Supernet:
    """The network that a file describes; its weights are not read."""
    metadata = _metadata(path)
    classes = NETWORK_CLASSES if network_class is None else {network_class.__name__: network_class}
    if metadata["network"] not in classes:
        known = ", ".join(sorted(classes))
        raise UserError(
            f"{path} holds a network of class {metadata['network']!r}, which is not known; known are {known}."
        )
    space = SearchSpace.from_dict(json.loads(metadata["space"]))
    return classes[metadata["network"]](space, **json.loads(metadata["options"]))


def load_into(network: Supernet, path: Path) -> None:
    """Copy the tensors of a saved network into `network`, which must have the same ones."""
    metadata = _metadata(path)
    if SearchSpace.from_dict(json.loads(metadata["space"])) != network.space:
        raise UserError(f"{path} was saved for another search space; load it with load_network.")
    tensors = load_file(path)
    dtype = next(iter(tensors.values())).dtype
    network.to(dtype).load_state_dict(tensors)


def _metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no network file, or it is truncated ({error}).") from error
    if not metadata or not {"network", "options", "space", "info"} <= set(metadata):
        raise UserError(f"{path} is a safetensors file, but none that this package wrote.")
    return metadata


# -- the state of a run -------------------------------------------------------------------------------------------


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the run's state; the one before stays beside it."""
    current, previous = folder / STATE, folder / PREVIOUS_STATE
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    if current.exists():
        link = folder / f".{PREVIOUS_STATE}.{os.getpid()}.part"
        link.unlink(missing_ok=True)
        try:
            os.link(current, link)
            os.replace(link, previous)
        except OSError:  # a file system without hard links
            data = current.read_bytes()
            write_atomically(previous, lambda file: file.write(data))
    write_atomically(current, lambda file: file.write(buffer.getbuffer()))


def read_state(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The newest readable state, None where none was written yet, and a notice where it is not the last one.

    Raises `UserError` where a file holds code instead of numbers, and where no file of several is readable.
    """
    notice = ""
    for path in (folder / STATE, folder / PREVIOUS_STATE):
        if not path.is_file():
            continue
        try:
            return _parse_state(path), notice
        except pickle.UnpicklingError as error:
            raise UserError(f"{path} holds something else than tensors and numbers, and was not opened.") from error
        except (RuntimeError, EOFError, zipfile.BadZipFile, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            notice = f"{path} is truncated or damaged ({reason[:80]}); going on from the state before it."
    if notice:
        raise UserError(f"{folder}: no readable state to resume from. {notice}")
    return None, notice


def _parse_state(path: Path) -> dict[str, Any]:
    """The state in a file; nothing but tensors and plain values is accepted, and every byte is checked."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"wrong checksum of {damaged}")
    return torch.load(path, map_location="cpu", weights_only=True)
