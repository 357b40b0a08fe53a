"""Pre-training on half of the classes: what the halves hold, and all trainings of a small task."""

import dataclasses

import numpy as np
import pandas
import pytest

import kerascnn
from kerascnn import runs
from kerascnn.errors import UsageError
from kerascnn.experiments.pretraining import _halves, pretraining
from kerascnn.recipes import Recipe
from kerascnn.training.reading import load_data

NAMES = ("red", "green", "blue", "grey", "dark")


@pytest.fixture
def data(tmp_path):
    """The path of an .npz file of five classes of colours in noise: 12 training and 4 test images of each."""
    rng, arrays = np.random.default_rng(0), {"class_names": np.array(NAMES)}
    shades = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [130, 130, 130], [30, 30, 30]])
    for part, count in (("train", 60), ("test", 20)):
        labels = np.arange(count) % 5
        noise = rng.integers(-30, 31, (count, 16, 16, 3))
        arrays |= {f"x_{part}": np.uint8(shades[labels][:, None, None] + noise), f"y_{part}": labels}
    np.savez(tmp_path / "colours.npz", **arrays)
    return tmp_path / "colours.npz"


@pytest.fixture
def recipe(data):
    return Recipe(model="lenet5", data=str(data), image_size=16, validation=0.2, epochs=2, batch_size=8)


def test_the_halves_share_no_class_and_no_image(recipe, tmp_path):
    data = load_data(recipe)
    paths, tests = _halves(data, tmp_path / "halves", 4, (0, 1))
    first, second, other = (np.load(paths[key]) for key in ("first", 0, 1))
    assert first["class_names"].tolist() == ["red", "blue", "dark"]
    assert second["class_names"].tolist() == ["green", "grey"]
    assert tests == len(second["y_test"]) == 8
    for part, key in (("train", "train"), ("validation", "val"), ("test", "test")):
        split = data.splits[part]
        for half, names in ((first, NAMES[::2]), (second, NAMES[1::2])):
            for image, label in zip(half[f"x_{key}"], half[f"y_{key}"], strict=True):
                (row,) = [row for row, whole in enumerate(split.images[:]) if np.array_equal(image, whole)]
                assert data.class_names[split.labels[row]] == names[label]
    assert len(first["y_train"]) == sum(label % 2 == 0 for label in data.train.labels)
    assert np.bincount(second["y_train"]).tolist() == np.bincount(other["y_train"]).tolist() == [4, 4]
    assert not np.array_equal(second["x_train"], other["x_train"])


@pytest.mark.slow
def test_all_trainings_of_a_small_task(recipe, tmp_path):
    folder = tmp_path / "trainings"
    result = pretraining(recipe, folder, "s4", count=8, rate=0.5, seeds=[0])
    table = result.table.set_index("start")
    assert list(table.index) == ["from scratch", "pre-trained", "extra, removed", "extra, stays"]
    scratch = table.loc["from scratch"]
    assert scratch["parameters"] == table.loc["extra, removed"]["parameters"]
    # The pooling s4 gives 16 maps: a 3x3 convolution has 3 x 3 x 16 x 16 weights and 16 biases.
    assert table.loc["extra, stays"]["parameters"] - scratch["parameters"] == 9 * 16 * 16 + 16
    assert set(table["test_images"]) == {8}
    removed = runs.Run(folder / "fine-tuning-extra-removed-seed0")
    assert removed.read("recipe")["learning_rate"] == recipe.learning_rate / 2
    assert removed.read("recipe")["start_from"] == str(folder / "pre-training-extra-seed0")
    names = {
        name: {layer.name for layer in kerascnn.load(folder / f"{name}-seed0").layers}
        for name in ("pre-training-extra", "fine-tuning-extra-removed", "fine-tuning-extra-stays")
    }
    assert names["pre-training-extra"] - names["fine-tuning-extra-removed"] == {"s4_conv"}
    assert names["pre-training-extra"] == names["fine-tuning-extra-stays"]
    assert len(result.findings) == 3
    assert result.save(tmp_path).exists()
    assert pandas.read_csv(tmp_path / "pretraining.csv")["seeds"].tolist() == [1] * 4
    lines = []
    again = pretraining(recipe, folder, "s4", count=8, rate=0.5, seeds=[0], say=lines.append)
    np.testing.assert_array_equal(again.arrays["errors"], result.arrays["errors"])
    assert not any("epoch" in line for line in lines)  # nothing is trained twice


@pytest.mark.slow
def test_plain_transfer_freezes_in_fine_tuning_alone(recipe, tmp_path):
    """Only the dense head is trained in fine-tuning: its convolutions are the pre-trained ones, to the bit."""
    result = pretraining(recipe.replace(train_last=1, epochs=1), tmp_path, seeds=[0])
    assert result.table["start"].tolist() == ["from scratch", "pre-trained"]
    assert len(result.findings) == 1
    networks = {name: kerascnn.load(tmp_path / f"{name}-seed0") for name in ("pre-training", "fine-tuning")}
    first, tuned = (network.get_layer("c1").kernel.numpy() for network in networks.values())
    np.testing.assert_array_equal(first, tuned)
    heads = [network.output_shape[-1] for network in networks.values()]
    assert heads == [3, 2]
    frozen = {
        run: runs.Run(tmp_path / run).read("recipe")["train_last"]
        for run in ("from-scratch-seed0", *(f"{name}-seed0" for name in networks))
    }
    assert frozen == {"from-scratch-seed0": 0, "pre-training-seed0": 0, "fine-tuning-seed0": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": "s5"}, "no layer 's5'"),
        ({"extra": "f6"}, "'f6' of lenet5 gives no maps for a convolution"),
        ({"count": 99}, "count=99 is not allowed: one of the classes has"),
        ({"count": 3}, "The 6 training images of 2 classes are fewer than a batch of 8"),
        ({"rate": 0}, "rate=0 is not allowed"),
    ],
)
def test_bad_input(recipe, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        pretraining(recipe, tmp_path / "none", **{"extra": "s4", **changes})
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_frozen_is_told_before_anything_is_trained(recipe, tmp_path):
    with pytest.raises(UsageError, match="train_last=99 is more than the"):
        pretraining(recipe.replace(train_last=99), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_three_classes_cannot_be_halved(recipe, tmp_path, data):
    arrays = dict(np.load(data))
    rows = {part: arrays[f"y_{part}"] < 3 for part in ("train", "test")}
    three = {f"{key}_{part}": arrays[f"{key}_{part}"][rows[part]] for part in rows for key in "xy"}
    np.savez(tmp_path / "three.npz", **three)
    with pytest.raises(UsageError, match="3 classes cannot be halved"):
        pretraining(recipe.replace(data=str(tmp_path / "three.npz")), tmp_path / "none", "s4")


def test_other_data_have_their_own_halves(recipe, tmp_path):
    """Classes and labels are the same; the pixels are not."""
    data = load_data(recipe)
    inverted = data.replace(train=dataclasses.replace(data.train, images=255 - data.train.images[:]))
    first, other = (_halves(each, tmp_path / "halves", 4, (0,))[0][0] for each in (data, inverted))
    again = _halves(data, tmp_path / "halves", 4, (0,))[0][0]
    assert first == again != other
    assert not np.array_equal(np.load(first)["x_train"], np.load(other)["x_train"])


def test_a_network_that_is_trained_already_is_not_trained_from_scratch(recipe, tmp_path):
    with pytest.raises(UsageError, match="is trained already"):
        pretraining(recipe.replace(model=str(tmp_path / "own.keras")), tmp_path / "out", "s4")
