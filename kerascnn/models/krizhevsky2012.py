"""AlexNet (Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional neural networks").

Two columns of one GPU each are the groups of conv2, conv4 and conv5. The paper says 224x224 input; its own arithmetic
(55x55 after an 11x11 stride-4 layer) needs 227x227, which is used here as in Caffe. "60 million parameters" are
60,965,224. Response normalisation has the paper's constants (n=5, alpha=1e-4, beta=0.75, k=2), and pools overlap (3x3,
stride 2). Weights start as Glorot's unless `initialization="2012"` asks for the paper's.
"""

from keras import Input, Model, initializers, layers

from kerascnn.errors import unknown
from kerascnn.layers import GroupedConv2D, LocalResponseNormalization
from kerascnn.models import register


@register(
    source="Krizhevsky et al. 2012",
    input_shape=(227, 227, 3),
    num_classes=1000,
    parameters=60_965_224,
    published="60 million",
)
def alexnet(
    input_shape=(227, 227, 3),
    num_classes=1000,
    *,
    groups=2,
    dense_units=4096,
    dropout=0.5,
    initialization="glorot",
    response_norm=True,
    pool_size=3,
    name="alexnet",
):
    """Five convolutions of 96 to 384 filters, three overlapping pools, two dense layers of 4096 with dropout, softmax.

    Args:
        input_shape: (height, width, channels), at least 67x67 pixels.
        num_classes: number of classes.
        groups: groups of conv2, conv4 and conv5; 1 is the network on one GPU.
        dense_units: units of fc6 and of fc7.
        dropout: fraction of fc6 and of fc7 dropped in training.
        initialization: "glorot", or "2012": weights from a normal of standard deviation 0.01, biases 1 in conv2, conv4,
            conv5, fc6 and fc7 and 0 elsewhere (the paper's section 5).
        response_norm: False leaves the two response normalisations out.
        pool_size: side of the pooling windows, which have stride 2: windows of 3 overlap, windows of 2 do not. Both
            give maps of the same size if all maps that are pooled have an odd size, such as 55, 27 and 13 for 227x227
            pixels, and 23, 11 and 5 for 99x99.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    if initialization not in ("glorot", "2012"):
        raise unknown("initialization of alexnet", initialization, ("glorot", "2012"))

    def start(bias):
        if initialization == "glorot":
            return {}
        return {
            "kernel_initializer": initializers.RandomNormal(stddev=0.01),
            "bias_initializer": initializers.Constant(bias),
        }

    def grouped(filters, size, name):
        return GroupedConv2D(
            filters, size, groups=groups, padding="same", activation="relu", name=name, **start(bias=1)
        )

    def normalised(x, name):
        return LocalResponseNormalization(name=name)(x) if response_norm else x

    inputs = Input(input_shape, name="image")
    x = layers.Conv2D(96, 11, strides=4, activation="relu", name="conv1", **start(bias=0))(inputs)
    x = normalised(x, "norm1")
    x = layers.MaxPooling2D(pool_size, 2, name="pool1")(x)
    x = grouped(256, 5, "conv2")(x)
    x = normalised(x, "norm2")
    x = layers.MaxPooling2D(pool_size, 2, name="pool2")(x)
    x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv3", **start(bias=0))(x)
    x = grouped(384, 3, "conv4")(x)
    x = grouped(256, 3, "conv5")(x)
    x = layers.MaxPooling2D(pool_size, 2, name="pool5")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(dense_units, activation="relu", name="fc6", **start(bias=1))(x)
    x = layers.Dropout(dropout, name="drop6")(x)
    x = layers.Dense(dense_units, activation="relu", name="fc7", **start(bias=1))(x)
    x = layers.Dropout(dropout, name="drop7")(x)
    x = layers.Dense(num_classes, name="fc8", **start(bias=0))(x)
    outputs = layers.Softmax(dtype="float32", name="prob")(x)
    return Model(inputs, outputs, name=name)
