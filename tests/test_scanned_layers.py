"""What a scan looks at: a layer's own output, or what the next layer sees of a convolution."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from scan_networks import whole_images

import kerascnn
from kerascnn import explain
from kerascnn.callbacks import ActivationStats, FeatureEvolution, TopPatches
from kerascnn.dataset_scan.scanned_layers import scanned_layers


def model_of(build, size=8):
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, layers.GlobalAveragePooling2D(name="end")(build(inputs)), name="small")


def conv(x, name, filters=4, **options):
    return layers.Conv2D(filters, 3, padding="same", name=name, **options)(x)


def residual(x):
    x = conv(x, "stem", activation="relu")
    y = layers.ReLU(name="relu1")(layers.BatchNormalization()(conv(x, "conv1", 6)))
    y = layers.BatchNormalization()(conv(y, "conv2", 6))
    short = layers.BatchNormalization()(layers.Conv2D(6, 1, name="shortcut")(x))
    return layers.Activation("relu", name="out")(layers.Add(name="sum")([y, short]))


def branching(x):
    x = conv(x, "conv")
    return layers.Concatenate()([layers.ReLU()(x), x])


KINDS = {
    "fused": (lambda x: conv(x, "conv", activation="relu"), [("conv", "conv")]),
    "fused_layer": (lambda x: conv(x, "conv", activation=layers.ReLU()), [("conv", "conv")]),
    "layer": (lambda x: layers.ReLU(name="r")(conv(x, "conv")), [("conv (after relu)", "r")]),
    "relu6": (lambda x: layers.ReLU(6.0, name="r")(conv(x, "conv")), [("conv (after relu)", "r")]),
    "leaky": (lambda x: layers.LeakyReLU(name="r")(conv(x, "conv")), [("conv (after leaky relu)", "r")]),
    "prelu": (lambda x: layers.PReLU(name="r")(conv(x, "conv")), [("conv (after prelu)", "r")]),
    "silu": (lambda x: layers.Activation("silu", name="r")(conv(x, "conv")), [("conv (after silu)", "r")]),
    "operation": (lambda x: ops.relu(conv(x, "conv")), [("conv (after relu)", "relu")]),
    "norm": (
        lambda x: layers.ReLU(name="r")(layers.BatchNormalization()(conv(x, "conv"))),
        [("conv (after relu)", "r")],
    ),
    "layer_norm": (
        lambda x: layers.Activation("gelu", name="r")(layers.LayerNormalization()(conv(x, "conv"))),
        [("conv (after gelu)", "r")],
    ),
    "norm_alone": (lambda x: layers.BatchNormalization(name="n")(conv(x, "conv")), [("conv (after batch norm)", "n")]),
    "pool_between": (
        lambda x: layers.ReLU(name="r")(layers.BatchNormalization()(layers.MaxPooling2D()(conv(x, "conv")))),
        [("conv (after relu)", "r")],
    ),
    "dropout_between": (
        lambda x: layers.ReLU(name="r")(layers.SpatialDropout2D(0.2)(conv(x, "conv"))),
        [("conv (after relu)", "r")],
    ),
    "depthwise": (
        lambda x: layers.ReLU(name="r")(layers.DepthwiseConv2D(3, name="conv")(x)),
        [("conv (after relu)", "r")],
    ),
    "linear": (lambda x: conv(conv(x, "a"), "b"), [("a", "a"), ("b", "b")]),
    "pooled": (lambda x: layers.MaxPooling2D()(conv(x, "conv")), [("conv", "conv")]),
    "branching": (branching, [("conv", "conv")]),
    "residual": (
        residual,
        [("stem", "stem"), ("conv1 (after relu)", "relu1"), ("conv2 (after add and relu)", "out")],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_by_default_what_the_next_layer_sees(kind):
    build, expected = KINDS[kind]
    names = [(each.name, each.output) for each in scanned_layers(model_of(build))]
    assert [(name, output.rstrip("_0123456789")) for name, output in names] == [
        (name, output.rstrip("_0123456789")) for name, output in expected
    ]


def test_the_numbers_are_those_behind_the_activation():
    """A convolution before batch normalisation and ReLU is never 0; what the next layer sees is, and dies."""
    keras.utils.set_random_seed(0)
    model = model_of(residual)
    norm = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
    norm.beta.assign([0, 0, -100, 0, 0, 0])
    images, _ = whole_images(12)
    result = kerascnn.scan(model, images, top=2)
    assert result.layers == ["stem", "conv1 (after relu)", "conv2 (after add and relu)"]
    for name, output in (("conv1", "relu1"), ("conv2 (after add and relu)", "out")):
        values = explain.activations(model, images, output)
        np.testing.assert_allclose(result.stats(name)["zeros"], (values == 0).mean((0, 1, 2)), atol=1e-6)
        np.testing.assert_allclose(result.stats(name)["max"], values.max((0, 1, 2)), rtol=1e-5)
        assert result.output_layer(name) == output
    assert result.stats("conv1")["dead"].tolist() == [False, False, True, False, False, False]
    assert result.patches("conv1", 0).shape == (2, 5, 5, 3)
    raw = kerascnn.scan(model, images, "conv1", top=2)  # a layer that is named is scanned as it is
    assert raw.layers == ["conv1"]
    assert raw.stats("conv1")["zeros"].max() < 0.01
    named = kerascnn.scan(model, images, ["conv1 (after relu)", "conv1"], top=2)
    assert named.layers == ["conv1", "conv1 (after relu)"]
    assert named.top("conv1 (after relu)").equals(result.top("conv1"))
    assert named.top("conv1").equals(raw.top("conv1"))


def test_nested_and_shared_convolutions_are_followed_too():
    inner_in = keras.Input((8, 8, 3))
    inner = keras.Model(inner_in, layers.Conv2D(3, 3, padding="same", name="conv")(inner_in), name="block")
    relu = layers.ReLU(name="relu")
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, relu(inner(relu(inner(inputs)))))
    names = [(each.name, each.output) for each in scanned_layers(model)]
    assert names == [("block/conv#1 (after relu)", "relu#1"), ("block/conv#2 (after relu)", "relu#2")]
    result = kerascnn.scan(model, whole_images(6)[0], top=1)
    assert result.patches("conv#2", 0).shape == (1, 5, 5, 3)


def test_looks_during_training_see_it_too(tmp_path):
    model = model_of(lambda x: layers.ReLU(name="r")(layers.BatchNormalization()(conv(x, "conv"))))
    model.compile(optimizer="sgd", loss="mse")
    images, _ = whole_images(8)
    looks = [ActivationStats(images), TopPatches(images, top=2, every=1), FeatureEvolution(images, channels=(0,))]
    for look in looks:
        look.parent = tmp_path
    model.fit(images, np.zeros((8, 4)), epochs=1, verbose=0, callbacks=looks)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    expected = {
        "activations/ridge-conv-after-relu.png",
        "patches/conv-after-relu-0000001.png",
        "features/evolution.png",
    }
    assert expected <= files
    kept = np.load(tmp_path / "activations" / "0000000.npz")
    assert kept["layers"].tolist() == ["conv (after relu)"]
    assert kept["zeros"][0] > 0.1
