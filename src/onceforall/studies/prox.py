"""ProX (ICIP 2022) as data: its data sets with the paper's numbers, the methods, and the scales here."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, final

from onceforall.studies.study import Scale

__all__ = [
    "BASELINE",
    "DATA_SETS",
    "FAMILIES",
    "INCREASING",
    "METHODS",
    "MIXED",
    "SCALES",
    "SINGLES",
    "TIME_RATIOS",
    "PaperData",
    "scale_of",
]

BASELINE, MIXED, INCREASING, SANDWICH = "ps", "prox-mr", "prox-ir", "sandwich"
SINGLES = {"single-smallest": "smallest", "single-middle": "middle", "single-largest": "largest"}
"""Runs of one network by itself -> which of each factor's choices it has."""

METHODS: Mapping[str, tuple[str, ...]] = {
    BASELINE: (BASELINE,),
    MIXED: (MIXED,),
    INCREASING: (INCREASING,),
    SANDWICH: (SANDWICH,),
    "separate": tuple(SINGLES),
}
"""Names on the command line -> runs that belong to them. The baseline is faithful progressive shrinking."""


@final
@dataclass(frozen=True)
class PaperData:
    """A data set of the paper, or another that stands for one.

    Args:
        title: for people.
        task: what is answered.
        recipes: scale -> which of `FAMILIES` trains on it there; a scale that is missing cannot be run yet.
        scores: run -> mean score of the paper's sub-networks, a share.
        hours: run -> training time in the paper.
        overrides, drawn: scale -> what stands there instead of the scale's own.
    """

    title: str
    task: Literal["classification", "segmentation"]
    recipes: Mapping[str, str]
    scores: Mapping[str, float] = field(default_factory=dict)
    hours: Mapping[str, float] = field(default_factory=dict)
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    drawn: Mapping[str, int] = field(default_factory=dict)


def _of_runs(*numbers: float) -> dict[str, float]:
    return dict(zip((BASELINE, MIXED, INCREASING), numbers, strict=True))


_TINY_VOLUMES = (
    "network.poolings=2",
    "network.resolutions=[8,12]",
    "network.width_mult=0.125",
    "schedule.total_epochs=4",
    "data.validation_fraction=0.1",
    "data.test_fraction=0.2",
    "phases.all.batch_size=4",
    "phases.all.validate_every=4",
    "run.micro_batches=1",
    "run.random_validation=0",
    "run.calibration_images=4",
    "run.checkpoint_every=1000",
)
_SMALL_VOLUMES = ("data.volumes.subjects=60", "schedule.total_epochs=24", "phases.all.validate_every=6")

DATA_SETS: Mapping[str, PaperData] = {
    "oct": PaperData(
        "retinal OCT (ROCT)",
        "classification",
        {"small": "images", "paper": "oct"},
        _of_runs(0.9416, 0.9922, 0.9772),
        _of_runs(9, 3.75, 3),
    ),
    "hippocampus": PaperData(
        "hippocampus",
        "segmentation",
        {"tiny": "hippocampus", "small": "hippocampus-quick", "paper": "hippocampus"},
        _of_runs(0.2464, 0.2866, 0.4083),
        overrides={"tiny": _TINY_VOLUMES, "small": _SMALL_VOLUMES},
        drawn={"small": 40},
    ),
    "brats": PaperData(
        "BRATS",
        "segmentation",
        {"tiny": "brats", "paper": "brats"},
        _of_runs(0.3792, 0.4235, 0.4693),
        overrides={"tiny": _TINY_VOLUMES},
    ),
    "images": PaperData("a folder of images", "classification", {"small": "images"}),
    "digits": PaperData("the built-in digits", "classification", {"tiny": "digits"}),
}
"""Data sets by the names of `--data`; the first three are the paper's."""

TIME_RATIOS = (0.32, 0.63)
"""Training time of ProX as a share of progressive shrinking's, over the paper's three data sets: 37 to 68 % less."""

_TINY = ("network.name=prox_mobilenet", "network.width_mult=0.25", "network.kernel_rule=transform")
_SMALL = (*_TINY, "network.depths=[1,2,3]", "schedule.subnets_per_step=1")
_EQUALLY = ("phases.all.stop_rule=null", "schedule.epochs_per_phase=null", "schedule.learning_rate=0.002")
_QUICK = ("hippocampus-quick", *_EQUALLY)
_QUICK_OTHER = (*_QUICK, "phases.all.batch_size=2", "schedule.batch_size=null")
_HALVES = ("phases.all.task_weight=0.5", "phases.all.distillation_weight=0.5", "network.kernel_rule=transform")


