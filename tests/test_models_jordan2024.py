"""The airbench94 network: the source's sides, its count by pencil, and the whitening that a run sets."""

import itertools

import keras
import numpy as np
import pytest

from kerascnn import models
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.layers import IdentityFirst, PatchWhitening
from kerascnn.network import graph
from kerascnn.recipes import Recipe
from kerascnn.training.build import ready


def test_sides():
    with graph.without_weights():
        model = models.airbench94()
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers}
    assert [shapes[n] for n in ("whiten", "pool1", "pool2", "pool3", "flatten")] == [
        (31, 31, 24),
        (15, 15, 64),
        (7, 7, 256),
        (3, 3, 256),
        (256,),
    ]


@pytest.mark.parametrize(
    ("name", "widths", "convolutions"),
    [("airbench94", (64, 256, 256), 2), ("airbench95", (128, 384, 384), 2), ("airbench96", (128, 384, 512), 3)],
)
def test_counts_by_pencil(name, widths, convolutions):
    channels = (24, *widths)
    kernels = sum(
        9 * (before * filters + (convolutions - 1) * filters**2) for before, filters in itertools.pairwise(channels)
    )
    normalisations = convolutions * sum(widths)
    facts = models.MODELS.facts(name)
    assert facts["trainable"] == kernels + widths[-1] * 10 + normalisations + 24
    assert facts["parameters"] == facts["trainable"] + 2 * normalisations + 24 * 12


def test_a_block_with_a_third_convolution_adds_its_first_activation():
    """The source's block: act(bn(conv3(act(bn(conv2(a))))) + a), where a = act(bn(pool(conv1(x))))."""
    keras.utils.set_random_seed(2)
    model = models.airbench96((25, 25, 3), widths=(24, 24, 24))
    images = np.random.default_rng(1).normal(size=(2, 25, 25, 3)).astype("float32")
    names = ("conv2a_act", "conv2c_bn", "conv2_add", "conv2c_act")
    values = keras.Model(model.inputs, [model.get_layer(name).output for name in names]).predict(images, verbose=0)
    first, third, added, activated = values
    np.testing.assert_allclose(added, first + third, rtol=1e-6)
    np.testing.assert_allclose(
        activated, keras.ops.convert_to_numpy(keras.ops.gelu(first + third, approximate=False)), atol=1e-5
    )
    assert model.get_layer("conv3a").input is model.get_layer("conv2c_act").output
    assert np.abs(third).max() > 0.1


def test_probabilities_follow_the_logit_scale():
    keras.utils.set_random_seed(1)
    images = np.random.default_rng(0).normal(size=(2, 25, 25, 3)).astype("float32")
    model, same = (
        models.airbench94((25, 25, 3), widths=(4, 4, 4)),
        models.airbench94((25, 25, 3), widths=(4, 4, 4), logit_scale=0.4),
    )
    same.set_weights(model.get_weights())
    features = keras.Model(model.inputs, model.get_layer("fc").output).predict(images, verbose=0).astype("float64")
    for scale, network in ((1 / 9, model), (0.4, same)):
        powers = np.exp(scale * features)
        expected = powers / powers.sum(1, keepdims=True)
        np.testing.assert_allclose(network.predict(images, verbose=0), expected, rtol=1e-5)
        assert np.ptp(expected) > 0.01


def test_a_run_whitens_with_its_training_images():
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype="uint8")
    images[:, 1:] = images[:, 1:] // 2 + images[:, :-1] // 2
    data = ImageData("noise", "noise", tuple("abcdefghij"), Split(images, np.arange(60) % 10))
    prepared, model, _ = ready(Recipe(model="airbench94", batch_size=20), data, "float32")
    expected = PatchWhitening(2)
    expected.build((None, 32, 32, 3))
    expected.adapt(prepared(images))
    np.testing.assert_array_equal(model.get_layer("whiten").get_weights()[0], expected.get_weights()[0])
    assert np.ptp(expected.get_weights()[0]) > 1


def test_convolutions_begin_as_an_identity_with_new_features():
    layer = keras.layers.Conv2D(7, 3, padding="same", use_bias=False, kernel_initializer=IdentityFirst(seed=1))
    images = np.random.default_rng(0).normal(size=(2, 6, 5, 4)).astype("float32")
    out = keras.ops.convert_to_numpy(layer(images))
    np.testing.assert_allclose(out[..., :4], images, atol=1e-6)
    new = layer.get_weights()[0][..., 4:]
    assert 0.9 / 6 < abs(new).max() <= 1 / 6  # fan in 36
    assert IdentityFirst.from_config(IdentityFirst(seed=1).get_config()).seed == 1
