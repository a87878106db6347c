"""Numbers of the published schedules, and how a schedule is stretched to a number of epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, final

from onceforall.choices import listed
from onceforall.errors import UserError, check_choice, check_keys
from onceforall.training.phases import Phase

__all__ = [
    "EVEN_ROWS",
    "EXTENDED_ROWS",
    "PAPER_ROWS",
    "ROWS",
    "SMALL_ROWS",
    "TABLE_III",
    "Row",
    "scale_epochs",
    "table_of",
]


@final
@dataclass(frozen=True)
class Row:
    """What a published table says of one phase."""

    epochs: int
    warmup_epochs: int
    learning_rate: float
    subnets_per_step: int = 1
    batch_size: int = 64
    dropout: float = 0.1


# Tables give a row to each kind of phase: "depth_1" is for the first phase that adds depths, "depth_last" for the one
# that completes them, "depth" for all without a row of their own.

_IMAGENET = {
    "full": Row(180, 5, 2.6),
    "kernel": Row(120, 5, 0.96),
    **dict.fromkeys(("level", "height", "depth"), Row(25, 0, 0.08, 2)),
    **dict.fromkeys(("level_last", "height_last", "depth_last"), Row(120, 5, 0.24, 2)),
    **dict.fromkeys(("expand", "width"), Row(25, 0, 0.08, 4)),
    **dict.fromkeys(("expand_last", "width_last"), Row(120, 5, 0.24, 4)),
    "resolution": Row(25, 0, 0.08),
    "resolution_last": Row(120, 5, 0.24),
}
PAPER_ROWS: Mapping[str, Row] = {name: replace(row, batch_size=2048) for name, row in _IMAGENET.items()}
"""Once-for-All on ImageNet. The full network's learning rate is that of the only other published configuration. The
paper has no phases for levels, heights, widths and resolutions; theirs are those of depth, or of expansion."""

SMALL_ROWS: Mapping[str, Row] = {
    "full": Row(12, 1, 0.08),
    "kernel": Row(4, 0, 0.03),
    **dict.fromkeys(("level", "height", "depth", "expand", "width", "resolution"), Row(2, 0, 0.02)),
    **dict.fromkeys(
        ("level_last", "height_last", "depth_last", "expand_last", "width_last", "resolution_last"), Row(4, 0, 0.03)
    ),
}
"""For a few thousand images and batches of 64; one sub-network a step."""

EVEN_ROWS: Mapping[str, Row] = dict.fromkeys(SMALL_ROWS, Row(10, 0, 1e-3, dropout=0.0))
"""As many epochs for every phase: progressive shrinking as ProX's paper compares itself with it."""

_OFAV2 = {
    "full": Row(180, 0, 1e-3, dropout=0.2),
    "kernel": Row(120, 5, 3e-2),
    "level": Row(25, 0, 2.5e-3, 2),
    "level_last": Row(120, 5, 7.5e-3, 2),
    "height_1": Row(25, 0, 2.5e-3, 2),
    "height_2": Row(60, 5, 7.5e-3, 2),
    "height": Row(90, 5, 1e-2, 2),
    "height_last": Row(120, 5, 3e-2, 2),
    "depth": Row(25, 0, 2.5e-3, 2),
    "depth_last": Row(120, 5, 7.5e-3, 2),
    **dict.fromkeys(("expand", "width"), Row(25, 0, 2.5e-3, 4)),
    **dict.fromkeys(("expand_last", "width_last"), Row(120, 5, 7.5e-3, 4)),
    "resolution": Row(25, 0, 2.5e-3),
    "resolution_last": Row(120, 5, 7.5e-3),
}
TABLE_III: Mapping[str, Row] = {name: replace(row, batch_size=200) for name, row in _OFAV2.items()}
"""OFAv2 on Tiny ImageNet (Table III). Resolutions have no phases there; theirs are those of depth, one a step."""

ROWS: Mapping[str, Mapping[str, Row]] = {"small": SMALL_ROWS, "paper": PAPER_ROWS, "even": EVEN_ROWS}
"""Tables of `progressive_shrinking` by the name that a recipe gives."""

EXTENDED_ROWS: Mapping[str, Mapping[str, Row]] = {
    "small": SMALL_ROWS,
    "paper": TABLE_III,
    "strong_teacher": {**TABLE_III, "full": replace(TABLE_III["full"], learning_rate=0.25)},
}
"""Tables of `extended_progressive_shrinking`. The last gives the full network what Once-for-All uses for 64 images
(0.08), scaled to batches of 200: Table III's 0.001 leaves the teacher far from trained."""


def table_of(
    rows: str | Mapping[str, Row | Mapping[str, Any]], tables: Mapping[str, Mapping[str, Row]]
) -> Mapping[str, Row]:
    """The table that a name of `tables` stands for, or the given one; a recipe has mappings in the place of rows."""
    if isinstance(rows, str):
        check_choice("rows", rows, tables)
        return tables[rows]
    if not isinstance(rows, Mapping):
        raise UserError(
            f"rows {rows!r}: must be a row for each kind of phase, or the name of a table: {listed(tables)}."
        )
    return {name: row if isinstance(row, Row) else _as_row(name, row) for name, row in rows.items()}


def _as_row(name: str, row: object) -> Row:
    required = [f.name for f in fields(Row) if f.default is MISSING]
    check_keys(f"rows.{name}", row, tuple(required), tuple(f.name for f in fields(Row) if f.name not in required))
    assert isinstance(row, Mapping)
    return Row(**row)


def scale_epochs(phases: Sequence[Phase], total_epochs: int | None) -> list[Phase]:
    """The phases with epochs scaled in proportion so that they sum, warm-up included, to `total_epochs`.

    Every phase keeps at least one epoch; fractions are given to the phases that lost most by rounding down.
    """
    if total_epochs is None:
        return list(phases)
    if isinstance(total_epochs, bool) or not isinstance(total_epochs, int):
        raise UserError(f"total_epochs {total_epochs!r}: must be a whole number.")
    if total_epochs < len(phases):
        raise UserError(
            f"total_epochs {total_epochs}: this schedule has {len(phases)} phases and needs one epoch for each."
        )
    present = sum(phase.total_epochs for phase in phases)
    exact = [phase.total_epochs * total_epochs / present for phase in phases]
    counts = [max(1, int(share)) for share in exact]
    while sum(counts) != total_epochs:
        step = 1 if sum(counts) < total_epochs else -1
        open_ones = [i for i, count in enumerate(counts) if count + step >= 1]
        counts[max(open_ones, key=lambda i: step * (exact[i] - counts[i]))] += step
    scaled = []
    for phase, count in zip(phases, counts, strict=True):
        warmup = min(round(phase.warmup_epochs * total_epochs / present), count - 1)
        scaled.append(replace(phase, epochs=count - warmup, warmup_epochs=warmup))
    return scaled
