"""The comparison: costs, scores of the same architectures, and curves of all runs as one value of JSON types."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from onceforall.architecture import Architecture
from onceforall.comparison.drawing import Bucket, Stopwatch, draw_buckets, shared_space
from onceforall.comparison.scores import compare_group, image_sums
from onceforall.comparison.sides import (
    Side,
    at_equal_time,
    differences,
    equalities,
    open_sides,
    same_test_images,
)
from onceforall.errors import UserError, check_choice
from onceforall.evaluation.cost import cost
from onceforall.evaluation.environment import environment
from onceforall.evaluation.evaluate import Evaluation
from onceforall.evaluation.results import json_types
from onceforall.runs import measure

__all__ = ["CostKind", "compare_runs"]

CostKind = Literal["auto", "latency", "macs"]
"""What buckets are made of: "auto" is latency on this machine unless it is too noisy."""

LATENCIES = "latency.jsonl"
NOISY_SHARE = 0.25  # of the networks; with more of them noisy, "auto" goes by multiply-adds

Progress = Callable[[str], Callable[[int, int], object]]
"""(name of a run) to what is told how many of how many results are there."""


def compare_runs(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    split: str = "test",
    networks: int = 60,
    buckets: int = 5,
    edges: Sequence[float] | None = None,
    per_bucket: int | None = None,
    by: CostKind = "auto",
    seed: int = 0,
    calibration_images: int | None = None,
    data: str | Path | None = None,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare runs; differences and ratios are to the first of them.

    The same architectures are measured in all runs, each calibrated; results are kept in the runs' folders and
    latencies in `out`, so that what was measured is not measured again. A run that holds a single network stands
    behind the others: it is set beside the same network taken from each of them.

    Args:
        folders: run directories, at least two.
        out: where latencies are kept; nothing else is written.
        split: on which images.
        networks, buckets, edges, per_bucket, seed: as for `draw_buckets`; edges are in milliseconds or multiply-adds.
        by: the cost of the buckets, of the first run's networks.
        calibration_images: for all runs; by default each run's own number.
        data: the place of the images, where they have moved.
        names: of the runs; by default those of their folders.
        progress: see `Progress`.

    Raises `UserError` for runs that cannot be compared.
    """
    check_choice("split", split, ("validation", "test"))
    check_choice("cost of buckets", by, ("auto", "latency", "macs"))
    if edges is not None and by == "auto":
        raise UserError("edges of buckets need their unit: say by latency or by multiply-adds.")
    families, singles = _families(open_sides(folders, data, names), split)
    sides = [*families, *singles]
    space = shared_space({side.name: side.space for side in families})
    warnings = differences(sides, split, calibration_images)
    drawing = {"networks": networks, "buckets": buckets, "edges": edges, "per_bucket": per_bucket, "seed": seed}
    kind, groups, more = _buckets(families[0], space, by, Path(out), drawing)
    warnings += more
    ends = {"smallest": space.smallest(), "largest": space.largest()}
    drawn = [architecture for group in groups for architecture in group.members]
    alone = [side.single for side in singles if side.single is not None]
    wanted = {side.name: [*drawn, *ends.values(), *alone] for side in families}
    wanted |= {side.name: [architecture] for side, architecture in zip(singles, alone, strict=True)}
    found = {side.name: _results(side, wanted[side.name], split, calibration_images, progress) for side in sides}
    task = sides[0].run.task
    same = same_test_images(sides, split)

    def rows(architectures: Sequence[Architecture], of: Sequence[Side] = families) -> list[dict[str, Any]]:
        results = {side.name: [found[side.name][a] for a in architectures] for side in of}
        return compare_group(results, task.metric, task.higher_is_better, same)

    measured = {side.name: [found[side.name][a] for a in drawn] for side in families}
    measured |= {side.name: list(found[side.name].values()) for side in singles}
    curves = {side.name: side.curves(task.metric) for side in sides}
    return json_types(
        {
            "split": split,
            "images": [side.run.data.count(split) for side in sides],
            "inputs": sides[0].run.data.inputs,
            "metric": task.metric,
            "higher_is_better": task.higher_is_better,
            "equal": equalities(families),
            "warnings": warnings,
            "runs": [_about(side, families[0], calibration_images) for side in sides],
            "equal_time": _equal_time(families, curves),
            "cost": kind,
            "seed": seed,
            "overall": rows(drawn),
            "answers": _answers(measured, same),
            "buckets": [_bucket(group, rows(group.members)) for group in groups],
            "ends": {name: rows([architecture]) for name, architecture in ends.items()},
            "singles": [
                {
                    "run": side.name,
                    "architecture": architecture.to_dict(),
                    "cost": _cost(side, architecture, kind, Path(out)),
                    "rows": rows([architecture], [side, *(each for each in families if architecture in each.space)]),
                }
                for side, architecture in zip(singles, alone, strict=True)
            ],
            "networks": [
                _network(number, architecture, value, {s.name: found[s.name] for s in families}, task.metric)
                for number, group in enumerate(groups, start=1)
                for architecture, value in zip(group.members, group.costs, strict=True)
            ],
            "curves": curves,
            "environment": environment(),
        }
    )


