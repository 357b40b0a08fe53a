"""Alpha-beta relevance of a network with batch normalisation is that of its folded twin."""

import keras
import numpy as np
import pytest
from keras import layers

from kerascnn import explain
from kerascnn.explain import Neuron

RNG = np.random.default_rng(12)
IMAGES = RNG.normal(size=(2, 8, 8, 4)).astype("float32")


def randomise(model, seed=1):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        low, high = (0.5, 1.5) if "variance" in variable.path or "gamma" in variable.path else (-1, 1)
        variable.assign(rng.uniform(low, high, variable.shape))


def norm_numbers(norm):
    gamma, beta, mean, variance = (keras.ops.convert_to_numpy(w) for w in norm.weights)
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return scale, beta - mean * scale


def folded_after(layer, norm):
    """(kernel, bias) of the layer with the normalisation behind it, by hand."""
    scale, shift = norm_numbers(norm)
    weights = [keras.ops.convert_to_numpy(w) for w in layer.weights]
    kernel, bias = weights[-2:] if layer.use_bias else (weights[-1], 0)
    if isinstance(layer, layers.DepthwiseConv2D):
        kernel = np.einsum("hwcm,cm->hwcm", kernel, scale.reshape(kernel.shape[2:]))
    elif isinstance(layer, layers.Conv2DTranspose):
        kernel = np.einsum("hwoi,o->hwoi", kernel, scale)
    else:
        kernel = kernel * scale
    return [*weights[: -2 if layer.use_bias else -1], kernel, bias * scale + shift]


AFTER = {
    "conv": lambda bias: layers.Conv2D(6, 3, use_bias=bias),
    "strided": lambda bias: layers.Conv2D(6, 3, strides=2, padding="same", use_bias=bias),
    "grouped": lambda bias: layers.Conv2D(6, 3, groups=2, use_bias=bias),
    "depthwise": lambda bias: layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=bias),
    "separable": lambda bias: layers.SeparableConv2D(5, 3, use_bias=bias),
    "transposed": lambda bias: layers.Conv2DTranspose(5, 3, strides=2, use_bias=bias),
    "dense": lambda bias: layers.Dense(5, use_bias=bias),
}


def ended(x):
    x = layers.Conv2D(3, 2, activation="relu")(layers.Activation("relu")(x))
    return layers.Dense(3)(layers.Flatten()(x))


@pytest.mark.parametrize(("name", "bias"), [("conv", True), *((name, False) for name in AFTER), ("transposed", True)])
def test_normalisation_after_a_layer(name, bias):
    inputs = keras.Input((8, 8, 4))
    layer, norm = AFTER[name](bias), layers.BatchNormalization()
    between = layers.Dropout(0.5) if bias else layers.Identity()
    model = keras.Model(inputs, ended(norm(between(layer(inputs)))))
    randomise(model)
    twin_layer, twin_inputs = AFTER[name](True), keras.Input((8, 8, 4))
    twin = keras.Model(twin_inputs, ended(twin_layer(twin_inputs)))
    twin.set_weights([*folded_after(layer, norm), *model.get_weights()[-4:]])
    check(model, twin)


def check(model, twin, images=IMAGES):
    np.testing.assert_allclose(model(images), twin(images), atol=2e-4)
    expected = explain.lrp(twin, images, 1, alpha=2)
    np.testing.assert_allclose(explain.lrp(model, images, 1, alpha=2), expected, atol=1e-5 * np.abs(expected).max())


def test_unmerged_maps_differ():
    inputs, twin_inputs = keras.Input((8, 8, 4)), keras.Input((8, 8, 4))
    layer, norm = layers.Conv2D(6, 3), layers.BatchNormalization()
    model = keras.Model(inputs, ended(norm(layer(inputs))))
    randomise(model)
    twin = keras.Model(twin_inputs, ended(layers.Conv2D(6, 3)(twin_inputs)))
    twin.set_weights([*folded_after(layer, norm), *model.get_weights()[-4:]])
    check(model, twin)
    apart = explain.lrp(model, IMAGES, 1, alpha=2, merge_batch_norm=False) - explain.lrp(twin, IMAGES, 1, alpha=2)
    assert np.abs(apart).max() > 0.1 * np.abs(explain.lrp(twin, IMAGES, 1, alpha=2)).max()
    epsilon = [explain.lrp(model, IMAGES, 1, merge_batch_norm=merge) for merge in (True, False)]
    np.testing.assert_array_equal(*epsilon)


BEFORE = {
    "conv": (lambda: layers.Conv2D(6, 3), "hwio,i->hwio", "hwio,i->o"),
    "depthwise": (lambda: layers.DepthwiseConv2D(3), "hwcm,c->hwcm", "hwcm,c->cm"),
    "dense": (lambda: layers.Dense(5), "io,i->io", "io,i->o"),
    "full": (lambda: layers.Conv2DTranspose(5, 1), "hwoi,i->hwoi", "hwoi,i->o"),
}


