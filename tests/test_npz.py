"""Arrays in .npz files: the names and kinds of numbers that are read, and those that are not."""

import numpy as np
import pytest

from kerascnn.datasets import load
from kerascnn.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), np.uint8)
LABELS = np.arange(10) % 2


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return tmp_path / "a.npz"

    return write


def test_keras_names(save):
    data = load(save(x_train=IMAGES, y_train=LABELS[:, None], x_test=IMAGES[:4], y_test=LABELS[:4]), validation=0)
    np.testing.assert_array_equal(data.train.images, IMAGES)
    np.testing.assert_array_equal(data.test.images, IMAGES[:4])
    assert data.train.labels.tolist() == LABELS.tolist()
    assert data.class_names == ("0", "1")
    assert data.name == "a"


@pytest.mark.parametrize(("images", "labels"), [("images", "labels"), ("X", "Y"), ("train_images", "train_labels")])
def test_other_names(save, images, labels):
    data = load(save(**{images: IMAGES, labels: LABELS}), validation=0, test=2)
    assert [len(split) for split in data.splits.values()] == [8, 2]


def test_a_validation_split_and_class_names(save):
    names = np.array(["cat", "dog", "fox"])
    data = load(save(x_train=IMAGES, y_train=LABELS, x_val=IMAGES[:3], y_val=LABELS[:3], class_names=names), test=0)
    assert data.class_names == ("cat", "dog", "fox")
    assert len(data.validation) == 3


def test_numbers_by_pencil(save):
    floats = np.array([0, 0.5, 1, 0.2], np.float32).reshape(4, 1, 1)
    assert load(save(x=floats, y=[0, 1, 0, 1]), validation=0, test=0).train.images.ravel().tolist() == [0, 128, 255, 51]
    assert load(save(x=floats > 0.4, y=[0, 1, 0, 1]), validation=0, test=0).train.images.ravel().tolist() == [
        0,
        255,
        255,
        0,
    ]
    integers = np.array([0, 7, 255, 1]).reshape(4, 1, 1, 1)
    assert load(save(x=integers, y=[0, 1, 0, 1]), validation=0, test=0).train.images.ravel().tolist() == [0, 7, 255, 1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": IMAGES}, "has 'x_train' without its labels"),
        ({"y_train": LABELS}, "has 'y_train' without its images"),
        ({"foo": IMAGES}, "no training images.* x_train, y_train and, if there are any, x_test, y_test; it holds foo"),
        ({"x": IMAGES, "y": LABELS[:7]}, r"10 images need labels of shape \(10,\), these have \(7,\)"),
        ({"x": IMAGES, "y": LABELS.astype(float)}, "labels must be integers .*, not float64"),
        ({"x": IMAGES, "y": LABELS - 1}, "run from -1 to 0"),
        ({"x": IMAGES, "y": LABELS * 0}, "training labels are all 0; at least two"),
        ({"x": IMAGES, "y": LABELS * 10**9}, "number them from 0 up"),
        (
            {"x": IMAGES, "y": LABELS * 5, "class_names": np.array(["a", "b"])},
            "run from 0 to 5, but there are 2 classes",
        ),
        ({"x": IMAGES.astype(int) + 1, "y": LABELS}, "integer pixels must be from 0 to 255, these run from"),
        ({"x": IMAGES.astype(float), "y": LABELS}, "float pixels must be from 0 to 1, these run from 0 to 255"),
        ({"x": np.full((2, 1, 1), np.nan), "y": [0, 1]}, "float pixels must be from 0 to 1, these run from nan"),
        ({"x": IMAGES.astype(complex), "y": LABELS}, "must be integers or floats, not complex128"),
        ({"x": IMAGES.transpose(0, 3, 1, 2), "y": LABELS}, r"shape is \(10, 3, 4, 5\).* channels last"),
        ({"x": IMAGES[:0], "y": LABELS[:0]}, "at least one image"),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, :3], "y_test": LABELS},
            r"differ in shape: train \(4, 5, 3\), test \(3, 5, 3\)",
        ),
        ({"x": np.array([None, "a"], object), "y": [0, 1]}, "'x' holds Python objects, which are not read"),
    ],
)
def test_what_is_refused(save, arrays, message):
    with pytest.raises(DataError, match=r"a\.npz.*" + message):
        load(save(**arrays))


def test_truncated_and_garbage_files(save, tmp_path):
    file = save(x=IMAGES, y=LABELS)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(DataError, match=r"a\.npz is not a readable \.npz file \(500 bytes found\)"):
        load(file)
    file.write_bytes(b"hello")
    with pytest.raises(DataError, match=r"\(5 bytes found\)"):
        load(file)
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"\(0 bytes found\)"):
        load(file)
