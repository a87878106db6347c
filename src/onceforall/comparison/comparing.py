"""The comparison: costs, scores of the same architectures, and curves of all runs as one value of JSON types."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from onceforall.architecture import Architecture
from onceforall.comparison.drawing import Bucket, Stopwatch, draw_buckets, shared_space
from onceforall.comparison.scores import compare_group
from onceforall.comparison.sides import Side, differences, equalities, open_sides, same_test_images
from onceforall.errors import UserError, check_choice
from onceforall.evaluation.cost import cost
from onceforall.evaluation.environment import environment
from onceforall.evaluation.evaluate import Evaluation
from onceforall.evaluation.results import json_types
from onceforall.runs import measure

__all__ = ["CostKind", "compare_runs"]

CostKind = Literal["auto", "latency", "macs"]
"""What buckets are made of: "auto" is latency on this machine unless it is too noisy."""

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
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare runs; differences and ratios are to the first of them.

    The same architectures are measured in all runs, each calibrated; results are kept in the runs' folders and
    latencies in `out`, so that what was measured is not measured again.

    Args:
        folders: run directories, at least two.
        out: where latencies are kept; nothing else is written.
        split: on which images.
        networks, buckets, edges, per_bucket, seed: as for `draw_buckets`; edges are in milliseconds or multiply-adds.
        by: the cost of the buckets, of the first run's networks.
        calibration_images: for all runs; by default each run's own number.
        data: the place of the images, where they have moved.
        progress: see `Progress`.

    Raises `UserError` for runs that cannot be compared.
    """
    check_choice("split", split, ("validation", "test"))
    check_choice("cost of buckets", by, ("auto", "latency", "macs"))
    if edges is not None and by == "auto":
        raise UserError("edges of buckets need their unit: say by latency or by multiply-adds.")
    sides = open_sides(folders, data)
    for side in sides:
        if not side.run.data.count(split):
            raise UserError(f"{side.name} has no {split} images.")
    space = shared_space({side.name: side.space for side in sides})
    warnings = differences(sides, split, calibration_images)
    drawing = {"networks": networks, "buckets": buckets, "edges": edges, "per_bucket": per_bucket, "seed": seed}
    kind, groups, more = _buckets(sides[0], space, by, Path(out), drawing)
    warnings += more
    ends = {"smallest": space.smallest(), "largest": space.largest()}
    drawn = [architecture for group in groups for architecture in group.members]
    found = {side.name: _results(side, [*drawn, *ends.values()], split, calibration_images, progress) for side in sides}
    task = sides[0].run.task
    same = same_test_images(sides, split)

    def rows(architectures: Sequence[Architecture]) -> list[dict[str, Any]]:
        results = {name: [by_architecture[a] for a in architectures] for name, by_architecture in found.items()}
        return compare_group(results, task.metric, task.higher_is_better, same)

    return json_types(
        {
            "split": split,
            "images": [side.run.data.count(split) for side in sides],
            "metric": task.metric,
            "higher_is_better": task.higher_is_better,
            "equal": equalities(sides),
            "warnings": warnings,
            "runs": [_about(side, sides[0], calibration_images) for side in sides],
            "cost": kind,
            "seed": seed,
            "overall": rows(drawn),
            "buckets": [
                {"low": g.low, "high": g.high, "networks": len(g.members), "rows": rows(g.members)} for g in groups
            ],
            "ends": {name: rows([architecture]) for name, architecture in ends.items()},
            "networks": [
                _network(number, architecture, value, found, task.metric)
                for number, group in enumerate(groups, start=1)
                for architecture, value in zip(group.members, group.costs, strict=True)
            ],
            "curves": {side.name: side.curves(task.metric) for side in sides},
            "environment": environment(),
        }
    )


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
        watch = Stopwatch(out / "latency.jsonl", supernet)
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
    """What the run shows of each architecture, from its cache or measured now."""
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
