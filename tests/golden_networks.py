"""Twelve small networks whose weights and images come from seeds: the package's own, blocks of known families, others.

What they compute is recorded in tests/golden/ and compared by test_golden.py. Weights are drawn by NumPy from each
variable's name and shape, so that another version of Keras' initialisers changes nothing.
"""

import keras
import numpy as np
from keras import layers, ops

from kerascnn import models
from kerascnn.layers import LocalResponseNormalization


def lenet5():
    return models.lenet5((20, 16, 1), 4)


def lenet5_of_1998():
    return models.lenet5((16, 16, 1), 4, variant="1998")


def tdt_lenet():
    return models.tdt_lenet((12, 12, 3), 4, batch_norm=True, strided=True)


def resnet18():
    return models.resnet18((12, 12, 3), 4, stem="small")


def inverted_residual():
    """As in MobileNetV2: ReLU6, depthwise convolution after padding of one side, an addition."""
    inputs = keras.Input((13, 12, 3))
    x = layers.Rescaling(2.0, -1.0)(inputs)
    x = layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    before = x = layers.ReLU(6.0)(layers.BatchNormalization(epsilon=1e-3)(x))
    x = layers.Conv2D(12, 1, use_bias=False, name="expand")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(epsilon=1e-3)(x))
    x = layers.ZeroPadding2D(((1, 1), (1, 1)))(x)
    x = layers.DepthwiseConv2D(3, use_bias=False, name="depthwise")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(epsilon=1e-3)(x))
    x = layers.Conv2D(6, 1, name="project")(x)
    x = layers.Add()([before, layers.BatchNormalization(epsilon=1e-3)(x)])
    return classifier(inputs, layers.GlobalAveragePooling2D()(x))


def squeeze_excite():
    """As in EfficientNet: SiLU, and a gate made of each map's mean."""
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    x = layers.Activation("silu")(layers.BatchNormalization()(x))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(3, 1, activation="silu", name="squeeze")(gate)
    gate = layers.Conv2D(6, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.SeparableConv2D(8, 3, strides=2, activation="relu", name="separable")(x)
    return classifier(inputs, layers.GlobalMaxPooling2D()(x))


def dense_block():
    """As in DenseNet and GoogLeNet: concatenated branches, normalisation before ReLU, average and overlapping pools."""
    inputs = keras.Input((14, 14, 3))
    x = layers.Conv2D(6, 3, dilation_rate=2, padding="same", name="stem")(inputs)
    x = LocalResponseNormalization(size=3, alpha=0.2, beta=0.75, k=1.5, name="lrn")(layers.ReLU()(x))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for number in (1, 2):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same", name=f"grow{number}")(y)])
    x = layers.AveragePooling2D(2)(layers.Conv2D(6, 1, activation="relu", name="transition")(x))
    return classifier(inputs, layers.Flatten()(x))


def convnext_block():
    """As in ConvNeXt: a 7x7 depthwise convolution, layer normalisation, GELU and an addition."""
    inputs = keras.Input((12, 12, 3))
    before = x = layers.Conv2D(6, 2, strides=2, name="patches")(inputs)
    x = layers.DepthwiseConv2D(7, padding="same", name="depthwise")(x)
    x = layers.LayerNormalization(epsilon=1e-3)(x)
    x = layers.Dense(12, activation="gelu", name="wide")(x)
    x = layers.Add()([before, layers.Dense(6, name="narrow")(x)])
    return classifier(inputs, layers.LayerNormalization(epsilon=1e-3)(layers.GlobalAveragePooling2D()(x)))


def ties():
    """Weights and images of few whole numbers: many a window has two largest values, many a ReLU the input 0."""
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(5, 3, padding="same", activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Maximum()([layers.Conv2D(5, 3, padding="same", name="conv2")(x), x])
    x = layers.Flatten()(layers.MaxPooling2D(3, 2)(layers.ReLU()(x)))
    return classifier(inputs, x)


def operations():
    """Functions of keras.ops between layers, and activations that are no rectifiers."""
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, name="conv1")(ops.clip(inputs, 0.1, 0.9) * 2 - 1)
    x = ops.relu(x) + 0.3 * layers.LeakyReLU(negative_slope=0.2)(x)
    x = ops.concatenate([x, ops.abs(x[..., :2]), ops.tanh(x)], -1)
    x = ops.max_pool(x, 2, 2)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(layers.Conv2D(4, 3, groups=2, name="conv2")(x))
    x = ops.sqrt(ops.square(x) + 0.1) - ops.mean(x, axis=-1, keepdims=True)
    return classifier(inputs, layers.Dense(5, activation="elu", name="hidden")(ops.mean(x, axis=(1, 2))))


def nested_and_shared():
    """A model within a model, called twice, with shared weights; enlarged maps; one sigmoid unit at the end."""
    inner = keras.Sequential(
        [keras.Input((None, None, 4)), layers.Conv2D(4, 3, padding="same", name="conv"), layers.ReLU()], name="inner"
    )
    outer_inputs = keras.Input((None, None, 4))
    outer = keras.Model(outer_inputs, inner(layers.Cropping2D(((1, 0), (0, 1)))(inner(outer_inputs))), name="outer")
    inputs = keras.Input((12, 12, 3))
    x = layers.AveragePooling2D(2)(layers.Conv2D(4, 3, padding="same", name="first")(inputs))
    x = layers.Conv2DTranspose(4, 3, strides=2, name="transposed")(layers.UpSampling2D(2)(outer(x)))
    x = layers.Flatten()(layers.MaxPooling2D(4)(layers.ReLU()(x)))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="answer")(x))


