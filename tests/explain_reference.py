"""The reverse walk once more, in float64 NumPy with explicit loops and explicit switches.

It shares no code with the library and knows nothing of Keras: a network is a list of calls
(name, inputs, parameters), whose inputs are numbers of earlier calls; call 0 is the image. Slow and plain on purpose.
"""

import itertools
import math

import numpy as np


def windows(size, kernel, stride, dilation, padding):
    """For every output place along one axis, the input places it reads: (offset in the kernel, place) pairs."""
    reach = (kernel - 1) * dilation + 1
    if padding == "same":
        count = -(-size // stride)
        before = max((count - 1) * stride + reach - size, 0) // 2
    else:
        count, before = (size - reach) // stride + 1, 0
    read = []
    for place in range(count):
        reads = [(k, place * stride - before + k * dilation) for k in range(kernel)]
        read.append([(k, p) for k, p in reads if 0 <= p < size])
    return read


def pairs(x, p):
    """All (n, out row, out col, kernel row, kernel col, row, col) of a window operation."""
    rows = windows(x.shape[1], p["size"][0], p["stride"], p.get("dilation", 1), p["padding"])
    cols = windows(x.shape[2], p["size"][1], p["stride"], p.get("dilation", 1), p["padding"])
    return rows, cols


def conv(x, p):
    kernel, groups = p["kernel"], p.get("groups", 1)
    rows, cols = pairs(x, p)
    cin, cout = kernel.shape[2], kernel.shape[3] // groups
    y = np.zeros((len(x), len(rows), len(cols), kernel.shape[3]))
    for n, i, j, g in itertools.product(range(len(x)), range(len(rows)), range(len(cols)), range(groups)):
        for (a, r), (b, c) in itertools.product(rows[i], cols[j]):
            block = kernel[a, b, :, g * cout : (g + 1) * cout]
            y[n, i, j, g * cout : (g + 1) * cout] += x[n, r, c, g * cin : (g + 1) * cin] @ block
    return y + p["bias"]


def conv_back(g_out, x, p):
    kernel, groups = p["kernel"], p.get("groups", 1)
    rows, cols = pairs(x, p)
    cin, cout = kernel.shape[2], kernel.shape[3] // groups
    back = np.zeros_like(x)
    for n, i, j, g in itertools.product(range(len(x)), range(len(rows)), range(len(cols)), range(groups)):
        for (a, r), (b, c) in itertools.product(rows[i], cols[j]):
            block = kernel[a, b, :, g * cout : (g + 1) * cout]
            back[n, r, c, g * cin : (g + 1) * cin] += block @ g_out[n, i, j, g * cout : (g + 1) * cout]
    return back


def depthwise(x, p):
    kernel = p["kernel"]
    rows, cols = pairs(x, p)
    y = np.zeros((len(x), len(rows), len(cols), kernel.shape[2] * kernel.shape[3]))
    for n, i, j, c, m in itertools.product(*map(range, (len(x), len(rows), len(cols), *kernel.shape[2:]))):
        for (a, r), (b, q) in itertools.product(rows[i], cols[j]):
            y[n, i, j, c * kernel.shape[3] + m] += x[n, r, q, c] * kernel[a, b, c, m]
    return y + p["bias"]


def depthwise_back(g, x, p):
    kernel = p["kernel"]
    rows, cols = pairs(x, p)
    back = np.zeros_like(x)
    for n, i, j, c, m in itertools.product(*map(range, (len(x), len(rows), len(cols), *kernel.shape[2:]))):
        for (a, r), (b, q) in itertools.product(rows[i], cols[j]):
            back[n, r, q, c] += g[n, i, j, c * kernel.shape[3] + m] * kernel[a, b, c, m]
    return back


def transposed_places(x, p):
    """(n, row, col, kernel row, kernel col, out row, out col) of a "valid" transposed convolution."""
    kernel, s = p["kernel"], p["stride"]
    for n, r, c, a, b in itertools.product(*map(range, (*x.shape[:3], *kernel.shape[:2]))):
        yield n, r, c, a, b, r * s + a, c * s + b


def conv_transpose(x, p):
    kernel, s = p["kernel"], p["stride"]
    sizes = [(n - 1) * s + max(k, s) for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)]
    y = np.zeros((len(x), *sizes, kernel.shape[2]))
    for n, r, c, a, b, i, j in transposed_places(x, p):
        y[n, i, j] += kernel[a, b] @ x[n, r, c]
    return y + p["bias"]


def conv_transpose_back(g, x, p):
    back = np.zeros_like(x)
    for n, r, c, a, b, i, j in transposed_places(x, p):
        back[n, r, c] += p["kernel"][a, b].T @ g[n, i, j]
    return back


def max_pool(x, p):
    rows, cols = pairs(x, p)
    y = np.zeros((len(x), len(rows), len(cols), x.shape[3]))
    for n, i, j, c in itertools.product(*map(range, y.shape)):
        y[n, i, j, c] = max(x[n, r, q, c] for _, r in rows[i] for _, q in cols[j])
    return y


