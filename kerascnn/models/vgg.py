"""The VGG networks (Simonyan & Zisserman 2014, "Very deep convolutional networks for large-scale image recognition").

Table 1's columns A, A-LRN, B, C, D and E, with the names of the authors' released weights (conv1_1 ... fc8). Table 2
prints 133, 133, 133, 134, 138 and 144 million parameters; ours round to these. Weights start as Glorot's, which the
authors recommend after the fact (page 4).

`dense_layers=` and `dense_units=` drop fully connected layers or make them smaller, as the memory study of the CS 280
report (2017, section 1.2.1) does; `as_convolutions` turns a trained network's dense layers into convolutions, so that
the same weights serve images of other sizes (the paper's section 3.2).
"""

import keras
from keras import Input, Model, layers

from kerascnn.errors import UsageError
from kerascnn.layers import LocalResponseNormalization
from kerascnn.models import register
from kerascnn.models.convolved import Convolved
from kerascnn.network import graph


@register(
    source="Simonyan & Zisserman 2014, A",
    input_shape=(224, 224, 3),
    num_classes=1000,
    parameters=132_863_336,
    published="133 million",
)
def vgg11(input_shape=(224, 224, 3), num_classes=1000, *, dense_units=4096, dense_layers=2, dropout=0.5, name="vgg11"):
    """VGG with 11 weight layers, column A: 1, 1, 2, 2 and 2 3x3 convolutions, each group with a pool.

    Args:
        input_shape: (height, width, channels), at least 32x32 pixels.
        num_classes: number of classes.
        dense_units: units of fc6 and of fc7.
        dense_layers: hidden dense layers: 2 (fc6, fc7), 1 (fc6) or 0; fc8 gives the classes and always stays.
        dropout: fraction of fc6 and of fc7 dropped in training.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    blocks = ([3], [3], [3, 3], [3, 3], [3, 3])
    return _vgg(input_shape, num_classes, blocks, dense_units, dense_layers, dropout, name)


@register(
    source="Simonyan & Zisserman 2014, A-LRN",
    input_shape=(224, 224, 3),
    num_classes=1000,
    parameters=132_863_336,
    published="133 million",
)
def vgg11_lrn(
    input_shape=(224, 224, 3), num_classes=1000, *, dense_units=4096, dense_layers=2, dropout=0.5, name="vgg11_lrn"
):
    """Column A with response normalisation after conv1_1; arguments as of `vgg11`."""
    blocks = ([3], [3], [3, 3], [3, 3], [3, 3])
    return _vgg(input_shape, num_classes, blocks, dense_units, dense_layers, dropout, name, lrn=True)


@register(
    source="Simonyan & Zisserman 2014, B",
    input_shape=(224, 224, 3),
    num_classes=1000,
    parameters=133_047_848,
    published="133 million",
)
def vgg13(input_shape=(224, 224, 3), num_classes=1000, *, dense_units=4096, dense_layers=2, dropout=0.5, name="vgg13"):
    """Column B: 2, 2, 2, 2 and 2 3x3 convolutions; arguments as of `vgg11`."""
    blocks = ([3, 3], [3, 3], [3, 3], [3, 3], [3, 3])
    return _vgg(input_shape, num_classes, blocks, dense_units, dense_layers, dropout, name)


@register(
    source="Simonyan & Zisserman 2014, C",
    input_shape=(224, 224, 3),
    num_classes=1000,
    parameters=133_638_952,
    published="134 million",
)
def vgg16c(
    input_shape=(224, 224, 3), num_classes=1000, *, dense_units=4096, dense_layers=2, dropout=0.5, name="vgg16c"
):
    """Column C: column B and a 1x1 convolution at the end of each of the last three groups; arguments as of `vgg11`."""
    blocks = ([3, 3], [3, 3], [3, 3, 1], [3, 3, 1], [3, 3, 1])
    return _vgg(input_shape, num_classes, blocks, dense_units, dense_layers, dropout, name)


@register(
    source="Simonyan & Zisserman 2014, D",
    input_shape=(224, 224, 3),
    num_classes=1000,
    parameters=138_357_544,
    published="138 million",
)
def vgg16(input_shape=(224, 224, 3), num_classes=1000, *, dense_units=4096, dense_layers=2, dropout=0.5, name="vgg16"):
    """Column D: 2, 2, 3, 3 and 3 3x3 convolutions; arguments as of `vgg11`."""
    blocks = ([3, 3], [3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3])
    return _vgg(input_shape, num_classes, blocks, dense_units, dense_layers, dropout, name)


@register(
    source="Simonyan & Zisserman 2014, E",
    input_shape=(224, 224, 3),
    num_classes=1000,
    parameters=143_667_240,
    published="144 million",
)
def vgg19(input_shape=(224, 224, 3), num_classes=1000, *, dense_units=4096, dense_layers=2, dropout=0.5, name="vgg19"):
    """Column E: 2, 2, 4, 4 and 4 3x3 convolutions; arguments as of `vgg11`."""
    blocks = ([3, 3], [3, 3], [3, 3, 3, 3], [3, 3, 3, 3], [3, 3, 3, 3])
    return _vgg(input_shape, num_classes, blocks, dense_units, dense_layers, dropout, name)


def _vgg(input_shape, num_classes, blocks, dense_units, dense_layers, dropout, name, *, lrn=False):
    """The network whose groups of convolutions have the kernel sizes `blocks`, [[3], [3, 3] ...]."""
    if dense_layers not in (0, 1, 2):
        raise UsageError(f"Model {name!r}: dense_layers must be 0, 1 or 2; received {dense_layers!r}.")
    x = inputs = Input(input_shape, name="image")
    for block, (filters, sizes) in enumerate(zip((64, 128, 256, 512, 512), blocks, strict=True), start=1):
        for number, size in enumerate(sizes, start=1):
            x = layers.Conv2D(filters, size, padding="same", activation="relu", name=f"conv{block}_{number}")(x)
            if lrn and block == number == 1:
                x = LocalResponseNormalization(name="norm1")(x)
        x = layers.MaxPooling2D(2, name=f"pool{block}")(x)
    x = layers.Flatten(name="flatten")(x)
    for number in range(6, 6 + dense_layers):
        x = layers.Dense(dense_units, activation="relu", name=f"fc{number}")(x)
        x = layers.Dropout(dropout, name=f"drop{number}")(x)
    x = layers.Dense(num_classes, name="fc8")(x)
    outputs = layers.Softmax(dtype="float32", name="prob")(x)
    return Model(inputs, outputs, name=name)


def as_convolutions(model, input_shape=None):
    """The same weights for images of another size: dense layers become convolutions, their class scores are averaged.

    The first dense layer becomes a convolution as large as the maps that it was trained on (7x7 for 224x224 images),
    the others 1x1 convolutions; the scores of all places are averaged before the softmax (the paper's section 3.2).
    At the trained size the answer is the model's own.

    Args:
        model: a keras.Model whose dense layers follow a Flatten, as those of all VGG networks, AlexNet and ZFNet do.
        input_shape: (height, width, channels) of the new network, None for any size not below the trained one, which
            is the default.
    Returns:
        keras.Model with the layers' names and copies of their weights, images (N, height, width, channels) -> (N,
        classes).
    Raises:
        UsageError: the model has no Flatten followed by a Dense layer, several inputs or outputs, or a layer that works
            at one size of image only.
    """
    flat = graph.flatten(model)
    if len(flat.inputs) != 1 or len(flat.outputs) != 1:
        raise UsageError(f"Model {model.name!r} has several inputs or outputs: as_convolutions takes one of each.")
    kinds = [type(node.operation) for node in flat.nodes]
    if layers.Flatten not in kinds or layers.Dense not in kinds[kinds.index(layers.Flatten) :]:
        raise UsageError(f"Model {model.name!r} has no Flatten followed by dense layers: as_convolutions needs them.")
    end = next(node for node in reversed(flat.nodes) if flat.outputs[0] in node.outputs)
    dense, average = isinstance(end.operation, layers.Dense), layers.GlobalAveragePooling2D(name="average")
    softmax = getattr(end.operation, "activation", None) is keras.activations.softmax
    convolved = Convolved(flat, model.name, linear=end.name if dense and softmax else "")

    def call(node, args, kwargs):
        if node is not end:
            return convolved(node, args, kwargs)
        if not dense and (softmax or isinstance(node.operation, layers.Softmax)):
            return convolved(node, [average(args[0])], kwargs)
        scores = average(convolved(node, args, kwargs))
        name = f"{node.operation.name}_softmax"
        return layers.Softmax(dtype=node.operation.dtype_policy, name=name)(scores) if softmax else scores

    inputs = Input(input_shape or (None, None, model.inputs[0].shape[-1]), name="image")
    return Model(inputs, flat.run([inputs], call)[flat.outputs[0]], name=model.name)
