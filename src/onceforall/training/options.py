"""How a run is carried out, whatever it trains."""

from dataclasses import dataclass
from typing import Literal, final

import torch

from onceforall.errors import UserError, check_choice
from onceforall.evaluation.calibration import CalibrationRule

__all__ = ["PRECISIONS", "RunOptions"]

PRECISIONS = {"fp64": None, "fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Data type of autocast by name; the first two run without."""

_LEAST = {
    "seed": 0,
    "micro_batches": 1,
    "checkpoint_every": 1,
    "calibration_images": 2,
    "random_validation": 0,
    "extreme_validation": 2,
}
_LEAST_OR_NONE = {"max_minutes": 0, "validation_images": 1, "threads": 1}


@final
@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out, whatever it trains.

    Args:
        seed: of everything that is drawn.
        device: "auto", "cpu" or "cuda".
        precision: "fp32"; "bf16" or "fp16" by autocast; "fp64" for tests.
        micro_batches: parts of a batch that are passed one after another (or by other processes). Batch
            normalisation, dropout and augmentation see one part; the number of processes must divide it.
        checkpoint_every: steps between states to resume from.
        max_minutes: stop, resumable, after this time.
        calibration_images: training images for re-estimating batch normalisation.
        calibration_rule: see `calibrate`.
        validation_images: images of the validation split that are used while training; None for all.
        balance: "classes" draws every class equally often, with replacement; "none" passes every image once an epoch.
        random_validation: random architectures that are validated beside the smallest and the largest.
        extreme_validation: most architectures that are validated where a phase is judged by extremes.
        threads: processor threads of torch; None leaves them.
    """

    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    micro_batches: int = 1
    checkpoint_every: int = 200
    max_minutes: float | None = None
    calibration_images: int = 512
    calibration_rule: CalibrationRule = "reference"
    validation_images: int | None = None
    balance: Literal["none", "classes"] = "none"
    random_validation: int = 2
    extreme_validation: int = 32
    threads: int | None = None

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("balance", self.balance, ("none", "classes"))
        check_choice("calibration_rule", self.calibration_rule, ("reference", "population"))
        for name, least in {**_LEAST, **_LEAST_OR_NONE}.items():
            value = getattr(self, name)
            if value is None and name in _LEAST_OR_NONE:
                continue
            kinds = int | float if name == "max_minutes" else int
            if isinstance(value, bool) or not isinstance(value, kinds) or not value >= least:
                raise UserError(f"{name} {value!r}: must be a number of at least {least}.")
