"""The 6,216,114-parameter CIFAR-10 network of the CS7011 report (Priyesh V and V. Kulshreshtha, 2017, Task IV).

Layer names are the report's. Its Task V compares the network with and without batch normalisation and dropout:
`batch_norm=` and `dropout=` are those switches, off for the printed table. The batch normalisation of the ten outputs
belongs to the table; `output_norm=False` leaves it out, for the text's network in which batch normalisation is absent.
"""

from keras import Input, Model, layers

from kerascnn.errors import UsageError
from kerascnn.models import register


@register(
    source="CS7011 report 2017",
    input_shape=(32, 32, 3),
    num_classes=10,
    parameters=6_216_114,
    trainable=6_216_094,
    published=6_216_114,
)
def cifar_net(
    input_shape=(32, 32, 3),
    num_classes=10,
    *,
    batch_norm=False,
    foldable_norm=False,
    dropout=0.0,
    dense_dropout=None,
    output_norm=True,
    name="cifar_net",
):
    """Four 3x3 convolutions of 64 to 256 filters in three pooled blocks, two dense layers of 1024, softmax.

    Args:
        input_shape: (height, width, channels), at least 8x8 pixels.
        num_classes: number of classes.
        batch_norm: True adds batch normalisation (momentum 0.9) after each block: a convolution with its pooling, or
            a convolution alone (the report's Task V).
        foldable_norm: True adds batch normalisation (momentum 0.9, no scale) between each convolution, with its
            pooling, or dense layer and its ReLU: `kerascnn.training.fold` turns the trained network into one without.
        dropout: fraction dropped in training after each block and after each dense layer.
        dense_dropout: fraction dropped after each dense layer instead; 0 is the report's Task I, where dropout follows
            the blocks alone. None: as `dropout`.
        output_norm: False leaves out the batch normalisation of the outputs, 40 parameters.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """

    if batch_norm and foldable_norm:
        raise UsageError("batch_norm=True and foldable_norm=True cannot both be given. Give one.")

    def block_end(x, after):
        if batch_norm:
            x = layers.BatchNormalization(momentum=0.9, name=f"{after}_bn")(x)
        return dropped(x, dropout, after)

    def dropped(x, fraction, after):
        return layers.Dropout(fraction, name=f"{after}_dropout")(x) if fraction else x

    activation = None if foldable_norm else "relu"

    def normalized(x, name):
        if foldable_norm:
            x = layers.BatchNormalization(momentum=0.9, scale=False, name=f"{name}_bn")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
        return x

    def convolution(x, filters, name, pool=None):
        x = layers.Conv2D(filters, 3, padding="same", activation=activation, name=name)(x)
        if pool:
            x = layers.MaxPooling2D(2, name=pool)(x)
        return normalized(x, name)  # after the pooling: an increasing function and the largest of four change places

    inputs = Input(input_shape, name="image")
    x = convolution(inputs, 64, "conv1", "pool1")
    x = block_end(x, "pool1")
    x = convolution(x, 128, "conv2", "pool2")
    x = block_end(x, "pool2")
    x = convolution(x, 256, "conv3")
    x = block_end(x, "conv3")
    x = convolution(x, 256, "conv4", "pool3")
    x = block_end(x, "pool3")
    x = layers.Flatten(name="flatten")(x)
    dense_dropout = dropout if dense_dropout is None else dense_dropout
    for label in ("fc1", "fc2"):
        x = normalized(layers.Dense(1024, activation=activation, name=label)(x), label)
        x = dropped(x, dense_dropout, label)
    x = layers.Dense(num_classes, name="softmax")(x)
    if output_norm:
        x = layers.BatchNormalization(momentum=0.9, name="bn")(x)
    outputs = layers.Softmax(dtype="float32", name="softmax_activation")(x)
    return Model(inputs, outputs, name=name)
