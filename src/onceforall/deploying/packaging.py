"""One archive of a run's whole family of networks, without data, names of files or paths; see `families`."""

import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from onceforall.errors import UserError
from onceforall.evaluation.environment import version
from onceforall.evaluation.result_cache import digest_of_weights
from onceforall.evaluation.results import RESULTS, format_count, json_types
from onceforall.families import ABOUT, FORMAT, MODELS
from onceforall.files import write_atomically
from onceforall.runs import find_weights, read_run
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import load_network, save_network
from onceforall.training.records import SETTINGS, SPLITS

__all__ = ["Packaged", "package_run"]

DATA = (  # what is told of the data: nothing of single files, subjects or folders
    *("name", "classes", "scheme", "mode", "counts", "counts_per_class", "channels", "bit_depth", "stored_size"),
    *("fingerprint", "preparation", "augmentation"),
)
RUN = ("phases", "options", "network", "planned", "verdicts")
PATHS = re.compile(r"^(/|~|\.{1,2}/|[A-Za-z]:[\\/]|\\\\|[a-z]+://)")
FILES = ("weights", "teacher", "start_teacher", "source")  # fields of recipe and phases that may name a file
DATE = (1980, 1, 1, 0, 0, 0)  # of all files: when the archive was made says nothing


@final
@dataclass(frozen=True)
class Packaged:
    """An archive that was written.

    Args:
        path: the file.
        bytes: its size.
        files: names of what it holds.
        predictor: whether a predictor of the metric is among it.
        latency_tables: names of latency tables.
        note: what was left out, and why; empty where nothing was.
    """

    path: Path
    bytes: int
    files: tuple[str, ...]
    predictor: bool
    latency_tables: tuple[str, ...]
    note: str


def package_run(folder: Path, out: Path, *, phase: str | None = None, latency_tables: Sequence[Path] = ()) -> Packaged:
    """Write the family of a run as one archive; the run's data are not needed.

    Args:
        folder: the run directory.
        out: the archive, a `.zip` file. It is written whole or not at all.
        phase: weights after this phase; the newest by default.
        latency_tables: files of `onceforall latency build`, to go with it.

    Raises `UserError` for a run without weights, a predictor that was fitted to other weights, and what is no
    latency table.
    """
    if out.suffix != ".zip":
        raise UserError(f"{out}: give the archive a name that ends in .zip.")
    described, recipe = read_run(folder)
    phase, weights = find_weights(folder, described, phase)
    supernet = load_network(weights)
    files: dict[str, bytes] = {SETTINGS: _as_json(_run(described, recipe.to_dict()))}
    name = f"checkpoints/{weights.name}"
    files[name] = _saved(supernet, phase)
    about = _about(described, recipe.name, phase, supernet) | {"weights": name}
    predictor, note = _predictor(folder / "search" / "predictor.json", supernet, about["metric"])
    files |= predictor
    tables = {f"{MODELS}/latency-{path.stem}.json": _latency_table(path) for path in latency_tables}
    if len(tables) < len(latency_tables):
        raise UserError("two latency tables have the same file name; rename one.")
    files |= tables
    files |= _results(folder / RESULTS)
    about |= {"predictor": bool(predictor), "latency_tables": sorted(tables)}
    files["README.md"] = _card(about, supernet).encode()
    about["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    files = {ABOUT: _as_json(about)} | files
    write_atomically(out, lambda file: _write_zip(file, files))
    return Packaged(out, out.stat().st_size, tuple(files), bool(predictor), tuple(sorted(tables)), note)


def _write_zip(file: Any, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, DATE), data, zipfile.ZIP_DEFLATED)


def _as_json(value: Any) -> bytes:
    return (json.dumps(json_types(value), indent=2) + "\n").encode()


