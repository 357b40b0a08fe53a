"""Rules for convolutions and dense layers: forward, and the transposed operation that walks back.

Everything here is channels-last, with one to three spatial axes, and with padding spelled out as (before, after) pairs
computed as TensorFlow does, so that all backends agree.
"""

import math

from keras import ops

from kerascnn import backends
from kerascnn.network.rules.rule import rule


def same_padding(size, kernel, stride, dilation):
    """(before, after) of "same" padding along one axis."""
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def paddings(padding, sizes, kernels, strides, dilations):
    """((before, after), ...) for "valid", "same" or "causal"."""
    if padding == "valid":
        return tuple((0, 0) for _ in sizes)
    if padding == "causal":
        return tuple(((k - 1) * d, 0) for k, d in zip(kernels, dilations, strict=True))
    return tuple(same_padding(*axis) for axis in zip(sizes, kernels, strides, dilations, strict=True))


def fit(x, starts, sizes, value=0.0):
    """The window of `sizes` that begins at `starts` of x's spatial axes; outside x it holds `value`."""
    pads, cuts = [(0, 0)], [slice(None)]
    for start, size, have in zip(starts, sizes, x.shape[1:-1], strict=True):
        before, after = max(-start, 0), max(start + size - have, 0)
        pads.append((before, after))
        cuts.append(slice(start + before, start + before + size))
    pads.append((0, 0))
    if any(p != (0, 0) for p in pads):
        x = ops.pad(x, pads, constant_values=value if value else None)
    if any(c != slice(0, n) for c, n in zip(cuts[1:], x.shape[1:-1], strict=True)):
        x = x[tuple(cuts)]
    return x


def spread_out(x, strides):
    """x with stride - 1 zeros after every value of each spatial axis."""
    for axis, stride in enumerate(strides, start=1):
        if stride > 1:  # one axis at a time: TensorFlow pads arrays of at most six axes
            shape = x.shape
            x = ops.reshape(x, (-1, shape[axis], 1, math.prod(shape[axis + 1 :])))
            x = ops.pad(x, ((0, 0), (0, 0), (0, stride - 1), (0, 0)))
            x = ops.reshape(x, (-1, *shape[1:axis], shape[axis] * stride, *shape[axis + 1 :]))
    return x


def _padded(x, pads):
    """x with (before, after) zeros along each spatial axis; negative numbers cut."""
    sizes = [n + before + after for n, (before, after) in zip(x.shape[1:-1], pads, strict=True)]
    return fit(x, [-before for before, _ in pads], sizes)


def _plain(x, kernel, strides, dilations, pads):
    """One ungrouped convolution with (before, after) padding; negative padding cuts."""
    same = paddings("same", x.shape[1:-1], kernel.shape[:-2], strides, dilations)
    if any(p != (0, 0) for p in pads) and pads == same:
        return ops.conv(x, kernel, strides, "same", "channels_last", dilations)
    return ops.conv(_padded(x, pads), kernel, strides, "valid", "channels_last", dilations)


def _is_depthwise(kernel):
    """True if each group of this grouped kernel reads one channel and `ops.depthwise_conv` takes its rank."""
    return kernel.shape[-2] == 1 and len(kernel.shape) < 5


def convolve(x, kernel, strides, dilations, pads, groups=1):
    """Convolution; `kernel` is (*kernel_size, channels_in / groups, channels_out)."""
    if groups == 1:
        return _plain(x, kernel, strides, dilations, pads)
    if _is_depthwise(kernel):
        kernel = ops.reshape(kernel, (*kernel.shape[:-2], groups, -1))
        return convolve_depthwise(x, kernel, strides, dilations, pads)
    return backends.grouped_convolution(_padded(x, pads), kernel, strides, dilations, groups)


