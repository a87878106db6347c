"""Making a latency table: networks are drawn, timed in groups, kept as they come, and entries fitted to them.

Each group is timed in turn with one network that is the same in all of them. What disturbed the machine while a group
ran disturbed that network too, and its time, compared with its usual one, is divided out. So a group is measured again
as a whole after an interruption, and groups that are complete are not.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from scipy import stats

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.evaluation.engines import EngineSettings
from onceforall.files import write_text
from onceforall.searching.latency_fit import fit_entries, linear_correction, mape
from onceforall.searching.latency_measuring import Measure, best_estimate_ms, identity_of
from onceforall.searching.latency_table import LatencyTable, differences
from onceforall.searching.predictor import kendall_tau
from onceforall.searching.sampling import spread_architectures
from onceforall.supernets.supernet import Supernet

__all__ = ["build_table", "measurements_path"]

GROUP = 8  # networks that are timed in turn
KEYS = {"reference", "reference_ms", "ms", "noisy", "seconds"}  # of a group of measurements


def measurements_path(table: Path) -> Path:
    """Where the measurements for a table are kept; `UserError` where they would lie in its place."""
    path = table.resolve()
    if os.path.isdir(path) or path.suffix == ".jsonl":
        raise UserError(f"{table}: give the table the name of a file that ends in .json.")
    return path.with_suffix(".jsonl")


def build_table(
    supernet: Supernet,
    settings: EngineSettings,
    path: Path,
    measure: Measure,
    *,
    networks: int = 150,
    held_out: int = 50,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> LatencyTable:
    """Time networks, fit a table to them, check it on others, and write it to `path`.

    Measurements are kept beside it (`measurements_path`); the same call goes on where an earlier one was interrupted,
    and more networks are added to those that were timed.

    Args:
        supernet: only its kind and its space matter.
        settings: of the engine.
        path: of the table, a JSON file.
        measure: from `measuring`.
        networks: how many the table is fitted to.
        held_out: how many others it is checked on; at least 5.
        seed: which networks are drawn.
        progress: told of how many groups are done.

    Raises `UserError` where the measurements beside `path` are of another identity, or there are too few networks.
    """
    if held_out < 5:
        raise UserError(f"{held_out} networks to check the table on: give 5 or more.")
    identity, kept = identity_of(supernet, settings), measurements_path(path)
    drawn = spread_architectures(supernet.space, networks, lambda a: supernet.measure(a).macs, seed=seed)
    more = spread_architectures(
        supernet.space, held_out + len(drawn), lambda a: supernet.measure(a).macs, seed=seed + 1_000_003
    )
    unseen = [architecture for architecture in more if architecture not in set(drawn)][:held_out]
    if len(unseen) < 5:
        raise UserError(f"the search space has too few networks for a table: {len(drawn)} to fit and others to check.")
    times = _timed(supernet.space.smallest(), [*unseen, *drawn], kept, identity, measure, seed, progress)
    values = np.array([times["ms"][architecture] for architecture in drawn])
    fitted = fit_entries(supernet, drawn, values, dense=bool(supernet.options.get("dense")))
    correction = linear_correction(fitted.left_out, values)
    table = LatencyTable(identity, fitted.entries, correction)
    true = np.array([times["ms"][architecture] for architecture in unseen])
    check = _check(table.predict_ms(unseen), true) | {
        "fitted": len(drawn),
        "seconds": round(times["seconds"], 1),
        "noisy": round(times["noisy"], 3),
    }
    table = LatencyTable(identity, fitted.entries, correction, check)
    table.save(path)
    return table


def _check(predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """Errors on networks that the table was not fitted to."""
    ranks: Any = stats.spearmanr(predicted, true)
    return {
        "networks": len(true),
        "mape": mape(predicted, true),
        "largest_error": float(np.abs(predicted / true - 1).max()),
        "spearman": float(ranks.statistic),
        "kendall": kendall_tau(predicted, true),
        "from_ms": float(true.min()),
        "to_ms": float(true.max()),
    }


def _timed(
    reference: Architecture,
    architectures: Sequence[Architecture],
    path: Path,
    identity: Mapping[str, Any],
    measure: Measure,
    seed: int,
    progress: Callable[[int, int], object] | None,
) -> dict[str, Any]:
    """Milliseconds of each architecture (`ms`), the time it took (`seconds`) and the share of `noisy` ones.

    `reference` is the network that is in all groups.
    """
    groups = _read(path, identity)
    done = {digest for group in groups for digest in group["ms"]}
    rest = [architecture for architecture in architectures if architecture.digest() not in done]
    order = np.random.default_rng([seed, len(done)]).permutation(len(rest))  # no kind of network is timed in one go
    parts = [[rest[i] for i in order[start : start + GROUP]] for start in range(0, len(rest), GROUP)]
    before = len(groups)
    with _appending(path) as file:
        for number, part in enumerate(parts):
            if progress is not None:
                progress(before + number, before + len(parts))
            start = time.monotonic()
            first, *others = measure([reference, *part])
            group = {
                "reference": reference.digest(),
                "reference_ms": best_estimate_ms(first),
                "ms": {a.digest(): best_estimate_ms(each) for a, each in zip(part, others, strict=True)},
                "noisy": sum(each.noisy for each in others),
                "seconds": time.monotonic() - start,
            }
            file.write(json.dumps(group) + "\n")
            file.flush()
            groups.append(group)
    if progress is not None:
        progress(len(groups), len(groups))
    references = {group["reference"] for group in groups}  # several where the space was changed meanwhile
    usual = {
        each: float(np.median([group["reference_ms"] for group in groups if group["reference"] == each]))
        for each in references
    }
    ms = {
        digest: t * usual[group["reference"]] / group["reference_ms"]
        for group in groups
        for digest, t in group["ms"].items()
    }
    return {
        "ms": {architecture: ms[architecture.digest()] for architecture in architectures},
        "seconds": sum(group["seconds"] for group in groups),
        "noisy": sum(group["noisy"] for group in groups) / max(1, len(ms)),
    }


def _appending(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}. Choose another --out.") from error


def _read(path: Path, identity: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The groups that were measured; a last line that was cut off is removed. A new file begins with the identity."""
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}. Remove it to measure anew.") from error
    whole = text[: text.rfind("\n") + 1]
    if not whole:
        whole = json.dumps(identity) + "\n"
    if whole != text:
        write_text(path, whole)
    try:
        known, *groups = map(json.loads, whole.splitlines())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is damaged: {error}. Remove it to measure anew.") from error
    if not isinstance(known, dict) or not all(isinstance(group, dict) and group.keys() == KEYS for group in groups):
        raise UserError(f"{path} is damaged, or of another version of the package. Remove it to measure anew.")
    if found := differences(known, identity):
        raise UserError(f"{path} holds measurements of another kind: {'; '.join(found)}. Choose another --out.")
    return groups
