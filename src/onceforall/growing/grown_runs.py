"""A finished run grows into a larger search space: a new run that begins with the old one's weights.

The new run is an ordinary one. Its recipe is the old one's with more choices and a schedule that only opens what is
new; its images keep the splits they had, so that nothing is tested on what was once trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, final

from onceforall.data import DataSet
from onceforall.errors import UserError
from onceforall.families import is_family
from onceforall.recipes import Recipe, build_data, build_phases, build_supernet, build_task, change_recipe
from onceforall.recipes.continuing import check_same_inputs, origin_of, prepared_alike
from onceforall.runs import find_weights, is_finished, read_run
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import load_network
from onceforall.training.growing import without_weights
from onceforall.training.loop import train
from onceforall.training.openings import narrowed
from onceforall.training.phases import Phase
from onceforall.training.records import SPLITS

__all__ = ["GROWING_FACTORS", "GrownRun", "grow_run", "plan_growth"]

GROWING_FACTORS = ("depths", "widths", "kernel_sizes", "expand_ratios", "resolutions", "paths", "heights")
"""Factors of `NetworkOptions` that may get more choices."""


@final
@dataclass(frozen=True)
class GrownRun:
    """What `plan_growth` found, ready to be trained.

    Args:
        parent: the folder of the finished run.
        recipe: of the new run.
        data: its images.
        supernet: the network of the finished run.
        phases: the schedule of the new run.
        origin: what the new run says of the finished one: folder, phase and fingerprint of the weights.
    """

    parent: Path
    recipe: Recipe
    data: DataSet
    supernet: Supernet
    phases: list[Phase]
    origin: Mapping[str, Any]

    @property
    def opened(self) -> dict[str, tuple[tuple, tuple]]:
        """Choices before and after, of every factor that gets more."""
        spaces = self.supernet.space, self.phases[-1].space
        pairs = {name: (getattr(spaces[0], name), getattr(spaces[1], name)) for name in GROWING_FACTORS}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def grow_run(grown: GrownRun, folder: str | Path, *, resume: bool = False) -> Supernet:
    """Train into `folder`, or go on with the run there; returns the network as `train` does."""
    if Path(folder).resolve() == grown.parent.resolve():
        raise UserError(f"{folder} is the run that grows; choose another folder for the new one.")
    return train(
        grown.supernet,
        grown.phases,
        build_task(grown.recipe, grown.data),
        grown.data,
        run_dir=folder,
        options=grown.recipe.run,
        resume=resume,
        settings={"recipe": grown.recipe.to_dict(), "parent": dict(grown.origin)},
    )


def plan_growth(
    parent: str | Path,
    changes: Sequence[str],
    data: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> GrownRun:
    """Read a finished run and find out how it grows; nothing is trained or written.

    Args:
        parent: its run directory.
        changes: `key=value` for its recipe, as `schedule.epochs_per_phase=5`; a factor may stand alone with all its
            choices, as `depths=1,2,3`.
        data: a folder with the images to go on with, the old ones among them or not; by default the same images.
        progress: told of how far reading the images is.

    Raises `UserError` where it is a family or the run has not ended, the new space does not hold the old one or nothing
    more than it, and where the images have other classes or, without `data`, are not the same.
    """
    parent = Path(parent)
    if is_family(parent):
        raise UserError(f"{parent} is a family without the images and splits of its training; grow the run itself.")
    described, recipe = read_run(parent)
    name, weights = find_weights(parent, described)
    network = load_network(weights)
    space = network.space
    if not is_finished(parent) or SearchSpace.from_dict(described["phases"][-1]["space"]) != space:
        raise UserError(f"{parent} has not been trained to the end; go on with it by onceforall train ... --resume.")
    grown = _grown_recipe(recipe, described, parent, changes, data)
    _check_network(recipe, grown, space)
    images = build_data(grown, progress)
    _check_images(images, described, parent, given=data is not None)
    whole = build_supernet(grown, images)
    whole = without_weights(whole, _wanted_space(whole.space, space, changes))
    phases = build_phases(grown, whole, images.count("train"), start=(space, str(weights.resolve())))
    return GrownRun(parent, grown, images, network, phases, origin_of(parent, name, weights))


def _grown_recipe(
    recipe: Recipe, described: Mapping[str, Any], parent: Path, changes: Sequence[str], data: str | Path | None
) -> Recipe:
    """The recipe of the new run.

    A run by progressive expansion keeps its arguments, any other the size of its batches. Images are prepared as they
    were and those that are known keep their split.
    """
    last, prepared = described["phases"][-1], described["data"]["preparation"]
    schedule: dict[str, Any] = {"name": "progressive_expansion", "batch_size": last["batch_size"]}
    every: dict[str, Any] = {"validate_every": last["validate_every"]}
    if recipe.schedule.get("name") == schedule["name"]:
        of_old = ("total_epochs", "total_macs", "epochs_per_phase", "only", "fixed")
        schedule |= {key: value for key, value in recipe.schedule.items() if key not in of_old}
        schedule |= {"epochs_per_phase": last["epochs"] + last["warmup_epochs"]}
        every = {**recipe.phases.get("all", {}), **every}
    options = replace(prepared_alike(recipe.data, prepared), split_csv=str((parent / SPLITS).resolve()))
    if data is not None:
        volumes = replace(options.volumes, subjects=None)
        kind = "auto" if options.kind == "digits" else options.kind
        options = replace(options, path=str(data), kind=kind, volumes=volumes)
    run = replace(recipe.run, max_minutes=None)  # it was for one session of the old one
    base = replace(recipe, data=options, schedule=schedule, phases={"all": every}, run=run)
    return change_recipe(base, [_as_override(text) for text in changes])


def _as_override(text: str) -> str:
    """`network.depths=[1,2,3]` for `depths=1,2,3`; anything else as it is."""
    key, equals, value = text.partition("=")
    if not equals or key not in GROWING_FACTORS:
        return text
    return f"network.{key}={value if value.lstrip().startswith('[') else f'[{value}]'}"


def _wanted_space(whole: SearchSpace, space: SearchSpace, changes: Sequence[str]) -> SearchSpace:
    """Of the choices of the recipe those that the run ended with, and all of the factors that `changes` name.

    So what a rule to stop took back, or a schedule of one factor never opened, stays out until it is asked for.
    """
    named = {_as_override(text).partition("=")[0].removeprefix("network.") for text in changes}
    kept: dict[str, Any] = {
        factor: tuple(choice for choice in getattr(whole, factor) if choice in getattr(space, factor))
        for factor in GROWING_FACTORS
        if factor not in named and getattr(whole, factor)
    }
    return narrowed(whole, **kept)


def _check_network(recipe: Recipe, grown: Recipe, space: SearchSpace) -> None:
    """Raise `UserError` unless the network differs in choices only, and keeps all it has."""
    for field in fields(recipe.network):
        name, before, now = field.name, getattr(recipe.network, field.name), getattr(grown.network, field.name)
        if before == now:
            continue
        if name not in GROWING_FACTORS:
            raise UserError(f"network.{name} {now!r}: a network that grows keeps {before!r}.")
        space.extend(**{name: now or ()})


def _check_images(images: DataSet, described: Mapping[str, Any], parent: Path, given: bool) -> None:
    """Raise `UserError` where the images have other classes, or are not the same though no others were `given`."""
    before, now = described["data"]["classes"], list(images.classes)
    if before != now:
        raise UserError(f"the {images.inputs} have the classes {', '.join(now)}; {parent} knows {', '.join(before)}.")
    if not given:
        check_same_inputs(images, described, parent)