def _saved(supernet: Supernet, phase: str) -> bytes:
    """The network's file, without what training noted in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_network(supernet, path, {"phase": phase})
        return path.read_bytes()


# -- what may be told ---------------------------------------------------------------------------------------------


def _run(described: Mapping[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """`run.json` without paths, machine and whatever names a file."""
    data = recipe["data"]
    own_split = data.get("split_csv") is not None or data.get("group_csv") is not None
    recipe["data"] = data | {"path": None, "group_csv": None, "split_csv": SPLITS if own_split else None}
    out = {key: described[key] for key in RUN if key in described}
    out |= {"settings": {"recipe": recipe}, "environment": _versions(described.get("environment"))}
    out["data"] = {key: value for key, value in described["data"].items() if key in DATA}
    return without_paths(out)


def without_paths(value: Any) -> Any:
    """`value` with the last part only of every text that is a path: it begins as one, or a field of `FILES` holds it.

    >>> without_paths({"source": "/runs/a/teacher.safetensors", "weights": "b/net.safetensors", "name": "n/a"})
    {'source': 'teacher.safetensors', 'weights': 'net.safetensors', 'name': 'n/a'}
    """
    if isinstance(value, Mapping):
        return {key: _last(item) if key in FILES else without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item) for item in value]
    return _last(value) if isinstance(value, str) and PATHS.match(value) else value


def _last(value: Any) -> Any:
    return re.split(r"[\\/]", value.rstrip("\\/"))[-1] if isinstance(value, str) else without_paths(value)


def _versions(environment: Any) -> dict[str, Any]:
    known = environment if isinstance(environment, Mapping) else {}
    return {name: known.get(name) for name in ("onceforall", "python", "numpy", "torch")}


def _predictor(path: Path, supernet: Supernet, metric: str) -> tuple[dict[str, bytes], str]:
    """The file of the predictor by its name, none where it is of another metric, and a note on that."""
    if not path.is_file():
        return {}, ""
    try:
        contents = json.loads(path.read_text())
        fitted_to, predicted = contents["facts"].get("weights"), contents["metric"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged; fit it again: onceforall predictor fit RUN") from error
    if fitted_to not in (None, digest_of_weights(supernet)):
        raise UserError(f"{path} was fitted to other weights than these; fit it again, or package the phase it is of.")
    if predicted != metric:
        return {}, f"{path} predicts {predicted} and not {metric}, by which networks are chosen; it was left out."
    return {f"{MODELS}/predictor.json": path.read_bytes()}, ""


def _latency_table(path: Path) -> bytes:
    try:
        contents = json.loads(path.read_text())
        known = str(contents["format"]).startswith("onceforall-latency-")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no latency table; make one by: onceforall latency build.") from error
    if not known:
        raise UserError(f"{path} is no latency table; make one by: onceforall latency build.")
    return _as_json(without_paths(contents))


def _results(folder: Path) -> dict[str, bytes]:
    """Tables of networks and their pictures; nothing about single images or subjects."""
    out: dict[str, bytes] = {}
    for split in ("validation", "test"):
        file = folder / f"{split}.json"
        if not file.is_file():
            continue
        contents = json.loads(file.read_text())
        facts = dict(contents.get("facts", {}))
        facts |= {"environment": _versions(facts.get("environment"))} if "environment" in facts else {}
        contents |= {"cases": {}, "facts": facts}
        out[f"{RESULTS}/{file.name}"] = _as_json(without_paths(contents))
        for name in (f"{split}.csv", f"{split}-front.png", f"{split}-front.svg"):
            if (folder / name).is_file():
                out[f"{RESULTS}/{name}"] = (folder / name).read_bytes()
    for file in sorted((folder / "grids").glob("*.json")):
        contents = json.loads(file.read_text())
        contents["summary"] = {**contents["summary"], "chosen": _without(contents["summary"]["chosen"], "correct")}
        out[f"{RESULTS}/grids/{file.name}"] = _as_json(without_paths(contents))
    return out


def _without(value: Any, key: str) -> Any:
    return {k: v for k, v in value.items() if k != key} if isinstance(value, Mapping) else value


def _about(described: Mapping[str, Any], recipe: str, phase: str, supernet: Supernet) -> dict[str, Any]:
    data = described["data"]
    segments = "scheme" in data
    return {
        "format": FORMAT,
        "recipe": recipe,
        "phase": phase,
        "task": {"kind": "segmentation", "scheme": data["scheme"]} if segments else {"kind": "classification"},
        "metric": "dice" if segments else "accuracy",
        "higher_is_better": True,
        "classes": data["classes"],
        "channels": data["channels"],
        "preparation": data["preparation"],
        "data": data["name"],
        "network": type(supernet).__name__,
        "architectures": supernet.space.size(),
        "versions": {name: version(name) for name in ("onceforall", "torch")},
    }


def _card(about: Mapping[str, Any], supernet: Supernet) -> str:
    task = "image-segmentation" if about["task"]["kind"] == "segmentation" else "image-classification"
    smallest, largest = (supernet.measure(each) for each in (supernet.space.smallest(), supernet.space.largest()))
    costs = f"{format_count(smallest.macs)} to {format_count(largest.macs)} multiply-adds, "
    costs += f"{format_count(smallest.params)} to {format_count(largest.params)} parameters"
    classes = ", ".join(about["classes"])
    predicted = "with a predictor of its metric" if about["predictor"] else "without a predictor of its metric"
    return f"""---
library_name: onceforall
pipeline_tag: {task}
tags: ["onceforall", "once-for-all", "supernet"]
---

# A family of {about["architectures"]:.3g} networks ({about["network"]}, {about["recipe"]})

- trained on: {about["data"]}, weights after the phase {about["phase"]}
- outputs: {len(about["classes"])}: {classes}
- networks: {costs}
- {predicted}, {len(about["latency_tables"])} latency table(s)

## Use

```
onceforall search family.zip --max-macs {format_count(largest.macs // 2)}
onceforall export family ARCHITECTURE.json --data PATH
```

Searching needs no data. A network that is taken out is calibrated on training data, by `--data`: without them the
statistics of its normalisation, and so its accuracy, are unknown.

## Limits

Numbers hold for data like those it was trained on. Licence and permitted use of the training data apply. It is no
medical device.
"""
