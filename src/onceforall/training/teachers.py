"""Teachers: networks that give soft targets and learn nothing."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor

from onceforall.architecture import Resolution
from onceforall.evaluation.calibration import calibrate
from onceforall.supernets.supernet import Supernet
from onceforall.training.distillation import combine_exits
from onceforall.training.phases import Teacher

__all__ = ["TeacherNetwork", "as_teacher"]


@final
class TeacherNetwork:
    """A frozen network with the way it is to be asked.

    Args:
        network: a sub-network; it may answer with several exits.
        teacher: the value from the phase.
        calibration: training images for a resolution, in batches; used only with calibrated statistics.
    """

    def __init__(
        self, network: Supernet, teacher: Teacher, calibration: Callable[[Resolution], Iterable[Tensor]]
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.teacher = teacher
        self.calibration = calibration
        self.native_resolution = network.space.resolutions[-1]
        self.statistics: dict[Resolution, dict[str, Tensor]] = {}
        network.use_batch_statistics(teacher.batchnorm == "batch")

    def resolution(self, student: Resolution) -> Resolution:
        """The resolution at which it wants the images."""
        return self.native_resolution if self.teacher.input == "native" else student

    @torch.no_grad()
    def soft_targets(self, images: Tensor, resolution: Resolution) -> Tensor:
        """Its outputs (N, outputs, ...) for images at `resolution`, exits combined."""
        if self.teacher.batchnorm == "calibrated":
            self._use_statistics(resolution)
        return combine_exits(self.network(images), self.teacher.exit_weights)

    def _use_statistics(self, resolution: Resolution) -> None:
        """Put the running statistics of `resolution` in place, estimating them when it is met first."""
        if resolution not in self.statistics:
            calibrate(self.network, self.calibration(resolution))
            self.statistics[resolution] = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        for name, buffer in self.network.named_buffers():
            buffer.copy_(self.statistics[resolution][name])


@contextmanager
def as_teacher(supernet: Supernet) -> Iterator[None]:
    """While the body runs, a supernet in training is asked as a teacher is: by batch, moving and dropping nothing."""
    supernet.eval().use_batch_statistics(True)
    try:
        with torch.no_grad():
            yield
    finally:
        supernet.train().use_batch_statistics(False)
