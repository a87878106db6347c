"""Recipes: everything a run needs, as one typed value, and functions that return the ones that ship.

A recipe is changed by `key=value` overrides. A misspelt key is an error that names the nearest one; nothing is
ignored.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, final

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from onceforall.data import Augmentation, ImageData, load_data
from onceforall.errors import UserError, check_choice, suggestion
from onceforall.evaluation.tasks import Task, classification
from onceforall.supernets.registry import create_supernet
from onceforall.supernets.supernet import Supernet
from onceforall.training.loop import RunOptions
from onceforall.training.phases import Phase
from onceforall.training.schedules import SCHEDULES

__all__ = [
    "RECIPES",
    "DataOptions",
    "NetworkOptions",
    "Recipe",
    "TaskOptions",
    "build_data",
    "build_phases",
    "build_supernet",
    "build_task",
    "make_recipe",
    "recipe_from_dict",
]


@final
@dataclass(frozen=True)
class NetworkOptions:
    """The elastic network; see `create_supernet`. Classes and channels are those of the data.

    `paths` are level codes; without them and `heights` the network has those that its name stands for.
    """

    name: str = "ofa_mbv3"
    width_mult: float = 1.0
    kernel_sizes: tuple[int, ...] = (3, 5, 7)
    expand_ratios: tuple[float, ...] = (3, 4, 6)
    depths: tuple[int, ...] = (2, 3, 4)
    resolutions: tuple[int, ...] = (48, 56, 64)
    paths: tuple[int, ...] | None = None
    heights: tuple[int, ...] | None = None
    kernel_rule: str = "transform"


@final
@dataclass(frozen=True)
class DataOptions:
    """The images and their splits; see `load_data` for each field."""

    kind: str = "auto"
    path: str | None = None
    classes: int | None = None
    image_size: int | None = None
    channels: int | None = None
    fit: str = "crop"
    crop_ratio: float | None = None
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    seed: int = 0
    group_pattern: str | None = None
    group_csv: str | None = None
    group_column: str | None = None
    train_per_class: int | None = None
    validation_per_class: int | None = None
    rest_to_test: bool = True
    skip_unreadable: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)


@final
@dataclass(frozen=True)
class TaskOptions:
    """Losses; see `classification`. `class_weights` "balanced" weighs classes by the inverse of their images."""

    label_smoothing: float = 0.1
    class_weights: Literal["none", "balanced"] = "none"
    distance: str = "soft_targets"
    temperature: float = 1.0


@final
@dataclass(frozen=True)
class Recipe:
    """A whole run.

    Args:
        name: of the recipe.
        network: what is trained.
        data: on what.
        task: against what.
        schedule: "name", one of `SCHEDULES`, and arguments of that function.
        phases: fields of phases that differ from the schedule's, by the phase's name, or "all" for every phase.
        run: how the run is carried out.
    """

    name: str
    network: NetworkOptions = field(default_factory=NetworkOptions)
    data: DataOptions = field(default_factory=DataOptions)
    task: TaskOptions = field(default_factory=TaskOptions)
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "progressive_shrinking"})
    phases: dict[str, Any] = field(default_factory=dict)
    run: RunOptions = field(default_factory=RunOptions)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        return asdict(self)


# -- recipes ------------------------------------------------------------------------------------------------------


def digits_ps() -> Recipe:
    """A small elastic network on the built-in digits by progressive shrinking.

    Paper: Once-for-All (ICLR 2020), its schedule scaled down. Command: `onceforall train digits-ps --out runs/digits`.
    Time and hardware: about 2 minutes on one processor core. Metric: accuracy on held-out digits, at least 0.97 for
    the largest and 0.94 for the smallest sub-network.
    """
    return Recipe(
        "digits-ps",
        NetworkOptions(
            width_mult=0.5, kernel_sizes=(3, 5), expand_ratios=(3, 4, 6), depths=(1, 2), resolutions=(24, 32)
        ),
        DataOptions(kind="digits", augmentation=Augmentation(scale=(0.85, 1.0), horizontal_flip=False)),
        schedule={"name": "progressive_shrinking", "total_epochs": 60},
        phases={"all": {"validate_every": 4}},
        run=RunOptions(calibration_images=256, threads=1),  # so small a network gains nothing from a second thread
    )


def digits_sandwich() -> Recipe:
    """The same network on digits by the sandwich rule.

    Paper: US-Nets (ICCV 2019), BigNAS (ECCV 2020). Command: `onceforall train digits-sandwich --out runs/digits-sw`.
    Time and hardware: about 2 minutes on 2 processor cores. Metric: accuracy on held-out digits.
    """
    schedule = {"name": "sandwich", "total_epochs": 24}
    return replace(digits_ps(), name="digits-sandwich", schedule=schedule)


def images_ps() -> Recipe:
    """OFA-MobileNetV3 at width 0.5 on a folder of images by progressive shrinking, for a few thousand images.

    Paper: Once-for-All (ICLR 2020), its schedule scaled to 64 epochs and one sub-network a step.
    Command: `onceforall train images-ps --data photos --out runs/photos`. Time and hardware: 28 minutes for 2,100
    grey images of 64 pixels on one thread of a busy AMD EPYC. Metric: accuracy on 450 held-out images of six kinds
    of medical images; largest 0.993, smallest 0.989, mean of 50 random sub-networks 0.993 (with 28 epochs, in
    6 minutes: 0.989, 0.973, 0.988).
    """
    return Recipe(
        "images-ps",
        NetworkOptions(width_mult=0.5),
        DataOptions(crop_ratio=1.0),
        schedule={"name": "progressive_shrinking", "total_epochs": 64},
        phases={"all": {"validate_every": 4}},
    )


def images_sandwich() -> Recipe:
    """OFA-MobileNetV3 at width 0.5 on a folder of images by the sandwich rule.

    Paper: US-Nets (ICCV 2019), BigNAS (ECCV 2020), with the largest, the smallest and two random sub-networks a step.
    Command: `onceforall train images-sandwich --data photos --out runs/photos-sandwich`. Time and hardware: with
    `--set schedule.subnets_per_step=1`, 19 minutes for 2,100 grey images of 64 pixels on one thread of a busy AMD
    EPYC; not timed with four. Metric: accuracy on the same 450 images, one sub-network a step: largest 0.993,
    smallest 0.991, mean of 50 random sub-networks 0.991.
    """
    return replace(images_ps(), name="images-sandwich", schedule={"name": "sandwich", "total_epochs": 64})


def tiny_imagenet_eps() -> Recipe:
    """OFAv2's best network, early exits and dense skips, on Tiny ImageNet by extended progressive shrinking.

    Paper: OFAv2 (2023), section IV; Table III. Command: `onceforall train tiny-imagenet-eps --data tiny-imagenet-200
    --out runs/tiny`; `--set network.name=ofa_mbv3 --set schedule.teacher=fixed` is the paper's baseline. Time and
    hardware: the paper names 1.5 days on one Quadro RTX 6000; not run here. Metric: top-1 accuracy on the official
    validation images; the paper's best sub-network reaches 0.519 (0.442 on average), its baseline's 0.398.
    """
    return Recipe(
        "tiny-imagenet-eps",
        NetworkOptions("ee_d_ofa_mbv3", resolutions=(48, 52, 56, 60, 64)),
        DataOptions(kind="tiny_imagenet"),
        schedule={"name": "extended_progressive_shrinking", "rows": "paper"},
        run=RunOptions(calibration_images=1000),
    )


def digits_eps() -> Recipe:
    """A small network with early exits and dense skips on the built-in digits by extended progressive shrinking.

    Paper: OFAv2 (2023), its schedule scaled down. Command: `onceforall train digits-eps --out runs/digits-eps`. Time
    and hardware: about 2 minutes on one processor core. Metric: accuracy on held-out digits.
    """
    return replace(
        digits_ps(),
        name="digits-eps",
        network=replace(digits_ps().network, name="ee_d_ofa_mbv3", width_mult=0.35),
        schedule={"name": "extended_progressive_shrinking", "total_epochs": 60},
        run=replace(digits_ps().run, extreme_validation=8),
    )


def imagenet_ps() -> Recipe:
    """OFA-MobileNetV3 on ImageNet by progressive shrinking with the paper's numbers.

    Paper: Once-for-All (ICLR 2020), section 4.1; the full network's learning rate is that of the only other published
    configuration. Command: `torchrun --nproc-per-node 8 -m onceforall train imagenet-ps --data imagenet --out
    runs/imagenet`. Time and hardware: the paper names 1,200 V100 hours; not run here. Metric: top-1 accuracy; the
    paper's largest sub-network reaches about 0.77 at width 1.0.
    """
    return Recipe(
        "imagenet-ps",
        NetworkOptions(resolutions=tuple(range(128, 225, 4))),
        DataOptions(
            kind="folder",
            image_size=256,
            validation_fraction=0.008,
            augmentation=Augmentation(scale=(0.08, 1.0), brightness=32 / 255, saturation=0.5),
        ),
        schedule={"name": "progressive_shrinking", "rows": "paper"},
        run=RunOptions(precision="bf16", micro_batches=32, calibration_images=2000, checkpoint_every=500),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "digits-ps": digits_ps,
    "digits-eps": digits_eps,
    "digits-sandwich": digits_sandwich,
    "images-ps": images_ps,
    "images-sandwich": images_sandwich,
    "tiny-imagenet-eps": tiny_imagenet_eps,
    "imagenet-ps": imagenet_ps,
}
"""Recipes by name."""


# -- making and changing ------------------------------------------------------------------------------------------


def make_recipe(name: str, overrides: Sequence[str] = (), data: str | Path | None = None) -> Recipe:
    """The recipe `name` with `key=value` overrides, and with `data` as the path of its images.

    Keys are dotted (`network.width_mult=0.5`, `phases.kernel.learning_rate=0.01`, `phases.all.batch_size=32`).
    Raises `UserError` for an unknown recipe or key and for a value of a wrong type.
    """
    check_choice("recipe", name, RECIPES)
    recipe = RECIPES[name]()
    if data is not None:
        kind = "auto" if recipe.data.kind == "digits" else recipe.data.kind
        recipe = replace(recipe, data=replace(recipe.data, path=str(data), kind=kind))
    return _merge(recipe, overrides)


def recipe_from_dict(data: Mapping[str, Any]) -> Recipe:
    """The inverse of `Recipe.to_dict`."""
    if not isinstance(data.get("name"), str):
        raise UserError("a recipe needs a name.")
    return _merge(Recipe(data["name"]), [], data)


def _merge(recipe: Recipe, overrides: Sequence[str], values: Mapping[str, Any] | None = None) -> Recipe:
    for text in overrides:
        if "=" not in text:
            raise UserError(f"--set {text!r}: give it as key=value, for example network.width_mult=0.5.")
        if "${" in text:
            raise UserError(f"--set {text!r}: references with '${{' are not allowed.")
    base = OmegaConf.structured(recipe)
    try:
        merged = OmegaConf.merge(base, OmegaConf.create(dict(values or {})), OmegaConf.from_dotlist(list(overrides)))
        result = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        keys = ", ".join(_keys(recipe))
        reason = str(error).splitlines()[0]
        wrong = str(error.full_key or "")
        near = suggestion(wrong, _keys(recipe)) if "not in" in reason else ""
        allowed = f" Allowed: {keys}." if "not in" in reason else ""
        raise UserError(f"recipe {recipe.name!r}, key {wrong!r}: {reason}.{near}{allowed}") from error
    assert isinstance(result, Recipe)
    return result


def _keys(value: Any, prefix: str = "") -> list[str]:
    """Dotted names of all fields of nested dataclasses."""
    out = []
    for entry in fields(value):
        inner = getattr(value, entry.name)
        name = f"{prefix}{entry.name}"
        out += _keys(inner, f"{name}.") if isinstance(inner, _NESTED) else [name]
    return out


_NESTED = (NetworkOptions, DataOptions, TaskOptions, RunOptions, Augmentation)


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


def build_phases(recipe: Recipe, supernet: Supernet) -> list[Phase]:
    """The schedule of a recipe, with its changes to single phases."""
    arguments = dict(recipe.schedule)
    name = arguments.pop("name", None)
    check_choice("schedule.name", name, SCHEDULES)
    make = SCHEDULES[name]
    allowed = [parameter for parameter in inspect.signature(make).parameters if parameter != "space"]
    for key in arguments:
        if key not in allowed:
            near = suggestion(key, allowed)
            raise UserError(f"schedule {name!r} has no argument {key!r}.{near} Allowed: {', '.join(allowed)}.")
    phases = make(supernet.space, **arguments)
    names = [phase.name for phase in phases]
    for key, changes in recipe.phases.items():
        check_choice("phase", key, ["all", *names])
        if not isinstance(changes, Mapping):
            raise UserError(f"phases.{key}: give a field, as phases.{key}.learning_rate=0.01.")
        phases = [_changed(phase, changes) if key in ("all", phase.name) else phase for phase in phases]
    return phases


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
