"""Ablation of units: by pencil, and against models whose channel is zeroed by hand."""

import keras
import numpy as np
import pandas
import pytest
from keras import layers

from kerascnn.errors import UsageError
from kerascnn.experiments.unit_ablation import _sure, selectivity, unit_ablation


@pytest.fixture(scope="module")
def network():
    """A network with a shortcut around the ablated layer."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((8, 8, 3))
    first = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(inputs)
    second = layers.Conv2D(6, 3, padding="same", name="second")(first)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(second))
    x = layers.Add(name="add")([x, first])
    x = layers.GlobalAveragePooling2D(name="means")(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="scores")(x), name="shortcut")
    rng = np.random.default_rng(0)
    return model, rng.random((20, 8, 8, 3)).astype("float32"), rng.integers(0, 3, 20)


def zeroed(model, layer, channel):
    """The network with one channel of a layer's output multiplied by 0."""
    gate = np.ones(6, "float32")
    gate[channel] = 0

    def call(x):
        return x * gate

    known = {}
    for each in model.layers:
        if isinstance(each, layers.InputLayer):
            x = known[each.name] = each.output
            continue
        sources = {
            "add": ["relu", "first"],
            "second": ["first"],
            "norm": ["second"],
            "relu": ["norm"],
            "means": ["add"],
        }
        given = [known[name] for name in sources.get(each.name, [])] or [x]
        x = each(given if len(given) > 1 else given[0])
        if each.name == layer:
            x = call(x)
        known[each.name] = x
    return keras.Model(model.inputs, x)


@pytest.mark.parametrize("layer", ["first", "relu", "means"])
def test_losses_are_those_of_a_network_with_the_channel_zeroed_by_hand(network, layer):
    model, images, labels = network
    result = unit_ablation(model, images, labels, layer, batch_size=7)
    for channel in (0, 5):
        answers = zeroed(model, layer, channel).predict(images, verbose=0)
        expected = -np.log(answers[np.arange(20), labels])
        np.testing.assert_allclose(result.arrays["loss"][channel], expected, rtol=1e-4)
    whole = result.table.set_index("channel").loc[-1]
    expected = model.predict(images, verbose=0)
    assert whole["accuracy"] == np.mean(expected.argmax(1) == labels)
    assert whole["loss"] == pytest.approx(-np.log(expected[np.arange(20), labels]).mean(), rel=1e-5)


def test_the_deepest_convolution_is_ablated_as_the_next_layer_sees_it(network):
    model, images, labels = network
    by_name = unit_ablation(model, images, labels, "relu").arrays["loss"]
    result = unit_ablation(model, images, labels, "second (after batch norm and relu)")
    np.testing.assert_array_equal(result.arrays["loss"], by_name)


def test_by_pencil():
    """Scores are the two colours' means."""
    inputs = keras.Input((2, 2, 2))
    x = layers.Conv2D(2, 1, use_bias=False, name="copy")(inputs)
    x = layers.GlobalAveragePooling2D(name="means")(x)
    model = keras.Model(inputs, layers.Activation("softmax")(x))
    model.get_layer("copy").set_weights([np.eye(2).reshape(1, 1, 2, 2)])
    images = np.zeros((3, 2, 2, 2), "float32")
    images[0, ..., 0], images[1, ..., 0], images[2, ..., 1] = 1, 2, 3
    result = unit_ablation(model, images, [0, 0, 1])
    np.testing.assert_allclose(result.arrays["loss"][0], [np.log(2), np.log(2), np.log(1 + np.exp(-3))], rtol=1e-5)
    table = result.table.set_index("channel")
    np.testing.assert_allclose(table["selectivity"].loc[[0, 1]], [1, 1])  # each is 0 for the other class
    np.testing.assert_array_equal(result.arrays["off"], [0, 1, 2])
    # Where both scores are 0 the answer is class 0
    np.testing.assert_allclose(result.arrays["most_important_first"], [1, 1, 2 / 3])
    np.testing.assert_allclose(result.arrays["least_important_first"], [1, 2 / 3, 2 / 3])
    assert table["rank"].loc[0] == 1
    mean = unit_ablation(model, images, [0, 0, 1], fill="mean")
    np.testing.assert_allclose(mean.arrays["loss"][0][2], np.log(1 + np.exp(1 - 3)), rtol=1e-5)


def test_selectivity_by_pencil():
    maps = np.array([[[2.0, 0.0]], [[4.0, 0.0]], [[1.0, 0.0]]])
    np.testing.assert_allclose(selectivity(maps, np.array([0, 0, 1])), [(3 - 1) / (3 + 1), np.nan])


def test_its_figure_and_files(network, tmp_path):
    model, images, labels = network
    result = unit_ablation(model, images, labels, "first")
    assert result.save(tmp_path).exists()
    assert (tmp_path / "unit-ablation.txt").read_text().startswith("first: channel ")
    assert len(result.figure().axes) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": "frist"}, "first"),
        ({"layer": "scores"}, "gives the class probabilities, which are not features"),
        ({"fill": "noise"}, "fill='noise' is not allowed: it must be 'zero' or 'mean'"),
        ({"labels": np.full(20, 3)}, "the network has 3 classes, 0 to 2"),
        ({"labels": [1, 2]}, r"labels of shape \(2,\)"),
    ],
)
def test_bad_input(network, changes, message):
    model, images, labels = network
    with pytest.raises(UsageError, match=message):
        unit_ablation(model, **{"images": images, "labels": labels, "layer": "first", **changes})


def test_channels_are_counted_at_one_level_for_all_together():
    """Of 5 images, Student's t with 4 degrees of freedom is 2.776 for one channel, 3.495 for each of two."""
    changes = np.array([3.4, -3.6]) * 0.1  # standard errors of 0.1
    units = pandas.DataFrame({"loss_change": changes, "low": changes - 0.2776, "high": changes + 0.2776})
    assert _sure(units, 5) == (0, 1)
    assert _sure(units[:1], 5) == (1, 0)
    assert _sure(units, 1) == (0, 0)


def test_the_cumulative_curves_are_a_table(network):
    model, images, labels = network
    result = unit_ablation(model, images, labels, "first")
    table = result.tables["cumulative"]
    assert table.columns.tolist() == ["off", "most_important_first", "least_important_first"]
    assert table["most_important_first"][0] == table["least_important_first"][0]
    assert table["most_important_first"].iloc[-1] == table["least_important_first"].iloc[-1]
