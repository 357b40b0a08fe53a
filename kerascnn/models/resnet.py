"""Residual networks (He, Zhang, Ren, Sun 2015, "Deep residual learning for image recognition", table 1).

The layers, their order, padding and names are torchvision's, with "_" for "." in the names (`layer1_0_conv1`), so that
its checkpoint files fit. As there, a bottleneck's stride sits in its 3x3 convolution; the paper's sits in the 1x1
before it, which is `stride_in_3x3=False`.

A Keras count of parameters includes batch normalisation's moving averages, torchvision's does not: resnet18's
11,699,112 are 11,689,512 trainable and 9,600 that are not.
"""

from keras import Input, Model, layers

from kerascnn.errors import unknown
from kerascnn.models import register
from kerascnn.models.checkpoint import load_pretrained


@register(
    source="He et al. 2015",
    input_shape=(224, 224, 3),
    num_classes=1000,
    parameters=11_699_112,
    trainable=11_689_512,
    published=11_689_512,
    difference="torchvision counts the trainable parameters; 9,600 are batch normalisation's moving averages.",
)
def resnet18(input_shape=(224, 224, 3), num_classes=1000, *, stem="imagenet", weights=None, skip=(), name="resnet18"):
    """18 weight layers: a 7x7 stem and eight basic blocks of two 3x3 convolutions.

    Args:
        input_shape: (height, width, channels), any size.
        num_classes: number of classes.
        stem: "imagenet": 7x7 stride 2 and a 3x3 stride-2 pool; "small": one 3x3 convolution of stride 1, for images
            of about 32x32 pixels.
        weights: None (random); a torchvision checkpoint file, .pth or .safetensors; "imagenet": torchvision's file from
            the cache folder, downloaded if it is not there; "kerashub": KerasHub's preset, where keras-hub is
            installed. Pretrained networks expect images scaled to 0..1, less the mean (0.485, 0.456, 0.406), divided by
            the deviation (0.229, 0.224, 0.225).
        skip: names of layers that keep their random weights, as in ("fc",) for another number of classes.
        name: the model's name.
    Returns:
        keras.Model, images float32 (N, height, width, channels) -> probabilities float32 (N, num_classes).
    """
    model = _resnet(input_shape, num_classes, _basic_block, (2, 2, 2, 2), stem, name)
    return load_pretrained(model, "resnet18", weights, skip)


@register(
    source="He et al. 2015",
    input_shape=(224, 224, 3),
    num_classes=1000,
    parameters=21_814_696,
    trainable=21_797_672,
    published=21_797_672,
    difference="torchvision counts the trainable parameters; 17,024 are batch normalisation's moving averages.",
)
def resnet34(input_shape=(224, 224, 3), num_classes=1000, *, stem="imagenet", weights=None, skip=(), name="resnet34"):
    """34 weight layers: a 7x7 stem and sixteen basic blocks; arguments as of `resnet18`."""
    model = _resnet(input_shape, num_classes, _basic_block, (3, 4, 6, 3), stem, name)
    return load_pretrained(model, "resnet34", weights, skip)


@register(
    source="He et al. 2015",
    input_shape=(224, 224, 3),
    num_classes=1000,
    parameters=25_610_152,
    trainable=25_557_032,
    published=25_557_032,
    difference="torchvision counts the trainable parameters; 53,120 are batch normalisation's moving averages.",
)
def resnet50(
    input_shape=(224, 224, 3),
    num_classes=1000,
    *,
    stem="imagenet",
    stride_in_3x3=True,
    weights=None,
    skip=(),
    name="resnet50",
):
    """50 weight layers: a 7x7 stem and sixteen bottlenecks (1x1, 3x3, 1x1); arguments as of `resnet18`, and:

    Args:
        stride_in_3x3: True as torchvision; False as the paper, which strides in the bottleneck's first 1x1.
    """

    def block(x, filters, stride, name):
        return _bottleneck(x, filters, stride, name, stride_in_3x3=stride_in_3x3)

    model = _resnet(input_shape, num_classes, block, (3, 4, 6, 3), stem, name)
    return load_pretrained(model, "resnet50", weights, skip)


def _convolution(x, filters, size, stride, name):
    """A convolution without bias that pads size // 2 pixels on every side, as torch does."""
    if size > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(filters, size, strides=stride, use_bias=False, kernel_initializer="he_normal", name=name)(x)


def _batch_norm(x, name):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def _joined(x, shortcut, filters, stride, name):
    """ReLU of the branch plus the block's input, which is projected where its shape changes."""
    if stride > 1 or shortcut.shape[-1] != filters:
        shortcut = _convolution(shortcut, filters, 1, stride, f"{name}_downsample_0")
        shortcut = _batch_norm(shortcut, f"{name}_downsample_1")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu")(x)


def _basic_block(inputs, filters, stride, name):
    x = _convolution(inputs, filters, 3, stride, f"{name}_conv1")
    x = _batch_norm(x, f"{name}_bn1")
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = _convolution(x, filters, 3, 1, f"{name}_conv2")
    x = _batch_norm(x, f"{name}_bn2")
    return _joined(x, inputs, filters, stride, name)


def _bottleneck(inputs, filters, stride, name, *, stride_in_3x3):
    first, second = (1, stride) if stride_in_3x3 else (stride, 1)
    x = _convolution(inputs, filters, 1, first, f"{name}_conv1")
    x = _batch_norm(x, f"{name}_bn1")
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = _convolution(x, filters, 3, second, f"{name}_conv2")
    x = _batch_norm(x, f"{name}_bn2")
    x = layers.ReLU(name=f"{name}_relu2")(x)
    x = _convolution(x, 4 * filters, 1, 1, f"{name}_conv3")
    x = _batch_norm(x, f"{name}_bn3")
    return _joined(x, inputs, 4 * filters, stride, name)


def _resnet(input_shape, num_classes, block, blocks, stem, name):
    if stem not in ("imagenet", "small"):
        raise unknown(f"stem of {name}", stem, ("imagenet", "small"))
    inputs = Input(input_shape, name="image")
    size, stride = (7, 2) if stem == "imagenet" else (3, 1)
    x = _convolution(inputs, 64, size, stride, "conv1")
    x = _batch_norm(x, "bn1")
    x = layers.ReLU(name="relu")(x)
    if stem == "imagenet":
        # The zeros at the border never win: everything after a ReLU is at least 0.
        x = layers.ZeroPadding2D(1, name="maxpool_pad")(x)
        x = layers.MaxPooling2D(3, 2, name="maxpool")(x)
    for stage, (filters, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True), start=1):
        for number in range(count):
            stride = 2 if stage > 1 and number == 0 else 1
            x = block(x, filters, stride, f"layer{stage}_{number}")
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = layers.Dense(num_classes, name="fc")(x)
    outputs = layers.Softmax(dtype="float32", name="prob")(x)
    return Model(inputs, outputs, name=name)