def _of_recipes(data: str) -> Mapping[str, tuple[str, ...]]:
    """The runs of a data set whose recipes are named after the methods."""
    names = {run: (f"{data}-{run}",) for run in (BASELINE, MIXED, INCREASING)}
    other = "schedule.subnets_per_step=1", "schedule.rows=null"
    return names | {SANDWICH: (f"{data}-{BASELINE}", "schedule.name=sandwich", *other)}


FAMILIES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "digits": {
        BASELINE: ("digits-ps", *_TINY),
        MIXED: ("digits-prox", "schedule.mode=mixed"),
        INCREASING: ("digits-prox",),
        SANDWICH: ("digits-sandwich", *_TINY, "schedule.subnets_per_step=1"),
    },
    "images": {
        BASELINE: ("images-ps", *_SMALL),
        MIXED: ("images-prox-mr", "network.width_mult=0.25"),
        INCREASING: ("images-prox-ir", "network.width_mult=0.25"),
        SANDWICH: ("images-sandwich", *_SMALL),
    },
    "hippocampus-quick": {
        BASELINE: (
            *_QUICK_OTHER,
            "network.kernel_rule=transform",
            "schedule.name=progressive_shrinking",
            "schedule.rows=even",
            "schedule.learning_rate=null",
            "phases.all.learning_rate=0.002",
        ),
        MIXED: _QUICK,
        INCREASING: (*_QUICK, "schedule.mode=increasing"),
        SANDWICH: (
            *_QUICK_OTHER,
            *_HALVES,
            "schedule.name=sandwich",
            "schedule.subnets_per_step=1",
        ),
    },
    **{data: _of_recipes(data) for data in ("oct", "hippocampus", "brats")},
}
"""Family -> run -> recipe and its changes. Networks trained by themselves take the baseline's."""

_EQUAL = "the same number of epochs for every run, one sub-network a step"
SCALES: Mapping[str, Scale] = {
    scale.name: scale
    for scale in (
        Scale(
            "tiny",
            "five of the built-in digits (8x8 pixels enlarged), no medical images, 0.25 of the network's widths, "
            "6 epochs; volumes in cubes of 8 and 12 voxels, 0.125 of the network's widths, two poolings, 4 epochs; "
            f"12 sub-networks measured. It shows that everything works, and no scores; {_EQUAL}",
            overrides=(
                "network.resolutions=[16,24]",
                "schedule.total_epochs=6",
                "data.classes=5",
                "data.validation_fraction=0.1",
                "data.test_fraction=0.6",
                "phases.all.batch_size=32",
                "phases.all.validate_every=6",
                "run.random_validation=0",
                "run.calibration_images=64",
                "run.checkpoint_every=1000",
            ),
            drawn=12,
        ),
        Scale(
            "small",
            "images of 48, 56 and 64 pixels; 0.25 of the network's widths; 28 epochs instead of 70; 60 sub-networks "
            "measured instead of 11,000. 60 hippocampus volumes of 48x64x48 and 40x56x40 voxels, half of the network's "
            f"widths but depth 1 and 2, 24 epochs; 40 sub-networks measured instead of 5,000; {_EQUAL}",
            overrides=(
                "schedule.total_epochs=28",
                "phases.all.validate_every=4",
                "run.calibration_images=256",
            ),
            drawn=60,
        ),
        Scale(
            "paper",
            "the sound layout of the network and classes drawn equally often; 150 sub-networks measured instead of "
            "11,000 and 5,000. Increasing resolution has two phases more and so more epochs, 90 instead of 70 for "
            "retinal OCT, as in the paper's code; --set schedule.total_epochs=70 makes them equal",
            drawn=150,
        ),
    )
}
"""How large the study can be made, by name; `drawn` are the sub-networks that are measured of each run."""


def scale_of(data: str, scale: Scale) -> Scale:
    """The scale with what a data set has instead of its own overrides and number of sub-networks."""
    known = DATA_SETS[data]
    overrides = known.overrides.get(scale.name, scale.overrides)
    return replace(scale, overrides=overrides, drawn=known.drawn.get(scale.name, scale.drawn))
