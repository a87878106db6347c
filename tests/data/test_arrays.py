import numpy as np
import pytest

from onceforall.data.arrays import array_set
from onceforall.errors import UserError

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def test_types_are_kept_or_converted():
    assert array_set(IMAGES, [0, 1, 0]).images.shape == (3, 4, 5, 1)
    assert array_set(IMAGES.astype(np.uint16), [0, 1, 0]).images.dtype == np.uint16
    floats = array_set(IMAGES / 255.0, [0, 1, 0]).images
    np.testing.assert_array_equal(floats[..., 0], IMAGES.astype(np.uint16) * 257)
    np.testing.assert_array_equal(array_set(IMAGES > 9, [0, 1, 0]).images[..., 0], (IMAGES > 9) * 255)
    named = array_set(np.repeat(IMAGES, 4, axis=0), [0, 1] * 6, ["sick", "well"], "mine")
    assert (named.name, named.classes, named.files[3]) == ("mine", ("sick", "well"), "image-03")


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (IMAGES[0], [0, 1, 0], None, r"\(4, 5\)"),
        (IMAGES[:0], [], None, "not empty"),
        (IMAGES.astype(np.int64), [0, 1, 0], None, "int64"),
        (IMAGES * 1.0, [0, 1, 0], None, "0 to 1"),
        (IMAGES * np.nan, [0, 1, 0], None, "0 to 1"),
        (IMAGES, [0, 1], None, "3 whole numbers"),
        (IMAGES, [0.0, 1.0, 0.0], None, "float64"),
        (IMAGES, [-1, 1, 0], None, "from -1 to 1"),
        (IMAGES, [0, 1, 2], ["a", "b"], "from 0 to 2; allowed is 0 to 1"),
        (IMAGES, [0, 1, 0], ["a", "a"], "two different"),
        (IMAGES, [0, 0, 0], None, "two different"),
        (IMAGES, [0, 2, 0], None, "no images for class 1"),
    ],
)
def test_wrong_arrays(images, labels, classes, message):
    with pytest.raises(UserError, match=message):
        array_set(images, labels, classes)
