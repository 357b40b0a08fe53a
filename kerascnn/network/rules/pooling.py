"""Rules for pooling. Max-pooling keeps its switches: which value of each window won.

A switch is a code, pool size - index in row-major order, so that the largest code among the values equal to the maximum
is the first in row-major order: the one tie rule, on every backend. Where windows overlap, contributions add.
"""

import itertools
import math

import numpy as np
from keras import ops

from kerascnn.backends import fused
from kerascnn.network.rules.convolution import fit, paddings
from kerascnn.network.rules.rule import automatic, rule


def _geometry(config, x):
    """(pads, output sizes) of a pooling; config is (pool, strides, padding)."""
    pool, strides, padding = config
    sizes = x.shape[1:-1]
    pads = paddings(padding, sizes, pool, strides, (1,) * len(pool))
    out = []
    for n, (before, after), p, s in zip(sizes, pads, pool, strides, strict=True):
        out.append((n + before + after - p) // s + 1)
    return pads, tuple(out)


@fused
def find_switches(config, x):
    """(maxima, codes of the switches) of a max-pooling; config is (pool, strides, padding)."""
    pool, strides, _ = config
    pads, out = _geometry(config, x)
    x = fit(x, [-b for b, _ in pads], [n + b + a for n, (b, a) in zip(x.shape[1:-1], pads, strict=True)], -math.inf)
    total, y, best = math.prod(pool), None, None
    for index, place in enumerate(itertools.product(*(range(p) for p in pool))):
        reach = (slice(i, i + (o - 1) * s + 1, s) for i, o, s in zip(place, out, strides, strict=True))
        values = x[(slice(None), *reach)]
        if y is None:
            y, best = values, ops.full_like(values, total)
        else:
            larger = values > y
            y, best = ops.where(larger, values, y), ops.where(larger, float(total - index), best)
    return y, best


def unpool(config, g, best, sizes, rectify=False):
    """Each value of g at the place its switch names, zero elsewhere; overlapping contributions add.

    Args:
        config: (pool, strides, padding) of the pooling.
        g: (N, *out, C).
        best: the switches' codes, shaped like g.
        sizes: spatial sizes of the pooling's input.
        rectify: True sets what is negative in the end to zero.
    """
    return _unpool((*config, tuple(sizes), rectify), g, best)


@fused
def _unpool(config, g, best):
    """Place B * stride + r of the input gets, over the b in reach, what window B - b gave its place b * stride + r."""
    pool, strides, padding, sizes, rectify = config
    pads = paddings(padding, sizes, pool, strides, (1,) * len(pool))
    reach = [math.ceil(p / s) for p, s in zip(pool, strides, strict=True)]
    blocks = [n + r - 1 for n, r in zip(g.shape[1:-1], reach, strict=True)]
    around = [(0, 0), *((r - 1, r - 1) for r in reach), (0, 0)]
    if max(reach) > 1:
        g, best = ops.pad(g, around), ops.pad(best, around)
    total, planes = math.prod(pool), {}
    for place in np.ndindex(*pool):
        first = [r - 1 - i // s for i, r, s in zip(place, reach, strides, strict=True)]
        window = (slice(None), *(slice(f, f + n) for f, n in zip(first, blocks, strict=True)))
        part = ops.where(ops.equal(best[window], total - np.ravel_multi_index(place, pool)), g[window], 0.0)
        key = tuple(i % s for i, s in zip(place, strides, strict=True))
        planes[key] = planes[key] + part if key in planes else part
    x = _woven(planes, strides, ops.zeros_like(part))
    x = ops.relu(x) if rectify else x
    return fit(x, [before for before, _ in pads], sizes)


def _woven(planes, strides, zeros, key=()):
    """The map whose every stride-th value, beginning at r, is `planes[r]`, or zero where there is none."""
    axis = len(key)
    if axis == len(strides):
        return planes.get(key, zeros)
    parts = ops.stack([_woven(planes, strides, zeros, (*key, r)) for r in range(strides[axis])], axis + 2)
    shape = list(parts.shape)
    shape[0], shape[axis + 1 : axis + 3] = -1, [shape[axis + 1] * shape[axis + 2]]
    return ops.reshape(parts, shape)


def switch_positions(config, x):
    """(N, *out, C, axes): where in x each window found its maximum."""
    pool, strides, _ = config
    pads, _ = _geometry(config, x)
    best = find_switches(config, ops.convert_to_tensor(x))[1]
    inside = np.stack(np.unravel_index(math.prod(pool) - ops.convert_to_numpy(best).astype("int64"), pool), -1)
    starts = [np.arange(o) * s - b for o, s, (b, _) in zip(best.shape[1:-1], strides, pads, strict=True)]
    return inside + np.stack(np.meshgrid(*starts, indexing="ij"), -1)[None, ..., None, :]


def _max_pool(config, weights, x):
    y, best = find_switches(config, x)
    return y, (best, tuple(x.shape[1:-1]))


def _max_pool_back(config, weights, record, g):
    best, sizes = record
    return (unpool(config, g, best, sizes),)


rule("max_pool", _max_pool, _max_pool_back, "route")


def _counts(pads, out, pool, strides, sizes):
    """How many values each window holds, (*out, 1): padding does not count."""
    counts = np.ones(())
    for n, (before, _), p, s, o in zip(sizes, pads, pool, strides, out, strict=True):
        first = np.arange(o) * s - before
        counts = np.multiply.outer(counts, np.minimum(first + p, n) - np.maximum(first, 0))
    return counts[..., None]


def _means(x, pool, strides):
    """The means over windows without padding; over three axes in two poolings: TensorFlow has none in float64."""
    if len(pool) < 3:
        return ops.average_pool(x, pool, strides, "valid", "channels_last")
    depth, *plane, channels = x.shape[1:]
    y = _means(ops.reshape(x, (-1, *plane, channels)), pool[1:], strides[1:])
    plane = y.shape[1:-1]
    y = _means(ops.reshape(y, (-1, depth, math.prod(plane), channels)), (pool[0], 1), (strides[0], 1))
    return ops.reshape(y, (-1, y.shape[1], *plane, channels))


def _average_pool(config, weights, x):
    pool, strides, _ = config
    sizes = tuple(x.shape[1:-1])
    pads, out = _geometry(config, x)
    counts = _counts(pads, out, pool, strides, sizes)
    padded = fit(x, [-b for b, _ in pads], [n + b + a for n, (b, a) in zip(sizes, pads, strict=True)])
    y = _means(padded, pool, strides)
    if counts.min() < math.prod(pool):
        y = y * ops.cast(math.prod(pool) / counts, x.dtype)
    return y


automatic("average_pool", _average_pool, "linear")
