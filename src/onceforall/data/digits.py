"""The built-in data set: 1,797 handwritten digits of 8x8 pixels from scikit-learn; nothing is downloaded."""

from collections.abc import Sequence

import numpy as np

from onceforall.data.arrays import ArraySet
from onceforall.data.listing import select_classes

__all__ = ["digits"]


def digits(classes: int | Sequence[str] | None = None) -> ArraySet:
    """The digits as 8-bit grey images; the original values 0 to 16 become 0 to 255 (rounded), the size stays 8x8.

    `classes`: the first n, or names of "0" to "9"; None for all.
    """
    from sklearn.datasets import load_digits

    images, values = load_digits(return_X_y=True)  # (1797, 64) of 0 to 16, (1797,)
    images = np.rint(np.asarray(images) * (255.0 / 16.0)).astype(np.uint8).reshape(-1, 8, 8, 1)  # (N, H, W, C)
    chosen = select_classes([str(digit) for digit in range(10)], classes)
    label_of = {int(name): label for label, name in enumerate(chosen)}
    kept = [i for i, value in enumerate(values) if int(value) in label_of]
    return ArraySet(
        name="digits",
        classes=tuple(chosen),
        files=tuple(f"digit-{i:04d}" for i in kept),
        labels=tuple(label_of[int(values[i])] for i in kept),
        images=images[kept],
    )
