"""Answers a pencil can check, and laws that hold whatever the weights."""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers

from kerascnn import explain
from kerascnn.explain.caveats import EmptyMap
from kerascnn.network.rules.convolution import convolve, convolve_transposed, paddings
from kerascnn.network.rules.pooling import find_switches, unpool

IMAGE = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]], "float32")[None, ..., None]
MIXED = np.array([[1, -2, 3, -4], [-5, 6, -7, 8], [9, -10, 11, -12], [-13, 14, -15, 16]], "float32")[None, ..., None]


def network(*stack, shape=(4, 4, 1), weights=None):
    inputs = keras.Input(shape)
    x = inputs
    for layer in stack:
        x = layer(x)
    model = keras.Model(inputs, x)
    if weights is not None:
        model.set_weights([np.asarray(w, "float32") for w in weights])
    return model


def plane(values):
    return values[0, :, :, 0].tolist()


def test_saliency_of_a_sum_over_windows_counts_the_windows():
    model = network(
        layers.Conv2D(1, 3, use_bias=False),
        layers.Flatten(),
        layers.Dense(1, use_bias=False),
        weights=[np.ones((3, 3, 1, 1)), np.ones((4, 1))],
    )
    expected = [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]]
    assert plane(explain.saliency(model, IMAGE, 0)) == expected


@pytest.mark.filterwarnings("ignore:.*equals the plain gradient")
def test_max_pooling_credits_the_first_of_equal_values():
    model = network(
        layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(1, use_bias=False), weights=[[[1], [2], [3], [4]]]
    )
    flat = np.zeros((1, 4, 4, 1), "float32")
    for method in (explain.saliency, explain.deconvnet, explain.guided_backprop):
        assert plane(method(model, flat, 0)) == [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
        assert plane(method(model, IMAGE, 0)) == [[0, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 0], [0, 3, 0, 4]]


def test_overlapping_pools_add_what_meets():
    model = network(
        layers.MaxPooling2D(3, strides=1),
        layers.Flatten(),
        layers.Dense(1, use_bias=False),
        weights=[[[1], [2], [4], [8]]],
    )
    peak = np.zeros((1, 4, 4, 1), "float32")
    peak[0, 1, 1, 0] = 5
    assert plane(explain.saliency(model, peak, 0)) == [[0, 0, 0, 0], [0, 15, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_the_three_rectifiers_differ_as_published():
    """One ReLU, weights 1, -1 above it: x > 0 at (0,0), (0,2) ...; g is 1 in the upper half and -1 in the lower."""
    signs = np.repeat([1, -1], 8)[:, None]
    model = network(layers.ReLU(), layers.Flatten(), layers.Dense(1, use_bias=False), weights=[signs])
    up, down = [1, 0, 1, 0], [0, 1, 0, 1]
    minus = [[-v for v in row] for row in (up, down)]
    assert plane(explain.saliency(model, MIXED, 0)) == [up, down, *minus]
    assert plane(explain.deconvnet(model, MIXED, 0)) == [[1] * 4, [1] * 4, [0] * 4, [0] * 4]
    assert plane(explain.guided_backprop(model, MIXED, 0)) == [up, down, [0] * 4, [0] * 4]


def test_a_rectifier_below_overlapping_pools_sees_the_sum():
    """All four windows choose the peak; 2 - 1 - 3 + 4 = 2 meet there, and -1 - 3 + 1 + 1 = -2 with other weights."""
    peak = np.full((1, 4, 4, 1), -1, "float32")
    peak[0, 1, 1, 0] = 5
    for weights, total in (([2, -1, -3, 4], 2), ([-1, -3, 1, 1], -2)):
        model = network(
            layers.ReLU(),
            layers.MaxPooling2D(3, strides=1),
            layers.Flatten(),
            layers.Dense(1, use_bias=False),
            weights=[np.array(weights)[:, None]],
        )
        assert explain.saliency(model, peak, 0)[0, 1, 1, 0] == total
        for method in (explain.deconvnet, explain.guided_backprop):
            with contextlib.nullcontext() if total > 0 else pytest.warns(EmptyMap, match="zero everywhere"):
                assert method(model, peak, 0)[0, 1, 1, 0] == max(total, 0)
        assert np.count_nonzero(explain.saliency(model, peak, 0)) == 1


def test_seed_activation_multiplies_by_the_activation():
    model = network(layers.Conv2D(1, 2, use_bias=False, name="c"), weights=[np.ones((2, 2, 1, 1))])
    corner = explain.Neuron("c", 0, row=0, col=0)
    assert plane(explain.saliency(model, IMAGE, corner))[0] == [1, 1, 0, 0]
    assert plane(explain.saliency(model, IMAGE, corner, start="activation"))[0] == [14, 14, 0, 0]


def test_channel_maximum_and_mean():
    model = network(layers.Conv2D(1, 2, use_bias=False, name="c"), weights=[np.ones((2, 2, 1, 1))])
    biggest = explain.saliency(model, IMAGE, explain.Neuron("c", 0))
    assert plane(biggest) == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    mean = explain.saliency(model, IMAGE, explain.Neuron("c", 0, reduce="mean"))
    expected = [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]]
    np.testing.assert_allclose(mean[0, :, :, 0] * 9, expected, rtol=1e-6)


def test_switches_are_rows_and_columns_of_the_input():
    model = network(layers.MaxPooling2D(3, strides=2, padding="same", name="pool"))
    switches = explain.switches(model, np.zeros((1, 4, 4, 1), "float32"), "pool")
    assert switches.dtype == np.int32
    assert switches[0, :, :, 0].tolist() == [[[0, 0], [0, 2]], [[2, 0], [2, 2]]]


GEOMETRIES = [
    ((2, 2), (2, 2), "valid"),
    ((3, 3), (2, 2), "valid"),
    ((3, 3), (2, 2), "same"),
    ((2, 3), (1, 2), "same"),
    ((2, 2), (3, 3), "valid"),
    ((3, 2), (3, 2), "same"),
]


@pytest.mark.parametrize("config", GEOMETRIES)
def test_unpooling_is_the_transposed_of_pooling_with_its_switches(config):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 7, 8, 3)).astype("float32")
    pooled, best = find_switches(config, keras.ops.convert_to_tensor(x))
    y = rng.normal(size=pooled.shape).astype("float32")
    back = keras.ops.convert_to_numpy(unpool(config, keras.ops.convert_to_tensor(y), best, (7, 8)))
    assert np.sum(back * x) == pytest.approx(np.sum(y * keras.ops.convert_to_numpy(pooled)), rel=1e-4)


