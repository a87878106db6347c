"""Teachers: networks that give soft targets and learn nothing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from onceforall.architecture import Architecture, Resolution
from onceforall.evaluation.calibration import CalibrationRule, calibrate
from onceforall.evaluation.exits import combine_exits
from onceforall.supernets.supernet import Supernet
from onceforall.training.phases import Phase, Teacher, is_taught_in_place

__all__ = ["TeacherNetwork", "as_teacher", "soft_targets_of", "teaching_phase"]


def teaching_phase(phase: Phase, index: int, scores: Sequence[float] | None, higher_is_better: bool = True) -> int:
    """The number of the phase whose largest sub-network teaches in `phase`, which is number `index`.

    With `scores` of the largest sub-networks of all earlier phases (the guard of the teacher), phases are passed over
    that left it worse than the teacher before; of equal ones the newer teaches.
    """
    if phase.teacher.source == "first":
        return 0
    if scores is None:
        return index - 1
    sign, newest = 1 if higher_is_better else -1, 0
    for number, score in enumerate(scores):
        newest = number if sign * score >= sign * scores[newest] else newest
    return newest


@final
class TeacherNetwork:
    """A frozen network with the way it is to be asked.

    Args:
        network: a sub-network; it may answer with several exits.
        teacher: the value from the phase.
        calibration: training images for a resolution, in batches; used only with calibrated statistics.
        rule: how these are estimated; see `calibrate`.
    """

    def __init__(
        self,
        network: Supernet,
        teacher: Teacher,
        calibration: Callable[[Resolution], Iterable[Tensor]],
        rule: CalibrationRule = "reference",
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.teacher = teacher
        self.calibration = calibration
        self.rule: CalibrationRule = rule
        self.native_resolution = network.space.resolutions[-1]
        self.statistics: dict[Resolution, dict[str, Tensor]] = {}
        self.in_place: Resolution | None = None
        """Of which resolution the network has the statistics."""
        network.use_batch_statistics(teacher.batchnorm == "batch")

    def resolution(self, student: Resolution) -> Resolution:
        """The resolution at which it wants the images."""
        return self.native_resolution if self.teacher.input == "native" else student

    @torch.no_grad()
    def soft_targets(self, images: Tensor, resolution: Resolution) -> Tensor:
        """Its outputs (N, outputs, ...) for images at `resolution`, exits combined."""
        if self.teacher.batchnorm == "calibrated":
            self._use_statistics(resolution)
        outputs, weights = self.network(images), self.teacher.exit_weights
        if self.teacher.ensemble == "outputs" or isinstance(outputs, Tensor):
            return combine_exits(outputs, weights)
        return combine_exits(tuple(output.softmax(1) for output in outputs), weights).log()

    def _use_statistics(self, resolution: Resolution) -> None:
        """Put the running statistics of `resolution` in place, estimating them when it is met first."""
        if resolution == self.in_place:
            return
        if resolution not in self.statistics:
            calibrate(self.network, self.calibration(resolution), self.rule)
            self.statistics[resolution] = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        for name, buffer in self.network.named_buffers():
            buffer.copy_(self.statistics[resolution][name])
        self.in_place = resolution


def soft_targets_of(
    teacher: TeacherNetwork | None,
    supernet: Supernet,
    phase: Phase,
    architectures: Sequence[Architecture],
    images: Tensor,
    views: Callable[[Resolution], tuple[Tensor, Tensor]],
) -> Tensor | None:
    """What the teacher of a step says of its images; None without one, or where the step trains it first.

    Args:
        teacher: a network of its own, or None.
        supernet: teaches by its largest sub-network where the phase's teacher is in place.
        phase: whose step it is.
        architectures: of the step, in order.
        images: what the students see.
        views: the same images, with their labels, at another resolution.
    """
    resolution = architectures[0].resolution
    if teacher is not None:
        wanted = teacher.resolution(resolution)
        return teacher.soft_targets(images if wanted == resolution else views(wanted)[0], wanted)
    if not is_taught_in_place(phase, architectures):
        return None
    with as_teacher(supernet):
        outputs = supernet(images, replace(phase.space.largest(), resolution=resolution))
    assert isinstance(outputs, Tensor)
    return outputs


@contextmanager
def as_teacher(supernet: Supernet) -> Iterator[None]:
    """While the body runs, a supernet in training is asked as a teacher is: by batch, moving and dropping nothing."""
    supernet.eval().use_batch_statistics(True)
    try:
        with torch.no_grad():
            yield
    finally:
        supernet.train().use_batch_statistics(False)