def max_pool_back(g, x, p):
    rows, cols = pairs(x, p)
    back = np.zeros_like(x)
    for n, i, j, c in itertools.product(*map(range, g.shape)):
        best, place = -math.inf, None
        for (_, r), (_, q) in itertools.product(rows[i], cols[j]):
            if x[n, r, q, c] > best:
                best, place = x[n, r, q, c], (r, q)
        back[n, place[0], place[1], c] += g[n, i, j, c]
    return back


def average_pool(x, p):
    rows, cols = pairs(x, p)
    y = np.zeros((len(x), len(rows), len(cols), x.shape[3]))
    for n, i, j, c in itertools.product(*map(range, y.shape)):
        values = [x[n, r, q, c] for _, r in rows[i] for _, q in cols[j]]
        y[n, i, j, c] = sum(values) / len(values)
    return y


def average_pool_back(g, x, p):
    rows, cols = pairs(x, p)
    back = np.zeros_like(x)
    for n, i, j, c in itertools.product(*map(range, g.shape)):
        for (_, r), (_, q) in itertools.product(rows[i], cols[j]):
            back[n, r, q, c] += g[n, i, j, c] / (len(rows[i]) * len(cols[j]))
    return back


def global_average(x, p):
    return np.array([[image[:, :, c].sum() / image[:, :, 0].size for c in range(x.shape[3])] for image in x])


def global_average_back(g, x, p):
    back = np.zeros_like(x)
    for n, r, q, c in itertools.product(*map(range, x.shape)):
        back[n, r, q, c] = g[n, c] / (x.shape[1] * x.shape[2])
    return back


def global_max_back(g, x, p):
    back = np.zeros_like(x)
    for n, c in itertools.product(range(len(x)), range(x.shape[3])):
        best, place = -math.inf, None
        for r, q in itertools.product(range(x.shape[1]), range(x.shape[2])):
            if x[n, r, q, c] > best:
                best, place = x[n, r, q, c], (r, q)
        back[n, place[0], place[1], c] = g[n, c]
    return back


def lrn(x, p):
    y = np.zeros_like(x)
    for n, r, q, c in itertools.product(*map(range, x.shape)):
        near = range(max(0, c - p["radius"]), min(x.shape[3], c + p["radius"] + 1))
        y[n, r, q, c] = x[n, r, q, c] / (p["k"] + p["alpha"] * sum(x[n, r, q, d] ** 2 for d in near)) ** p["beta"]
    return y


def lrn_back(g, x, p):
    back = np.zeros_like(x)
    for n, r, q, c in itertools.product(*map(range, x.shape)):
        near = range(max(0, c - p["radius"]), min(x.shape[3], c + p["radius"] + 1))
        total = p["k"] + p["alpha"] * sum(x[n, r, q, d] ** 2 for d in near)
        back[n, r, q, c] += g[n, r, q, c] * total ** -p["beta"]
        for d in near:
            slope = -p["beta"] * total ** (-p["beta"] - 1) * 2 * p["alpha"] * x[n, r, q, d]
            back[n, r, q, d] += g[n, r, q, c] * x[n, r, q, c] * slope
    return back


def layer_norm(x, p):
    y = np.zeros_like(x)
    for at in itertools.product(*map(range, x.shape[:-1])):
        v = x[at]
        y[at] = (v - v.mean()) / math.sqrt(v.var() + p["epsilon"]) * p["gamma"] + p["beta"]
    return y


def layer_norm_back(g, x, p):
    back = np.zeros_like(x)
    for at in itertools.product(*map(range, x.shape[:-1])):
        v, h = x[at], g[at] * p["gamma"]
        s, m = math.sqrt(v.var() + p["epsilon"]), v - v.mean()
        count = len(v)
        jacobian = (np.eye(count) - 1 / count) / s - np.outer(m, m) / (count * s**3)
        back[at] = jacobian.T @ h
    return back


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ERF = np.vectorize(math.erf)
ACTIVATIONS = {  # name: (value, derivative)
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.2 * x), lambda x: np.where(x > 0, 1, 0.2)),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), lambda x: np.exp(np.minimum(x, 0))),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) + x * sigmoid(x) * sigmoid(-x)),
    "gelu": (
        lambda x: x * (1 + ERF(x / math.sqrt(2))) / 2,
        lambda x: (1 + ERF(x / math.sqrt(2))) / 2 + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi),
    ),
}


def rectify_back(g, x, top, method):
    """The only place where the three methods differ."""
    open_ = (x > 0) & (x < top)
    if method == "saliency":
        return g * open_
    if method == "deconvnet":
        return np.maximum(g, 0)
    return np.maximum(g, 0) * open_


def concatenate_back(g, xs):
    ends = np.cumsum([x.shape[-1] for x in xs])[:-1]
    return np.split(g, ends, axis=-1)