@pytest.mark.parametrize("config", [GEOMETRIES[0], GEOMETRIES[4], GEOMETRIES[5]])
def test_pooling_what_was_unpooled_gives_it_back(config):
    rng = np.random.default_rng(2)
    x = keras.ops.convert_to_tensor(rng.normal(size=(2, 7, 8, 3)).astype("float32"))
    pooled, best = find_switches(config, x)
    y = rng.uniform(0.1, 1, size=pooled.shape).astype("float32")
    back = unpool(config, keras.ops.convert_to_tensor(y), best, (7, 8))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(find_switches(config, back)[0]), y)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("strides", "dilations", "groups"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 1), (1, 1), 2),
        ((2, 2), (1, 1), 1),
        ((2, 2), (1, 1), 2),
        ((3, 2), (1, 1), 1),
        ((2, 1), (1, 1), 2),
        ((1, 1), (2, 2), 1),
        ((1, 1), (1, 3), 2),
    ],
)
def test_transposed_convolution_is_the_adjoint(strides, padding, groups, dilations):
    rng = np.random.default_rng(3)
    x, kernel = rng.normal(size=(2, 9, 8, 4)), rng.normal(size=(3, 2, 4 // groups, 6))
    pads = paddings(padding, (9, 8), (3, 2), strides, dilations)
    x, kernel = (keras.ops.convert_to_tensor(a.astype("float32")) for a in (x, kernel))
    y = convolve(x, kernel, strides, dilations, pads, groups)
    g = keras.ops.convert_to_tensor(rng.normal(size=y.shape).astype("float32"))
    back = convolve_transposed(g, kernel, strides, dilations, pads, (9, 8), groups)
    assert float(keras.ops.sum(g * y)) == pytest.approx(float(keras.ops.sum(back * x)), rel=1e-4, abs=1e-4)


def relu_network(bias, positive=False, seed=0):
    """Two convolutions with ReLU and pooling, a dense end, small random weights."""
    rng, conv = np.random.default_rng(seed), {"activation": "relu", "use_bias": bias}
    model = network(
        layers.Conv2D(4, 3, padding="same", **conv),
        layers.MaxPooling2D(3, strides=2),
        layers.Conv2D(5, 3, **conv),
        layers.Flatten(),
        layers.Dense(3, use_bias=bias),
        shape=(9, 9, 2),
    )
    model.set_weights([(abs(v) if positive else v) for v in (rng.normal(size=w.shape) for w in model.get_weights())])
    return model


def images(n=3, shape=(9, 9, 2), seed=5):
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype("float32")


def test_in_an_all_positive_network_the_three_methods_agree():
    model, x = relu_network(bias=True, positive=True), np.abs(images())
    plain = explain.saliency(model, x, 1)
    np.testing.assert_array_equal(explain.deconvnet(model, x, 1), plain)
    np.testing.assert_array_equal(explain.guided_backprop(model, x, 1), plain)


def test_in_a_bias_free_relu_network_gradient_times_input_sums_to_the_score():
    model, x = relu_network(bias=False), images()
    scores = model.predict(x, verbose=0)[:, 2]
    np.testing.assert_allclose(explain.gradient_x_input(model, x, 2).sum((1, 2, 3)), scores, rtol=1e-4)


def test_relevance_with_vanishing_epsilon_is_gradient_times_input():
    model, x = relu_network(bias=True), images()
    expected = explain.gradient_x_input(model, x, 0)
    relevance = explain.lrp(model, x, 0, epsilon=1e-12)
    np.testing.assert_allclose(relevance, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("alpha", [None, 1, 2])
def test_relevance_is_conserved_without_biases(alpha):
    model, x = relu_network(bias=False), images()
    scores = model.predict(x, verbose=0)[:, 1]
    relevance = explain.lrp(model, x, 1, epsilon=1e-9, alpha=alpha)
    np.testing.assert_allclose(relevance.sum((1, 2, 3)), scores, rtol=2e-3)


def test_alpha_beta_by_hand():
    """x = (1, 2), w = (3, -1): z = 1, z+ = 3, z- = -2; R = 1 gives 2 * 1 to the first and -1 * 1 to the second."""
    convolution = layers.Conv2D(1, (1, 2), use_bias=False)
    model = network(convolution, layers.Flatten(), shape=(1, 2, 1), weights=[[[[[3]], [[-1]]]]])
    x = np.array([1, 2], "float32").reshape(1, 1, 2, 1)
    assert explain.lrp(model, x, 0, alpha=2).ravel().tolist() == [2, -1]
    assert explain.lrp(model, x, 0, alpha=1).ravel().tolist() == [1, 0]
    np.testing.assert_allclose(explain.lrp(model, x, 0).ravel(), [3, -2], rtol=1e-5)


def test_deconvnet_is_homogeneous_in_the_seed():
    """Scaling the image scales a bias-free network's activation, the switches stay, and the seed scales the map."""
    model, x = relu_network(bias=False), images()
    once = explain.deconvnet(model, x, 0, start="activation")
    np.testing.assert_allclose(explain.deconvnet(model, 3 * x, 0, start="activation"), 3 * once, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:saliency")  # the neuron is off in some images
def test_targets_per_image_shared_sets_and_several_for_one_image():
    model, x = relu_network(bias=True), images()
    each = [explain.saliency(model, x, c) for c in range(3)]
    mixed = explain.saliency(model, x, np.array([2, 0, 1]))
    for i, c in enumerate((2, 0, 1)):
        np.testing.assert_allclose(mixed[i], each[c][i], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(explain.saliency(model, x, {0, 2}), each[0] + each[2], rtol=1e-4, atol=1e-5)
    names = [layer.name for layer in model.layers if "conv2d" in layer.name]
    neuron = explain.Neuron(names[1], 4, 1, 0)
    several = explain.saliency(model, x[:1], [1, neuron, 0])
    assert several.shape == (3, 9, 9, 2)
    np.testing.assert_allclose(several[::2], np.stack([each[1][0], each[0][0]]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(several[1], explain.saliency(model, x, neuron)[0], rtol=1e-5, atol=1e-6)


def test_a_batch_of_two_is_two_batches_of_one():
    model, x = relu_network(bias=True), images(5)
    for method in (explain.saliency, explain.deconvnet, explain.guided_backprop):
        together = method(model, x)
        apart = np.concatenate([method(model, x[i : i + 1]) for i in range(5)])
        np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(method(model, x, batch_size=2), together, rtol=1e-5, atol=1e-6)


def test_every_call_of_a_shared_layer_has_its_own_switches():
    inputs = keras.Input((4, 4, 1))
    pool = layers.MaxPooling2D(2, name="pool")
    model = keras.Model(inputs, pool(pool(inputs)))
    image = np.zeros((1, 4, 4, 1), "float32")
    image[0, :, :, 0] = [[1, 2, 0, 0], [0, 0, 0, 3], [0, 0, 9, 0], [4, 0, 0, 0]]
    first = [[[0, 1], [1, 3]], [[3, 0], [2, 2]]]
    switches = explain.switches(model, image)
    assert list(switches) == ["pool#1", "pool#2"]
    np.testing.assert_array_equal(switches["pool#1"][0, :, :, 0], first)
    np.testing.assert_array_equal(switches["pool#2"][0, :, :, 0], [[[1, 1]]])  # the 9
    np.testing.assert_array_equal(explain.switches(model, image, "pool#1"), switches["pool#1"])
    values = explain.activations(model, image)
    np.testing.assert_array_equal(values["pool#1"][0, :, :, 0], [[2, 3], [4, 9]])
    np.testing.assert_array_equal(values["pool#2"][0, :, :, 0], [[9]])
