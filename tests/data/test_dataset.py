"""What a data set must be able to do: whatever lacks a part of it cannot be made."""

import pytest

from onceforall.data.dataset import DataSet
from onceforall.data.images import ImageData
from tiny_runs import striped


def test_images_are_a_data_set():
    images = striped()
    assert isinstance(images, DataSet) and images.num_classes == len(images.classes) == 3
    assert ImageData.__abstractmethods__ == frozenset()


def test_an_incomplete_data_set_cannot_be_made():
    class Nothing(DataSet):
        pass

    with pytest.raises(TypeError, match="train_batch"):
        Nothing()  # pyright: ignore[reportAbstractUsage]