@pytest.mark.parametrize("name", BEFORE)
def test_normalisation_before_a_layer(name):
    make, scaled, summed = BEFORE[name]
    inputs, twin_inputs = keras.Input((8, 8, 4)), keras.Input((8, 8, 4))
    layer, norm = make(), layers.BatchNormalization()
    model = keras.Model(inputs, ended(layer(norm(inputs))))
    randomise(model)
    twin = keras.Model(twin_inputs, ended(make()(twin_inputs)))
    kernel, bias = (keras.ops.convert_to_numpy(w) for w in layer.weights)
    scale, shift = norm_numbers(norm)
    added = np.einsum(summed, kernel, shift).ravel()
    twin.set_weights([np.einsum(scaled, kernel, scale), bias + added, *model.get_weights()[-4:]])
    check(model, twin)


def test_normalisation_before_a_layer_that_pads_is_a_bias_per_place():
    """What zero padding does to shift: the same as a normalised image padded by hand, then a valid convolution."""
    inputs = keras.Input((5, 5, 4))
    norm = layers.BatchNormalization()
    x = layers.Conv2D(3, 3, padding="same")(norm(inputs))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    randomise(model)
    images = RNG.normal(size=(2, 5, 5, 4)).astype("float32")
    kernel, bias = model.layers[-2].get_weights()
    scale, shift = norm_numbers(norm)
    big = np.pad(images * scale, ((0, 0), (1, 1), (1, 1), (0, 0)))
    offset = np.pad(np.broadcast_to(shift, (1, 5, 5, 4)), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros_like(big)
    for i, j in np.ndindex(5, 5):
        window = big[:, i : i + 3, j : j + 3, :, None] * kernel
        constant = (offset[:, i : i + 3, j : j + 3, :, None] * kernel).sum((1, 2, 3)) + bias
        z = window.sum((1, 2, 3)) + constant
        chosen = (z[:, 1] / 25)[:, None, None, None]
        one, c = window[..., 1], constant[:, 1][:, None, None, None]
        # relevance of the place: its share of the mean, by the alpha-beta rule
        up, down = np.maximum(one, 0), np.minimum(one, 0)
        positive = up / (up.sum((1, 2, 3), keepdims=True) + np.maximum(c, 0))
        negative = down / (down.sum((1, 2, 3), keepdims=True) + np.minimum(c, 0))
        expected[:, i : i + 3, j : j + 3] += chosen * (2 * positive - negative)
    values = explain.lrp(model, images, 1, alpha=2)
    expected = expected[:, 1:-1, 1:-1]
    np.testing.assert_allclose(values, expected, atol=1e-4 * np.abs(expected).max())


def test_what_stays_a_layer_of_its_own():
    """After a ReLU, or where another layer reads the convolution, too: nothing to merge, and no change."""
    inputs = keras.Input((8, 8, 4))
    conv = layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    x = layers.Add()([layers.BatchNormalization()(conv), conv])
    x = layers.BatchNormalization(name="alone")(layers.Activation("relu")(x))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.Activation("relu")(x))))
    randomise(model)
    for target in (1, Neuron("conv", 2, 3, 3), Neuron("alone", 2, 3, 3)):
        merged = explain.lrp(model, IMAGES, target, alpha=2)
        np.testing.assert_array_equal(merged, explain.lrp(model, IMAGES, target, alpha=2, merge_batch_norm=False))


def test_targets_on_both_sides_of_the_normalisation():
    inputs, twin_inputs = keras.Input((8, 8, 4)), keras.Input((8, 8, 4))
    layer, norm = layers.Conv2D(6, 3, name="conv"), layers.BatchNormalization(name="norm")
    model = keras.Model(inputs, ended(norm(layer(inputs))))
    randomise(model)
    twin = keras.Model(twin_inputs, layers.Conv2D(6, 3, name="conv")(twin_inputs))
    twin.set_weights(folded_after(layer, norm))
    np.testing.assert_allclose(
        explain.lrp(model, IMAGES, Neuron("norm", 2, 3, 3), alpha=2),
        explain.lrp(twin, IMAGES, Neuron("conv", 2, 3, 3), alpha=2),
        atol=1e-5,
    )
    twin.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        explain.lrp(model, IMAGES, Neuron("conv", 2, 3, 3), alpha=2),
        explain.lrp(twin, IMAGES, Neuron("conv", 2, 3, 3), alpha=2),
        atol=1e-5,
    )


def test_normalisation_along_the_first_axis_of_channels_first_maps():
    inputs, twin_inputs = keras.Input((4, 8, 8)), keras.Input((4, 8, 8))
    options = {"data_format": "channels_first"}
    layer, norm = layers.Conv2D(6, 3, **options), layers.BatchNormalization(axis=1)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten(**options)(layers.ReLU()(norm(layer(inputs))))))
    randomise(model)
    x = layers.ReLU()(layers.Conv2D(6, 3, **options)(twin_inputs))
    twin = keras.Model(twin_inputs, layers.Dense(3)(layers.Flatten(**options)(x)))
    twin.set_weights([*folded_after(layer, norm), *model.get_weights()[-2:]])
    images = IMAGES.transpose(0, 3, 1, 2)
    maps = [explain.lrp(m, images, 1, alpha=2) for m in (model, twin)]
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-5 * np.abs(maps[1]).max())
