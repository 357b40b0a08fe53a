"""The networks that learn CIFAR-10 fastest (K. Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU",
arXiv:2404.00498, section 3, and the author's programs airbench95 and airbench96).

Difference from the source: its whitening layer's biases stop learning after three passes.
"""

import keras
from keras import Input, Model, layers

from kerascnn.layers import IdentityFirst, PatchWhitening
from kerascnn.models import register


@register(source="Jordan 2024", input_shape=(32, 32, 3), num_classes=10, parameters=1_973_944, trainable=1_971_352)
def airbench94(
    input_shape=(32, 32, 3),
    num_classes=10,
    *,
    widths=(64, 256, 256),
    activation="gelu",
    dropout=0.0,
    logit_scale=1 / 9,
    name="airbench94",
):
    """Patches of 2x2 pixels whitened, three blocks of two 3x3 convolutions with batch normalisation, one dense layer.

    The whitening convolution has two filters for each pixel of a patch and channel. A run sets them from its training
    images (`PatchWhitening.adapt`), and they stay as they are.

    Args:
        input_shape: (height, width, channels), at least 25x25 pixels.
        num_classes: number of classes.
        widths: filters of the three blocks' convolutions.
        activation: Keras' name of what follows each normalisation; the source's is "gelu".
        dropout: fraction of the dense layer's inputs dropped in training (the source has none).
        logit_scale: what the dense layer's outputs are multiplied with. Gradient descent changes them by its square
            times the learning rate; the source's is 1/9.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    return _airbench(input_shape, num_classes, widths, activation, dropout, logit_scale, False, name)


@register(source="Jordan 2024", input_shape=(32, 32, 3), num_classes=10, parameters=4_608_312, trainable=4_604_440)
def airbench95(
    input_shape=(32, 32, 3),
    num_classes=10,
    *,
    widths=(128, 384, 384),
    activation="gelu",
    dropout=0.0,
    logit_scale=1 / 9,
    name="airbench95",
):
    """The wider `airbench94` of the source's program for 95%; arguments as of `airbench94`."""
    return _airbench(input_shape, num_classes, widths, activation, dropout, logit_scale, False, name)


@register(source="Jordan 2024", input_shape=(32, 32, 3), num_classes=10, parameters=9_921_848, trainable=9_915_416)
def airbench96(
    input_shape=(32, 32, 3),
    num_classes=10,
    *,
    widths=(128, 384, 512),
    activation="gelu",
    dropout=0.0,
    logit_scale=1 / 9,
    name="airbench96",
):
    """The source's network for 96%: `airbench94` with a third convolution in each block, its normalised output added to
    the first one's; arguments as of `airbench94`."""
    return _airbench(input_shape, num_classes, widths, activation, dropout, logit_scale, True, name)


def _airbench(input_shape, num_classes, widths, activation, dropout, logit_scale, residual, name):
    def convolution(x, filters, label, pool=None):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer=IdentityFirst(), name=label)(x)
        if pool:
            x = layers.MaxPooling2D(2, name=pool)(x)
        return layers.BatchNormalization(momentum=0.6, epsilon=1e-5, scale=False, name=f"{label}_bn")(x)

    def activate(x, label):
        return layers.Activation(activation, name=f"{label}_act")(x)

    inputs = Input(input_shape, name="image")
    x = PatchWhitening(2, name="whiten")(inputs)
    x = activate(x, "whiten")
    for number, filters in enumerate(widths, 1):
        block = f"conv{number}"
        x = first = activate(convolution(x, filters, f"{block}a", f"pool{number}"), f"{block}a")
        x = activate(convolution(x, filters, f"{block}b"), f"{block}b")
        if residual:
            x = layers.Add(name=f"{block}_add")([convolution(x, filters, f"{block}c"), first])
            x = activate(x, f"{block}c")
    x = layers.MaxPooling2D(3, name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    start = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    x = layers.Dense(num_classes, use_bias=False, kernel_initializer=start, name="fc")(x)
    x = layers.Rescaling(logit_scale, name="scale")(x)
    outputs = layers.Softmax(dtype="float32", name="softmax")(x)
    return Model(inputs, outputs, name=name)
