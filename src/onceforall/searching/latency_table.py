"""A latency table: what each building block of a network takes on one machine, and so what any network takes.

A network's time is a constant plus a factor times the sum of its pieces' entries (`latency_pieces`). A table is made
from times of whole networks (`latency_build`), so that entries hold as blocks are used: inside a network, with the
fusions and caches of one. It belongs to a network, an engine with its version, a number of threads and of inputs, a
precision and a machine, its `identity`, and is refused elsewhere (`latency_measuring.open_table`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, final

import numpy as np

from onceforall.architecture import Architecture
from onceforall.errors import UserError, check_keys
from onceforall.evaluation.engines import EngineSettings
from onceforall.files import write_json
from onceforall.searching.latency_pieces import pieces_of

__all__ = ["LatencyTable", "differences", "table_facts"]

FORMAT = "onceforall-latency-1"
SETTINGS = tuple(field.name for field in fields(EngineSettings))


@final
@dataclass(frozen=True)
class LatencyTable:
    """Entries, and how well they predict.

    Args:
        identity: see `latency_measuring.identity_of`.
        entries: milliseconds by key of a piece.
        correction: constant in milliseconds, and factor of the sum.
        check: how predictions compare with networks that were not used: `networks`, `mape`, `spearman`, `kendall`; and
            from how many (`fitted`) in how much time (`seconds`).
    """

    identity: Mapping[str, Any]
    entries: Mapping[str, float]
    correction: tuple[float, float] = (0.0, 1.0)
    check: Mapping[str, Any] | None = None

    @property
    def settings(self) -> EngineSettings:
        """How it was measured."""
        return EngineSettings(**{name: self.identity[name] for name in SETTINGS})

    @property
    def measured_on(self) -> str:
        """The engine, how it ran, and the machine, for people."""
        how = {name: self.identity[name] for name in ("backend", "version", "precision", "batch", "threads", "machine")}
        return "{backend} {version}, {precision}, batch {batch}, threads {threads}, {machine}".format(**how)

    def sums(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Milliseconds of the pieces of each network, without the correction.

        Raises `UserError` for a network with a piece that the table does not have.
        """
        dense = bool(self.identity["options"].get("dense"))
        cache: dict[Any, float] = {}
        out = np.empty(len(architectures))
        for i, architecture in enumerate(architectures):
            total = 0.0
            for piece in pieces_of(architecture, dense):
                if piece not in cache:
                    cache[piece] = self._entry(piece.key)
                total += cache[piece]
            out[i] = total
        return out

    def predict_ms(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Milliseconds of one batch of each network, (architectures,)."""
        constant, factor = self.correction
        return constant + factor * self.sums(architectures)

    def _entry(self, key: str) -> float:
        if key not in self.entries:
            raise UserError(f"the latency table has no entry {key!r}: it was built for another search space.")
        return self.entries[key]

    def save(self, path: Path) -> None:
        """Write the table as JSON."""
        write_json(path, {"format": FORMAT, **asdict(self)})

    @staticmethod
    def load(path: Path) -> "LatencyTable":
        """Read a table, of whatever it is; `latency_measuring.open_table` compares. `UserError` for what is none."""
        try:
            data = json.loads(path.read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"{path} is no latency table: {error}.") from error
        if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
            raise UserError(f"{path} is no latency table of this version; make one by: onceforall latency build.")
        check_keys("latency table", data, ("identity", "entries", "correction", "check"))
        return LatencyTable(data["identity"], data["entries"], tuple(data["correction"]), data["check"])


def table_facts(table: object) -> dict[str, Any]:
    """What the files of a search say of its latency table: its identity; nothing of models of another kind."""
    return {"latency_table": dict(table.identity)} if isinstance(table, LatencyTable) else {}


def differences(identity: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Every entry in which two identities differ, as text.

    >>> differences({"threads": 2, "batch": 1}, {"threads": 1, "batch": 1})
    ['threads 2, here 1']
    """
    identity, expected = (json.loads(json.dumps(dict(each))) for each in (identity, expected))
    keys = dict.fromkeys([*identity, *expected])
    return [f"{k} {identity.get(k)}, here {expected.get(k)}" for k in keys if identity.get(k) != expected.get(k)]
