"""The network with which CIFAR-10 is learnt fastest (K. Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU",
arXiv:2404.00498, section 3).

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
    inputs = Input(input_shape, name="image")
    x = PatchWhitening(2, name="whiten")(inputs)
    x = layers.Activation(activation, name="whiten_act")(x)
    for number, filters in enumerate(widths, 1):
        for part in "ab":
            label = f"conv{number}{part}"
            x = layers.Conv2D(
                filters, 3, padding="same", use_bias=False, kernel_initializer=IdentityFirst(), name=label
            )(x)
            if part == "a":
                x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
            x = layers.BatchNormalization(momentum=0.6, epsilon=1e-5, scale=False, name=f"{label}_bn")(x)
            x = layers.Activation(activation, name=f"{label}_act")(x)
    x = layers.MaxPooling2D(3, name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    start = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    x = layers.Dense(num_classes, use_bias=False, kernel_initializer=start, name="fc")(x)
    x = layers.Rescaling(logit_scale, name="scale")(x)
    outputs = layers.Softmax(dtype="float32", name="softmax")(x)
    return Model(inputs, outputs, name=name)
