"""Folders of small images, and a cache of their own."""

import pytest

from small_photos import write_photos


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONCEFORALL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of images of three classes."""
    return write_photos(tmp_path_factory.mktemp("photos"), ("dark", "grey", "light"))


@pytest.fixture(scope="session")
def other_photos(tmp_path_factory):
    """A folder of images of two other classes."""
    return write_photos(tmp_path_factory.mktemp("others"), ("day", "night"))
