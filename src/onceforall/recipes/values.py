"""What a run needs, as typed values."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, final

from onceforall.architecture import as_resolution
from onceforall.data import Augmentation, VolumeAugmentation
from onceforall.training.options import RunOptions

__all__ = ["DataOptions", "NetworkOptions", "Recipe", "TaskOptions", "VolumeFields"]


@final
@dataclass(frozen=True)
class NetworkOptions:
    """The elastic network; see `create_supernet`. Classes and channels are those of the data.

    `paths` are level codes. Resolutions are sides, or lists of one size for each axis. What is none is as the network's
    name says. `weights` is the file of a saved network with whose weights training begins; its last layer is drawn anew
    where it has other classes, or these in another order.
    """

    name: str = "ofa_mbv3"
    width_mult: float = 1.0
    kernel_sizes: tuple[int, ...] = (3, 5, 7)
    expand_ratios: tuple[float, ...] | None = (3, 4, 6)
    depths: tuple[int, ...] = (2, 3, 4)
    resolutions: tuple[Any, ...] = (48, 56, 64)
    paths: tuple[int, ...] | None = None
    heights: tuple[int, ...] | None = None
    kernel_rule: str | None = None
    layout: str | None = None
    widths: tuple[float, ...] | None = None
    poolings: int | None = None
    base_width: int | None = None
    elastic_head: bool | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "resolutions", tuple(map(as_resolution, self.resolutions)))


@final
@dataclass(frozen=True)
class VolumeFields:
    """What only volumes have; see `load_volumes` for each field.

    `box` is its `max_resolution`; by default the largest of the network's resolutions.
    """

    scheme: str = "classes"
    mode: str = "whole"
    fit: str = "pad"
    spacing: tuple[float, float, float] | None = None
    box: tuple[int, int, int] | None = None
    clip: tuple[float, float] = (0.5, 99.5)
    foreground_crop: bool = False
    subjects: int | None = None
    augmentation: VolumeAugmentation = field(default_factory=VolumeAugmentation)


@final
@dataclass(frozen=True)
class DataOptions:
    """The data and their splits; see `load_data` for each field, and `load_volumes` for kind "volumes".

    Of volumes, `path`, the fractions, `seed`, `split_csv`, the groups and `volumes` count; another is an error.
    """

    kind: str = "auto"
    path: str | None = None
    classes: int | None = None
    image_size: int | None = None
    channels: int | None = None
    fit: str = "crop"
    white_border: str = "keep"
    crop_ratio: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    seed: int = 0
    split_csv: str | None = None
    group_pattern: str | None = None
    group_csv: str | None = None
    group_column: str | None = None
    train_per_class: int | None = None
    validation_per_class: int | None = None
    rest_to_test: bool = True
    skip_unreadable: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)
    volumes: VolumeFields = field(default_factory=VolumeFields)


@final
@dataclass(frozen=True)
class TaskOptions:
    """Losses; see `classification` for images and `segmentation` for volumes, which has `loss` and `dice`.

    `class_weights` "balanced" weighs classes by the inverse of their images.
    """

    label_smoothing: float = 0.1
    class_weights: Literal["none", "balanced"] = "none"
    distance: str = "soft_targets"
    temperature: float = 1.0
    loss: Literal["dice_ce", "dice"] = "dice_ce"
    dice: Literal["batch", "sample"] = "batch"


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
