import keras
import numpy as np
import pytest
from keras import layers

from kerascnn.errors import UsageError
from kerascnn.models import krizhevsky2012, lenet
from kerascnn.models.variants import altered


def chain():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(inputs)
    x = layers.ReLU(name="relu1")(x)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Conv2D(6, 3, padding="same", name="conv2")(x)
    x = layers.BatchNormalization(name="bn2")(x)
    x = layers.ReLU(name="relu2")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(10, activation="relu", name="fc1")(x)
    x = layers.Dropout(0.5, name="drop1")(x)
    x = layers.Dense(3, name="fc2")(x)
    return keras.Model(inputs, layers.Softmax(name="softmax")(x), name="chain")


def names(model):
    return [layer.name for layer in model.layers[1:]]


def test_what_belongs_to_a_layer_goes_with_it():
    model = chain()
    before = [w.copy() for w in model.get_weights()]
    changed, said = altered(model, without="conv2,fc1")
    assert names(changed) == ["conv1", "relu1", "pool1", "pool2", "flatten", "fc2", "softmax"]
    assert said[0] == "without conv2, fc1, and with them bn2, relu2, drop1"
    assert said[1].startswith("pool2 now follows pool1 with no filters between them and stays")
    assert changed.count_params() == (3 * 9 * 4 + 4) + (2 * 2 * 4 * 3 + 3)
    assert said[-1] == f"{changed.count_params():,} parameters in place of {model.count_params():,}"
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # What keeps its shape keeps its weights; what comes out is what a pencil chains together.
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    maps = np.asarray(keras.Model(model.input, model.get_layer("pool1").output)(images))
    scores = maps.reshape(2, 2, 2, 2, 2, 4).max((2, 4)).reshape(2, -1) @ changed.get_layer("fc2").get_weights()[0]
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(np.asarray(changed(images)), chances, atol=1e-5)
    assert "pool2" not in names(altered(model, without="conv2,pool2")[0])


def test_no_change_is_the_same_network():
    model = chain()
    same, said = altered(model)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(np.asarray(same(images)), np.asarray(model(images)), atol=1e-6)
    assert said == (f"{model.count_params():,} parameters in place of {model.count_params():,}",)


def test_an_extra_convolution_keeps_the_maps_and_leaves_no_trace_when_it_is_not_there():
    model = chain()
    changed, said = altered(model, extra="conv1,pool2")
    assert names(changed)[:3] == ["conv1", "conv1_conv", "relu1"]
    assert names(changed)[7:10] == ["pool2", "pool2_conv", "flatten"]
    assert said[:2] == (
        "conv1_conv: 3x3 convolution with 4 filters after conv1",
        "pool2_conv: 3x3 convolution with 6 filters after pool2",
    )
    assert changed.count_params() == model.count_params() + (9 * 4 * 4 + 4) + (9 * 6 * 6 + 6)
    assert changed.get_layer("pool2_conv").output.shape == model.get_layer("pool2").output.shape
    # Filters that pass on each channel change nothing behind a pooling of what is not negative.
    pass_on = np.zeros((3, 3, 6, 6), "float32")
    pass_on[1, 1] = np.eye(6)
    one = altered(model, extra="pool2")[0]
    one.get_layer("pool2_conv").set_weights([pass_on, np.zeros(6)])
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(np.asarray(one(images)), np.asarray(model(images)), atol=1e-6)
    with pytest.raises(UsageError, match="extra='pool2' names 'pool2', which without='pool2' removes"):
        altered(model, without="pool2", extra="pool2")
    with pytest.raises(UsageError, match="'fc1' of chain gives no maps for a convolution"):
        altered(model, extra="fc1")


def test_widths_are_factors_or_numbers():
    changed, said = altered(chain(), widths="conv1..conv2 x1.5; fc1 =7")
    assert [changed.get_layer(name).filters for name in ("conv1", "conv2")] == [6, 9]
    assert changed.get_layer("fc1").units == 7
    assert said[0] == "conv1: 6 filters in place of 4"
    assert altered(chain(), widths="fc1 x0.01")[0].get_layer("fc1").units == 1


def test_the_wider_layers_of_the_paper():
    """Table 3 of Zeiler and Fergus: 512, 1024 and 512 filters in place of 384, 384 and 256."""
    model = krizhevsky2012.alexnet(input_shape=(99, 99, 3), num_classes=5)
    changed, _ = altered(model, without="fc6,fc7", widths="conv3 =512; conv4 =1024; conv5 =512")
    assert [changed.get_layer(f"conv{n}").filters for n in (3, 4, 5)] == [512, 1024, 512]
    assert not {"fc6", "fc7"} & set(names(changed))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"without": "conv1,conv2"}, "removes every convolution of chain. Keep one."),
        ({"without": "fc2"}, "'fc2', which gives the class scores"),
        ({"without": "conv9"}, "no layer 'conv9'"),
        ({"without": "flatten"}, r"changes what chain puts out, from \(3,\) to"),
        ({"widths": "conv1 2"}, "write names, a space, and x with a factor"),
        ({"widths": "fc2 x2"}, "'fc2' gives the class scores"),
        ({"widths": "pool1 x2"}, "none of them has filters or units"),
        ({"widths": "conv2 x2", "without": "conv2"}, "names 'conv2', which without='conv2' removes"),
    ],
)
def test_what_cannot_be_is_told(changes, told):
    with pytest.raises(UsageError, match=told):
        altered(chain(), **changes)


def test_shapes_that_no_longer_fit_are_named():
    model = lenet.lenet5(input_shape=(16, 16, 1), num_classes=3)
    only = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(2, 3, name="conv"), layers.Flatten()], name="one")
    with pytest.raises(UsageError, match="the only convolution of one"):
        altered(only, without="conv")
    inputs = keras.Input((4, 4, 2))
    x = layers.Add(name="sum")([layers.Conv2D(3, 1, name="left")(inputs), layers.Conv2D(3, 1, name="right")(inputs)])
    x = layers.Dense(2, name="scores")(layers.GlobalAveragePooling2D()(x))
    with pytest.raises(UsageError, match="layer 'sum' no longer fits: it gets 4x4x2, 4x4x3"):
        altered(keras.Model(inputs, x, name="branched"), without="left")
    assert altered(model, without="c3")[0].count_params() > 0
