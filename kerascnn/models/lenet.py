"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", figure 2).

Differences from the source, in both variants: C3 sees all six maps of S2 (the source leaves some out by a table), the
subsampling layers have no trainable coefficients, and the ten Gaussian outputs are a softmax. That makes 61,706
parameters where the source counts 60,000.
"""

from keras import Input, Model, layers

from kerascnn.errors import unknown
from kerascnn.layers import scaled_tanh
from kerascnn.models import register


@register(source="LeCun et al. 1998", input_shape=(32, 32, 1), num_classes=10, parameters=61_706)
def lenet5(input_shape=(32, 32, 1), num_classes=10, *, variant="modern", dropout=0.0, name="lenet5"):
    """LeNet-5: two 5x5 convolutions with pooling, then dense layers of 120, 84 and num_classes units.

    Args:
        input_shape: (height, width, channels), at least 16x16 pixels; the source's is (32, 32, 1).
        num_classes: number of classes.
        variant: "modern" has ReLU and max-pooling; "1998" has the source's 1.7159 tanh(2x/3) and average pooling.
        dropout: fraction of C5's and F6's units dropped in training (the source has none).
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    variant = str(variant)
    if variant not in ("modern", "1998"):
        raise unknown("variant of lenet5", variant, ("modern", "1998"))
    if variant == "modern":
        activation, pool = "relu", layers.MaxPooling2D
    else:
        activation, pool = scaled_tanh, layers.AveragePooling2D

    inputs = Input(input_shape, name="image")
    x = layers.Conv2D(6, 5, activation=activation, name="c1")(inputs)
    x = pool(2, name="s2")(x)
    x = layers.Conv2D(16, 5, activation=activation, name="c3")(x)
    x = pool(2, name="s4")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(120, activation=activation, name="c5")(x)
    if dropout:
        x = layers.Dropout(dropout, name="c5_dropout")(x)
    x = layers.Dense(84, activation=activation, name="f6")(x)
    if dropout:
        x = layers.Dropout(dropout, name="f6_dropout")(x)
    x = layers.Dense(num_classes, name="output")(x)
    outputs = layers.Softmax(dtype="float32", name="probabilities")(x)
    return Model(inputs, outputs, name=name)
