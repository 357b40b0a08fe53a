"""Rules for functions of each value alone, for sums and products of branches, and for softmax."""

import math

import numpy as np
from keras import activations, ops

from kerascnn.network.rules.rule import automatic, rule


def _where(condition, x):
    return ops.where(condition, x, 0.0)


def _relu(config, weights, x):
    y = ops.relu(x)
    return y, y


def _relu_back(config, weights, y, g):
    return (_where(y > 0, g),)


rule("relu", _relu, _relu_back, "pass")


def _clipped_relu(config, weights, x):
    """x above `threshold`, at most `maximum`, else 0: ReLU6, hard limits, thresholds."""
    maximum, threshold = config
    y = _where(x > threshold, x)
    if maximum is not None:
        y = ops.minimum(y, maximum)
    return y, x


def _clipped_relu_back(config, weights, x, g):
    return (_where(_inside(config, x), g),)


def _inside(config, x):
    maximum, threshold = config
    return x > threshold if maximum is None else ops.logical_and(x > threshold, x < maximum)


rule("clipped_relu", _clipped_relu, _clipped_relu_back, "pass")


def _relu_deconvnet(config, weights, record, g):
    return (ops.relu(g),)


def _relu_guided(config, weights, y, g):
    return (_where(y > 0, ops.relu(g)),)


def _clipped_relu_guided(config, weights, x, g):
    return (_where(_inside(config, x), ops.relu(g)),)


# What a rectifier does to a signal that walks back; elsewhere the methods are all the plain gradient.
RECTIFIERS = {
    "gradient": {},
    "deconvnet": {"relu": _relu_deconvnet, "clipped_relu": _relu_deconvnet},
    "guided_backprop": {"relu": _relu_guided, "clipped_relu": _clipped_relu_guided},
}


def _leaky(config, weights, x):
    """`slope` times x below `threshold`, x above it, at most `maximum`."""
    slope, maximum, threshold = config
    y = ops.where(x > threshold, x, slope * (x - threshold))
    return y if maximum is None else ops.minimum(y, maximum), x


def _leaky_back(config, weights, x, g):
    slope, maximum, threshold = config
    back = ops.where(x > threshold, g, slope * g)
    return (back if maximum is None else _where(x < maximum, back),)


rule("leaky_relu", _leaky, _leaky_back, "pass")


def _function(name, function, derivative):
    """A rule for y = function(x, *config) with dy/dx = derivative(x, y, *config)."""

    def forward(config, weights, x):
        y = function(x, *config)
        return y, (x, y)

    def backward(config, weights, record, g):
        return (g * derivative(*record, *config),)

    rule(name, forward, backward, "pass", linear=False)


def _smooth(name, function):
    """A rule for y = function(x, *config)."""
    automatic(name, lambda config, weights, x: function(x, *config), "pass", linear=False)


def _like(value, x):
    return ops.full_like(x, value)


def _step(condition, x, high=1.0, low=0.0):
    return ops.where(condition, _like(high, x), _like(low, x))


def _gelu(x, approximate):
    if approximate:
        return 0.5 * x * (1 + ops.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + ops.erf(x / math.sqrt(2)))


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def _elu_slope(x, y, alpha):
    return ops.where(x > 0, _like(1.0, x), alpha * ops.exp(ops.minimum(x, 0)))


def _elu(x, alpha):
    return ops.where(x > 0, x, alpha * (ops.exp(ops.minimum(x, 0)) - 1))


_function("elu", _elu, _elu_slope)
_function("selu", activations.selu, lambda x, y: _SELU_SCALE * _elu_slope(x, y, _SELU_ALPHA))
_function("celu", lambda x, a: _elu(x / a, a), lambda x, y, a: _elu_slope(x / a, y, 1.0))
_smooth("silu", lambda x: x * ops.sigmoid(x))
_smooth("gelu", _gelu)
_smooth("mish", lambda x: x * ops.tanh(ops.softplus(x)))
_smooth("tanh", ops.tanh)
_smooth("sigmoid", ops.sigmoid)
_smooth("softplus", ops.softplus)
_smooth("softsign", ops.softsign)
_smooth("log_sigmoid", lambda x: -ops.softplus(-x))
_function("tanh_shrink", lambda x: x - ops.tanh(x), lambda x, y: ops.square(x - y))
_function("hard_sigmoid", lambda x: ops.clip(x / 6 + 0.5, 0, 1), lambda x, y: _step(ops.abs(x) < 3, x, 1 / 6))
_function(
    "hard_silu",
    lambda x: x * ops.clip(x / 6 + 0.5, 0, 1),
    lambda x, y: ops.where(ops.abs(x) < 3, x / 3 + 0.5, _step(x >= 3, x)),
)
_function("hard_tanh", lambda x: ops.clip(x, -1, 1), lambda x, y: _step(ops.abs(x) < 1, x))
_function("clip", ops.clip, lambda x, y, low, high: _step(ops.logical_and(x > low, x < high), x))
_smooth("squareplus", lambda x, b: (x + ops.sqrt(x * x + b)) / 2)
_smooth("exp", ops.exp)
_smooth("expm1", ops.expm1)
_smooth("log", ops.log)
_smooth("log1p", ops.log1p)
_smooth("sqrt", ops.sqrt)
_smooth("rsqrt", ops.rsqrt)
_smooth("square", ops.square)
_function("abs", ops.abs, lambda x, y: ops.sign(x))  # JAX has 1 at 0
_smooth("sin", ops.sin)
_smooth("cos", ops.cos)
_smooth("erf", ops.erf)
_smooth("reciprocal", ops.reciprocal)
_smooth("power", lambda x, p: x**p)

