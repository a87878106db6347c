"""A cache of its own for each test, and small folders of images and of volumes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from volume_files import make_volumes


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ONCEFORALL_CACHE", str(folder))
    return folder


def pixels(seed: int, *shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes `root/<class>/<class>-<patient>-<i>.png`; patients have two images each."""

    def make(classes: dict[str, int], shape: tuple[int, ...] = (9, 9), root: str = "images") -> Path:
        for label, (name, count) in enumerate(classes.items()):
            folder = tmp_path / root / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(pixels(1000 * label + i, *shape)).save(
                    folder / f"{folder.name}-{label}{i // 2}-{i}.png"
                )
        return tmp_path / root

    return make


@pytest.fixture
def volume_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of volumes; see `make_volumes`."""

    def make(count: int = 4, shape: tuple[int, int, int] = (9, 10, 11)) -> Path:
        return make_volumes(tmp_path / "volumes", count, shape)

    return make