def two_inputs():
    """Two images of different sizes through one shared convolution."""
    large, small = keras.Input((12, 12, 3), name="large"), keras.Input((8, 8, 3), name="small")
    shared = layers.Conv2D(4, 3, activation="relu", name="shared")
    x = layers.Conv2D(5, 3, activation="relu", name="conv")(shared(large))
    pooled = [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(shared(small))]
    return classifier([large, small], layers.Concatenate()(pooled))


def classifier(inputs, features):
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="answer")(features))


NETWORKS = (
    *(lenet5, lenet5_of_1998, tdt_lenet, resnet18),
    *(inverted_residual, squeeze_excite, dense_block, convnext_block),
    *(ties, operations, nested_and_shared, two_inputs),
)
SEED = 2
NAMES = [builder.__name__ for builder in NETWORKS]
# (layer, channel) of a unit, at the place where the channel is largest, that is explained besides a class.
EXPLAINED = {
    "lenet5": ("c3", 2),
    "lenet5_of_1998": ("c3", 1),
    "tdt_lenet": ("conv2", 2),
    "resnet18": None,
    "inverted_residual": ("depthwise", 2),
    "squeeze_excite": ("separable", 2),
    "dense_block": ("grow2", 2),
    "convnext_block": ("depthwise", 2),
    "ties": ("conv2", 2),
    "operations": ("conv2", 2),
    "nested_and_shared": ("transposed", 2),
    "two_inputs": ("conv", 1),
}


def network(name):
    """(model, images): two images, or a list of two for each input."""
    rng = np.random.default_rng([NAMES.index(name), SEED])
    model = NETWORKS[NAMES.index(name)]()
    whole = name == "ties"
    model.set_weights([_weights(rng, variable, whole) for variable in model.weights])
    shapes = [tensor.shape[1:] for tensor in model.inputs]
    images = [(rng.integers(0, 3, (2, *s)) if whole else rng.random((2, *s))).astype("float32") for s in shapes]
    return model, images[0] if len(images) == 1 else images


def _weights(rng, variable, whole):
    shape = variable.shape
    if whole:
        return rng.integers(-2, 3, shape).astype("float32")
    if variable.name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape).astype("float32")
    scale = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1
    return (scale * rng.normal(size=shape)).astype("float32")
