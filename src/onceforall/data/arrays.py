"""Images that are already in memory, checked and named."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from onceforall.errors import UserError

__all__ = ["ArraySet", "array_set"]


@final
@dataclass(frozen=True)
class ArraySet:
    """Images (N, H, W, C) uint8 or uint16 with one label each; `files` are made-up, unique names."""

    name: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[int, ...]
    images: np.ndarray


def array_set(
    images: np.ndarray, labels: np.ndarray | Sequence[int], classes: Sequence[str] | None = None, name: str = "arrays"
) -> ArraySet:
    """Check (N, H, W) or (N, H, W, C) images and N whole labels from 0, and name them `image-<i>`.

    uint8 and uint16 are kept; floating-point images must lie in 0 to 1 and become uint16 (steps of 1/65535).
    `classes` names the labels (default: "0", "1", ...). Raises `UserError`.
    """
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[:, :, :, None]  # (N, H, W, 1)
    if images.ndim != 4 or 0 in images.shape:
        raise UserError(
            f"images of shape {images.shape} must be (N, height, width) or (N, height, width, channels), not empty."
        )
    if images.dtype.kind == "f":
        if not np.isfinite(images).all() or images.min() < 0.0 or images.max() > 1.0:
            raise UserError("floating-point images must lie in 0 to 1; scale them, or give uint8 or uint16.")
        images = np.rint(images * 65535.0).astype(np.uint16)
    elif images.dtype == np.bool_:
        images = images.astype(np.uint8) * 255
    if images.dtype not in (np.uint8, np.uint16):
        raise UserError(f"images of type {images.dtype} are not read; give uint8, uint16 or floats in 0 to 1.")
    numbers = np.asarray(labels)
    if numbers.shape != (len(images),) or numbers.dtype.kind not in "iu":
        raise UserError(
            f"labels of shape {numbers.shape} and type {numbers.dtype} must be {len(images)} whole numbers."
        )
    names = tuple(str(i) for i in range(int(numbers.max()) + 1)) if classes is None else tuple(classes)
    if numbers.min() < 0 or numbers.max() >= len(names):
        raise UserError(f"labels run from {numbers.min()} to {numbers.max()}; allowed is 0 to {len(names) - 1}.")
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"classes {names!r} must be at least two different names.")
    empty = [name for label, name in enumerate(names) if not (numbers == label).any()]
    if empty:
        raise UserError(f"no images for class {', '.join(empty)}; number the labels from 0 without gaps.")
    width = len(str(len(images) - 1))
    files = tuple(f"image-{i:0{width}d}" for i in range(len(images)))
    return ArraySet(name, names, files, tuple(int(number) for number in numbers), images)