def _families(sides: Sequence[Side], split: str) -> tuple[list[Side], list[Side]]:
    """The runs of many networks, and those of a single one; where all hold a single one, all count as the former."""
    for side in sides:
        if not side.run.data.count(split):
            raise UserError(f"{side.name} has no {split} images.")
    families = [side for side in sides if side.single is None] or list(sides)
    return families, [side for side in sides if side not in families]


def _bucket(group: Bucket, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"low": group.low, "high": group.high, "networks": len(group.members), "rows": rows}


def _equal_time(sides: Sequence[Side], curves: Mapping[str, Any]) -> dict[str, Any]:
    """How far each run had come when the quickest ended."""
    times = {side.name: side.costs()["seconds"]["total"] for side in sides}
    quickest = min(times, key=lambda name: times[name])
    reached = at_equal_time({side.name: curves[side.name] for side in sides}, times[quickest])
    return {"run": quickest, "seconds": times[quickest], "reached": reached}


def _answers(results: Mapping[str, Sequence[Evaluation]], same: bool) -> dict[str, list[float]] | None:
    """Each image's score, a mean over the networks, by run; None where runs or images have none in common."""
    sums = {name: image_sums(of_run) for name, of_run in results.items()}
    known = {name: (values / len(results[name])).tolist() for name, values in sums.items() if values is not None}
    return known if same and len(known) == len(sums) else None


def _cost(side: Side, architecture: Architecture, kind: str, out: Path) -> float:
    """What a single network costs, in the unit of the buckets."""
    supernet = side.run.supernet
    if kind == "macs":
        return cost(supernet, architecture).macs
    return Stopwatch(out / LATENCIES, supernet)(architecture)


def _about(side: Side, first: Side, calibration_images: int | None) -> dict[str, Any]:
    run, costs, base = side.run, side.costs(), first.costs()
    own = run.recipe.run.calibration_images if calibration_images is None else calibration_images
    totals = {"epochs": costs["epochs"], "macs": costs["macs"], "seconds": costs["seconds"]["total"]}
    bases = {"epochs": base["epochs"], "macs": base["macs"], "seconds": base["seconds"]["total"]}
    return {
        "name": side.name,
        "folder": str(run.folder),
        "recipe": run.recipe.name,
        "schedule": run.recipe.schedule.get("name"),
        "network": run.recipe.network.name,
        "phase": run.phase,
        "finished": run.finished,
        "run_seed": run.recipe.run.seed,
        "calibration_images": min(own, run.data.count("train")),
        **costs,
        "ratio": {name: value / bases[name] if bases[name] else None for name, value in totals.items()},
    }


def _buckets(
    first: Side, space: Any, by: CostKind, out: Path, drawing: dict[str, Any]
) -> tuple[str, list[Bucket], list[str]]:
    """The cost that was used, the buckets, and what is to be said of them."""
    warnings = []
    supernet = first.run.supernet
    groups: list[Bucket] | None = None
    kind = "macs" if by == "macs" else "latency_ms"
    if by != "macs":
        watch = Stopwatch(out / LATENCIES, supernet)
        groups = draw_buckets(space, watch, **drawing)
        share = watch.noisy_share([architecture for group in groups for architecture in group.members])
        if share > NOISY_SHARE:
            text = f"{share:.0%} of the latencies were measured on a machine that was not quiet"
            warnings.append(f"{text}{': buckets go by multiply-adds.' if by == 'auto' else '.'}")
            kind = "macs" if by == "auto" else kind
    if groups is None or kind == "macs":
        groups = draw_buckets(space, lambda architecture: cost(supernet, architecture).macs, **drawing)
    edges, per_bucket = drawing["edges"], drawing["per_bucket"]
    wanted = per_bucket * drawing["buckets"] if per_bucket else drawing["networks"]
    if edges is not None:
        wanted = (per_bucket or -(-drawing["networks"] // (len(edges) - 1))) * (len(edges) - 1)
    count = sum(len(group.members) for group in groups)
    if count < wanted:
        warnings.append(f"only {count} of {wanted} different networks were found for the buckets.")
    return kind, groups, warnings


def _results(
    side: Side,
    architectures: Sequence[Architecture],
    split: str,
    calibration_images: int | None,
    progress: Progress | None,
) -> dict[Architecture, Evaluation]:
    """What the run shows of each architecture that it trained, from its cache or measured now."""
    architectures = [architecture for architecture in architectures if architecture in side.space]
    images = side.run.recipe.run.calibration_images if calibration_images is None else calibration_images
    tell = None if progress is None else progress(side.name)
    found = measure(side.run, architectures, [split], images, (), tell)
    return {architecture: found[architecture, split] for architecture in architectures}


def _network(
    bucket: int,
    architecture: Architecture,
    value: float,
    found: dict[str, dict[Architecture, Evaluation]],
    metric: str,
) -> dict[str, Any]:
    results = {name: by_architecture[architecture] for name, by_architecture in found.items()}
    return {
        "bucket": bucket,
        "cost": value,
        "macs": next(iter(results.values())).cost.macs,
        "digest": architecture.digest(),
        "architecture": architecture.to_dict(),
        "runs": {
            name: {metric: r.metrics[metric], "log_loss": r.metrics.get("log_loss"), "macs": r.cost.macs}
            for name, r in results.items()
        },
    }
