"""From a recipe to data, network, task and phases."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from onceforall.architecture import side
from onceforall.data import DataSet, VolumeData, load_data, load_volumes
from onceforall.data.assembly import DataOptions as ImageOptions
from onceforall.data.volume_loading import VolumeOptions
from onceforall.errors import UserError, check_choice, suggestion
from onceforall.evaluation.segmentation import segmentation
from onceforall.evaluation.tasks import Task, classification
from onceforall.recipes.values import Recipe
from onceforall.search_space import SearchSpace
from onceforall.supernets.growth import check_extension, take_over
from onceforall.supernets.heads import with_classes
from onceforall.supernets.registry import create_supernet
from onceforall.supernets.supernet import Supernet
from onceforall.training.checkpoint import load_network, read_info
from onceforall.training.phases import Phase
from onceforall.training.plan import scale_to_macs
from onceforall.training.schedules import SCHEDULES
from onceforall.training.stop_rule import StopRule

__all__ = [
    "build_data",
    "build_phases",
    "build_supernet",
    "build_task",
    "reading_options",
    "starting_weights",
    "stored_box",
]

NOT_READING = ("data.path", "data.augmentation", "data.volumes.augmentation")
"""Beginnings of keys that say nothing of how a folder is read: its path is given, training alone augments."""


def build_data(recipe: Recipe, progress: Callable[[str, int, int], None] | None = None) -> DataSet:
    """Load the data of a recipe, and tell on standard error what their user should know of their splits."""
    path, kind = recipe.data.path, recipe.data.kind
    if path is None and kind != "digits":
        raise UserError(f"recipe {recipe.name!r} needs data: give their folder by --data PATH.")
    if kind == "volumes":
        data: DataSet = load_volumes(path or "", progress=progress, **_volume_fields(recipe))
    else:
        data = load_data(path, progress=progress, **_image_fields(recipe))
    if data.note and os.environ.get("RANK", "0") == "0":  # one of several processes speaks
        click.echo(data.note, err=True)
    return data


def _image_fields(recipe: Recipe) -> dict[str, Any]:
    """What `load_data` is told beside the path."""
    _refuse_others("data.volumes", recipe.data.volumes, (), "images")
    own = {f.name: getattr(recipe.data, f.name) for f in fields(recipe.data) if f.name not in ("path", "volumes")}
    return {"max_resolution": max(side(size) for size in recipe.network.resolutions), **own}


def _volume_fields(recipe: Recipe) -> dict[str, Any]:
    """What `load_volumes` is told beside the path."""
    data, poolings = recipe.data, recipe.network.poolings
    shared = ("validation_fraction", "test_fraction", "seed", "split_csv", "group_pattern", "group_csv", "group_column")
    _refuse_others("data", data, (*shared, "kind", "path", "volumes"), "volumes")
    own = {f.name: getattr(data.volumes, f.name) for f in fields(data.volumes) if f.name != "box"}
    stride = 1 if poolings is None else 2**poolings
    return {"max_resolution": stored_box(recipe), "stride": stride, **own, **{n: getattr(data, n) for n in shared}}


def reading_options(recipe: Recipe, overrides: Sequence[str] = ()) -> ImageOptions | VolumeOptions:
    """The options by which a recipe's data are loaded, for `check_data`.

    Raises `UserError` where one of the `overrides` from which the recipe was made says nothing of that.
    """
    volumes = recipe.data.kind == "volumes"
    networks = ("network.resolutions", "network.poolings") if volumes else ("network.resolutions",)
    for key in (text.partition("=")[0] for text in overrides):
        if key not in networks and (not key.startswith("data.") or key.startswith(NOT_READING)):
            raise UserError(
                f"--set {key} does not count for a check of data. Allowed: {', '.join(networks)} and the fields of "
                "data, but for path and augmentation."
            )
    if volumes:
        return VolumeOptions(**_volume_fields(recipe))
    return ImageOptions(**{name: value for name, value in _image_fields(recipe).items() if value is not None})


def _refuse_others(section: str, options: Any, taken: Sequence[str], kind: str) -> None:
    """Raise `UserError` where a field asks for something that this kind of data has not: it would be ignored."""
    usual = type(options)()
    for f in fields(options):
        value = getattr(options, f.name)
        if f.name not in taken and value and value != getattr(usual, f.name):
            counts = f" Allowed: {', '.join(taken)}." if taken else ""
            raise UserError(f"{section}.{f.name}={value!r} does not count for {kind}.{counts}")


def stored_box(recipe: Recipe) -> tuple[int, ...]:
    """The grid on which whole volumes are kept: the recipe's box, or the largest of its resolutions along each axis."""
    sizes = [(size,) * 3 if isinstance(size, int) else size for size in recipe.network.resolutions]
    largest, box = tuple(max(axis) for axis in zip(*sizes, strict=True)), recipe.data.volumes.box
    if box is not None and any(size > room for size, room in zip(largest, box, strict=True)):
        raise UserError(
            f"resolution {largest} is larger than the box {box} on which volumes are kept; give data.volumes.box a "
            "larger one, in which unstretched volumes have more around them at every resolution."
        )
    return largest if box is None else box


