"""How the layers without weights open into primitive steps: pooling, activations, merging, reshaping, resizing."""

import functools

import numpy as np
from keras import layers, ops

from kerascnn.explain.openings import activate, channels_last, opens
from kerascnn.explain.plan import NoRuleError


def _pool(rule_name):
    @channels_last
    def opening(b, layer, x, shape):
        return b.step(rule_name, x, (tuple(layer.pool_size), tuple(layer.strides), layer.padding))

    return opening


opens(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)(_pool("max_pool"))
opens(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D)(_pool("average_pool"))


def _global(rule_name):
    def opening(b, layer, x, shape):
        first = 2 if layer.data_format == "channels_first" else 1
        return b.step(rule_name, x, (tuple(range(first, first + len(shape) - 2)), layer.keepdims))

    return opening


opens(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D)(_global("max"))
opens(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D)(_global("mean"))


@opens(layers.Activation)
def _activation(b, layer, x, shape):
    return activate(b, x, layer.activation, shape)


@opens(layers.ReLU)
def _relu(b, layer, x, shape):
    return b.step(*relu_step(x, layer.negative_slope, layer.max_value, layer.threshold))


def relu_step(x, slope, maximum, threshold):
    slope, threshold = float(slope or 0), float(threshold or 0)
    if slope:
        return "leaky_relu", x, (slope, maximum, threshold)
    if maximum is None and not threshold:
        return "relu", x
    return "clipped_relu", x, (maximum, threshold)


@opens(layers.LeakyReLU)
def _leaky_relu(b, layer, x, shape):
    return b.step("leaky_relu", x, (float(layer.negative_slope), None, 0.0))


@opens(layers.PReLU)
def _prelu(b, layer, x, shape):
    return b.step("prelu", x, (), [layer.alpha])


@opens(layers.ELU)
def _elu(b, layer, x, shape):
    return b.step("elu", x, (float(layer.alpha),))


@opens(layers.Softmax)
def _softmax(b, layer, x, shape):
    if isinstance(x, list):
        raise NoRuleError("a softmax with a mask has none")
    axes = np.atleast_1d(layer.axis).tolist()
    if len(axes) > 1:
        raise NoRuleError("a softmax over several axes has none")
    return b.step("softmax", x, (axes[0],))


def _merge(rule_name):
    def opening(b, layer, values, shapes):
        rank = max(len(s) for s in shapes)
        if any(len(s) != rank for s in shapes):
            raise NoRuleError("it merges inputs of different ranks")
        return functools.reduce(lambda a, c: b.step(rule_name, (a, c)), values)

    return opening


for _class, _name in (
    (layers.Add, "add"),
    (layers.Subtract, "subtract"),
    (layers.Multiply, "multiply"),
    (layers.Maximum, "maximum"),
    (layers.Minimum, "minimum"),
):
    opens(_class)(_merge(_name))


@opens(layers.Average)
def _average(b, layer, values, shapes):
    return b.step("scale", _merge("add")(b, layer, values, shapes), (), [np.asarray(1 / len(values)), np.zeros(())])


@opens(layers.Concatenate)
def _concatenate(b, layer, values, shapes):
    return b.step("concatenate", values, (layer.axis % len(shapes[0]),))


@opens(layers.Flatten)
def _flatten(b, layer, x, shape):
    if layer.data_format == "channels_first" and len(shape) > 2:
        x = b.step("transpose", x, (0, *range(2, len(shape)), 1))
    return b.step("reshape", x, (-1,))


@opens(layers.Reshape)
def _reshape(b, layer, x, shape):
    return b.step("reshape", x, tuple(layer.target_shape))


@opens(layers.Permute)
def _permute(b, layer, x, shape):
    return b.step("transpose", x, (0, *layer.dims))


@opens(layers.RepeatVector)
def _repeat_vector(b, layer, x, shape):
    x = b.step("reshape", x, (1, shape[-1]))
    return b.step("repeat", x, (layer.n,))


@opens(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
@channels_last
def _zero_padding(b, layer, x, shape):
    pads = layer.padding if len(shape) > 3 else (layer.padding,)
    return b.step("pad", x, ((0, 0), *(tuple(p) for p in pads), (0, 0)))


@opens(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D)
@channels_last
def _cropping(b, layer, x, shape):
    cuts = layer.cropping if len(shape) > 3 else (layer.cropping,)
    return b.step("pad", x, ((0, 0), *((-low, -high) for low, high in cuts), (0, 0)))


@opens(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D)
@channels_last
def _up_sampling(b, layer, x, shape):
    times = tuple(layer.size) if isinstance(layer.size, list | tuple) else (layer.size,)
    if getattr(layer, "interpolation", "nearest") == "nearest":
        return b.step("repeat", x, times)
    sizes = _fixed(shape)
    new = tuple(n * t for n, t in zip(sizes, times, strict=True))
    return b.step("resample", x, (), _resizing_matrices(sizes, new, layer.interpolation))


def _fixed(shape):
    if None in shape[1:-1]:
        raise NoRuleError("resizing needs a fixed image size")
    return tuple(shape[1:-1])


def _resizing_matrices(sizes, new, interpolation, antialias=False):
    """What each axis is multiplied by, found by resizing the identity."""
    found = []
    for old, size in zip(sizes, new, strict=True):
        identity = np.eye(old, dtype="float32")[None, :, :, None]
        resized = ops.image.resize(identity, (size, old), interpolation, antialias, data_format="channels_last")
        found.append(ops.convert_to_numpy(resized)[0, :, :, 0])
    return found


@opens(layers.Resizing)
@channels_last
def _resizing(b, layer, x, shape):
    if layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio:
        raise NoRuleError("Resizing has one only without crop_to_aspect_ratio and pad_to_aspect_ratio")
    sizes, new = _fixed(shape), (layer.height, layer.width)
    return b.step("resample", x, (), _resizing_matrices(sizes, new, layer.interpolation, layer.antialias))


@opens(layers.CenterCrop)
@channels_last
def _center_crop(b, layer, x, shape):
    cuts = []
    for have, want in zip(_fixed(shape), (layer.height, layer.width), strict=True):
        if have < want:
            raise NoRuleError("CenterCrop has one only for images larger than the crop")
        before = int((have - want) / 2)
        cuts.append((-before, -(have - want - before)))
    return b.step("pad", x, ((0, 0), *cuts, (0, 0)))


@opens(
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
    layers.RandomFlip,
    layers.RandomRotation,
    layers.RandomTranslation,
    layers.RandomZoom,
    layers.RandomContrast,
    layers.RandomBrightness,
)
def _identity(b, layer, x, shape):
    """At inference these do nothing."""
    return b.step("identity", x)
