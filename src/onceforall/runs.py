"""A finished or interrupted run, opened again: its recipe, data, task and best network."""

import json
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from onceforall.architecture import Architecture, Resolution
from onceforall.data import DataSet, ImageData
from onceforall.errors import UserError, check_choice
from onceforall.evaluation.cases import evaluate_cases
from onceforall.evaluation.environment import environment
from onceforall.evaluation.evaluate import Evaluation, evaluate_each
from onceforall.evaluation.grid import Member, draw_members, exit_members, grid_members, grid_row, summarise
from onceforall.evaluation.latency import subnet_latency
from onceforall.evaluation.result_cache import EvaluateEach, ResultCache, pack_scores
from onceforall.evaluation.results import RESULTS, best_architecture, json_types, read_results, write_results
from onceforall.evaluation.tasks import Task
from onceforall.files import write_text
from onceforall.recipes import (
    Recipe,
    build_data,
    build_phases,
    build_supernet,
    build_task,
    recipe_from_dict,
    starting_weights,
)
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import load_network
from onceforall.training.distributed import pick_device
from onceforall.training.growing import beginning
from onceforall.training.loop import train
from onceforall.training.records import SETTINGS, SPLITS

__all__ = [
    "Run",
    "chosen_architectures",
    "evaluate_grid",
    "evaluate_run",
    "find_architecture",
    "find_weights",
    "is_finished",
    "measure",
    "open_run",
    "phase_of",
    "phase_option",
    "phase_runs",
    "read_run",
    "train_run",
]


