"""The schedule of one network: fine-tuning of a sub-network, or its training from the beginning."""

from dataclasses import replace
from typing import Literal

from onceforall.architecture import is_whole
from onceforall.errors import UserError, check_truth
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Freeze
from onceforall.training.phases import Phase, Teacher
from onceforall.training.rows import scale_epochs

__all__ = ["fine_tuning"]


def fine_tuning(
    space: SearchSpace,
    *,
    epochs: int = 20,
    frozen_epochs: int = 0,
    learning_rate: float = 1e-3,
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw",
    weight_decay: float = 1e-4,
    batch_size: int = 64,
    freeze_stem: bool = False,
    teacher: str = "none",
    total_epochs: int | None = None,
) -> list[Phase]:
    """Ordinary training of the largest network of a space, with all its exits; of a sub-network this is fine-tuning.

    Exits have equal weights, as OFAv2's successor has them when it fine-tunes (NATv2's post-processing), and so have
    labels and teacher where there is one.

    Args:
        space: usually that of one architecture; its resolutions are all trained.
        epochs: with the learning rate falling to zero along a cosine.
        frozen_epochs: before these as many in which only the head and the last block of each stage learn, at the same
            rate: a head that is new does not yet disturb what is before it.
        learning_rate: of both.
        optimizer: of both.
        weight_decay: of both.
        batch_size: images of a step.
        freeze_stem: whether the stem learns nothing.
        teacher: the path of a saved network whose largest sub-network gives soft targets, or "none".
        total_epochs: scale the epochs so that they sum to this.
    """
    check_truth(freeze_stem=freeze_stem)
    if not is_whole(frozen_epochs) or frozen_epochs < 0:
        raise UserError(f"frozen_epochs {frozen_epochs!r}: must be a whole number of at least 0.")
    tuned = Phase(
        "tune",
        space,
        epochs,
        learning_rate=learning_rate,
        optimizer=optimizer,
        weight_decay=weight_decay,
        batch_size=batch_size,
        sampler="largest",
        teacher=Teacher(teacher, batchnorm="calibrated"),
        dropout=0.1,
        freeze=Freeze(stem=freeze_stem),
    )
    if not frozen_epochs:
        return scale_epochs([tuned], total_epochs)
    head = replace(
        tuned, name="head", epochs=frozen_epochs, decay="constant", freeze=Freeze(stem=True, earlier_blocks=True)
    )
    return scale_epochs([head, tuned], total_epochs)
