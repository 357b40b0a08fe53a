"""Layers that are linear in their input, walked back: the map is what Keras answers to images of one pixel each."""

import contextlib
import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerascnn import backends, explain
from kerascnn.explain.reverse import walk_back
from kerascnn.explain.walk import _compiled
from kerascnn.network.rules.convolution import convolve, convolve_transposed
from kerascnn.network.rules.shaping import bilinear

LINEAR = {
    "Conv1D in groups": ((7, 4), lambda: layers.Conv1D(6, 3, strides=2, groups=2)),
    "Conv1D a channel a group": ((7, 3), lambda: layers.Conv1D(6, 3, padding="causal", dilation_rate=2, groups=3)),
    "Conv2D in groups": ((5, 4, 4), lambda: layers.Conv2D(6, (3, 2), padding="same", groups=2)),
    "Conv2D in groups, strides": ((6, 5, 4), lambda: layers.Conv2D(4, 3, strides=2, padding="same", groups=2)),
    "Conv2D in groups, dilation": ((6, 6, 4), lambda: layers.Conv2D(2, (2, 3), dilation_rate=(3, 2), groups=2)),
    "Conv2D a channel a group": ((5, 4, 4), lambda: layers.Conv2D(4, 3, padding="same", groups=4)),
    "Conv2D with multiplier": ((6, 5, 3), lambda: layers.Conv2D(9, 3, strides=2, padding="same", groups=3)),
    "Conv2D in 10 groups": ((3, 3, 20), lambda: layers.Conv2D(30, 2, padding="same", groups=10)),
    "Conv3D in groups": ((3, 3, 4, 4), lambda: layers.Conv3D(6, 2, padding="same", groups=2)),
    "Conv3D a channel a group": ((3, 4, 3, 3), lambda: layers.Conv3D(6, 2, strides=2, padding="same", groups=3)),
    "DepthwiseConv1D": ((7, 3), lambda: layers.DepthwiseConv1D(3, strides=2, depth_multiplier=2)),
    "DepthwiseConv2D": ((5, 6, 3), lambda: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)),
    "DepthwiseConv2D, strides": ((6, 5, 3), lambda: layers.DepthwiseConv2D((2, 3), strides=2, padding="same")),
    "DepthwiseConv2D, dilation": ((6, 5, 3), lambda: layers.DepthwiseConv2D(2, dilation_rate=2)),
    "SeparableConv1D": ((7, 3), lambda: layers.SeparableConv1D(4, 3, strides=2, depth_multiplier=2)),
    "SeparableConv2D": ((5, 6, 3), lambda: layers.SeparableConv2D(4, 3, strides=2, padding="same")),
    "Conv3DTranspose": ((3, 2, 2, 3), lambda: layers.Conv3DTranspose(2, 3, strides=2)),
    "AveragePooling1D": ((7, 3), lambda: layers.AveragePooling1D(2, 3)),
    "AveragePooling2D": ((6, 7, 2), lambda: layers.AveragePooling2D(2, 3, padding="same")),
    "AveragePooling3D": ((4, 5, 4, 2), lambda: layers.AveragePooling3D(2)),
    "AveragePooling3D, unequal": ((4, 6, 5, 1), lambda: layers.AveragePooling3D((2, 3, 1))),
    "AveragePooling3D, stride above pool": ((5, 4, 5, 2), lambda: layers.AveragePooling3D(2, 3)),
    "AveragePooling3D, unequal strides": ((5, 4, 5, 1), lambda: layers.AveragePooling3D((1, 2, 3), (2, 1, 2))),
    "AveragePooling3D, overlap": ((4, 4, 5, 2), lambda: layers.AveragePooling3D(3, 1)),
    "AveragePooling3D, same": ((4, 4, 6, 1), lambda: layers.AveragePooling3D(2, padding="same")),
    "GlobalAveragePooling3D": ((3, 4, 5, 2), layers.GlobalAveragePooling3D),
    "UpSampling2D": ((4, 3, 2), lambda: layers.UpSampling2D((2, 3), interpolation="bilinear")),
    "Resizing": ((6, 5, 2), lambda: layers.Resizing(4, 7)),
    "Dense": ((2, 3, 4), lambda: layers.Dense(5)),
}


