"""The three networks of the TDT4265 report (M. Madsen and S. A. Bergum, 2019, sections 1 and 2), on CIFAR-10.

All weights start from a Xavier (Glorot) distribution, and batch normalisation has torch's defaults: its momentum of
0.1 is Keras' 0.9, epsilon is 1e-5.

`tdt_lenet`'s true count is 390,410. The report prints 390,400: its equation (5) gives the last layer 64 * 10 = 640
parameters and forgets the ten biases.

Table 2 prints no kernel sizes for the deeper two. Model 2 has "the same structure as LeNet", so 5x5; Model 1 stacks
two convolutions between pools, for which 3x3 is chosen. `kernel_size=` changes either.

Section 2.5 compares the networks with and without batch normalisation, and strided convolutions with pooling:
`batch_norm=` and `strided=` are those switches.
"""

from keras import Input, Model, layers

from kerascnn.models import register


def _batch_norm(x, name, wanted):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x) if wanted else x


def _pool(x, name, strided):
    """Halves the maps, unless the convolution before did so with its stride."""
    return x if strided else layers.MaxPooling2D(2, name=name)(x)


@register(
    source="TDT4265 report 2019",
    input_shape=(32, 32, 3),
    num_classes=10,
    parameters=390_410,
    published=390_400,
    difference="The report forgets the ten biases of its last layer (equation 5).",
)
def tdt_lenet(
    input_shape=(32, 32, 3), num_classes=10, *, batch_norm=False, dropout=0.0, strided=False, name="tdt_lenet"
):
    """Three 5x5 convolutions of 32, 64 and 128 filters, each with ReLU and pool, and two dense layers.

    Args:
        input_shape: (height, width, channels), at least 8x8 pixels.
        num_classes: number of classes.
        batch_norm: True adds batch normalisation before each ReLU, as in Model 2.
        dropout: fraction of the first convolution's maps dropped whole in training.
        strided: True gives each convolution stride 2 in place of the pool after it.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """

    def rectified(x, number):
        if batch_norm:
            x = _batch_norm(x, f"bn{number}", wanted=True)
            x = layers.ReLU(name=f"relu{number}")(x)
        return x  # without batch normalisation the layer before rectifies

    activation = None if batch_norm else "relu"

    def convolution(x, filters, number):
        strides = 2 if strided else 1
        x = layers.Conv2D(filters, 5, strides, "same", activation=activation, name=f"conv{number}")(x)
        if number == 1 and dropout:
            x = layers.SpatialDropout2D(dropout, name="dropout1")(x)
        return _pool(rectified(x, number), f"pool{number}", strided)

    inputs = Input(input_shape, name="image")
    x = convolution(inputs, 32, 1)
    x = convolution(x, 64, 2)
    x = convolution(x, 128, 3)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, activation=activation, name="fc1")(x)
    x = rectified(x, 4)
    x = layers.Dense(num_classes, name="fc2")(x)
    outputs = layers.Softmax(dtype="float32", name="softmax")(x)
    return Model(inputs, outputs, name=name)


@register(
    source="TDT4265 report 2019",
    input_shape=(32, 32, 3),
    num_classes=10,
    parameters=18_482_570,
    trainable=18_481_098,
    difference="The report prints neither a count nor kernel sizes; we chose 3x3.",
)
def tdt_model1(
    input_shape=(32, 32, 3),
    num_classes=10,
    *,
    kernel_size=3,
    dropout=0.1,
    relu_after_2048=True,
    batch_norm=True,
    strided=False,
    name="tdt_model1",
):
    """The report's Model 1: five convolutions of 32 to 512 filters in three pooled blocks, dense layers of 2048 and 64.

    Args:
        input_shape: (height, width, channels), at least 8x8 pixels.
        num_classes: number of classes.
        kernel_size: side of every convolution's filters, pixels (not printed in the report).
        dropout: fraction of the first convolution's maps dropped whole in training.
        relu_after_2048: False leaves out the ReLU that the report's table prints after the dense layer of 2048.
        batch_norm: False leaves out every batch normalisation.
        strided: True gives the convolution before each pool stride 2 in its place.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """

    def convolution(x, filters, number, strides=1):
        x = layers.Conv2D(filters, kernel_size, strides, "same", name=f"conv{number}")(x)
        return layers.ReLU(name=f"relu{number}")(x)

    last = 2 if strided else 1  # stride of the last convolution of each block
    inputs = Input(input_shape, name="image")
    x = convolution(inputs, 32, 1, last)
    x = layers.SpatialDropout2D(dropout, name="dropout1")(x)
    x = _batch_norm(x, "bn1", batch_norm)
    x = _pool(x, "pool1", strided)
    x = convolution(x, 64, 2)
    x = convolution(x, 128, 3, last)
    x = _batch_norm(x, "bn2", batch_norm)
    x = _pool(x, "pool2", strided)
    x = convolution(x, 256, 4)
    x = convolution(x, 512, 5, last)
    x = _batch_norm(x, "bn3", batch_norm)
    x = _pool(x, "pool3", strided)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(2048, name="fc1")(x)
    if relu_after_2048:
        x = layers.ReLU(name="relu6")(x)
    x = layers.Dense(64, name="fc2")(x)
    x = layers.ReLU(name="relu7")(x)
    x = _batch_norm(x, "bn4", batch_norm)
    x = layers.Dense(num_classes, name="fc3")(x)
    outputs = layers.Softmax(dtype="float32", name="softmax")(x)
    return Model(inputs, outputs, name=name)


@register(
    source="TDT4265 report 2019",
    input_shape=(32, 32, 3),
    num_classes=10,
    parameters=391_562,
    trainable=390_986,
    difference="The report prints neither a count nor kernel sizes; 5x5 is the size in the report's own LeNet.",
)
def tdt_model2(
    input_shape=(32, 32, 3),
    num_classes=10,
    *,
    kernel_size=5,
    dropout=0.1,
    batch_norm=True,
    strided=False,
    name="tdt_model2",
):
    """The report's Model 2: its LeNet with batch normalisation before every ReLU and 10% spatial dropout.

    Args:
        input_shape: (height, width, channels), at least 8x8 pixels.
        num_classes: number of classes.
        kernel_size: side of every convolution's filters, pixels (not printed in the report).
        dropout: fraction of the first convolution's maps dropped whole in training.
        batch_norm: False leaves out every batch normalisation.
        strided: True gives each convolution stride 2 in place of the pool after it.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    strides = 2 if strided else 1
    inputs = Input(input_shape, name="image")
    x = layers.Conv2D(32, kernel_size, strides, "same", name="conv1")(inputs)
    x = layers.SpatialDropout2D(dropout, name="dropout1")(x)
    x = _batch_norm(x, "bn1", batch_norm)
    x = layers.ReLU(name="relu1")(x)
    x = _pool(x, "pool1", strided)
    x = layers.Conv2D(64, kernel_size, strides, "same", name="conv2")(x)
    x = _batch_norm(x, "bn2", batch_norm)
    x = layers.ReLU(name="relu2")(x)
    x = _pool(x, "pool2", strided)
    x = layers.Conv2D(128, kernel_size, strides, "same", name="conv3")(x)
    x = _batch_norm(x, "bn3", batch_norm)
    x = layers.ReLU(name="relu3")(x)
    x = _pool(x, "pool3", strided)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, name="fc1")(x)
    x = _batch_norm(x, "bn4", batch_norm)
    x = layers.ReLU(name="relu4")(x)
    x = layers.Dense(num_classes, name="fc2")(x)
    outputs = layers.Softmax(dtype="float32", name="softmax")(x)
    return Model(inputs, outputs, name=name)