def train_run(
    recipe: Recipe,
    folder: str | Path,
    *,
    resume: bool = False,
    until: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Train a recipe into `folder`, or go on with the run there.

    Args:
        recipe: what is trained.
        folder: the run directory.
        resume: go on exactly where the run was; a run that ended may go on with more phases behind those it had.
        until: the name of the phase after which to stop.
        progress: told of how far reading the data is.
    """
    data = build_data(recipe, progress)
    supernet = build_supernet(recipe, data)
    phases = build_phases(recipe, supernet, data.count("train"))
    supernet = starting_weights(recipe, beginning(supernet, phases, recipe.run.seed), data)
    if until is not None:
        names = [phase.name for phase in phases]
        check_choice("phase", until, names)
        phases = phases[: names.index(until) + 1]
    train(
        supernet,
        phases,
        build_task(recipe, data),
        data,
        run_dir=folder,
        options=recipe.run,
        resume=resume,
        settings={"recipe": recipe.to_dict()},
    )


@final
@dataclass(frozen=True)
class Run:
    """What `open_run` found.

    Args:
        folder: the run directory.
        recipe: as it was resolved.
        data: the same images and splits.
        task: losses and metric.
        supernet: with the best weights of the last phase that has any, in evaluation mode.
        phase: the name of that phase.
        finished: whether it is the last phase of the schedule and was completed.
        described: what `run.json` says: the phases, the options, the data.
    """

    folder: Path
    recipe: Recipe
    data: DataSet
    task: Task
    supernet: Supernet
    phase: str
    finished: bool
    described: Mapping[str, Any]

    @property
    def space(self) -> SearchSpace:
        """What the phase trained: that of the network, or less where phases were still to come."""
        return trained_space(self.described, self.phase)


def open_run(folder: str | Path, data: str | Path | None = None, phase: str | None = None) -> Run:
    """Open a run directory; `data` is the place of the images where they have moved.

    The weights are the best of `phase`, by default of the newest phase that has any.

    Raises `UserError` where the folder holds no run, the run has no weights yet, or the images are not those that
    it was trained on.
    """
    folder = Path(folder)
    described, recipe = read_run(folder)
    if data is not None:
        recipe = replace(recipe, data=replace(recipe.data, path=str(data)))
    phase, weights = find_weights(folder, described, phase)
    finished = phase == described["phases"][-1]["name"] and is_finished(folder)
    loaded = build_data(recipe)
    if loaded.fingerprint != described["data"]["fingerprint"]:
        raise UserError(f"the images at {recipe.data.path} are not those that {folder} was trained on.")
    return Run(folder, recipe, loaded, build_task(recipe, loaded), load_network(weights), phase, finished, described)


def read_run(folder: Path) -> tuple[dict[str, Any], Recipe]:
    """What `run.json` says, and its recipe, in which a split file is the run's own; `UserError` where there is none."""
    path = folder / SETTINGS
    if not path.is_file():
        raise UserError(f"{folder} holds no run: {SETTINGS} is missing. Give the folder that train wrote by --out.")
    try:
        described: dict[str, Any] = json.loads(path.read_text())
        recipe = recipe_from_dict(described["settings"]["recipe"])
    except (json.JSONDecodeError, KeyError) as error:
        raise UserError(f"{path} is damaged or was not made by a recipe: {error}.") from error
    if recipe.data.split_csv is not None:
        recipe = replace(recipe, data=replace(recipe.data, split_csv=str(folder / SPLITS)))
    return described, recipe


def trained_space(described: Mapping[str, Any], phase: str) -> SearchSpace:
    """What a phase trained, of the run that `described` tells of."""
    return next(SearchSpace.from_dict(each["space"]) for each in described["phases"] if each["name"] == phase)


def phase_runs(run: Run) -> Iterator[Run]:
    """The same run after each of its phases that has weights, the first phase first."""
    names = [phase["name"] for phase in run.described["phases"]]
    for number, name in enumerate(names, start=1):
        best = run.folder / "checkpoints" / f"{number}-{name}-best.safetensors"
        if best.is_file():
            finished = name == names[-1] and is_finished(run.folder)
            yield replace(run, supernet=load_network(best), phase=name, finished=finished)


def phase_option(run: Run) -> list[str]:
    """What a command needs to open the run after the same phase: nothing where it is the newest that has weights."""
    newest, _ = find_weights(run.folder, run.described)
    return [] if run.phase == newest else ["--phase", run.phase]


def is_finished(folder: str | Path) -> bool:
    """Whether the run in `folder` completed its last phase."""
    names = [phase["name"] for phase in json.loads((Path(folder) / SETTINGS).read_text())["phases"]]
    return (Path(folder) / "checkpoints" / f"{len(names)}-{names[-1]}-last.safetensors").is_file()


def find_weights(folder: Path, described: Mapping[str, Any], phase: str | None = None) -> tuple[str, Path]:
    """Name and best weights of a phase, by default of the newest that has any."""
    names = [each["name"] for each in described["phases"]]
    if phase is not None:
        check_choice("phase", phase, names)
    for number, name in reversed(list(enumerate(names, start=1))):
        best = folder / "checkpoints" / f"{number}-{name}-best.safetensors"
        if phase in (None, name) and best.is_file():
            return name, best
    what = "no trained weights" if phase is None else f"no weights of the phase {phase!r}"
    raise UserError(f"{folder} has {what} yet; go on with onceforall train ... --resume.")


# -- what is done with a run --------------------------------------------------------------------------------------


def chosen_architectures(space: SearchSpace, *, random_ones: int, seed: int) -> dict[str, Architecture]:
    """The largest and the smallest architecture with random ones, by names for tables.

    Random architectures are drawn by `seed` and differ from one another. A space smaller than the number wanted
    gives all it has, as far as drawing finds them.
    """
    out = {"largest": space.largest(), "smallest": space.smallest()}
    rng = random.Random(f"{seed}:architectures")
    seen = set(out.values())
    for _ in range(20 * random_ones):
        drawn = space.sample(rng)
        if drawn not in seen and len(out) < 2 + random_ones:
            seen.add(drawn)
            out[f"random_{len(out) - 1}"] = drawn
    return out


Progress = Callable[[int, int], object]
"""Told how many of how many results are there; at first with those of earlier calls."""


def evaluate_run(
    run: Run,
    architectures: Mapping[str, Architecture],
    *,
    split: str = "test",
    calibration_images: int | None = None,
    latency: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate architectures of a run on a split, write the results into its folder, and return them.

    Every result is kept in the folder as soon as it is there, and what an earlier call measured is not measured again.

    Args:
        run: from `open_run`.
        architectures: by name; those named "largest" and "smallest" also leave predictions. Of volumes these and
            the one named "best" are measured case by case on the grids of the files (`evaluate_cases`).
        split: "validation" or "test".
        calibration_images: training images for re-estimating batch normalisation; the recipe's number by default,
            0 to see what leaving it out does.
        latency: also measure each network on this machine's processor, one thread, batch 1.
        progress: see `Progress`.
    """
    images = run.recipe.run.calibration_images if calibration_images is None else calibration_images
    with_predictions = [architectures[name] for name in ("largest", "smallest") if name in architectures]
    found = measure(run, architectures.values(), [split], images, with_predictions, progress)
    folder, how = run.folder / RESULTS, _settings(run, images)
    with _on_device(run.supernet):
        cases = evaluate_cases(run.supernet, architectures, run.task, run.data, folder, split=split, **how)
    timed = architectures.values() if latency else ()
    milliseconds = [{"latency_ms": subnet_latency(run.supernet, each).median_ms} for each in timed]
    facts = {"phase": run.phase, "calibration_images": images, "environment": environment()}
    write_results(
        run.folder,
        [found[architecture, split] for architecture in architectures.values()],
        list(architectures),
        split=split,
        labels=run.data.labels(split) if isinstance(run.data, ImageData) else None,
        files=run.data.files(split),
        classes=run.data.classes,
        facts=facts,
        columns=milliseconds if latency else None,
        metric=run.task.metric,
        higher_is_better=run.task.higher_is_better,
        inputs=run.data.inputs,
        cases=cases,
    )
    return read_results(run.folder, split)


def evaluate_grid(
    run: Run,
    *,
    resolutions: Sequence[Resolution] | None = None,
    limit: int | None = None,
    calibration_images: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate the grid of the run's phase on validation and test, as the tables of OFAv2 do (section V).

    The members are the networks of the phase's space whose factors are constant over the network; of a phase that
    trains the largest network only they are that network at each resolution, with all its exits. The result is
    written to `results/grids/<phase>.json` in the run's folder and returned. Results are kept as by `evaluate_run`.

    Args:
        run: from `open_run` or `phase_runs`.
        resolutions: only these of the phase's resolutions.
        limit: at most so many members, drawn by the recipe's seed, the smallest and the largest always among them.
        calibration_images, progress: as for `evaluate_run`.
    """
    images = run.recipe.run.calibration_images if calibration_images is None else calibration_images
    index, phase = phase_of(run)
    members = grid_members(run.space, largest=phase["sampler"] == "largest", resolutions=resolutions)
    drawn = draw_members(members, limit, run.recipe.run.seed)
    alone = exit_members(drawn, run.supernet.space)
    splits, metric = ("validation", "test"), run.task.metric
    found = measure(run, [member.architecture for member in (*drawn, *alone)], splits, images, (), progress)

    def rows(of: Sequence[Member]) -> list[dict[str, Any]]:
        return [grid_row(member, {split: found[member.architecture, split] for split in splits}) for member in of]

    measured = rows(drawn)
    summary = summarise(measured, metric, run.task.higher_is_better)
    if summary["chosen"] is not None:
        digest = summary["chosen"]["digest"]
        [chosen] = [member.architecture for member in drawn if member.architecture.digest() == digest]
        scores = found[chosen, "test"].correct
        summary["chosen"]["correct"] = None if scores is None else pack_scores(scores)
    contents = {
        "phase": run.phase,
        "index": index,
        "metric": metric,
        "higher_is_better": run.task.higher_is_better,
        "images": {split: run.data.count(split) for split in splits},
        "calibration_images": images,
        "combinations": sum(member.multiplicity for member in members),
        "distinct": len(members),
        "drawn": None if len(drawn) == len(members) else len(drawn),
        "rows": measured,
        "summary": summary,
        "exits": rows(alone),
    }
    contents = json_types(contents)
    write_text(run.folder / RESULTS / "grids" / f"{run.phase}.json", json.dumps(contents) + "\n")
    return contents


def phase_of(run: Run) -> tuple[int, Mapping[str, Any]]:
    """Number, from 0, and values of the phase of the run's weights."""
    return next((i, phase) for i, phase in enumerate(run.described["phases"]) if phase["name"] == run.phase)


def _settings(run: Run, calibration_images: int) -> dict[str, Any]:
    """How a network of the run is calibrated and its exits are weighed."""
    settings, exit_weights = run.recipe.run, phase_of(run)[1].get("exit_output_weights")
    out = {"calibration_images": calibration_images, "calibration_rule": settings.calibration_rule}
    return out | {"seed": settings.seed, "exit_weights": exit_weights}


@contextmanager
def _on_device(supernet: Supernet) -> Iterator[None]:
    """`supernet` on a GPU where there is one; afterwards on the processor."""
    try:
        supernet.to(pick_device("auto"))
        yield
    finally:
        supernet.to("cpu")


def measure(
    run: Run,
    architectures: Iterable[Architecture],
    splits: Sequence[str],
    calibration_images: int,
    keep: Collection[Architecture],
    progress: Progress | None,
    evaluate: EvaluateEach = evaluate_each,
) -> dict[tuple[Architecture, str], Evaluation]:
    """Results by architecture and split, kept in the run's folder; measured on a GPU where there is one."""
    file = run.folder / RESULTS / "cache" / f"{run.phase}.jsonl"
    cache = ResultCache(file, run.supernet, **_settings(run, calibration_images))
    with _on_device(run.supernet):
        return cache.evaluate(architectures, run.task, run.data, splits, keep, progress, evaluate)


def find_architecture(
    run: Run, text: str, *, max_macs: int | None = None, max_params: int | None = None
) -> Architecture:
    """The architecture that `text` means: JSON, the path of a JSON file, "largest", "smallest" or "best".

    It is one that the run's phase trained; `UserError` for any other.
    "best" takes the best validation metric among the evaluated architectures within the budgets; it needs
    `evaluate --split validation` first.
    """
    if text != "best" and (max_macs is not None or max_params is not None):
        raise UserError("a budget goes with the architecture 'best'.")
    if text in ("largest", "smallest"):
        return run.space.largest() if text == "largest" else run.space.smallest()
    if text == "best":
        rows = read_results(run.folder, "validation", run.phase)["rows"]
        higher = run.task.higher_is_better
        row = best_architecture(
            rows, max_macs=max_macs, max_params=max_params, metric=run.task.metric, higher_is_better=higher
        )
        return Architecture.from_dict(row["architecture"])
    try:
        written = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # no such file, or none of text
        wanted = "give 'largest', 'smallest', 'best', JSON, or the path of a JSON file"
        raise UserError(f"architecture {text!r}: {wanted}.") from error
    architecture = Architecture.from_json(written)
    run.space.check(architecture)
    return architecture
