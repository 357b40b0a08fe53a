"""Rules for what chooses or picks values: conditions, where, take, adaptive pooling; and products of einsum."""

import math

import numpy as np
from keras import ops

from kerascnn.network.rules.elementwise import first_maximum, unbroadcast
from kerascnn.network.rules.rule import automatic, rule
from kerascnn.network.rules.shaping import _along


def _true(x):
    return ops.not_equal(x, 0)


# Functions whose slope is 0 wherever they have one; truth values are 1 and 0.
PIECEWISE = {
    "greater": ops.greater,
    "greater_equal": ops.greater_equal,
    "less": ops.less,
    "less_equal": ops.less_equal,
    "equal": ops.equal,
    "not_equal": ops.not_equal,
    "logical_and": lambda a, b: ops.logical_and(_true(a), _true(b)),
    "logical_or": lambda a, b: ops.logical_or(_true(a), _true(b)),
    "logical_not": lambda x: ops.equal(x, 0),
    "truth": _true,
    "whole": lambda x: ops.cast(x, "int32"),
    "sign": ops.sign,
    "floor": ops.floor,
    "ceil": ops.ceil,
    "round": ops.round,
    "stop_gradient": lambda x: x,
    "any": lambda x, axes, keepdims: ops.any(_true(x), axes, keepdims),
    "all": lambda x, axes, keepdims: ops.all(_true(x), axes, keepdims),
}


def _piecewise(config, weights, *xs):
    """config is a name in PIECEWISE and what the function takes after the values; truth has the values' dtype."""
    name, *arguments = config
    return ops.cast(PIECEWISE[name](*xs, *arguments), xs[0].dtype), len(xs)


rule("piecewise", _piecewise, lambda config, weights, count, g: (None,) * count, "constant", linear=True)


def _choose(config, weights, condition, a, b):
    return ops.where(_true(condition), a, b), (condition, a, b)


def _choose_back(config, weights, record, g):
    condition, a, b = record
    chosen = _true(condition)
    zeros = ops.zeros_like(g)
    parts = (a, ops.where(chosen, g, zeros)), (b, ops.where(chosen, zeros, g))
    # Numbers of another rank are constants: nobody asks for their share
    return None, *(unbroadcast(part, x.shape) if len(x.shape) == len(g.shape) else None for x, part in parts)


rule("where", _choose, _choose_back, "route")


def _take(config, weights, x):
    """config is (axis, numbers along it)."""
    return ops.take(x, np.asarray(config[1], "int32"), config[0])


def _einsum(config, weights, *operands):
    """config is the letters of the first operand, of the second, and of the result."""
    left, right, out = config
    return ops.einsum(f"{left},{right}->{out}", *operands, *weights)


automatic("take", _take, "move")
automatic("logsumexp", lambda c, w, x: ops.logsumexp(x, c[0], keepdims=c[1]), "none")
automatic("einsum", _einsum, "product")
automatic("einsum_weight", _einsum, "linear")


# (N, time, ...) -> (N * time, ...): each step an image of its own
automatic("fold_time", lambda c, w, x: ops.reshape(x, (-1, *x.shape[2:])), "move")


def _unfold_time(config, weights, x, like):
    """The first value's steps gathered again; the second is (N, time, ...) as before `fold_time`."""
    return ops.reshape(x, (-1, like.shape[1], *x.shape[1:])), tuple(x.shape)


rule("unfold_time", _unfold_time, lambda config, weights, shape, g: (ops.reshape(g, (-1, *shape[1:])), None), "move")


def adaptive_bins(size, count):
    """(first, past the last) place of every bin of adaptive pooling; bins may overlap."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _adaptive_average(config, weights, x):
    """config is the sizes that the spatial axes get."""
    for axis, count in enumerate(config, start=1):
        matrix = np.zeros((count, x.shape[axis]))
        for i, (first, end) in enumerate(adaptive_bins(x.shape[axis], count)):
            matrix[i, first:end] = 1 / (end - first)
        x = _along(axis, ops.cast(matrix, x.dtype), x)
    return x


automatic("adaptive_average", _adaptive_average, "linear")


def _adaptive_max(config, weights, x):
    """Axis by axis, the last first, so that of equal values the first in row-major order is chosen."""
    record = []
    for axis in range(len(config), 0, -1):
        size, bins = x.shape[axis], adaptive_bins(x.shape[axis], config[axis - 1])
        longest = max(end - first for first, end in bins)
        places = np.array([[min(first + k, size - 1) for k in range(longest)] for first, _ in bins])
        inside = np.array([[first + k < end for k in range(longest)] for first, end in bins])
        moved = ops.swapaxes(x, axis, -1)
        rest = tuple(moved.shape[1:-1])
        values = ops.reshape(ops.take(moved, places.ravel().astype("int32"), -1), (-1, *rest, *places.shape))
        y, chosen = first_maximum(ops.where(inside, values, ops.full_like(values, -math.inf)))
        back = np.zeros((places.size, size), "float32")
        back[np.arange(places.size), places.ravel()] = 1
        record.append((axis, chosen, ops.cast(back, x.dtype)))
        x = ops.swapaxes(ops.squeeze(y, -1), axis, -1)
    return x, record


def _adaptive_max_back(config, weights, record, g):
    for axis, chosen, back in reversed(record):
        parts = ops.expand_dims(ops.swapaxes(g, axis, -1), -1) * chosen
        flat = ops.reshape(parts, (-1, *parts.shape[1:-2], parts.shape[-2] * parts.shape[-1]))
        g = ops.swapaxes(ops.matmul(flat, back), axis, -1)
    return (g,)


rule("adaptive_max", _adaptive_max, _adaptive_max_back, "route")
