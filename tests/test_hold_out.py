"""Splits that are made: amounts and strata by pencil, the seed, what exists is kept."""

import numpy as np
import pytest

from kerascnn.datasets import load
from kerascnn.datasets.hold_out import amount, stratified
from kerascnn.errors import UsageError


def test_stratified_by_pencil():
    labels = np.array([0] * 40 + [1] * 4)
    keep, held = stratified(labels, 11, 0)
    assert np.bincount(labels[held]).tolist() == [10, 1]
    assert np.bincount(labels[keep]).tolist() == [30, 3]
    assert sorted([*keep, *held]) == list(range(44))
    assert (np.diff(keep) > 0).all()
    assert (np.diff(held) > 0).all()


def test_remainders_go_to_the_largest():
    labels = np.array([0] * 5 + [1] * 3 + [2] * 2)  # shares of 4: 2.0, 1.2, 0.8
    assert np.bincount(labels[stratified(labels, 4, 0)[1]]).tolist() == [2, 1, 1]
    labels = np.array([0] * 2 + [1] * 2)  # shares of 1: a half each, the lower label first
    assert labels[stratified(labels, 1, 0)[1]].tolist() == [0]


def test_every_class_keeps_an_image():
    labels = np.array([0] * 10 + [1])
    keep, held = stratified(labels, 9, 0)
    assert len(held) == 9
    assert 1 in labels[keep]
    assert len(stratified(labels, 11, 0)[1]) == 9  # more cannot be held out


def test_the_seed_decides():
    labels = np.repeat([0, 1, 2], 30)
    np.testing.assert_array_equal(stratified(labels, 9, 5)[1], stratified(labels, 9, 5)[1])
    assert (stratified(labels, 9, 5)[1] != stratified(labels, 9, 6)[1]).any()


def test_amounts_by_pencil():
    assert [amount("test", value, 200) for value in (0, 0.1, 0.001, 7, 0.5)] == [0, 20, 1, 7, 100]
    for bad in (-0.1, 1.5, "0.1", None, float("nan"), True):
        with pytest.raises(UsageError, match="test must be a fraction"):
            amount("test", bad, 200)


def test_splits_are_made_of_all_training_images(make_folder):
    root = make_folder({"a": 20, "b": 20})
    data = load(root, test=0.25, validation=4)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 26, "validation": 4, "test": 10}
    files = [f for split in data.splits.values() for f in split.files]
    assert sorted(files) == sorted(f"{c}/{i}.png" for c in "ab" for i in range(20))
    assert data.notes == (
        "10 of the 40 training images were held out for test, each class in proportion, seed 0.",
        "4 of the 40 training images were held out for validation, each class in proportion, seed 0.",
    )
    assert load(root, test=0.25, validation=4).test.files == data.test.files
    assert load(root, test=0.25, validation=4, seed=1).test.files != data.test.files


def test_no_split_where_none_is_wanted(make_folder):
    data = load(make_folder({"a": 3, "b": 3}), test=0, validation=0)
    assert list(data.splits) == ["train"]
    assert data.validation is None
    assert data.test is None


def test_splits_that_exist_are_kept(make_folder):
    counts = {f"{s}/{c}": n for s, n in (("train", 10), ("val", 3), ("test", 2)) for c in "ab"}
    data = load(make_folder(counts), test=0.5, validation=0.5, seed=3)
    assert [len(s) for s in data.splits.values()] == [20, 6, 4]
    assert data.notes == ()


def test_too_much_held_out(make_folder):
    root = make_folder({"a": 5, "b": 5})
    with pytest.raises(UsageError, match="would hold out 12 of the 10 training images and leave none"):
        load(root, test=6, validation=6)
    with pytest.raises(UsageError, match="seed must be a whole number from 0 up, not -1"):
        load(root, seed=-1)
    with pytest.raises(UsageError, match=r"No class of .* has an image to spare for test: .*, or a folder test\."):
        load(make_folder({"a": 1, "b": 1, "c": 1}, name="single"), test=1, validation=0)
