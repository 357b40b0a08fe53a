"""The network of Zeiler & Fergus 2013 ("Visualizing and understanding convolutional networks", figure 3).

AlexNet with a 7x7 stride-2 first layer instead of 11x11 stride 4, a stride of 2 in conv2, and no groups. The figure
prints the maps' sides 110, 55, 26, 13, 13, 13, 13 and 6. They come out with one pixel of padding around the image, and
with pools that round sizes up (110 -> 55, 26 -> 13), as the last window may hang over the edge. The figure normalises
contrast across maps after pool1 and pool2; AlexNet's response normalisation stands for that.
"""

from keras import Input, Model, layers

from kerascnn.layers import LocalResponseNormalization
from kerascnn.models import register


@register(
    source="Zeiler & Fergus 2013",
    input_shape=(224, 224, 3),
    num_classes=1000,
    parameters=62_357_608,
    difference="The paper does not print a count; ours follows from the sizes in the source's figure 3.",
)
def zfnet(input_shape=(224, 224, 3), num_classes=1000, *, dense_units=4096, dropout=0.5, name="zfnet"):
    """Five convolutions of 96 to 384 filters (the first 7x7, stride 2), three pools, two dense layers, softmax.

    Args:
        input_shape: (height, width, channels), at least 53x53 pixels.
        num_classes: number of classes.
        dense_units: units of fc6 and of fc7.
        dropout: fraction of fc6 and of fc7 dropped in training.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    inputs = Input(input_shape, name="image")
    x = layers.ZeroPadding2D(1, name="pad1")(inputs)
    x = layers.Conv2D(96, 7, strides=2, activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)
    x = LocalResponseNormalization(name="norm1")(x)
    x = layers.Conv2D(256, 5, strides=2, activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool2")(x)
    x = LocalResponseNormalization(name="norm2")(x)
    x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv3")(x)
    x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv4")(x)
    x = layers.Conv2D(256, 3, padding="same", activation="relu", name="conv5")(x)
    x = layers.MaxPooling2D(3, 2, name="pool5")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(dense_units, activation="relu", name="fc6")(x)
    x = layers.Dropout(dropout, name="drop6")(x)
    x = layers.Dense(dense_units, activation="relu", name="fc7")(x)
    x = layers.Dropout(dropout, name="drop7")(x)
    x = layers.Dense(num_classes, name="fc8")(x)
    outputs = layers.Softmax(dtype="float32", name="prob")(x)
    return Model(inputs, outputs, name=name)
