"""What is said beside a map: methods that are the plain gradient on a network, maps that are empty or tell no place."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerascnn import explain
from kerascnn.errors import UsageError
from kerascnn.explain import Neuron
from kerascnn.explain.caveats import EmptyMap, empty_maps

IMAGES = np.random.default_rng(2).uniform(size=(3, 8, 8, 2)).astype("float32")


def network(activation, name="net"):
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(3, 3, name="conv")(inputs)
    x = activation(x) if callable(activation) else layers.Activation(activation)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.MaxPooling2D()(x))), name=name)


SMOOTH = {
    **{name: name for name in ("silu", "gelu", "tanh", "elu", "selu", "leaky_relu", "softplus", "linear")},
    "prelu": layers.PReLU,
    "LeakyReLU": layers.LeakyReLU,
}


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])
@pytest.mark.parametrize("name", ["silu", "leaky_relu", "prelu", "tanh", "linear"])
def test_networks_without_rectifiers_are_told_once(method, name):
    kind = SMOOTH[name]
    model = network(kind() if isinstance(kind, type) else kind)
    with pytest.warns(UserWarning, match="equals the plain gradient") as told:
        values = explain.EXPLANATIONS.get(method)(model, IMAGES, 1)
    expected = f"{method} equals the plain gradient here: model 'net' has no rectifier (ReLU)."
    assert [str(w.message) for w in told] == [expected] == explain.cautions(method, model)
    assert told[0].filename == __file__
    np.testing.assert_allclose(values, explain.saliency(model, IMAGES, 1), atol=1e-6)


RECTIFIED = {
    **{name: name for name in ("relu", "relu6")},
    "operation": lambda x: ops.relu(x),
    "maximum": lambda x: ops.maximum(x, 0),
    "ReLU": lambda x: layers.ReLU(max_value=2.0)(x),
}


@pytest.mark.parametrize("name", RECTIFIED)
def test_networks_with_rectifiers_are_not(name):
    model = network(RECTIFIED[name])
    assert explain.cautions("guided_backprop", model) == explain.cautions("deconvnet", model) == []
    assert explain.guided_backprop(model, IMAGES, 1).shape == IMAGES.shape  # and no warning


def test_methods_without_a_rectifier_rule_have_no_cautions():
    model = network("silu")
    for method in set(explain.EXPLANATIONS.names()) - {"guided_backprop", "deconvnet"}:
        assert explain.cautions(method, model) == []


def dead_network():
    """Its ReLU lets nothing through, so that no score changes with the image."""
    model = network("relu", "dead")
    model.get_layer("conv").bias.assign([-1e3] * 3)
    return model


# A deconvnet does not look at what a rectifier let through
@pytest.mark.parametrize("method", sorted({*explain.EXPLANATIONS.names()} - {"deconvnet"}))
def test_all_zero_maps_are_told_by_every_method(method):
    with pytest.warns(EmptyMap) as told:
        values = explain.maps(method, dead_network(), IMAGES, 1)
    assert not values.any()
    assert str(told[0].message).startswith(f"{method}: 3 of 3 maps (number 0, 1, 2) are zero everywhere: ")


def test_relevance_that_vanishes_is_told():
    """A net whose outputs are 1e-13: epsilon swallows the relevance, layer by layer."""
    inputs = keras.Input((4,))
    x = inputs
    for _ in range(6):
        x = layers.Dense(4, use_bias=False, kernel_initializer=keras.initializers.Constant(1e-9))(x)
    model = keras.Model(inputs, x)
    with pytest.warns(EmptyMap, match=r"lrp: the map is zero everywhere: .*too small for float32"):
        explain.lrp(model, np.ones((1, 4), "float32"), 0)
    assert explain.lrp(network("relu"), IMAGES, 0).any()  # and no warning


def test_maps_that_are_not_finite_are_told():
    """The root of 0 has an infinite slope, though every score is finite."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2, kernel_initializer="ones")(ops.sqrt(inputs)))
    rows = np.array([[0, 1, 1, 1], [1, 1, 1, 1]], "float32")
    for method in ("saliency", "smoothgrad"):
        options = {"noise": 0.0} if method == "smoothgrad" else {}
        with pytest.warns(EmptyMap, match=f"{method}: map 0 is not finite"):
            values = explain.EXPLANATIONS.get(method)(model, rows, 0, **options)
        np.testing.assert_allclose(values[1], 0.5, rtol=1e-6)


