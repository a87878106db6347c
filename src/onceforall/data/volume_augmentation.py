"""What is changed at random in a training volume, as a value. The voxels are moved in `volume_batches.py`."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from onceforall.errors import UserError, check_keys

__all__ = ["NO_VOLUME_AUGMENTATION", "VolumeAugmentation"]


@final
@dataclass(frozen=True)
class VolumeAugmentation:
    """Flips, turns and changes of intensity of training volumes; image and label always by the same transform.

    - `flip`: probability of mirroring each axis X, Y, Z. Off by default: classes may be left and right.
    - `rotate90`: turned by 0, 90, 180 or 270 degrees, equally probable, in one of the planes whose two sides have
      equal voxels in the box (none: not turned), whatever the batch's resolution. A patch draws one of all three
      planes, and is not turned where its two sides differ.
    - `rotation`: greatest angle in degrees about each axis, either way.
    - `scale`: greatest part by which the volume is made larger or smaller.
    - `shift`: greatest shift along each axis, as a part of the volume's side.
    - `gamma`: intensities of 0 to 1 (least to greatest of the channel) are raised to a power of `exp(-gamma)` to
      `exp(gamma)`; `intensity_scale`: multiplied by `1 - s` to `1 + s`; `intensity_shift`: moved by as much as this, in
      standard deviations. One draw for each channel. Padding is left alone.
    - `noise`: greatest standard deviation of Gaussian noise; each volume draws its own from 0.

    Raises `UserError` for a value out of range.
    """

    flip: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotate90: bool = False
    rotation: float = 10.0
    scale: float = 0.1
    shift: float = 0.05
    gamma: float = 0.2
    intensity_scale: float = 0.1
    intensity_shift: float = 0.1
    noise: float = 0.05

    def __post_init__(self) -> None:
        flip = tuple(float(number) for number in self.flip)
        if len(flip) != 3 or not all(0.0 <= number <= 1.0 for number in flip):
            raise UserError(f"flip {self.flip!r}: give three probabilities of 0 to 1, for the axes X, Y, Z.")
        object.__setattr__(self, "flip", flip)
        if not isinstance(self.rotate90, bool):
            raise UserError(f"rotate90 {self.rotate90!r} must be true or false.")
        limits = {"rotation": 180.0, "scale": 0.9, "shift": 1.0, "gamma": 2.0, "intensity_scale": 1.0}
        for name, high in {**limits, "intensity_shift": 10.0, "noise": 10.0}.items():
            number = float(getattr(self, name))
            if not math.isfinite(number) or not 0.0 <= number <= high:
                raise UserError(f"{name} {getattr(self, name)!r} must be a number of 0 to {high:g}.")
            object.__setattr__(self, name, number)

    @property
    def moves(self) -> bool:
        """Whether voxels are interpolated between."""
        return max(self.rotation, self.scale, self.shift) > 0.0

    @property
    def changes_intensity(self) -> bool:
        """Whether intensities change."""
        return max(self.gamma, self.intensity_scale, self.intensity_shift, self.noise) > 0.0

    def to_dict(self) -> dict[str, Any]:
        """The value as JSON types; `from_dict` turns it back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "VolumeAugmentation":
        """The value of `to_dict`, what is left out by default; raises `UserError` for an unknown key."""
        check_keys("volume augmentation", values, (), tuple(field.name for field in dataclasses.fields(cls)))
        arguments: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**arguments)


NO_VOLUME_AUGMENTATION = VolumeAugmentation(
    rotation=0.0, scale=0.0, shift=0.0, gamma=0.0, intensity_scale=0.0, intensity_shift=0.0, noise=0.0
)
