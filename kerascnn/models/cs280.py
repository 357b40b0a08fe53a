"""The MiniPlaces networks of the CS 280 report (M. Traverse, 2017): AlexNet and its Zeiler-Fergus form, made small.

The report's figure 1 lists the Caffe blobs and weights of the Zeiler-Fergus form; both networks follow it: no response
normalisation, groups of two in conv2, conv4 and conv5, dense layers of 1024, 100 classes of scenes at 96x96. Dropout
works in place in Caffe and shows in no blob: AlexNet's 0.5 is assumed. The report's prose calls the first layer "3x3
kernel, stride 2" once; its design section and its weights (96, 3, 7, 7) say 7x7.

Of the AlexNet form the report prints only that its first layer is 11x11 with stride 4. Its conv2 has AlexNet's own
stride of 1: with a stride of 2 the maps would be 2x2 before pool5, whose windows are 3x3, and nothing would be left.
"""

from keras import Input, Model, layers

from kerascnn.layers import GroupedConv2D
from kerascnn.models import register


@register(
    source="CS 280 report 2017",
    input_shape=(96, 96, 3),
    num_classes=100,
    parameters=4_515_044,
    difference="The report prints no count; this is the sum of its weight shapes. The text once calls conv1 3x3.",
)
def zfnet_miniplaces(input_shape=(96, 96, 3), num_classes=100, *, groups=2, dropout=0.5, name="zfnet_miniplaces"):
    """Zeiler & Fergus' layers for 96x96 scenes: 7x7 stride 2 first, 5x5 stride 2 second, dense layers of 1024.

    Args:
        input_shape: (height, width, channels), at least 59x59 pixels.
        num_classes: number of classes.
        groups: groups of conv2, conv4 and conv5.
        dropout: fraction of fc6 and of fc7 dropped in training.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    inputs = Input(input_shape, name="image")
    x = layers.Conv2D(96, 7, strides=2, activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    # Caffe pads two pixels on every side; Keras' "same" would pad one at the top and two at the bottom.
    x = layers.ZeroPadding2D(2, name="pad2")(x)
    x = GroupedConv2D(256, 5, strides=2, groups=groups, activation="relu", name="conv2")(x)
    return _from_pool2(inputs, x, num_classes, groups, dropout, name)


@register(
    source="CS 280 report 2017",
    input_shape=(96, 96, 3),
    num_classes=100,
    parameters=3_749_348,
    difference="The report prints no table. conv2 keeps AlexNet's stride of 1, or nothing would be left at pool5.",
)
def alexnet_miniplaces(input_shape=(96, 96, 3), num_classes=100, *, groups=2, dropout=0.5, name="alexnet_miniplaces"):
    """AlexNet's layers for 96x96 scenes: 11x11 stride 4 first, dense layers of 1024.

    Args:
        input_shape: (height, width, channels), at least 67x67 pixels.
        num_classes: number of classes.
        groups: groups of conv2, conv4 and conv5.
        dropout: fraction of fc6 and of fc7 dropped in training.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    inputs = Input(input_shape, name="image")
    x = layers.Conv2D(96, 11, strides=4, activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = GroupedConv2D(256, 5, padding="same", groups=groups, activation="relu", name="conv2")(x)
    return _from_pool2(inputs, x, num_classes, groups, dropout, name)


def _from_pool2(inputs, x, num_classes, groups, dropout, name):
    """The layers that both networks share."""
    x = layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv3")(x)
    x = GroupedConv2D(384, 3, padding="same", groups=groups, activation="relu", name="conv4")(x)
    x = GroupedConv2D(256, 3, padding="same", groups=groups, activation="relu", name="conv5")(x)
    x = layers.MaxPooling2D(3, 2, name="pool5")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(1024, activation="relu", name="fc6")(x)
    x = layers.Dropout(dropout, name="drop6")(x)
    x = layers.Dense(1024, activation="relu", name="fc7")(x)
    x = layers.Dropout(dropout, name="drop7")(x)
    x = layers.Dense(num_classes, name="fc8")(x)
    outputs = layers.Softmax(dtype="float32", name="prob")(x)
    return Model(inputs, outputs, name=name)