def test_maps_of_several_inputs_are_all_looked_at():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], layers.Dense(1)(a) + 0 * layers.Dense(1)(b))
    with pytest.warns(EmptyMap, match="saliency: the map is zero everywhere"):
        explain.saliency(model, [np.ones((1, 3), "float32")] * 2)


def test_which_maps_by_hand():
    maps = np.ones((4, 2, 2))
    maps[1], maps[2, 0, 0], maps[3, 0, 0] = 0, 5, np.inf
    assert empty_maps(maps, "saliency", {}) == [
        "saliency: map 3 is not finite: a derivative or a share is infinite there, as at the square root of 0.",
        "saliency: map 1 is zero everywhere: what is explained does not change with the image (a dead unit, a "
        "saturated activation), or the numbers are too small for float32, where dtype='float64' may help.",
    ]
    assert empty_maps(maps[:1], "layer_cam", explain.EXPLANATIONS.facts("layer_cam")) == [
        "layer_cam: the map is the same everywhere: it cannot show where; choose a layer with larger maps."
    ]
    assert empty_maps(np.full((12, 2), np.nan), "lrp", {})[0].startswith(
        "lrp: 12 of 12 maps (number 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...) are not finite"
    )


def classifier_of_convolutions(size=(8, 8)):
    """As MobileNet ends: pooled to 1x1 maps, then a 1x1 convolution, flattened, softmax."""
    inputs = keras.Input((*size, 2))
    x = layers.Conv2D(4, 3, activation="relu", padding="same", name="early")(inputs)
    x = layers.Conv2D(6, 3, activation="relu", padding="same", name="late")(x)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(5, 1, activation="relu", name="neck")(x)
    x = layers.Conv2D(3, 1, name="predictions")(x)
    model, rng = keras.Model(inputs, layers.Softmax()(layers.Flatten()(x))), np.random.default_rng(1)
    model.set_weights([np.abs(rng.normal(size=w.shape)) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("method", ["grad_cam", "layer_cam"])
@pytest.mark.parametrize("size", [(8, 8), (None, None)])
def test_the_default_layer_has_maps_larger_than_one_pixel(method, size):
    model, look = classifier_of_convolutions(size), explain.EXPLANATIONS.get(method)
    values = look(model, IMAGES, 1)
    assert values.shape == (3, 8, 8)
    np.testing.assert_allclose(values, look(model, IMAGES, 1, layer="late"), atol=1e-6)
    with pytest.warns(EmptyMap, match=rf"{method}: 3 of 3 maps \(number 0, 1, 2\) are the same everywhere"):
        assert look(model, IMAGES, 1, layer="predictions").shape == (3, 1, 1)
    early = look(model, IMAGES, Neuron("early", 2, 4, 4)) if method == "layer_cam" else None
    assert early is None or early.shape == (3, 8, 8)  # the last layer that the target depends on


class Block(layers.Layer):
    """A convolution whose name does not say so."""

    def __init__(self):
        super().__init__(name="block")
        self.inner = layers.Conv2D(3, 3, activation="relu")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


def test_a_convolution_inside_a_layer_of_the_users_own_serves():
    inputs = keras.Input((8, 8, 2))
    x = layers.GlobalAveragePooling2D()(Block()(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    np.testing.assert_allclose(
        explain.grad_cam(model, IMAGES, 1, rectify=False),
        explain.grad_cam(model, IMAGES, 1, layer="block", rectify=False),
        atol=1e-6,
    )
    flat = keras.Sequential([inputs, layers.Flatten(), layers.Dense(2)])
    with pytest.raises(UsageError, match="no convolution with maps larger than 1x1 before the target: name a layer"):
        explain.grad_cam(flat, IMAGES, 1)


def test_nothing_is_said_of_ordinary_maps():
    model = classifier_of_convolutions()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in ("saliency", "deconvnet", "guided_backprop", "lrp"):
            assert explain.maps(method, model, IMAGES, 1).any()
