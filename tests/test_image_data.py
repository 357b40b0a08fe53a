"""ImageData and Split keep images, labels, names and masks together."""

import numpy as np
import pytest

from kerascnn.datasets import ImageData, Split
from kerascnn.errors import DataError, UsageError


def split(labels=(0, 1, 2, 1)):
    n = len(labels)
    images = np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2, 1)
    return Split(images, np.array(labels), tuple(f"{i}.png" for i in range(n)), images[..., 0] > 5)


def test_take_keeps_everything_together():
    taken = split().take([3, 0])
    assert len(taken) == 2
    assert taken.labels.tolist() == [1, 0]
    assert taken.files == ("3.png", "0.png")
    np.testing.assert_array_equal(taken.images[:, 0, 0, 0], [12, 0])
    np.testing.assert_array_equal(taken.masks[1], [[False, False], [False, False]])


def test_arrays_are_scaled_by_pencil():
    data = ImageData("a", "here", ("x", "y", "z"), Split(np.full((1, 1, 1, 3), [0, 51, 255], np.uint8), np.array([2])))
    images, labels = data.arrays()
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[0, 0, 0], [0, 0.2, 1], atol=1e-7)
    images, _ = data.arrays(mean=0.5, std=[0.5, 0.1, 0.25])
    np.testing.assert_allclose(images[0, 0, 0], [-1, -3, 2], atol=1e-6)
    assert labels.tolist() == [2]
    with pytest.raises(UsageError, match="no split 'test'; it has train"):
        data.arrays("test")


def test_labels_out_of_range_are_refused():
    with pytest.raises(DataError, match="run from 0 to 2, but there are 2 classes, so only 0 to 1 are allowed"):
        ImageData("a", "here", ("x", "y"), split())
    with pytest.raises(DataError, match="run from -1"):
        ImageData("a", "here", ("x", "y"), split((0, -1)))


def test_a_label_too_few_is_refused():
    with pytest.raises(DataError, match="the test split has 4 images but 3 labels"):
        ImageData("a", "here", ("x", "y", "z"), split(), test=Split(np.zeros((4, 2, 2, 1), np.uint8), np.zeros(3, int)))
