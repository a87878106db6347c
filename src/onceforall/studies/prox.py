"""ProX (ICIP 2022) as data: its data sets with the paper's numbers, the methods, and the scales here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """

    title: str
    task: Literal["classification", "segmentation"]
    recipes: Mapping[str, str]
    scores: Mapping[str, float] = field(default_factory=dict)
    hours: Mapping[str, float] = field(default_factory=dict)


def _of_runs(*numbers: float) -> dict[str, float]:
    return dict(zip((BASELINE, MIXED, INCREASING), numbers, strict=True))


DATA_SETS: Mapping[str, PaperData] = {
    "oct": PaperData(
        "retinal OCT (ROCT)",
        "classification",
        {"small": "images", "paper": "oct"},
        _of_runs(0.9416, 0.9922, 0.9772),
        _of_runs(9, 3.75, 3),
    ),
    "hippocampus": PaperData("hippocampus", "segmentation", {}, _of_runs(0.2464, 0.2866, 0.4083)),
    "brats": PaperData("BRATS", "segmentation", {}, _of_runs(0.3792, 0.4235, 0.4693)),
    "images": PaperData("a folder of images", "classification", {"small": "images"}),
    "digits": PaperData("the built-in digits", "classification", {"tiny": "digits"}),
}
"""Data sets by the names of `--data`; the first three are the paper's."""

TIME_RATIOS = (0.32, 0.63)
"""Training time of ProX as a share of progressive shrinking's, over the paper's three data sets: 37 to 68 % less."""

_TINY = ("network.name=prox_mobilenet", "network.width_mult=0.25", "network.kernel_rule=transform")
_SMALL = (*_TINY, "network.depths=[1,2,3]", "schedule.subnets_per_step=1")
_OCT_SANDWICH = ("schedule.name=sandwich", "schedule.subnets_per_step=1")
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
    "oct": {
        BASELINE: ("oct-ps",),
        MIXED: ("oct-prox-mr",),
        INCREASING: ("oct-prox-ir",),
        SANDWICH: ("oct-ps", *_OCT_SANDWICH),
    },
}
"""Family -> run -> recipe and its changes. Networks trained by themselves take the baseline's."""

_EQUAL = "the same number of epochs for every run, one sub-network a step"
SCALES: Mapping[str, Scale] = {
    scale.name: scale
    for scale in (
        Scale(
            "tiny",
            "five of the built-in digits (8x8 pixels enlarged), no medical images; 0.25 of the network's widths; "
            f"6 epochs; 12 sub-networks measured. It shows that everything works, and no scores; {_EQUAL}",
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
            f"measured instead of 11,000; {_EQUAL}",
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
            "11,000. Increasing resolution has 9 phases of 10 epochs and so 90 epochs, the others 70, as in the "
            "paper's code; --set schedule.total_epochs=70 makes them equal",
            drawn=150,
        ),
    )
}
"""How large the study can be made, by name; `drawn` are the sub-networks that are measured of each run."""