_smooth("hard_shrink", lambda x, t: _where(ops.abs(x) > t, x))  # between its jumps
_function("soft_shrink", lambda x, t: x - ops.clip(x, -t, t), lambda x, y, t: _step(ops.abs(x) > t, x))
_function("sparse_sigmoid", lambda x: ops.clip((x + 1) / 2, 0, 1), lambda x, y: _step(ops.abs(x) < 1, x, 0.5))
_function(
    "sparse_plus",
    lambda x: ops.where(x >= 1, x, ops.square(ops.maximum(x + 1, 0)) / 4),
    lambda x, y: ops.clip((x + 1) / 2, 0, 1),
)

automatic("negative", lambda c, w, x: -x, "linear")
rule("identity", lambda c, w, x: (x, None), lambda c, w, r, g: (g,), "move")


def unbroadcast(g, shape):
    """g summed over the axes along which an operand of `shape` was repeated (the batch axis, 0, never is)."""
    extra = len(g.shape) - len(shape)
    if extra:
        g = ops.sum(g, tuple(range(1, 1 + extra)))
    axes = tuple(i for i, n in enumerate(shape) if i and n == 1 and g.shape[i] != 1)
    return ops.sum(g, axes, keepdims=True) if axes else g


automatic("add", lambda c, w, a, b: a + b, "linear")
automatic("subtract", lambda c, w, a, b: a - b, "linear")
automatic("multiply", lambda c, w, a, b: a * b, "product")
automatic("normalise", lambda c, w, a, b: a * b, "gate")
automatic("divide", lambda c, w, a, b: a / b, "gate")


def _choice(name, function, first):
    """A rule for the larger or smaller of two values; of equal ones the first, as max-pooling chooses."""

    def forward(config, weights, a, b):
        return function(a, b), (a, b)

    def backward(config, weights, record, g):
        a, b = record
        chosen = first(a, b)
        return unbroadcast(_where(chosen, g), a.shape), unbroadcast(_where(ops.logical_not(chosen), g), b.shape)

    rule(name, forward, backward, "route")


_choice("maximum", ops.maximum, ops.greater_equal)
_choice("minimum", ops.minimum, ops.less_equal)


# Weights that broadcast to x: Rescaling, Normalization, constants
automatic("scale", lambda c, weights, x: x * weights[0] + weights[1], "linear")


def _batch_norm(config, weights, x):
    """Inference-mode batch normalisation: weights are gamma (or 1), beta (or 0), moving mean, moving variance."""
    axis, epsilon = config
    gamma, beta, mean, variance = weights
    shape = [1] * len(x.shape)
    shape[axis] = -1
    scale = ops.reshape(gamma * ops.rsqrt(variance + epsilon), shape)
    return x * scale + (ops.reshape(beta, shape) - ops.reshape(mean, shape) * scale)


automatic("batch_norm", _batch_norm, "linear")
automatic("softmax", lambda c, w, x: ops.softmax(x, axis=c[0]), "none")
automatic("log_softmax", lambda c, w, x: ops.log_softmax(x, axis=c[0]), "none")
# As Keras computes it, which for some inputs is no point of the simplex: so is its derivative Keras' own
automatic("sparsemax", lambda c, w, x: ops.sparsemax(x, c[0]), "none")


def _glu(config, weights, x):
    """The first half of the values along an axis, times the sigmoid of the second."""
    value, gate = ops.split(x, 2, config[0])
    return value * ops.sigmoid(gate)


automatic("glu", _glu, "none")


def first_maximum(x):
    """(maxima over the last axis with that axis kept, 1 at the first place that holds it and 0 elsewhere)."""
    y = ops.max(x, -1, keepdims=True)
    codes = ops.cast(np.arange(x.shape[-1], 0, -1), "int32")
    hits = ops.where(ops.equal(x, y), codes, ops.zeros_like(codes))
    return y, ops.cast(ops.equal(hits, ops.max(hits, -1, keepdims=True)), x.dtype)


def _constant(name, function):
    """A rule for one value and one constant, which is first given the shape in config, if there is one."""

    def value(config, weights, x):
        return function(x, ops.reshape(weights[0], config) if config else weights[0])

    automatic(name, value, "linear")


_constant("plus", ops.add)
_constant("minus", ops.subtract)
_constant("times", ops.multiply)
_constant("over", ops.divide)


def _prelu(config, weights, x):
    return ops.where(x > 0, x, weights[0] * x), x


def _prelu_back(config, weights, x, g):
    return (ops.where(x > 0, g, weights[0] * g),)


rule("prelu", _prelu, _prelu_back, "pass")


def _lrn(config, weights, x):
    """kerascnn.layers.LocalResponseNormalization: x / (k + alpha * sum of neighbours squared) ** beta."""
    size, alpha, beta, k = config
    channel = np.arange(x.shape[-1])
    band = ops.cast(abs(channel[:, None] - channel[None, :]) <= size // 2, x.dtype)
    return x * ops.exp(-beta * ops.log(k + alpha * ops.matmul(ops.square(x), band)))


automatic("lrn", _lrn, "gate")
