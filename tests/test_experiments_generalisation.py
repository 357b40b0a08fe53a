import random

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kerascnn.errors import UsageError
from kerascnn.experiments.generalisation import _table, crossing, drawn, generalisation
from kerascnn.experiments.kept import Kept
from kerascnn.experiments.softmax_head import with_softmax


def network():
    return keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            layers.Conv2D(2, 1, name="scaling"),
            layers.Conv2D(3, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(name="average"),
            layers.Dense(4, activation="relu", name="hidden"),
            layers.Dense(5, activation="softmax", name="output"),
        ],
        name="small",
    )


def data(each, seed):
    labels = np.repeat([0, 1], each)
    images = np.random.default_rng(seed).normal(size=(2 * each, 4, 4, 2)).astype("float32")
    images[labels == 1, ..., 0] += 1.0
    return images, labels


@pytest.mark.slow
def test_a_small_transfer(tmp_path):
    model = network()
    weights = [w.copy() for w in model.get_weights()]
    x, y = data(8, 0)
    given = model, x, y, *data(20, 1)
    said, options = [], {"counts": (4, None), "repeats": 2, "steps": 3, "keep": tmp_path / "kept"}
    result = generalisation(*given, "conv", **options, say=said.append)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert result.table["images_per_class"].tolist() == [4, 8, 4, 8]
    # A softmax on the averaged features of conv, with all images, by hand; its C is one of those offered.
    features = [
        np.maximum(keras.Model(model.inputs, model.get_layer("conv").output).predict(each, verbose=0), 0).mean((1, 2))
        for each in (given[1], given[3])
    ]
    possible = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000, tol=1e-3, random_state=0))
        .fit(features[0], given[2])
        .score(features[1], given[4])
        for c in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    ]
    assert np.abs(np.array(possible) - result.arrays["accuracy"][0, 1, 0]).min() < 1e-9
    assert len(said) == 8
    assert result.arrays["accuracy"][0, 1, 0] == result.arrays["accuracy"][0, 1, 1]  # of all images there is one draw
    again = generalisation(*given, "conv", **options, say=said.append)
    assert len(said) == 8  # nothing is measured twice
    np.testing.assert_array_equal(again.arrays["accuracy"], result.arrays["accuracy"])
    generalisation(*given, "conv", **{**options, "counts": (4,), "repeats": 1, "steps": 4}, say=said.append)
    assert len(said) == 10  # other settings are measured anew


def test_intervals_of_draws_and_of_test_images():
    """By Student's t over two draws, 12.706 standard errors; by Wilson where nothing is drawn: 0.5 of 100 images."""
    accuracy = np.array([[[0.4, 0.6], [0.5, 0.5]], [[0.4, 0.6], [0.4, 0.6]]])
    table = _table(accuracy, [15, 80], 100, [15, None])
    assert table["low"].tolist() == pytest.approx([0.5 - 1.2706, 0.4038, 0.5 - 1.2706, 0.5 - 1.2706], abs=1e-4)
    alone = _table(accuracy[..., :1], [15, 80], 100, [15, None])
    assert alone["high"].tolist() == pytest.approx([0.4980, 0.5962, 0.4980, 0.4980], abs=1e-4)


def test_measurements_depend_on_a_layers_options(tmp_path):
    """Two networks with the same weights and names, one with a ReLU and one with a hyperbolic tangent."""
    weights = np.ones((2, 2), "float32"), np.zeros(2, "float32")
    for number, activation in enumerate(("relu", "tanh", "relu")):
        inputs = keras.Input((2,), name="given")
        model = keras.Model(inputs, layers.Dense(2, activation=activation, name="one")(inputs), name="same")
        model.set_weights(weights)
        assert Kept(tmp_path, model).measure("x", lambda number=number: number) == (0, 1, 0)[number]


