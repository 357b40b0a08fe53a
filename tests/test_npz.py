"""Arrays in .npz files: the names and kinds of numbers that are read, and those that are not."""

import numpy as np
import pytest

from kerascnn.datasets import load
from kerascnn.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), np.uint8)
LABELS = np.arange(10) % 2
WORDS = np.array(["dog", "cat"])[LABELS]


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


@pytest.mark.parametrize("dtype", [bool, "i1", "u1", "i8", "f2", "f4", "f8"])
def test_one_hot_rows_and_whole_numbers_of_any_dtype(save, dtype):
    labels = np.array([0, 2, 1, 2, 0, 0, 0, 1, 2, 0])
    data = load(save(x=IMAGES, y=np.eye(4)[labels].astype(dtype)), validation=0, test=0)
    assert data.train.labels.tolist() == labels.tolist()
    assert data.class_names == ("0", "1", "2", "3")
    labels = np.minimum(labels, 1)
    assert load(save(x=IMAGES, y=labels.astype(dtype)), validation=0, test=0).train.labels.tolist() == labels.tolist()


@pytest.mark.parametrize("words", [WORDS, WORDS.astype("S"), WORDS[:, None]])
def test_words(save, words):
    data = load(save(x_train=IMAGES, y_train=words, x_test=IMAGES[:3], y_test=words[:3]), validation=0)
    assert data.class_names == ("cat", "dog")
    assert data.train.labels.tolist() == (1 - LABELS).tolist()
    assert data.test.labels.tolist() == [1, 0, 1]
    named = load(save(x=IMAGES, y=words, class_names=["dog", "cat", "eel"]), validation=0, test=0)
    assert named.class_names == ("dog", "cat", "eel")
    assert named.train.labels.tolist() == LABELS.tolist()


def test_words_that_are_numbers_are_sorted_as_such_and_accents_are_one_class(save):
    assert load(save(x=IMAGES, y=["10", "9"] * 5), validation=0, test=0).class_names == ("9", "10")
    accents = load(save(x=IMAGES, y=["cafe\u0301", "caf\u00e9", "b", "b", "b"] * 2), validation=0, test=0)
    assert accents.class_names == ("b", "caf\u00e9")
    latin = np.array([b"caf\xe9", b"b"] * 5)
    assert load(save(x=IMAGES, y=latin), validation=0, test=0).class_names == ("b", r"caf\xe9")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (
            LABELS + 1,
            "The labels run from 1 to 2 and no image has the label 0, so 3 classes are made, 1 of",
        ),
        (
            LABELS * 8,
            "The labels run from 0 to 8 and no image has the labels 1, 2, 3, 4, 5 ..., so 9 classes are made, 7 ",
        ),
        (LABELS, None),
    ],
)
def test_labels_that_leave_numbers_out_are_told(save, labels, told):
    data = load(save(x=IMAGES, y=labels), validation=0, test=0)
    assert len(data.class_names) == labels.max() + 1
    assert len(data.doubts) == (told is not None)
    if told:
        assert data.doubts[0].startswith(told)
        assert data.doubts[0].endswith("To make classes only of the labels that occur, give classes='present'")


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (LABELS + 1, None, ("1", "2")),
        (LABELS * 2 - 1, None, ("-1", "1")),
        (LABELS * 10**9, None, ("0", "1000000000")),
        (LABELS + 1, ["a", "b"], ("a", "b")),
        (LABELS + 1, ["none", "a", "b"], ("a", "b")),
        (np.eye(4)[LABELS * 2 + 1], None, ("1", "3")),
        (WORDS, None, ("cat", "dog")),
    ],
)
def test_classes_of_the_labels_that_occur(save, labels, names, expected):
    more = {} if names is None else {"class_names": names}
    file = save(x_train=IMAGES, y_train=labels, x_test=IMAGES[1:3], y_test=labels[1:3], **more)
    data = load(file, classes="present", validation=0)
    assert data.class_names == expected
    assert data.doubts == ()
    order = [1, 0] if expected[0] == "cat" else [0, 1]
    assert data.train.labels.tolist() == [order[label] for label in LABELS]
    assert data.test.labels.tolist() == [order[1], order[0]]


