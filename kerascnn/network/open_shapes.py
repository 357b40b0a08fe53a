"""How layers without weights, and pooling in keras.ops, open into primitive steps."""

import functools

import keras
import numpy as np
from keras import layers

from kerascnn.layers import AUGMENTATIONS
from kerascnn.network.open_operations import each_axis, leaky_relu, opens_unary, relu
from kerascnn.network.openings import activate, channels_last, masked, open_call, opens
from kerascnn.network.steps import NoRuleError


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


@masked(layers.GlobalAveragePooling1D)
def _mean_of_steps(b, layer, x, shape, mask):
    """The mean over the steps that a mask leaves."""
    if layer.data_format == "channels_first":
        raise NoRuleError("a mask of channels-first values is not supported")
    wide = b.step("expand", mask, (2,))
    kept = b.step("where", (wide, x, b.constant(np.zeros(()))))
    return b.step("divide", (b.step("sum", kept, ((1,), layer.keepdims)), b.step("sum", wide, ((1,), layer.keepdims))))


def _adaptive(rule_name):
    @channels_last
    def opening(b, layer, x, shape):
        return b.step(rule_name, x, tuple(layer.output_size))

    return opening


opens(layers.AdaptiveAveragePooling1D, layers.AdaptiveAveragePooling2D, layers.AdaptiveAveragePooling3D)(
    _adaptive("adaptive_average")
)
opens(layers.AdaptiveMaxPooling1D, layers.AdaptiveMaxPooling2D, layers.AdaptiveMaxPooling3D)(_adaptive("adaptive_max"))


@opens(layers.TimeDistributed)
def _time_distributed(b, layer, x, shape):
    """Every step is an image of its own."""
    steps = open_call(b, layer.layer, b.step("fold_time", x), (None, *shape[2:]))
    return b.step("unfold_time", (steps, x))


@masked(layers.TimeDistributed)
def _masked_time_distributed(b, layer, x, shape, mask):
    """The mask is for the layer inside; most do not read one."""
    if layer.layer._call_has_mask_arg:
        raise NoRuleError("its layer reads a mask")
    return _time_distributed(b, layer, x, shape)


@opens(layers.Masking)
def _masking(b, layer, x, shape):
    other = b.step("piecewise", (x, b.constant(np.asarray(layer.mask_value))), ("not_equal",))
    any_other = b.step("piecewise", other, ("any", (len(shape) - 1,), True))
    return b.step("where", (any_other, x, b.constant(np.zeros(()))))


@opens(layers.Activation)
def _activation(b, layer, x, shape):
    return activate(b, x, layer.activation, shape)


opens(layers.ReLU)(relu)
opens(layers.LeakyReLU)(leaky_relu)


@opens(layers.PReLU)
def _prelu(b, layer, x, shape):
    return b.step("prelu", x, (), [layer.alpha])


@opens(layers.ELU)
def _elu(b, layer, x, shape):
    return b.step("elu", x, (float(layer.alpha),))


@opens(layers.Softmax)
def _softmax(b, layer, x, shape):
    if isinstance(x, list):
        raise NoRuleError("a softmax with a mask is not supported")
    axes = np.atleast_1d(layer.axis).tolist()
    if len(axes) > 1:
        raise NoRuleError("a softmax over several axes is not supported")
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
    times = each_axis(layer.size, 1)
    if getattr(layer, "interpolation", "nearest") == "nearest":
        return b.step("repeat", x, times)
    return b.step("resample", x, (None, times, layer.interpolation, False))


@opens(layers.Resizing)
@channels_last
def _resizing(b, layer, x, shape):
    if layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio:
        raise NoRuleError("Resizing is supported only without crop_to_aspect_ratio and pad_to_aspect_ratio")
    return b.step("resample", x, ((layer.height, layer.width), None, layer.interpolation, layer.antialias))


@opens(layers.CenterCrop)
@channels_last
def _center_crop(b, layer, x, shape):
    if None in shape[1:-1] or shape[1] < layer.height or shape[2] < layer.width:
        raise NoRuleError("CenterCrop is supported only for images of fixed size that are larger than the crop")
    return b.step("center_crop", x, (layer.height, layer.width))


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
    *AUGMENTATIONS,
)
def _identity(b, layer, x, shape):
    """At inference these do nothing."""
    return b.step("identity", x)


@opens_unary("MaxPool", "AveragePool")
def _pool_operation(b, o, x, shape):
    if (o.data_format or keras.config.image_data_format()) != "channels_last":
        raise NoRuleError("ops pooling is supported for channels-last images only")
    rank = len(shape) - 2
    pool, strides = each_axis(o.pool_size, rank), each_axis(o.strides or o.pool_size, rank)
    return b.step("max_pool" if type(o).__name__ == "MaxPool" else "average_pool", x, (pool, strides, o.padding))