def _by_phases(g, kernel, strides, pads, sizes):
    """A strided transposed convolution to few channels: one plain convolution makes the phases of its output grid.

    Place J * stride + r of the full output is the sum over b of g[J - b] * kernel[b * stride + r]. Five times as fast
    as `ops.conv_transpose` for the first layer of AlexNet's family.
    """
    rank, (cin, cout) = len(strides), kernel.shape[-2:]
    counts = [-(-k // s) for k, s in zip(kernel.shape[:-2], strides, strict=True)]
    ends = [(0, c * s - k) for c, s, k in zip(counts, strides, kernel.shape[:-2], strict=True)]
    kernel = ops.pad(kernel, [*ends, (0, 0), (0, 0)])
    kernel = ops.reshape(kernel, [n for pair in zip(counts, strides, strict=True) for n in pair] + [cin, cout])
    blocks, phases = range(0, 2 * rank, 2), range(1, 2 * rank, 2)
    kernel = ops.transpose(kernel, [*blocks, 2 * rank + 1, *phases, 2 * rank])
    kernel = ops.flip(ops.reshape(kernel, [*counts, cout, math.prod(strides) * cin]), tuple(range(rank)))
    y = _plain(g, kernel, (1,) * rank, (1,) * rank, tuple((c - 1, c - 1) for c in counts))
    grid = tuple(y.shape[1:-1])
    y = ops.reshape(y, (-1, *grid, *strides, cin))
    order = [i for axis in range(1, rank + 1) for i in (axis, axis + rank)]
    y = ops.transpose(y, [0, *order, 2 * rank + 1])
    y = ops.reshape(y, (-1, *(n * s for n, s in zip(grid, strides, strict=True)), cin))
    return fit(y, [before for before, _ in pads], sizes)


def _plain_transposed(g, kernel, strides, dilations, pads, sizes):
    kernels = kernel.shape[:-2]
    if any(s > 1 for s in strides):
        if all(d == 1 for d in dilations) and kernel.shape[-2] * math.prod(strides) <= 16:
            return _by_phases(g, kernel, strides, pads, sizes)
        if all(d == 1 for d in dilations):
            full = ops.conv_transpose(g, kernel, strides, "valid", data_format="channels_last")
            return fit(full, [before for before, _ in pads], sizes)
        g = spread_out(g, strides)
    rank = len(kernels)
    turned = ops.flip(ops.swapaxes(kernel, -1, -2), tuple(range(rank)))
    return _plain(g, turned, (1,) * rank, dilations, _back_pads(g, kernels, dilations, pads, sizes))


def _back_pads(g, kernels, dilations, pads, sizes):
    """The padding with which a plain convolution of the spread-out g is the transposed one."""
    axes = zip(sizes, g.shape[1:-1], kernels, dilations, pads, strict=True)
    return tuple(((k - 1) * d - before, size - have + before) for size, have, k, d, (before, _) in axes)


def convolve_transposed(g, kernel, strides, dilations, pads, sizes, groups=1):
    """The transposed operation of `convolve`: for all x of `sizes`, sum(g * convolve(x)) = sum(x * this)."""
    if groups == 1:
        return _plain_transposed(g, kernel, strides, dilations, pads, sizes)
    kernels, (within, out), rank = tuple(kernel.shape[:-2]), kernel.shape[-2:], len(strides)
    if _is_depthwise(kernel):
        kernel = ops.reshape(kernel, (*kernels, groups, -1))
        return convolve_depthwise_transposed(g, kernel, strides, dilations, pads, sizes)
    turned = ops.swapaxes(ops.reshape(kernel, (*kernels, within, groups, out // groups)), -1, -3)
    turned = ops.flip(ops.reshape(turned, (*kernels, out // groups, groups * within)), tuple(range(rank)))
    g = spread_out(g, strides)
    return convolve(g, turned, (1,) * rank, dilations, _back_pads(g, kernels, dilations, pads, sizes), groups)


def convolve_depthwise(x, kernel, strides, dilations, pads):
    """Each channel convolved alone; `kernel` is (*kernel_size, channels, multiplier), with one or two spatial axes."""
    x = _padded(x, pads)
    if len(set(strides)) == 1 and (max(strides) == 1 or max(dilations) == 1):
        return ops.depthwise_conv(x, kernel, strides, "valid", "channels_last", dilations)
    y = ops.depthwise_conv(x, kernel, (1,) * len(strides), "valid", "channels_last", dilations)
    return y[(slice(None), *(slice(None, None, s) for s in strides))]


def convolve_depthwise_transposed(g, kernel, strides, dilations, pads, sizes):
    """The transposed operation of `convolve_depthwise`."""
    kernels, (channels, multiplier), rank = tuple(kernel.shape[:-2]), kernel.shape[-2:], len(strides)
    turned = ops.flip(ops.reshape(kernel, (*kernels, channels * multiplier, 1)), tuple(range(rank)))
    g = spread_out(g, strides)
    y = convolve_depthwise(g, turned, (1,) * rank, dilations, _back_pads(g, kernels, dilations, pads, sizes))
    return ops.sum(ops.reshape(y, (-1, *sizes, channels, multiplier)), -1) if multiplier > 1 else y


def _add_bias(y, weights):
    return y + weights[1] if len(weights) > 1 else y


def _conv(config, weights, x):
    strides, dilations, padding, groups = config
    pads = paddings(padding, x.shape[1:-1], weights[0].shape[:-2], strides, dilations)
    y = convolve(x, weights[0], strides, dilations, pads, groups)
    return _add_bias(y, weights), (pads, tuple(x.shape[1:-1]))


def _conv_back(config, weights, record, g):
    strides, dilations, _, groups = config
    pads, sizes = record
    return (convolve_transposed(g, weights[0], strides, dilations, pads, sizes, groups),)


rule("conv", _conv, _conv_back, "linear")


def transposed_geometry(config, sizes, kernels):
    """(padding before each axis, output sizes) of Keras' transposed convolution of maps of `sizes`."""
    strides, dilations, padding, output_padding = config
    pads, out = [], []
    for n, k, s, d, extra in zip(sizes, kernels, strides, dilations, output_padding, strict=True):
        reach = (k - 1) * d + 1
        if padding == "valid":
            before, more = 0, max(s - reach, 0) if extra is None else extra
            out.append((n - 1) * s + reach + more)
        else:
            total = s + reach - 2 if extra is None else reach + reach % 2 - 2 + extra
            before = reach - 1 - min((total + 1) // 2, reach - 1)
            out.append((n - 1) * s + 1 + total - (reach - 1))
        pads.append(before)
    return pads, tuple(out)


def _transposed_conv(config, weights, x):
    """Keras' Conv*DTranspose: the transposed operation of a convolution from its output's sizes to x's own sizes."""
    strides, dilations, _, _ = config
    before, out = transposed_geometry(config, x.shape[1:-1], weights[0].shape[:-2])
    y = convolve_transposed(x, weights[0], strides, dilations, tuple((b, 0) for b in before), out)
    return _add_bias(y, weights), (tuple(x.shape[1:-1]), before, out)


def _transposed_conv_back(config, weights, record, g):
    strides, dilations, _, _ = config
    kernels, pads = weights[0].shape[:-2], []
    for n, before, size, k, s, d in zip(*record, kernels, strides, dilations, strict=True):
        pads.append((before, (n - 1) * s + (k - 1) * d + 1 - size - before))
    return (_plain(g, weights[0], strides, dilations, tuple(pads)),)


rule("conv_transpose", _transposed_conv, _transposed_conv_back, "linear")


def _depthwise(config, weights, x):
    """`weights[0]` is (*kernel_size, channels, multiplier)."""
    strides, dilations, padding = config
    kernel = weights[0]
    pads = paddings(padding, x.shape[1:-1], kernel.shape[:-2], strides, dilations)
    y = convolve_depthwise(x, kernel, strides, dilations, pads)
    return _add_bias(y, weights), (pads, tuple(x.shape[1:-1]))


def _depthwise_back(config, weights, record, g):
    strides, dilations, _ = config
    return (convolve_depthwise_transposed(g, weights[0], strides, dilations, *record),)


rule("depthwise", _depthwise, _depthwise_back, "linear")


def _dense(config, weights, x):
    return _add_bias(ops.matmul(x, weights[0]), weights), None


def _dense_back(config, weights, record, g):
    if len(g.shape) == 2:  # the kernel as it lies in memory: twice as fast on a CPU as with a transposed copy
        return (ops.transpose(ops.matmul(weights[0], ops.transpose(g))),)
    return (ops.matmul(g, ops.transpose(weights[0])),)


rule("dense", _dense, _dense_back, "linear")
