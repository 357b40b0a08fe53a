"""The three networks of the TDT4265 report (M. Madsen and S. A. Bergum, 2019, sections 1 and 2), on CIFAR-10.

All weights start from a Xavier (Glorot) distribution, and batch normalisation has torch's defaults: its momentum of
0.1 is Keras' 0.9, epsilon is 1e-5.

`tdt_lenet`'s true count is 390,410. The report prints 390,400: its equation (5) gives the last layer 64 * 10 = 640
parameters and forgets the ten biases.

Table 2 prints no kernel sizes for the deeper two. Model 2 has "the same structure as LeNet", so 5x5; Model 1 stacks
two convolutions between pools, for which 3x3 is chosen. `kernel_size=` changes either.
"""

from keras import Input, Model, layers

from kerascnn.models import register


@register(
    source="TDT4265 report 2019",
    input_shape=(32, 32, 3),
    num_classes=10,
    parameters=390_410,
    published=390_400,
    difference="The report forgets the ten biases of its last layer (equation 5).",
)
def tdt_lenet(input_shape=(32, 32, 3), num_classes=10, *, name="tdt_lenet"):
    """Three 5x5 convolutions of 32, 64 and 128 filters, each with ReLU and pool, and two dense layers.

    Args:
        input_shape: (height, width, channels), at least 8x8 pixels.
        num_classes: number of classes.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    inputs = Input(input_shape, name="image")
    x = layers.Conv2D(32, 5, padding="same", activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Conv2D(64, 5, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Conv2D(128, 5, padding="same", activation="relu", name="conv3")(x)
    x = layers.MaxPooling2D(2, name="pool3")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, activation="relu", name="fc1")(x)
    x = layers.Dense(num_classes, name="fc2")(x)
    outputs = layers.Softmax(dtype="float32", name="softmax")(x)
    return Model(inputs, outputs, name=name)


def _batch_norm(name):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)


@register(
    source="TDT4265 report 2019",
    input_shape=(32, 32, 3),
    num_classes=10,
    parameters=18_482_570,
    trainable=18_481_098,
    difference="No count is printed, and no kernel sizes: 3x3 is our choice.",
)
def tdt_model1(
    input_shape=(32, 32, 3), num_classes=10, *, kernel_size=3, dropout=0.1, relu_after_2048=True, name="tdt_model1"
):
    """The report's Model 1: five convolutions of 32 to 512 filters in three pooled blocks, dense layers of 2048 and 64.

    Args:
        input_shape: (height, width, channels), at least 8x8 pixels.
        num_classes: number of classes.
        kernel_size: side of every convolution's filters, pixels (not printed in the report).
        dropout: fraction of the first convolution's maps dropped whole in training.
        relu_after_2048: False leaves out the ReLU that the report's table prints after the dense layer of 2048.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """

    def convolution(x, filters, number):
        x = layers.Conv2D(filters, kernel_size, padding="same", name=f"conv{number}")(x)
        return layers.ReLU(name=f"relu{number}")(x)

    inputs = Input(input_shape, name="image")
    x = convolution(inputs, 32, 1)
    x = layers.SpatialDropout2D(dropout, name="dropout1")(x)
    x = _batch_norm("bn1")(x)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = convolution(x, 64, 2)
    x = convolution(x, 128, 3)
    x = _batch_norm("bn2")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = convolution(x, 256, 4)
    x = convolution(x, 512, 5)
    x = _batch_norm("bn3")(x)
    x = layers.MaxPooling2D(2, name="pool3")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(2048, name="fc1")(x)
    if relu_after_2048:
        x = layers.ReLU(name="relu6")(x)
    x = layers.Dense(64, name="fc2")(x)
    x = layers.ReLU(name="relu7")(x)
    x = _batch_norm("bn4")(x)
    x = layers.Dense(num_classes, name="fc3")(x)
    outputs = layers.Softmax(dtype="float32", name="softmax")(x)
    return Model(inputs, outputs, name=name)


@register(
    source="TDT4265 report 2019",
    input_shape=(32, 32, 3),
    num_classes=10,
    parameters=391_562,
    trainable=390_986,
    difference="No count is printed, and no kernel sizes: 5x5 is the report's own LeNet's.",
)
def tdt_model2(input_shape=(32, 32, 3), num_classes=10, *, kernel_size=5, dropout=0.1, name="tdt_model2"):
    """The report's Model 2: its LeNet with batch normalisation before every ReLU and 10% spatial dropout.

    Args:
        input_shape: (height, width, channels), at least 8x8 pixels.
        num_classes: number of classes.
        kernel_size: side of every convolution's filters, pixels (not printed in the report).
        dropout: fraction of the first convolution's maps dropped whole in training.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    inputs = Input(input_shape, name="image")
    x = layers.Conv2D(32, kernel_size, padding="same", name="conv1")(inputs)
    x = layers.SpatialDropout2D(dropout, name="dropout1")(x)
    x = _batch_norm("bn1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Conv2D(64, kernel_size, padding="same", name="conv2")(x)
    x = _batch_norm("bn2")(x)
    x = layers.ReLU(name="relu2")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Conv2D(128, kernel_size, padding="same", name="conv3")(x)
    x = _batch_norm("bn3")(x)
    x = layers.ReLU(name="relu3")(x)
    x = layers.MaxPooling2D(2, name="pool3")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, name="fc1")(x)
    x = _batch_norm("bn4")(x)
    x = layers.ReLU(name="relu4")(x)
    x = layers.Dense(num_classes, name="fc2")(x)
    outputs = layers.Softmax(dtype="float32", name="softmax")(x)
    return Model(inputs, outputs, name=name)
