"""How convolutions (of keras.ops, too), dense layers and normalisations open into primitive steps."""

import keras
import numpy as np
from keras import layers, ops

from kerascnn.layers import GroupedConv2D, LocalResponseNormalization
from kerascnn.network.graph import Ref
from kerascnn.network.open_operations import argument, each_axis, from_zero, only_tensor, opens_operation
from kerascnn.network.openings import activate, channels_last, opens
from kerascnn.network.steps import NoRuleError


def _bias(layer):
    return [layer.bias] if layer.use_bias else []


@opens(layers.Conv1D, layers.Conv2D, layers.Conv3D, GroupedConv2D)
@channels_last
def _conv(b, layer, x, shape):
    config = (tuple(layer.strides), tuple(layer.dilation_rate), layer.padding, layer.groups)
    y = b.step("conv", x, config, [layer.kernel, *_bias(layer)])
    return activate(b, y, layer.activation, _like(shape, layer.filters))


def _like(shape, channels):
    """A shape for tracing an activation: its spatial sizes do not matter."""
    return (*shape[:-1], channels)


@opens(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
@channels_last
def _depthwise(b, layer, x, shape):
    config = (tuple(layer.strides), tuple(layer.dilation_rate), layer.padding)
    y = b.step("depthwise", x, config, [layer.kernel, *_bias(layer)])
    return activate(b, y, layer.activation, _like(shape, layer.kernel.shape[-1] * shape[-1]))


@opens(layers.SeparableConv1D, layers.SeparableConv2D)
@channels_last
def _separable(b, layer, x, shape):
    config = (tuple(layer.strides), tuple(layer.dilation_rate), layer.padding)
    y = b.step("depthwise", x, config, [layer.depthwise_kernel])
    one = (1,) * (len(shape) - 2)
    y = b.step("conv", y, (one, one, "valid", 1), [layer.pointwise_kernel, *_bias(layer)])
    return activate(b, y, layer.activation, _like(shape, layer.filters))


@opens(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
@channels_last
def _conv_transpose(b, layer, x, shape):
    extra = each_axis(layer.output_padding, len(shape) - 2)
    config = (tuple(layer.strides), tuple(layer.dilation_rate), layer.padding, extra)
    y = b.step("conv_transpose", x, config, [layer.kernel, *_bias(layer)])
    return activate(b, y, layer.activation, _like(shape, layer.filters))


@opens(layers.Dense)
def _dense(b, layer, x, shape):
    y = b.step("dense", x, (), [layer.kernel, *_bias(layer)])
    return activate(b, y, layer.activation, _like(shape, layer.units))


@opens(layers.BatchNormalization)
def _batch_norm(b, layer, x, shape):
    size = (shape[layer.axis],)
    gamma = layer.gamma if layer.scale else np.ones(size)
    beta = layer.beta if layer.center else np.zeros(size)
    weights = [gamma, beta, layer.moving_mean, layer.moving_variance]
    return b.step("batch_norm", x, (layer.axis % len(shape), layer.epsilon), weights)


@opens(layers.Normalization)
def _normalization(b, layer, x, shape):
    mean, variance = (np.asarray(ops.convert_to_numpy(v), "float64") for v in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        return b.step("scale", x, (), [deviation, mean])
    return b.step("scale", x, (), [1 / deviation, -mean / deviation])


@opens(layers.Rescaling)
def _rescaling(b, layer, x, shape):
    scale = np.asarray(layer.scale, "float64")
    if scale.ndim and keras.config.image_data_format() == "channels_first":
        scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))  # as Keras does, for the scale alone
    return b.step("scale", x, (), [scale, np.asarray(layer.offset, "float64")])


def normalise(b, x, axes, epsilon, center=True, size="mean"):
    """x over the root of its mean square, or sum of squares (about its mean when `center`), along `axes`."""
    if center:
        x = b.step("subtract", (x, b.step("mean", x, (axes, True))))
    square = b.step(size, b.step("square", x), (axes, True))
    moved = b.step("scale", square, (), [np.ones(()), np.asarray(epsilon)])
    return b.step("normalise", (x, b.step("rsqrt", moved)))


def affine(b, x, axes, rank, gamma, beta):
    """x * gamma + beta with the weights along `axes`."""
    for rule_name, weight in (("multiply", gamma), ("add", beta)):
        if weight is not None:
            wide = [1] * rank
            for axis, size in zip(axes, weight.shape, strict=True):
                wide[axis] = size
            x = b.step("times" if rule_name == "multiply" else "plus", x, tuple(wide), [weight])
    return x


@opens(layers.LayerNormalization)
def _layer_normalization(b, layer, x, shape):
    if getattr(layer, "rms_scaling", False):
        raise NoRuleError("LayerNormalization(rms_scaling=True) is not supported; RMSNormalization is")
    axes = from_zero(layer.axis, len(shape))
    x = normalise(b, x, axes, layer.epsilon)
    gamma = layer.gamma if layer.scale else None
    return affine(b, x, axes, len(shape), gamma, layer.beta if layer.center else None)


@opens(layers.RMSNormalization)
def _rms_normalization(b, layer, x, shape):
    axes = from_zero(layer.axis, len(shape))
    return affine(b, normalise(b, x, axes, layer.epsilon, center=False), axes, len(shape), layer.scale, None)


@opens(layers.GroupNormalization)
def _group_normalization(b, layer, x, shape):
    axis = layer.axis % len(shape)
    if axis != len(shape) - 1:
        raise NoRuleError("GroupNormalization is supported for the last axis only")
    x = b.step("split_channels", x, (shape[-1] if layer.groups == -1 else layer.groups,))
    x = normalise(b, x, (*range(1, len(shape) - 1), len(shape)), layer.epsilon)
    x = b.step("merge_channels", x)
    gamma = layer.gamma if layer.scale else None
    return affine(b, x, (axis,), len(shape), gamma, layer.beta if layer.center else None)


@opens(layers.UnitNormalization)
def _unit_normalization(b, layer, x, shape):
    return normalise(b, x, from_zero(layer.axis, len(shape)), 1e-24, center=False, size="sum")


@opens(LocalResponseNormalization)
def _lrn(b, layer, x, shape):
    return b.step("lrn", x, (layer.size, layer.alpha, layer.beta, layer.k))


def _convolution(node, known, shapes, kernels=("kernel",)):
    """(value, kernels, (strides, dilations, padding)) of a convolution; channels come last and kernels are constant."""
    (x, shape), o = only_tensor(node, known, shapes), node.operation
    kernels = [argument(node, position, name) for position, name in enumerate(kernels, start=1)]
    if (o.data_format or keras.config.image_data_format()) != "channels_last" or any(
        isinstance(kernel, Ref) for kernel in kernels
    ):
        raise NoRuleError(f"{type(o).__name__} is supported for channels-last images and constant kernels only")
    rank = len(shape) - 2
    return x, kernels, (each_axis(o.strides, rank), each_axis(o.dilation_rate, rank), o.padding)


@opens_operation("Conv")
def _conv_operation(b, node, known, shapes):
    x, kernels, config = _convolution(node, known, shapes)
    return b.step("conv", x, (*config, shapes[node.inputs[0]][-1] // kernels[0].shape[-2]), kernels)


@opens_operation("DepthwiseConv")
def _depthwise_operation(b, node, known, shapes):
    x, kernels, config = _convolution(node, known, shapes)
    return b.step("depthwise", x, config, kernels)


@opens_operation("SeparableConv")
def _separable_operation(b, node, known, shapes):
    names = ("depthwise_kernel", "pointwise_kernel")
    x, (depthwise, pointwise), config = _convolution(node, known, shapes, names)
    one = (1,) * len(config[0])
    return b.step("conv", b.step("depthwise", x, config, [depthwise]), (one, one, "valid", 1), [pointwise])
