"""Rules for what moves, repeats or gathers values: reshape, transpose, padding, concatenation, means, resizing."""

import math

import numpy as np
from keras import ops

from kerascnn import backends
from kerascnn.errors import UsageError
from kerascnn.network.rules.convolution import fit
from kerascnn.network.rules.elementwise import first_maximum
from kerascnn.network.rules.rule import automatic, rule


def _reshape(config, weights, x):
    """config is the shape without the batch axis; one -1 is allowed."""
    shape, have = list(config), math.prod(x.shape[1:])
    if -1 in shape:
        shape[shape.index(-1)] = have // -math.prod(shape)
    return ops.reshape(x, (-1, *shape))


def _split_channels(config, weights, x):
    """(N, ..., C) -> (N, ..., groups, C / groups)."""
    return ops.reshape(x, (-1, *x.shape[1:-1], config[0], x.shape[-1] // config[0]))


automatic("reshape", _reshape, "move")
automatic("split_channels", _split_channels, "move")
automatic("merge_channels", lambda c, w, x: ops.reshape(x, (-1, *x.shape[1:-2], x.shape[-2] * x.shape[-1])), "move")
automatic("expand", lambda c, w, x: ops.expand_dims(x, c[0]), "move")
automatic("squeeze", lambda c, w, x: ops.squeeze(x, c[0]), "move")
automatic("transpose", lambda c, w, x: ops.transpose(x, c), "move")


def _pad(config, weights, x):
    """config is (before, after) for every axis, batch first; negative numbers cut."""
    cut = tuple(slice(max(-b, 0), n - max(-a, 0) if i else None) for i, ((b, a), n) in _axes(config, x))
    x = x[cut]
    return ops.pad(x, [(max(b, 0), max(a, 0)) for b, a in config]), None


def _axes(config, x):
    return enumerate(zip(config, x.shape, strict=True))


def _pad_back(config, weights, record, g):
    return (_pad(tuple((-b, -a) for b, a in config), weights, g)[0],)


rule("pad", _pad, _pad_back, "move")


def _center_crop(config, weights, x):
    before = [int((have - want) / 2) for have, want in zip(x.shape[1:-1], config, strict=True)]
    return fit(x, before, config), (before, x.shape)


def _center_crop_back(config, weights, record, g):
    before, shape = record
    return (fit(g, [-b for b in before], shape[1:-1]),)


rule("center_crop", _center_crop, _center_crop_back, "move")


def _repeat(config, weights, x):
    """config is how often each spatial axis' values are repeated (nearest-neighbour upsampling)."""
    for axis, times in enumerate(config, start=1):
        if times > 1:
            x = ops.repeat(x, times, axis)
    return x


automatic("concatenate", lambda c, w, *xs: ops.concatenate(xs, c[0]), "move")
automatic("flip", lambda c, w, x: ops.flip(x, c), "move")
automatic("repeat", _repeat, "linear")
automatic("sum", lambda c, w, x: ops.sum(x, c[0], keepdims=c[1]), "linear")
automatic("mean", lambda c, w, x: ops.mean(x, c[0], keepdims=c[1]), "linear")


def _kept(shape, axes):
    return [-1 if i == 0 else 1 if i in axes else n for i, n in enumerate(shape)]


def _maximum_over(config, weights, x):
    """The maximum over some axes; at equal values the first in row-major order is chosen."""
    axes, keepdims = config
    rest = [i for i in range(len(x.shape)) if i not in axes]
    order = [*rest, *axes]
    moved = ops.transpose(x, order)
    flat = ops.reshape(moved, (-1, *(x.shape[i] for i in rest[1:]), math.prod(x.shape[i] for i in axes)))
    y, chosen = first_maximum(flat)
    chosen = ops.reshape(chosen, (-1, *moved.shape[1:]))
    chosen = ops.transpose(chosen, [order.index(i) for i in range(len(order))])
    shape = _kept(x.shape, axes) if keepdims else (-1, *(x.shape[i] for i in rest[1:]))
    return ops.reshape(y, shape), (chosen, x.shape)


def _maximum_over_back(config, weights, record, g):
    chosen, shape = record
    return (ops.reshape(g, _kept(shape, config[0])) * chosen,)


rule("max", _maximum_over, _maximum_over_back, "route")


def _along(axis, matrix, x):
    """x with the values along `axis` multiplied by matrix (new, old)."""
    moved = ops.swapaxes(x, axis, -1)
    return ops.swapaxes(ops.matmul(moved, ops.transpose(matrix)), axis, -1)


def resizing(size, old, interpolation, antialias, dtype):
    """The matrix (size, old) of any resizing."""
    if interpolation == "bilinear":
        return ops.cast(bilinear(size, old, antialias), dtype)
    return _resized_identity(size, old, interpolation, antialias, dtype)


def bilinear(size, old, antialias):
    """The matrix (size, old) of bilinear resizing in float64."""
    step = old / size
    centres = (np.arange(size) + 0.5) * step - 0.5
    reach = max(step, 1) if antialias else 1
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(old)) / reach)
    return weights / weights.sum(1, keepdims=True)


def _resized_identity(size, old, interpolation, antialias, dtype):
    """The matrix (size, old) of a resizing, as the backend does it."""
    exact = "float64" in str(dtype)
    if exact and interpolation not in ("nearest", "bilinear") and backends.backend() == "tensorflow":
        raise UsageError(
            f"TensorFlow resizes by {interpolation} in float32 only: type dtype='float32', or use the JAX backend."
        )
    identity = ops.reshape(ops.eye(old, dtype="float64" if exact else "float32"), (1, old, old, 1))
    resized = ops.image.resize(identity, (size, old), interpolation, antialias, data_format="channels_last")
    return ops.cast(ops.reshape(resized, (size, old)), dtype)


def _resample(config, weights, x):
    """Resizing and smooth upsampling: every spatial axis multiplied by a matrix (new, old), the resized identity."""
    sizes, times, interpolation, antialias = config
    for axis, old in enumerate(x.shape[1:-1]):
        size = sizes[axis] if sizes else old * times[axis]
        x = _along(axis + 1, resizing(size, old, interpolation, antialias, x.dtype), x)
    return x


automatic("resample", _resample, "linear")
automatic("matmul", lambda c, w, a, b: ops.matmul(a, b), "product")
