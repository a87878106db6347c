import numpy as np
from sklearn.datasets import load_digits

from onceforall.data.digits import digits


def test_all_digits_with_their_information_kept():
    reference = load_digits()
    found = digits()
    assert found.images.shape == (1797, 8, 8, 1) and found.images.dtype == np.uint8
    np.testing.assert_array_equal(np.rint(found.images[..., 0] / 255 * 16), reference.images)
    np.testing.assert_array_equal(found.labels, reference.target)
    assert found.classes == tuple("0123456789") and len(set(found.files)) == 1797


def test_some_digits():
    reference = load_digits()
    found = digits(["7", "3"])
    assert found.classes == ("7", "3")
    assert found.labels.count(0) == (reference.target == 7).sum() and len(found.labels) == len(found.images)
    assert digits(3).classes == ("0", "1", "2")
