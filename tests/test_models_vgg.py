"""VGG: table 1's columns, table 2's millions, fewer dense layers, and dense layers as convolutions."""

import keras
import numpy as np
import pytest
from keras import Input, Model, layers

from kerascnn import models
from kerascnn.errors import UsageError
from kerascnn.models.vgg import as_convolutions
from kerascnn.network import graph

COLUMNS = {  # table 1, the convolutions: "3-64" is 3x3 with 64 filters; "|" is a pool
    "vgg11": "3-64 | 3-128 | 3-256 3-256 | 3-512 3-512 | 3-512 3-512 |",
    "vgg11_lrn": "3-64 LRN | 3-128 | 3-256 3-256 | 3-512 3-512 | 3-512 3-512 |",
    "vgg13": "3-64 3-64 | 3-128 3-128 | 3-256 3-256 | 3-512 3-512 | 3-512 3-512 |",
    "vgg16c": "3-64 3-64 | 3-128 3-128 | 3-256 3-256 1-256 | 3-512 3-512 1-512 | 3-512 3-512 1-512 |",
    "vgg16": "3-64 3-64 | 3-128 3-128 | 3-256 3-256 3-256 | 3-512 3-512 3-512 | 3-512 3-512 3-512 |",
    "vgg19": "3-64 3-64 | 3-128 3-128 | 3-256 3-256 3-256 3-256 | 3-512 3-512 3-512 3-512 | 3-512 3-512 3-512 3-512 |",
}
MILLIONS = {"vgg11": 133, "vgg11_lrn": 133, "vgg13": 133, "vgg16c": 134, "vgg16": 138, "vgg19": 144}


def column(model):
    words = []
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            words.append(f"{layer.kernel_size[0]}-{layer.filters}")
        elif isinstance(layer, layers.MaxPooling2D):
            words.append("|")
        elif layer.name.startswith("norm"):
            words.append("LRN")
    return " ".join(words)


@pytest.mark.parametrize("name", COLUMNS)
def test_tables_1_and_2(name):
    with graph.without_weights():
        model = models.MODELS.get(name)()
    assert column(model) == COLUMNS[name]
    assert round(model.count_params() / 1e6) == MILLIONS[name]
    assert [model.get_layer(f"fc{i}").units for i in (6, 7, 8)] == [4096, 4096, 1000]
    assert model.get_layer("pool5").output.shape == (None, 7, 7, 512)


def test_dropping_dense_layers():
    with graph.without_weights():
        counts = {n: models.vgg11(dense_layers=n).count_params() for n in (0, 1, 2)}
        narrow = models.vgg11(dense_units=1024).count_params()
    assert counts[2] - counts[1] == (4096 + 1) * 4096
    assert counts[1] - counts[0] == (25_088 + 1) * 4096 + (4096 - 25_088) * 1000
    assert counts[2] - narrow == 25_089 * (4096 - 1024) + 4097 * 4096 - 1025 * 1024 + (4096 - 1024) * 1000
    with pytest.raises(UsageError, match="dense_layers must be 0, 1 or 2; received 3"):
        models.vgg11(dense_layers=3)


def test_as_convolutions_at_the_trained_size_is_the_same_network():
    model = models.vgg11((64, 64, 3), 5, dense_units=16)
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    free = as_convolutions(model)
    assert free.get_layer("fc6").kernel.shape == (2, 2, 512, 16)
    assert free.input_shape == (None, None, None, 3)
    np.testing.assert_allclose(free.predict_on_batch(images), model.predict_on_batch(images), atol=1e-6)


def test_as_convolutions_on_a_larger_image_averages_the_scores_of_all_places():
    inputs = x = Input((2, 2, 1))
    x = layers.Dense(2, activation="relu", name="fc6")(layers.Flatten()(x))
    x = layers.Dense(3, name="fc8")(x)
    model = Model(inputs, layers.Softmax()(x))
    image = np.random.default_rng(1).normal(size=(1, 3, 3, 1)).astype("float32")
    windows = np.stack([image[0, i : i + 2, j : j + 2] for i in (0, 1) for j in (0, 1)])
    before_softmax = Model(inputs, x).predict_on_batch(windows).mean(0)
    expected = np.exp(before_softmax) / np.exp(before_softmax).sum()
    np.testing.assert_allclose(as_convolutions(model, (3, 3, 1)).predict_on_batch(image)[0], expected, atol=1e-6)


@pytest.mark.parametrize("softmax", ["in the last layer", "a layer", "none"])
def test_as_convolutions_of_any_chain(softmax):
    """A Sequential, which does not list its input layer; a dense layer without biases; the softmax anywhere or not."""
    last = layers.Dense(5, activation="softmax" if softmax == "in the last layer" else None)
    model = keras.Sequential(
        [
            Input((16, 16, 2)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(8, use_bias=False, activation="relu"),
            layers.Dropout(0.5),
            last,
            *([layers.Activation("softmax")] if softmax == "a layer" else []),
        ]
    )
    images = np.random.default_rng(0).uniform(0, 255, (3, 18, 16, 2)).astype("float32")
    free = as_convolutions(model)
    assert free.output_shape == (None, 5)
    np.testing.assert_allclose(free(images[:, :16]), model(images[:, :16]), atol=1e-5)
    places = np.stack([model(images[:, top : top + 16]) for top in (0, 2)])
    if softmax != "none":  # the logarithms are the scores, but for a constant which the softmax takes away
        scores = np.exp(np.log(places).mean(0))
        expected = scores / scores.sum(1, keepdims=True)
    else:
        expected = places.mean(0)
    np.testing.assert_allclose(free(images), expected, atol=1e-5)


def test_as_convolutions_of_grey_images():
    model = models.lenet5()
    images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")
    np.testing.assert_allclose(as_convolutions(model)(images), model(images), atol=1e-6)


def test_as_convolutions_of_a_network_with_a_shortcut():
    x = Input((4, 4, 3))
    branch = layers.Add(name="sum")([layers.Conv2D(3, 1)(x), x])
    model = Model(x, layers.Dense(2, activation="softmax")(layers.Flatten()(branch)))
    images = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype("float32")
    places = np.log(np.stack([model(images[:, :, left : left + 4]) for left in (0, 1)])).mean(0)
    expected = np.exp(places) / np.exp(places).sum(1, keepdims=True)
    np.testing.assert_allclose(as_convolutions(model)(images), expected, atol=1e-6)


def test_as_convolutions_refuses_what_works_at_one_size():
    x = Input((4, 4, 3))
    rows = layers.Reshape((16, 3), name="rows")(x)
    with pytest.raises(UsageError, match=r"'rows' of .* works at one size of image only \(Reshape\), .* others\.$"):
        as_convolutions(Model(x, layers.Dense(2)(layers.Flatten()(rows))))
    with pytest.raises(UsageError, match="has several inputs or outputs"):
        as_convolutions(Model(x, [x, layers.Dense(2)(layers.Flatten()(x))], name="two"))


def test_as_convolutions_needs_a_flatten():
    x = Input((8, 8, 3))
    model = Model(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)), name="pooled")
    with pytest.raises(UsageError, match="'pooled' has no Flatten followed by dense layers"):
        as_convolutions(model)