def wide(g, x):
    """g summed over the axes along which x was repeated."""
    for axis in range(1, x.ndim):
        if x.shape[axis] == 1:
            g = g.sum(axis, keepdims=True)
    return g


def upsample_back(g, x, p):
    back = np.zeros_like(x)
    for n, r, q, c in itertools.product(*map(range, g.shape)):
        back[n, r // p["times"], q // p["times"], c] += g[n, r, q, c]
    return back


# name: (forward(p, *xs), backward(g, p, *xs) -> one per x); rectifiers are in `walk`
CALLS = {
    "conv": (lambda p, x: conv(x, p), lambda g, p, x: [conv_back(g, x, p)]),
    "depthwise": (lambda p, x: depthwise(x, p), lambda g, p, x: [depthwise_back(g, x, p)]),
    "conv_transpose": (lambda p, x: conv_transpose(x, p), lambda g, p, x: [conv_transpose_back(g, x, p)]),
    "max_pool": (lambda p, x: max_pool(x, p), lambda g, p, x: [max_pool_back(g, x, p)]),
    "average_pool": (lambda p, x: average_pool(x, p), lambda g, p, x: [average_pool_back(g, x, p)]),
    "global_average": (lambda p, x: global_average(x, p), lambda g, p, x: [global_average_back(g, x, p)]),
    "global_max": (lambda p, x: x.max((1, 2)), lambda g, p, x: [global_max_back(g, x, p)]),
    "lrn": (lambda p, x: lrn(x, p), lambda g, p, x: [lrn_back(g, x, p)]),
    "layer_norm": (lambda p, x: layer_norm(x, p), lambda g, p, x: [layer_norm_back(g, x, p)]),
    "batch_norm": (
        lambda p, x: (x - p["mean"]) / np.sqrt(p["variance"] + p["epsilon"]) * p["gamma"] + p["beta"],
        lambda g, p, x: [g * p["gamma"] / np.sqrt(p["variance"] + p["epsilon"])],
    ),
    "dense": (lambda p, x: x @ p["kernel"] + p["bias"], lambda g, p, x: [g @ p["kernel"].T]),
    "flatten": (lambda p, x: x.reshape(len(x), -1), lambda g, p, x: [g.reshape(x.shape)]),
    "dropout": (lambda p, x: x, lambda g, p, x: [g]),
    "rescaling": (lambda p, x: x * p["scale"] + p["offset"], lambda g, p, x: [g * p["scale"]]),
    "zero_padding": (
        lambda p, x: np.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0))),
        lambda g, p, x: [g[:, 1:, :-2]],
    ),
    "cropping": (lambda p, x: x[:, 1:, :-1], lambda g, p, x: [np.pad(g, ((0, 0), (1, 0), (0, 1), (0, 0)))]),
    "upsampling": (
        lambda p, x: x.repeat(p["times"], 1).repeat(p["times"], 2),
        lambda g, p, x: [upsample_back(g, x, p)],
    ),
    "permute": (lambda p, x: x.transpose(0, 2, 1, 3), lambda g, p, x: [g.transpose(0, 2, 1, 3)]),
    "add": (lambda p, a, b: a + b, lambda g, p, a, b: [g, g]),
    "subtract": (lambda p, a, b: a - b, lambda g, p, a, b: [g, -g]),
    "multiply": (lambda p, a, b: a * b, lambda g, p, a, b: [wide(g * b, a), wide(g * a, b)]),
    "maximum": (lambda p, a, b: np.maximum(a, b), lambda g, p, a, b: [g * (a >= b), g * (a < b)]),
    "concatenate": (lambda p, *xs: np.concatenate(xs, -1), lambda g, p, *xs: concatenate_back(g, xs)),
    "spread_mean": (
        lambda p, x: x.mean((1, 2), keepdims=True),
        lambda g, p, x: [np.broadcast_to(g, x.shape) / (x.shape[1] * x.shape[2])],
    ),
}


def walk(calls, images, unit, method):
    """The map (N, H, W, C) of one unit of the last call's output (N, units), in float64."""
    values = [np.asarray(images, "float64")]
    for name, inputs, p in calls:
        xs = [values[i] for i in inputs]
        if name in ("relu", "relu6"):
            values.append(np.clip(xs[0], 0, p["top"]))
        elif name in ACTIVATIONS:
            values.append(ACTIVATIONS[name][0](xs[0]))
        else:
            values.append(CALLS[name][0](p, *xs))
    signals = [np.zeros_like(v) for v in values]
    signals[-1][:, unit] = 1
    for number in range(len(calls), 0, -1):
        name, inputs, p = calls[number - 1]
        g, xs = signals[number], [values[i] for i in inputs]
        if name in ("relu", "relu6"):
            back = [rectify_back(g, xs[0], p["top"], method)]
        elif name in ACTIVATIONS:
            back = [g * ACTIVATIONS[name][1](xs[0])]
        else:
            back = CALLS[name][1](g, p, *xs)
        for i, b in zip(inputs, back, strict=True):
            signals[i] = signals[i] + b
    return signals[0]
