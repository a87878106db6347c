"""Which exits of a network with several are worth having (AEP: anticipate, ensemble, prune).

A network that answers with the weighted sum of its exits may answer better, and cheaper, with some of them: those whose
sum does best on validation images are kept, and all that none of them needs is cut off.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import final

from onceforall.architecture import Architecture
from onceforall.data.dataset import DataSet
from onceforall.errors import UserError
from onceforall.evaluation.calibration import CalibrationRule
from onceforall.evaluation.evaluate import Evaluation, evaluate
from onceforall.evaluation.tasks import Task
from onceforall.supernets.supernet import Supernet

__all__ = ["Pruned", "prune_exits", "subsets_of_exits"]


@final
@dataclass(frozen=True)
class Pruned:
    """What pruning found.

    Args:
        architecture: the best one.
        table: every subset of the exits as measured, the best first; `table[0]` is of `architecture`.
    """

    architecture: Architecture
    table: tuple[Evaluation, ...]


def subsets_of_exits(architecture: Architecture) -> list[Architecture]:
    """`architecture` with each choice of at least one of its exits, 2^N - 1 of N; it ends at the last one chosen.

    >>> from onceforall.architecture import Block, Stage
    >>> whole = Architecture(32, (Stage((Block(3),)),) * 3, exits=(1, 3))
    >>> [(subset.height, subset.exits) for subset in subsets_of_exits(whole)]
    [(1, (1,)), (3, (3,)), (3, (1, 3))]
    """
    count = len(architecture.exits)
    chosen = [exits for size in range(1, count + 1) for exits in combinations(architecture.exits, size)]
    return [replace(architecture, stages=architecture.stages[: exits[-1]], exits=exits) for exits in chosen]


def prune_exits(
    supernet: Supernet,
    architecture: Architecture,
    task: Task,
    data: DataSet,
    *,
    weights: Sequence[float],
    split: str = "validation",
    calibration_images: int = 512,
    calibration_rule: CalibrationRule = "reference",
    batch_size: int = 256,
    seed: int = 0,
) -> Pruned:
    """Measure every subset of the exits of `architecture` on `split` and keep the best.

    The best has the best `task.metric`; of equal ones that with the fewest multiply-adds. All subsets are answers of
    one pass: a shorter network is the beginning of the whole one.

    Args:
        supernet: a network that may end at each of these exits. One whose exits all exist but that is only as tall
            as it is (`supernet.subnet(architecture)`) becomes one by `net.grow(net.space.extend(heights=exits))`.
        architecture: a network with several exits.
        task, data: as for `evaluate`.
        weights: with which the raw outputs are summed, one for each exit of the supernet; they are not scaled anew
            where exits are left out.
        split: on which the choice is made, so that its numbers are optimistic there.
        calibration_images, calibration_rule, batch_size, seed: as for `evaluate`.
    """
    supernet.space.check(architecture)
    subsets = subsets_of_exits(architecture)
    missing = [number for number in architecture.exits if number not in supernet.space.heights]
    if missing:
        raise UserError(
            f"exits {missing}: the network cannot end there, its heights are {list(supernet.space.heights)}; "
            "grow it first: net.grow(net.space.extend(heights=...))."
        )
    measured = evaluate(
        supernet,
        subsets,
        task,
        data,
        split=split,
        calibration_images=calibration_images,
        calibration_rule=calibration_rule,
        batch_size=batch_size,
        seed=seed,
        exit_weights=weights,
    )
    sign = -1 if task.higher_is_better else 1
    table = sorted(measured, key=lambda result: (sign * result.metrics[task.metric], result.cost.macs))
    return Pruned(table[0].architecture, tuple(table))
