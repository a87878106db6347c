"""What is changed at random in a training image, as a value. The pixels are moved in `batches.py`."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, final

from onceforall.errors import UserError

__all__ = ["Augmentation"]


@final
@dataclass(frozen=True)
class Augmentation:
    """Random resized crop, flips, rotation and colour jitter of training images.

    - `scale`: least and greatest part of the image's area that the crop covers, 0 to 1.
    - `ratio`: least and greatest width : height of the crop in pixels; drawn evenly in the logarithm, from the part of
      the range in which the crop fits into the image.
    - `horizontal_flip`, `vertical_flip`: mirrored in half of the cases.
    - `rotation`: greatest angle in degrees, either way.
    - `brightness`: pixels are multiplied by a factor of `1 - brightness` to `1 + brightness`, then kept in 0 to 1.
    - `saturation`: the same for the distance from grey; images of three channels only.

    Raises `UserError` for a value out of range.
    """

    scale: tuple[float, float] = (0.85, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: bool = True
    brightness: float = 0.0
    saturation: float = 0.0
    vertical_flip: bool = False
    rotation: float = 0.0

    def __post_init__(self) -> None:
        for name, high in (("scale", 1.0), ("ratio", 100.0)):
            pair = tuple(float(number) for number in getattr(self, name))
            if len(pair) != 2 or not 0.0 < pair[0] <= pair[1] <= high:
                raise UserError(f"{name} {getattr(self, name)!r} must be (low, high) with 0 < low <= high <= {high:g}.")
            object.__setattr__(self, name, pair)
        for name, high in (("brightness", 1.0), ("saturation", 1.0), ("rotation", 180.0)):
            number = float(getattr(self, name))
            if not math.isfinite(number) or not 0.0 <= number <= high:
                raise UserError(f"{name} {getattr(self, name)!r} must be a number of 0 to {high:g}.")

    def to_dict(self) -> dict[str, Any]:
        """The value as JSON types."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}
