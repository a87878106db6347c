"""How a run is carried out, whatever it trains."""

from dataclasses import dataclass
from typing import Literal, final

import torch

from onceforall.errors import UserError, check_choice
from onceforall.evaluation.calibration import CalibrationRule

__all__ = ["PRECISIONS", "RunOptions"]

PRECISIONS = {"fp64": None, "fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Data type of autocast by name; the first two run without."""


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
    threads: int | None = None

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("balance", self.balance, ("none", "classes"))
        check_choice("calibration_rule", self.calibration_rule, ("reference", "population"))
        for name in ("micro_batches", "checkpoint_every", "calibration_images"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)!r}: must be at least 1.")
        if self.random_validation < 0:
            raise UserError(f"random_validation {self.random_validation!r}: must be zero or more.")