@contextlib.contextmanager
def eagerly():
    """Each network is used a few times only: on TensorFlow tracing it would take longer than running it."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def scored(shape, layer, seed=0):
    """A model with one output, a random weighted sum of what the layer makes, and random weights."""
    model = keras.Sequential([keras.Input(shape), layer, layers.Flatten(), layers.Dense(1, name="score")])
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    return model


@pytest.mark.parametrize("name", LINEAR)
def test_the_map_is_what_the_layer_answers_to_single_pixels(name):
    shape, layer = LINEAR[name]
    model, size = scored(shape, layer()), int(np.prod(shape))
    pixels = np.concatenate([np.zeros((1, size)), np.eye(size)]).reshape(-1, *shape).astype("float32")
    answers = ops.convert_to_numpy(model(pixels))[:, 0]
    expected = (answers[1:] - answers[0]).reshape(shape)
    image = np.random.default_rng(1).normal(size=(1, *shape))
    target = explain.Neuron("score", 0)
    images = np.concatenate([image, np.zeros_like(image)])
    with eagerly():
        values = explain.saliency(model, image, target)[0]
        maps, _, scores = walk_back(model, images, target, dtype="float64")
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert maps[0].dtype == scores.dtype == np.float64
    np.testing.assert_allclose(maps[0][0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    law = (maps[0][0] * image[0]).sum() + scores[1] - scores[0]
    assert abs(law) < 1e-12 * np.abs(maps[0][0] * image[0]).sum(), "rounded to float32 on the way"
    assert explain.coverage(model).empty


@pytest.mark.parametrize(
    ("pool", "strides", "padding"),
    [(2, None, "valid"), (2, 3, "valid"), (3, 1, "valid"), ((1, 2, 3), (2, 1, 2), "same")],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_max_pooling_of_voxels_credits_each_window_s_maximum(pool, strides, padding, dtype):
    shape = (4, 5, 4, 2)
    layer = layers.MaxPooling3D(pool, strides, padding)
    model = scored(shape, layer)
    volume = np.random.default_rng(2).permutation(np.prod(shape)).reshape(1, *shape).astype("float32")
    pooled = ops.convert_to_numpy(layer(volume))[0]
    weights = ops.convert_to_numpy(model.get_layer("score").kernel)[:, 0].reshape(pooled.shape)
    expected = np.zeros(shape)
    for place in itertools.product(*map(range, pooled.shape)):  # values differ, so that each names its place
        expected[np.nonzero(volume[0] == pooled[place])] += weights[place]
    with eagerly():
        values = explain.saliency(model, volume, explain.Neuron("score", 0), dtype=dtype)[0]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


@pytest.mark.skipif(backends.backend() != "tensorflow", reason="only TensorFlow keeps XLA's programs for ever")
def test_ever_new_networks_get_a_bounded_number_of_programs(monkeypatch):
    def looked_at(height):
        model = keras.Sequential([keras.Input((height, 5, 2)), layers.MaxPooling2D(3, 2), layers.Flatten()])
        image = np.random.default_rng(height).normal(size=(1, height, 5, 2)).astype("float32")
        return explain.saliency(model, image, {1, 2})

    fused = looked_at(6), looked_at(7)
    monkeypatch.setattr(backends, "_FUSED", {})
    monkeypatch.setattr(backends, "MOST_FUSED", 2)
    _compiled.cache_clear()
    for height in (6, 7):
        np.testing.assert_array_equal(looked_at(height), fused[height - 6])
        assert len(backends._FUSED) <= 2


def operations(groups, channels):
    """How many operations TensorFlow's graph of a grouped convolution and its transposed one has."""
    import tensorflow as tf

    def both(x, kernel):
        one, pads = (1, 1), ((1, 1), (1, 1))
        y = convolve(x, kernel, one, one, pads, groups)
        return convolve_transposed(y, kernel, one, one, pads, (6, 6), groups)

    x, kernel = tf.TensorSpec((None, 6, 6, channels)), tf.TensorSpec((3, 3, channels // groups, channels))
    return len(tf.function(both).get_concrete_function(x, kernel).graph.get_operations())


@pytest.mark.skipif(backends.backend() != "tensorflow", reason="it counts operations of TensorFlow's graph")
def test_groups_are_one_operation():
    assert operations(96, 96) == operations(2, 2)
    assert operations(32, 64) == operations(2, 4)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [1, 3, 5, 8, 12])
def test_the_matrix_of_bilinear_resizing_is_the_backend_s(size, antialias):
    identity = np.eye(5, dtype="float32")[None, ..., None]
    resized = ops.image.resize(identity, (size, 5), "bilinear", antialias, data_format="channels_last")
    np.testing.assert_allclose(bilinear(size, 5, antialias), ops.convert_to_numpy(resized)[0, ..., 0], atol=1e-6)


def test_float64_of_what_only_the_layer_itself_can_compute_is_refused():
    @keras.saving.register_keras_serializable("test_explain_linear")
    class Sorted(keras.layers.Layer):
        def call(self, x):
            if isinstance(x, keras.KerasTensor):
                raise TypeError("no symbolic tensors here")
            return ops.sort(x, -1)

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    model = keras.Sequential([keras.Input((4,)), Sorted(name="sorted"), layers.Dense(2)])
    images = np.ones((1, 4), "float32")
    assert explain.activations(model, images, "sorted").dtype == np.float32
    with pytest.raises(ValueError, match="Layer 'sorted' has no rule and computes in float32"):
        explain.activations(model, images, "sorted", dtype="float64")
    with pytest.raises(ValueError, match="float16"):
        explain.activations(model, images, dtype="float16")