def test_an_untrained_network_is_fresh_but_for_what_scales_the_pixels():
    model, state = network(), random.getstate()
    first, again, other = (with_softmax(model, "hidden", 3, seed) for seed in (1, 1, 2))
    assert random.getstate() == state
    assert first.output_shape == (None, 3)
    for name in ("conv", "hidden"):
        kernel = first.get_layer(name).get_weights()[0]
        np.testing.assert_array_equal(kernel, again.get_layer(name).get_weights()[0])
        assert np.abs(kernel - other.get_layer(name).get_weights()[0]).min() > 0
        assert np.abs(kernel - model.get_layer(name).get_weights()[0]).min() > 0
    np.testing.assert_array_equal(
        first.get_layer("scaling").get_weights()[0], model.get_layer("scaling").get_weights()[0]
    )
    assert len(first.trainable_variables) == 6


def test_the_crossing_by_hand():
    assert crossing([10, 40], [0.5, 0.5], [0.4, 0.6]) == pytest.approx(20)  # halfway between their logarithms
    assert crossing([10, 40], [0.5, 0.5], [0.5, 0.6]) == 10
    assert np.isnan(crossing([10, 40], [0.5, 0.6], [0.4, 0.5]))


def test_so_many_of_each_class_are_drawn():
    labels = np.array([0] * 9 + [1] * 5 + [2] * 7)
    rows = drawn(labels, 4, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [4, 4, 4]
    assert len(set(rows)) == 12
    assert drawn(labels, None, np.random.default_rng(0)).tolist() == list(range(21))


def test_what_is_kept_depends_on_the_settings(tmp_path):
    path = tmp_path / "kept"
    assert Kept(path, np.arange(3), "a").measure("x", lambda: 1) == 1
    assert Kept(path, np.arange(3), "a").measure("x", lambda: 2) == 1
    assert Kept(path, np.arange(3), "b").measure("x", lambda: 3) == 3
    for file in path.iterdir():
        file.write_bytes(file.read_bytes()[:50])  # torn
    assert Kept(path, np.arange(3), "b").measure("x", lambda: 4) == 4


def test_numbers_side_by_side_are_told_apart(tmp_path):
    """A patch of 12 with a stride of 1 is not one of 1 with a stride of 21."""
    assert Kept(tmp_path, "conv", 12, 1).measure("x", lambda: 1) == 1
    assert Kept(tmp_path, "conv", 1, 21).measure("x", lambda: 2) == 2


def test_a_class_with_too_few_images_and_a_layer_that_is_no_feature():
    images, labels = data(8, 0)
    with pytest.raises(UsageError, match="counts=15 is not allowed: class 0 has 8 training images"):
        generalisation(network(), images, labels, images, labels, counts=(15,))
    with pytest.raises(UsageError, match="'output' of small gives the class probabilities"):
        generalisation(network(), images, labels, images, labels, "output")


def test_the_order_of_the_counts_does_not_matter():
    images, labels = data(12, 0)
    tests = data(6, 1)
    options = {"repeats": 1, "steps": 2}
    one, other = (generalisation(network(), images, labels, *tests, counts=c, **options) for c in ([4, 8], [8, 4]))
    assert one.arrays["counts"].tolist() == other.arrays["counts"].tolist() == [4, 8]
    assert len(other.table) == 4


def test_the_new_softmax_stands_on_the_call_that_is_named():
    """A layer that doubles is called twice: after the first call its features are 2x, after the second 4x."""
    inputs = keras.Input((3,))
    double = layers.Dense(3, use_bias=False, name="double")
    model = keras.Model(inputs, layers.Dense(2, activation="softmax", name="out")(double(double(inputs))))
    double.set_weights([2 * np.eye(3)])
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    for call, factor in (("double#1", 2), ("double#2", 4)):
        cut = with_softmax(model, call, 2, 0, fresh=False)
        kernel, bias = cut.layers[-1].get_weights()
        scores = factor * x @ kernel + bias
        expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        np.testing.assert_allclose(cut.predict(x, verbose=0), expected, rtol=1e-5)
