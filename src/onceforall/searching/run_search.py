"""The search in a run: a predictor, rounds of search and measurement, the network for a budget, and the files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

from onceforall.architecture import Architecture
from onceforall.errors import UserError
from onceforall.evaluation.cost import cost
from onceforall.evaluation.engines import EngineSettings
from onceforall.evaluation.environment import environment
from onceforall.evaluation.latency import Latency
from onceforall.evaluation.result_cache import digest_of_weights
from onceforall.files import write_json
from onceforall.runs import Run, phase_option
from onceforall.search_space import SearchSpace
from onceforall.searching.archive import FOLDER, export_command, member_row, write_archive, write_network
from onceforall.searching.budget import choose, distances, nearest_in_cost, nothing_fits
from onceforall.searching.comparison import FrontRow, compare_fronts, comparison_architectures
from onceforall.searching.evolution import load_operators
from onceforall.searching.latency_measuring import best_estimate_ms, measuring
from onceforall.searching.latency_table import table_facts
from onceforall.searching.measuring import measure_all
from onceforall.searching.predictor import Predictor, fit_predictor
from onceforall.searching.problem import (
    Constraint,
    LatencyModel,
    Measures,
    known_measures,
    read_constraints,
    read_objectives,
)
from onceforall.searching.rounds import Member, SearchResult, search
from onceforall.searching.sampling import spread_architectures

__all__ = ["BudgetAnswer", "answer_row", "search_run"]

Progress = Callable[[int, int], object]


@final
@dataclass(frozen=True)
class BudgetAnswer:
    """The network for a budget.

    Args:
        chosen: which, with its measured and predicted metric on validation.
        test: its metric on test, which nothing but this network was measured on.
        latency: as it was measured, where latencies are asked for.
        distances: how far it is from the front in each measure; see `budget.distances`.
        network: the file of its architecture.
        command: exports it.
        folder: where the front is.
        result: all that the search found.
        comparison: the search beside random and grid networks, where that was asked for.
        note: why a picture of the front is missing; empty where none is.
    """

    chosen: Member
    test: float
    latency: Latency | None
    distances: dict[str, float]
    network: Path
    command: str
    folder: Path
    result: SearchResult
    comparison: tuple[FrontRow, ...]
    note: str = ""


def search_run(
    run: Run,
    limits: Mapping[str, float],
    *,
    objectives: Sequence[str] | None = None,
    predictor: Predictor | None = None,
    latency_table: LatencyModel | None = None,
    engine: EngineSettings | None = None,
    samples: int = 100,
    rounds: int = 4,
    members: int = 10,
    candidates: int = 5_000,
    only: Mapping[str, Sequence[Any]] | None = None,
    compare: int = 0,
    seed: int = 0,
    workers: int = 1,
    executor: str = "loky",
    progress: Progress | None = None,
) -> BudgetAnswer:
    """Find the network of a run that answers `limits`, and write the front into `search` in the run's folder.

    Args:
        run: from `open_run`.
        limits: as {"max_macs": 5e6}; none for the network with the best metric.
        objectives: see `search`.
        predictor: of the run's metric; without one `samples` networks are measured and one is fitted.
        latency_table: of the device; needed where a latency is limited.
        engine: with which the table was made; the chosen network is timed on it. None to leave that out.
        samples: networks to measure for a predictor.
        rounds, members, candidates, seed: see `search`.
        only: choices of factors to search among, as {"resolutions": [64]}; see `SearchSpace.restrict`.
        compare: also measure so many random networks and at most so many of the grid, and tell how good their fronts
            are; 0 for none.
        workers, executor, progress: see `measure_all`.

    Raises `UserError`, with the nearest network and what it costs, where no network keeps the limits.
    """
    images, metric = run.recipe.run.calibration_images, run.task.metric
    facts = {"split": "validation", "calibration_images": images, "weights": digest_of_weights(run.supernet)}
    if engine is not None:
        engine.check_installed()
    space = run.space.restrict(**dict(only or {}))
    load_operators()
    known = known_measures(metric, run.task.higher_is_better, latency=latency_table is not None)
    read_objectives(known, objectives)
    costs = [limit for limit in read_constraints(known, limits) if limit.measure != metric]
    _check_costs(run, costs, latency_table, space, seed)
    spreading = {"workers": workers, "executor": executor, "progress": progress}

    def measure(architectures: Sequence[Architecture]) -> list[float]:
        found = measure_all(run, architectures, calibration_images=images, **spreading)
        return [evaluation.metrics[metric] for evaluation in found]

    def fit(scores: Mapping[Architecture, float]) -> Predictor:
        how = {"metric": metric, "higher_is_better": run.task.higher_is_better, "seed": seed, "facts": facts}
        how["images"] = run.data.count("validation")
        return fit_predictor(run.supernet.space, list(scores), list(scores.values()), **how).predictor

    if predictor is None:
        drawn = spread_architectures(run.space, samples, lambda a: cost(run.supernet, a).macs, seed=seed)
        predictor = fit(dict(zip(drawn, measure(drawn), strict=True)))
    predictor.check(run.supernet.space, metric)
    if predictor.facts.get("weights", facts["weights"]) != facts["weights"]:
        raise UserError("the predictor was fitted to other weights than this run now has; fit it again.")
    same = all(predictor.facts.get(name) == value for name, value in facts.items())
    result = search(
        run.supernet,
        predictor,
        space=space,
        objectives=objectives,
        constraints=limits,
        latency_table=latency_table,
        measure=measure,
        fit=fit if same else None,  # scores that were taken in another way do not mix with ours
        measured=dict(zip(predictor.architectures, predictor.scores, strict=True)) if same else None,
        rounds=rounds,
        members=members,
        candidates=candidates,
        seed=seed,
    )
    if not result.front:
        raise UserError(_refuse(run, result.constraints, result.nearest))
    comparison: tuple[FrontRow, ...] = ()
    if compare:
        measures = Measures(run.supernet, predictor, latency_table)
        ways = comparison_architectures(space, compare, seed)
        comparison = compare_fronts(result, {name: _members(measures, ways[name], measure) for name in ways})
    facts = facts | {"phase": run.phase, "seed": seed, "only": dict(only or {}), "environment": environment()}
    facts |= table_facts(latency_table)
    return _answer(run, result, engine, comparison, facts)


def _answer(
    run: Run,
    result: SearchResult,
    engine: EngineSettings | None,
    comparison: tuple[FrontRow, ...],
    facts: Mapping[str, Any],
) -> BudgetAnswer:
    """Choose a network, measure it on test and, with an engine, its latency; write everything."""
    chosen = choose(result)
    [test] = measure_all(run, [chosen.architecture], split="test", calibration_images=facts["calibration_images"])
    latency = None
    if engine is not None:
        with measuring(run.supernet, engine, warmup_seconds=0.1, max_seconds=0.3) as time_networks:
            [latency] = time_networks([chosen.architecture])
    network, folder, more = write_network(run.folder, chosen.architecture), run.folder / FOLDER, phase_option(run)
    answer = BudgetAnswer(
        chosen,
        test.metrics[run.task.metric],
        latency,
        distances(result, chosen),
        network,
        export_command(run.folder, network, more),
        folder,
        result,
        comparison,
    )
    write_json(folder / "chosen.json", answer_row(answer))
    return replace(answer, note=write_archive(run.folder, result, facts, comparison, more))


def answer_row(answer: BudgetAnswer) -> dict[str, Any]:
    """The answer as JSON types."""
    latency = answer.latency
    return {
        **member_row(answer.result, answer.chosen),
        "limits": {f"{limit.sense}_{limit.measure}": limit.limit for limit in answer.result.constraints},
        f"{answer.result.metric}_test": answer.test,
        "latency_ms_measured": None if latency is None else best_estimate_ms(latency),
        "latency": None if latency is None else asdict(latency),
        "distances": answer.distances,
        "comparison": [asdict(row) for row in answer.comparison],
        "network": str(answer.network),
        "export": answer.command,
    }


def _members(
    measures: Measures, architectures: Sequence[Architecture], measure: Callable[[Sequence[Architecture]], list[float]]
) -> list[Member]:
    scores = zip(architectures, measure(architectures), strict=True)
    rows = [(each, {**measures.row(each), str(measures.metric): score}) for each, score in scores]
    return [Member(architecture, values, None, None, True) for architecture, values in rows]


def _check_costs(
    run: Run, constraints: Sequence[Constraint], latency_table: LatencyModel | None, space: SearchSpace, seed: int
) -> None:
    """Refuse limits of cost that no network keeps, before anything is measured."""
    measures = Measures(run.supernet, None, latency_table)
    nearest = nearest_in_cost(measures, constraints, space, seed) if constraints else None
    if nearest is not None:
        raise UserError(_refuse(run, constraints, Member(nearest, measures.row(nearest), None, None, False)))


def _refuse(run: Run, constraints: Sequence[Constraint], nearest: Member) -> str:
    command = export_command(run.folder, write_network(run.folder, nearest.architecture), phase_option(run))
    return nothing_fits(constraints, nearest.values, str(nearest.architecture), command, nearest.measured)
