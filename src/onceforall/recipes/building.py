"""From a recipe to data, network, task and phases."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from onceforall.data import ImageData, load_data
from onceforall.errors import UserError, check_choice, suggestion
from onceforall.evaluation.tasks import Task, classification
from onceforall.recipes.values import Recipe
from onceforall.search_space import SearchSpace
from onceforall.supernets.registry import create_supernet
from onceforall.supernets.supernet import Supernet
from onceforall.training.phases import Phase
from onceforall.training.plan import scale_to_macs
from onceforall.training.schedules import SCHEDULES

__all__ = ["build_data", "build_phases", "build_supernet", "build_task"]


def build_data(recipe: Recipe, progress: Callable[[str, int, int], None] | None = None) -> ImageData:
    """Load the images of a recipe."""
    options = {f.name: getattr(recipe.data, f.name) for f in fields(recipe.data)}
    path, kind = options.pop("path"), options.pop("kind")
    if path is None and kind != "digits":
        raise UserError(f"recipe {recipe.name!r} needs images: give their folder by --data PATH.")
    return load_data(path, kind, max_resolution=max(recipe.network.resolutions), progress=progress, **options)


def build_supernet(recipe: Recipe, data: ImageData) -> Supernet:
    """The untrained elastic network of a recipe for the classes and channels of `data`."""
    options = {f.name: getattr(recipe.network, f.name) for f in fields(recipe.network)}
    options = {key: value for key, value in options.items() if value is not None}
    name = options.pop("name")
    return create_supernet(
        name, seed=recipe.run.seed, num_classes=data.num_classes, in_channels=data.channels, **options
    )


def build_task(recipe: Recipe, data: ImageData) -> Task:
    """Losses and metric of a recipe."""
    options = recipe.task
    weights = data.class_weights().tolist() if options.class_weights == "balanced" else None
    return classification(
        label_smoothing=options.label_smoothing,
        class_weights=weights,
        distance=options.distance,
        temperature=options.temperature,
    )


def build_phases(
    recipe: Recipe, supernet: Supernet, images: int | None = None, start: tuple[SearchSpace, str] | None = None
) -> list[Phase]:
    """The schedule of a recipe for `images` training images, with its changes to single phases.

    Beside the arguments of the schedule's function it may have `total_macs`: the multiply-adds of all students and
    teachers to which the epochs are scaled. `start` is the space and the path of a trained network that grows.
    """
    arguments = dict(recipe.schedule)
    name, total_macs = arguments.pop("name", None), arguments.pop("total_macs", None)
    check_choice("schedule.name", name, SCHEDULES)
    make = SCHEDULES[name]
    own = ("space", "start", "start_teacher")
    allowed = [parameter for parameter in inspect.signature(make).parameters if parameter not in own]
    for key in arguments:
        if key not in allowed:
            near = suggestion(key, allowed)
            raise UserError(f"schedule {name!r} has no argument {key!r}.{near} Allowed: {', '.join(allowed)}.")
    arguments = {key: value for key, value in arguments.items() if value is not None}
    if start is not None:
        if "start" not in inspect.signature(make).parameters:
            raise UserError(f"schedule {name!r} begins anew; a trained network grows by progressive_expansion.")
        arguments |= {"start": start[0], "start_teacher": start[1]}
    phases = make(supernet.space, **arguments)
    names = [phase.name for phase in phases]
    for key, changes in recipe.phases.items():
        check_choice("phase", key, ["all", *names])
        if not isinstance(changes, Mapping):
            raise UserError(f"phases.{key}: give a field, as phases.{key}.learning_rate=0.01.")
        phases = [_changed(phase, changes) if key in ("all", phase.name) else phase for phase in phases]
    if total_macs is None or images is None:
        return phases
    if isinstance(total_macs, bool) or not isinstance(total_macs, int | float) or not total_macs > 0:
        raise UserError(f"schedule.total_macs {total_macs!r}: must be a positive number, such as 2.5e12.")
    if "total_epochs" in arguments:
        raise UserError("schedule: give total_macs or total_epochs; schedule.total_epochs=null takes the latter away.")
    return scale_to_macs(supernet, phases, images, total_macs)


def _changed(phase: Phase, changes: Mapping[str, Any]) -> Phase:
    allowed = [f.name for f in fields(Phase) if f.name not in ("name", "space", "favoured")]
    values: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in allowed:
            near = suggestion(key, allowed)
            raise UserError(f"phase {phase.name!r} has no field {key!r}.{near} Allowed: {', '.join(allowed)}.")
        if isinstance(value, Mapping):
            inner = getattr(phase, key)
            known = [f.name for f in fields(inner)] if key in ("teacher", "freeze") else []
            for name in value:
                if name not in known:
                    raise UserError(f"{key} of phase {phase.name!r} has no field {name!r}.{suggestion(name, known)}")
            value = replace(inner, **value)
        values[key] = tuple(value) if isinstance(value, list) else value
    return replace(phase, **values)
