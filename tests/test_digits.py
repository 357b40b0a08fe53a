"""The embedded digits: scikit-learn's numbers on the 0-to-255 scale, with a test split that never changes."""

import numpy as np
from sklearn.datasets import load_digits

from kerascnn.datasets import load


def test_grey_levels_by_pencil():
    data = load("digits", validation=0)
    assert set(np.unique(data.train.images)) == {round(level * 255 / 16) for level in range(17)}
    assert data.image_shape == (8, 8, 1)


def test_all_1797_digits_are_there_once():
    data = load("digits")
    images = np.concatenate([split.images for split in data.splits.values()])
    theirs = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    assert sorted(i.tobytes() for i in images) == sorted(i.tobytes() for i in theirs)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 1293, "validation": 144, "test": 360}


def test_the_test_split_does_not_depend_on_the_seed():
    a, b = load("digits", seed=0), load("digits", seed=1)
    np.testing.assert_array_equal(a.test.images, b.test.images)
    assert a.test.labels[:12].tolist() == [5, 9, 2, 4, 6, 7, 9, 3, 4, 6, 8, 5]  # the 360 of every published number
    assert len(a.validation) == len(b.validation)
    assert (a.validation.images != b.validation.images).any()


def test_labels_belong_to_their_images():
    theirs = {image.tobytes(): label for image, label in zip(*load_digits(return_X_y=True), strict=True)}
    data = load("digits", validation=0, test=0)
    levels = np.round(data.train.images / (255 / 16)).reshape(-1, 64)
    assert [theirs[row.tobytes()] for row in levels] == data.train.labels.tolist()