def test_words_of_classes_that_occur(save):
    file = save(x_train=IMAGES, y_train=WORDS, class_names=["dog", "ant", "cat"])
    data = load(file, classes="present", validation=0, test=0)
    assert data.class_names == ("dog", "cat")
    assert data.train.labels.tolist() == LABELS.tolist()


def test_what_cannot_be_trained_on_is_read_for_other_ends(save):
    how = {"training": False, "validation": 0, "test": 0}
    one = load(save(x=IMAGES, y=LABELS * 0), **how)
    assert (one.class_names, one.train.labels.tolist()) == (("0",), [0] * 10)
    test = load(save(x_test=IMAGES, y_test=LABELS), **how)
    assert (test.train, test.test.labels.tolist(), test.image_shape) == (None, LABELS.tolist(), (4, 5, 3))
    bare = load(save(images=IMAGES), image_size=8, **how)
    assert (bare.class_names, bare.train.labels.tolist(), bare.image_shape) == ((), [-1] * 10, (8, 8, 3))
    part = load(save(x_train=IMAGES, y_train=LABELS, x_test=IMAGES), **how)
    assert list(part.splits) == ["train"]
    assert part.notes == ("Left out, without labels: test.",)
    with pytest.raises(DataError, match=r"no training images.*it holds foo"):
        load(save(foo=IMAGES), **how)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": IMAGES}, "has 'x_train' without its labels"),
        ({"y_train": LABELS}, "has 'y_train' without its images"),
        ({"foo": IMAGES}, "no training images.* x_train, y_train and, if there are any, x_test, y_test; it holds foo"),
        ({"x": IMAGES, "y": LABELS[:7]}, r"10 images need labels of shape \(10,\), or one-hot .*; these have \(7,\)"),
        ({"x": IMAGES, "y": LABELS + 0.5}, r"labels must be whole numbers .*, not float64 such as 0\.5"),
        ({"x": IMAGES, "y": np.where(LABELS, np.nan, 1)}, "labels must be whole numbers .*, not float64 such as 1"),
        ({"x": IMAGES, "y": LABELS * 1j}, "labels must be whole numbers .*, not complex128"),
        ({"x": IMAGES, "y": LABELS.astype("u8") << 63}, "labels must be whole numbers .*, not uint64"),
        ({"x": IMAGES, "y": LABELS - 1}, "run from -1 to 0. Number them from 0 up. .* give classes='present'"),
        ({"x": IMAGES, "y": np.full((10, 2), 0.5)}, r"labels of shape \(10, 2\) must be one-hot.*labels\.argmax\(1\)"),
        ({"x": IMAGES, "y": np.zeros((10, 3))}, r"labels of shape \(10, 3\) must be one-hot"),
        ({"x": IMAGES, "y": np.eye(10)[..., None]}, r"10 images need labels .*; these have \(10, 10, 1\)"),
        ({"x": IMAGES, "y": np.full(10, "cat")}, "training labels are all cat; at least two"),
        (
            {"x_train": IMAGES, "y_train": WORDS, "x_test": IMAGES, "y_test": np.full(10, "fox")},
            "the test labels have 'fox', but the classes are cat, dog",
        ),
        (
            {"x_train": IMAGES, "y_train": WORDS, "x_test": IMAGES, "y_test": LABELS},
            "the labels are words in one split and numbers in another",
        ),
        (
            {"x_train": IMAGES, "y_train": np.eye(10), "x_test": IMAGES, "y_test": np.eye(10, 11)},
            "the one-hot labels have 10 and 11 classes",
        ),
        ({"x": IMAGES, "y": LABELS * 0}, "training labels are all 0; at least two"),
        ({"x": IMAGES, "y": LABELS * 10**9}, "number them from 0 up"),
        (
            {"x": IMAGES, "y": LABELS * 5, "class_names": np.array(["a", "b"])},
            "run from 0 to 5, but there are 2 class names. .*give classes='present'",
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
