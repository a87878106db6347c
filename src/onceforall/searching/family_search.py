"""The network for a budget from a packaged family, by its predictor alone: there are no data to measure with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from onceforall.errors import UserError
from onceforall.evaluation.environment import version
from onceforall.evaluation.result_cache import digest_of_weights
from onceforall.families import Family
from onceforall.files import write_json
from onceforall.searching.archive import FOLDER, export_command, member_row, write_archive, write_network
from onceforall.searching.budget import choose, nothing_fits
from onceforall.searching.latency_table import table_facts
from onceforall.searching.predictor import Predictor
from onceforall.searching.problem import LatencyModel
from onceforall.searching.rounds import Member, SearchResult, search

__all__ = ["FamilyAnswer", "family_row", "search_family"]

MORE = ("--data", "PATH")  # what the commands that export need beside the family


@final
@dataclass(frozen=True)
class FamilyAnswer:
    """The network for a budget; every number of it is predicted or analytic.

    Args:
        chosen: which.
        network: the file of its architecture.
        command: exports it, where the place of the data is put in.
        folder: where the front is.
        result: all that the search found.
        note: why a picture of the front is missing; empty where none is.
    """

    chosen: Member
    network: Path
    command: str
    folder: Path
    result: SearchResult
    note: str = ""


def search_family(
    family: Family,
    limits: Mapping[str, float],
    *,
    objectives: Sequence[str] | None = None,
    predictor: Predictor | None = None,
    latency_table: LatencyModel | None = None,
    candidates: int = 10_000,
    only: Mapping[str, Sequence[Any]] | None = None,
    seed: int = 0,
) -> FamilyAnswer:
    """Find the network of a family that answers `limits`, and write the front into `search` in its folder.

    Args:
        family: from `open_family`.
        limits: as {"max_macs": 5e6}; none for the network with the best predicted metric.
        objectives, candidates, seed: see `search`.
        predictor: of the metric; the family's own by default.
        latency_table: of the device; needed where a latency is limited.
        only: choices of factors to search among.

    Raises `UserError` where there is no predictor, and where no network keeps the limits.
    """
    if predictor is None:
        if family.predictor is None:
            raise UserError(
                f"{family.folder} has no predictor, and without data no network is measured: give --predictor, or "
                "--data PATH; or package it again after: onceforall predictor fit RUN."
            )
        predictor = Predictor.load(family.predictor)
    predictor.check(family.supernet.space, family.metric)
    if predictor.facts.get("weights") not in (None, digest_of_weights(family.supernet)):
        raise UserError("the predictor was fitted to other weights than this family has; fit it again.")
    space = family.space.restrict(**dict(only or {}))
    how = {"space": space, "objectives": objectives, "constraints": limits, "latency_table": latency_table}
    result = search(family.supernet, predictor, **how, candidates=candidates, seed=seed)
    if not result.front:
        nearest = result.nearest
        command = export_command(family.folder, write_network(family.folder, nearest.architecture), MORE)
        raise UserError(nothing_fits(result.constraints, nearest.values, str(nearest.architecture), command, False))
    chosen = choose(result)
    facts = {"measured": False, "phase": family.about["phase"], "seed": seed, "only": dict(only or {})}
    facts |= table_facts(latency_table) | {"environment": {"onceforall": version("onceforall")}}
    network, folder = write_network(family.folder, chosen.architecture), family.folder / FOLDER
    answer = FamilyAnswer(chosen, network, export_command(family.folder, network, MORE), folder, result)
    write_json(folder / "chosen.json", family_row(answer))
    return replace(answer, note=write_archive(family.folder, result, facts, more=MORE))


def family_row(answer: FamilyAnswer) -> dict[str, Any]:
    """The answer as JSON types."""
    limits = {f"{limit.sense}_{limit.measure}": limit.limit for limit in answer.result.constraints}
    row = member_row(answer.result, answer.chosen) | {"limits": limits}
    return row | {"network": str(answer.network), "export": answer.command}