def build_supernet(recipe: Recipe, data: DataSet) -> Supernet:
    """The untrained elastic network of a recipe for the classes and channels of `data`."""
    options = {f.name: getattr(recipe.network, f.name) for f in fields(recipe.network)}
    options = {key: value for key, value in options.items() if value is not None}
    name, _ = options.pop("name"), options.pop("weights", None)
    return create_supernet(
        name, seed=recipe.run.seed, num_classes=data.num_classes, in_channels=data.channels, **options
    )


def starting_weights(recipe: Recipe, supernet: Supernet, data: DataSet) -> Supernet:
    """`supernet`, with all that it can take over from the saved network of the recipe where this names one.

    Its last layer is among it where the classes, if they are known there, are those of `data` in the same order.
    Raises `UserError` where that is a network of another kind, or has choices, but of resolutions, that `supernet` has
    not.
    """
    if recipe.network.weights is None:
        return supernet
    path = Path(recipe.network.weights)
    saved, known = load_network(path).to(next(supernet.parameters())), read_info(path).get("classes")
    own, differing = supernet.options | {"class": type(supernet).__name__}, []
    for name, value in (saved.options | {"class": type(saved).__name__}).items():
        if name not in ("num_classes", "dropout") and own.get(name) != value:
            differing.append(f"{name} is {value} there and {own.get(name)} here")
    if differing:
        raise UserError(f"network.weights {recipe.network.weights}: another kind of network, {'; '.join(differing)}.")
    check_extension(replace(saved.space, resolutions=supernet.space.resolutions), supernet.space)
    same = saved.options["num_classes"] == supernet.options["num_classes"] and known in (None, list(data.classes))
    take_over(supernet, saved if same else with_classes(saved, supernet.options["num_classes"], recipe.run.seed))
    return supernet


def build_task(recipe: Recipe, data: DataSet) -> Task:
    """Losses and metric of a recipe."""
    options = recipe.task
    common: dict[str, Any] = {"distance": options.distance, "temperature": options.temperature}
    own = ("loss", "dice") if isinstance(data, VolumeData) else ("label_smoothing", "class_weights")
    _refuse_others("task", options, (*own, *common), data.inputs)
    if isinstance(data, VolumeData):
        return segmentation(data.scheme, loss=options.loss, dice=options.dice, **common)
    weights = data.class_weights().tolist() if options.class_weights == "balanced" else None
    return classification(label_smoothing=options.label_smoothing, class_weights=weights, **common)


def build_phases(
    recipe: Recipe, supernet: Supernet, images: int | None = None, start: tuple[SearchSpace, str] | None = None
) -> list[Phase]:
    """The schedule of a recipe for `images` training images, with its changes to single phases.

    Beside the arguments of the schedule's function it may have `total_macs`: the multiply-adds of all students and
    teachers to which the epochs are scaled. `start` is the space and the path of a trained network that grows.
    """
    arguments = {key: value for key, value in recipe.schedule.items() if value is not None}  # null takes one away
    name, total_macs = arguments.pop("name", None), arguments.pop("total_macs", None)
    check_choice("schedule.name", name, SCHEDULES)
    make = SCHEDULES[name]
    own = ("space", "start", "start_teacher")
    allowed = [parameter for parameter in inspect.signature(make).parameters if parameter not in own]
    for key in arguments:
        if key not in allowed:
            near = suggestion(key, allowed)
            raise UserError(f"schedule {name!r} has no argument {key!r}.{near} Allowed: {', '.join(allowed)}.")
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
            inner: Any = getattr(phase, key) or (StopRule() if key == "stop_rule" else None)
            known = [f.name for f in fields(inner)] if key in ("teacher", "freeze", "stop_rule") else []
            for name in value:
                if name not in known:
                    raise UserError(f"{key} of phase {phase.name!r} has no field {name!r}.{suggestion(name, known)}")
            value = replace(inner, **{name: _frozen(each) for name, each in value.items()})
        values[key] = _frozen(value)
    return replace(phase, **values)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
