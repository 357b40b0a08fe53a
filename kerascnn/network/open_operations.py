"""How keras.ops operations in a functional graph (`ops.relu(x)`, `x + y`, `x[:, 2:]`) open into primitive steps.

Each function takes (builder, node, known, shapes), or of operations on a single tensor (builder, operation, x, shape),
and returns the number of the value that the operation computes.
"""

import numbers

import keras
import numpy as np

from kerascnn.network.graph import Ref
from kerascnn.network.steps import NoRuleError, filling

OPERATIONS = {}
opens_operation = filling(OPERATIONS)  # decorator: the function opens operations of these class names


def argument(node, position, name):
    """The argument at `position` or named `name`."""
    return node.args[position] if len(node.args) > position else node.kwargs[name]


def only_tensor(node, known, shapes):
    """(number, shape) of the only tensor among the arguments."""
    if len(node.inputs) != 1:
        raise NoRuleError(f"{type(node.operation).__name__} is supported for a single tensor only")
    return known[node.inputs[0]], shapes[node.inputs[0]]


def opens_unary(*names):
    """Decorator: the function (builder, operation, x, shape) -> value opens operations on a single tensor."""

    def add(function):
        @opens_operation(*names)
        def opening(b, node, known, shapes):
            return function(b, node.operation, *only_tensor(node, known, shapes))

        return function

    return add


def class_of(rule):
    """The class name of the operation that has a rule's name: "HardSilu" of "hard_silu"."""
    return "".join(word.capitalize() for word in rule.split("_"))


def _simple(rule, *attributes):
    @opens_unary(class_of(rule))
    def opening(b, o, x, shape):
        return b.step(rule, x, tuple(getattr(o, a) for a in attributes))


_PLAIN = """
    relu sigmoid tanh softplus softsign silu log_sigmoid hard_sigmoid hard_silu hard_tanh tanh_shrink selu mish exp
    expm1 log log1p sqrt rsqrt square abs sin cos erf reciprocal negative identity sparse_plus sparse_sigmoid
"""
for _rule in _PLAIN.split():
    _simple(_rule)
OPERATIONS["Absolute"] = OPERATIONS["Abs"]
_simple("hard_shrink", "threshold")
_simple("soft_shrink", "threshold")
_simple("sparsemax", "axis")
_simple("glu", "axis")
_simple("squareplus", "b")
_simple("elu", "alpha")
_simple("celu", "alpha")
_simple("gelu", "approximate")
_simple("softmax", "axis")
_simple("log_softmax", "axis")


@opens_unary("Clip")
def _clip(b, o, x, shape):
    if not all(isinstance(limit, numbers.Real) for limit in (o.x_min, o.x_max)):
        raise NoRuleError("limits that are not one number each are not supported")
    if o.x_min == 0:  # ReLU6 and its like
        return b.step("clipped_relu", x, (float(o.x_max), 0.0))
    return b.step("clip", x, (float(o.x_min), float(o.x_max)))


@opens_unary("Threshold")
def _threshold(b, o, x, shape):
    if o.default_value != 0:
        raise NoRuleError("a threshold with a value other than 0 below it is not supported")
    return b.step("relu", x) if o.threshold == 0 else b.step("clipped_relu", x, (None, float(o.threshold)))


@opens_unary("Cast")
def _cast(b, o, x, shape):
    if "float" in str(o.dtype):
        return b.step("identity", x)
    return b.step("piecewise", x, ("truth" if o.dtype == "bool" else "whole",))


@opens_unary("Relu6")
def _relu6(b, o, x, shape):
    return b.step("clipped_relu", x, (6.0, 0.0))


@opens_unary("LeakyRelu")
def leaky_relu(b, o, x, shape):
    """Opens the operation, and the layer, which has the same attribute."""
    return b.step("leaky_relu", x, (float(o.negative_slope), None, 0.0))


@opens_unary("ReLU")
def relu(b, o, x, shape):
    """Opens Keras' ReLU with its options, the operation or the layer, which has the same attributes."""
    slope, threshold = float(o.negative_slope or 0), float(o.threshold or 0)
    if slope:
        return b.step("leaky_relu", x, (slope, o.max_value, threshold))
    if o.max_value is None and not threshold:
        return b.step("relu", x)
    return b.step("clipped_relu", x, (o.max_value, threshold))


def _two(b, node, known, shapes):
    """The two operands: (number or None, constant or None, rank) each."""
    operands = []
    for position, name in enumerate(("x1", "x2")):
        value = argument(node, position, name)
        if isinstance(value, Ref):
            operands.append((known[value.id], None, len(shapes[value.id])))
        else:
            if isinstance(value, int | float):
                array = np.asarray(value, "float64")
            else:
                array = value if isinstance(value, keras.Variable) else keras.ops.convert_to_tensor(value)
            operands.append((None, array, len(array.shape)))
    (x1, c1, rank1), (x2, c2, rank2) = operands
    smallest = [rank for c, rank in ((c1, rank1), (c2, rank2)) if c is None]
    if max(rank1, rank2) > min(smallest):
        raise NoRuleError(f"{type(node.operation).__name__} of tensors of different ranks is not supported")
    if any(c is not None and rank == max(rank1, rank2) and c.shape[0] != 1 for c, rank in ((c1, rank1), (c2, rank2))):
        raise NoRuleError(
            f"{type(node.operation).__name__} with a constant that differs from image to image is not supported",
            mixes_images=True,
        )
    return x1, c1, x2, c2


def _arithmetic(names, both, right, left, turn=None):
    """Operations of two tensors (rule `both`), or of a tensor and a constant on its right or left; for a constant on
    the left the tensor is first turned, by the rule `turn`."""

    @opens_operation(*names)
    def opening(b, node, known, shapes):
        x1, c1, x2, c2 = _two(b, node, known, shapes)
        if c1 is None and c2 is None:
            return b.step(both, (x1, x2))
        if x1 is None:
            return b.step(left, b.step(turn, x2) if turn else x2, (), [c1])
        return b.step(right, x1, (), [c2])


_arithmetic(["Add"], "add", "plus", "plus")
_arithmetic(["Subtract"], "subtract", "minus", "plus", "negative")
_arithmetic(["Multiply"], "multiply", "times", "times")
_arithmetic(["Divide", "TrueDivide"], "divide", "over", "times", "reciprocal")


@opens_operation("Maximum", "Minimum")
def _extreme(b, node, known, shapes):
    x1, c1, x2, c2 = _two(b, node, known, shapes)
    if c1 is None and c2 is None:
        return b.step(type(node.operation).__name__.lower(), (x1, x2))
    limit = keras.ops.convert_to_numpy(c1 if x1 is None else c2)
    if limit.ndim:
        raise NoRuleError("a limit that is not one number is not supported")
    low = type(node.operation).__name__ == "Maximum"
    if low and limit == 0:
        return b.step("relu", x2 if x1 is None else x1)
    config = (float(limit), np.inf) if low else (-np.inf, float(limit))
    return b.step("clip", x2 if x1 is None else x1, config)


@opens_operation("Power")
def _power(b, node, known, shapes):
    exponent = argument(node, 1, "x2")
    if not isinstance(exponent, int | float):
        raise NoRuleError("a power whose exponent is not one number is not supported")
    return b.step("power", only_tensor(node, known, shapes)[0], (exponent,))


@opens_operation("Matmul")
def _matmul(b, node, known, shapes):
    x1, x2 = argument(node, 0, "x1"), argument(node, 1, "x2")
    if isinstance(x1, Ref) and isinstance(x2, Ref):
        if len(shapes[x1.id]) != len(shapes[x2.id]):
            raise NoRuleError("a matrix product of tensors of different ranks is not supported")
        return b.step("matmul", (known[x1.id], known[x2.id]))
    if not isinstance(x1, Ref) or len(x2.shape) != 2:
        raise NoRuleError("a matrix product is supported for a constant matrix on the right only")
    return b.step("dense", known[x1.id], (), [x2])


def _reduction(rule, *names):
    @opens_unary(*names)
    def opening(b, o, x, shape):
        check_no_initial(o)
        return b.step(rule, x, (axes_of(o, shape), bool(o.keepdims)))


def check_no_initial(o):
    """Raise a NoRuleError for a largest or smallest value that counts a value which is not in the tensor."""
    if getattr(o, "initial", None) is not None:
        raise NoRuleError(f"{type(o).__name__} with an initial value is not supported")


def axes_of(o, shape):
    """The axes that an operation reduces, sorted, counted from 0; never the batch axis."""
    axes = () if o.axis is None else from_zero(o.axis, len(shape))
    if not axes or 0 in axes:
        raise NoRuleError(f"{type(o).__name__} over the batch is not supported", mixes_images=True)
    return axes


def from_zero(axes, rank):
    """One axis or several of a tensor, counted from 0, sorted."""
    return tuple(sorted(axis % rank for axis in np.atleast_1d(axes).tolist()))


_reduction("mean", "Mean")
_reduction("sum", "Sum")
_reduction("max", "Max", "Amax")
_reduction("logsumexp", "Logsumexp")


@opens_operation("Reshape")
def _reshape(b, node, known, shapes):
    x, have = only_tensor(node, known, shapes)
    out = shapes[node.outputs[0]]
    shape = tuple(-1 if n is None else n for n in out[1:])
    if have[0] != out[0] or shape.count(-1) > 1:
        raise NoRuleError(
            "reshaping is supported where it keeps the batch axis and leaves at most one size open",
            mixes_images=True,
        )
    return b.step("reshape", x, shape)


@opens_unary("ExpandDims")
def _expand(b, o, x, shape):
    axes = from_zero(o.axis, len(shape) + 1)
    if 0 in axes or len(axes) > 1:
        raise NoRuleError("expanding before the batch axis is not supported", mixes_images=True)
    return b.step("expand", x, (axes[0],))


@opens_unary("Squeeze")
def _squeeze(b, o, x, shape):
    axes = [i for i, n in enumerate(shape) if n == 1] if o.axis is None else np.atleast_1d(o.axis).tolist()
    return b.step("squeeze", x, (tuple(a % len(shape) for a in axes),))


@opens_unary("Transpose", "Swapaxes", "Moveaxis")
def _transpose(b, o, x, shape):
    order, labels = np.arange(len(shape)), np.empty([1] * len(shape))
    if type(o).__name__ == "Transpose":
        axes = tuple(int(a) % len(shape) for a in (order[::-1] if o.axes is None else o.axes))
    elif type(o).__name__ == "Swapaxes":
        order[[o.axis1, o.axis2]] = order[[o.axis2, o.axis1]]
        axes = tuple(int(a) for a in order)
    else:
        strides = np.moveaxis(np.broadcast_to(labels, order + 2), o.source, o.destination).shape
        axes = tuple(int(n) - 2 for n in strides)
    if axes[0] != 0:
        raise NoRuleError("transposing the batch axis is not supported", mixes_images=True)
    return b.step("transpose", x, axes)


@opens_operation("Concatenate")
def _concatenate(b, node, known, shapes):
    axis = node.operation.axis % len(shapes[node.outputs[0]])
    if axis == 0 or any(not isinstance(x, Ref) for x in keras.tree.flatten(argument(node, 0, "xs"))):
        raise NoRuleError("concatenating over the batch, or with constants, is not supported", mixes_images=True)
    return b.step("concatenate", [known[t] for t in node.inputs], (axis,))


@opens_unary("Flip")
def _flip(b, o, x, shape):
    return b.step("flip", x, axes_of(o, shape))


@opens_operation("Pad")
def _pad(b, node, known, shapes):
    x, shape = only_tensor(node, known, shapes)
    o, fill = node.operation, node.kwargs.get("constant_values")
    widths = np.broadcast_to(np.asarray(o.pad_width), (len(shape), 2)).tolist()
    if o.mode != "constant" or (fill not in (None, 0)) or widths[0] != [0, 0]:
        raise NoRuleError("padding is supported for zeros around the image only")
    return b.step("pad", x, tuple(map(tuple, widths)))


@opens_operation("GetItem")
def _get_item(b, node, known, shapes):
    """Slices, whole numbers, None and Ellipsis."""
    x, shape = only_tensor(node, known, shapes)
    key = argument(node, 1, "key")
    key = list(key) if isinstance(key, list | tuple) else [key]
    if any(not (k is None or k is Ellipsis or isinstance(k, int | slice)) for k in key):
        raise NoRuleError("indexing is supported for slices and whole numbers only")
    spread = len(shape) - sum(k is not None and k is not Ellipsis for k in key)
    place = next((i for i, k in enumerate(key) if k is Ellipsis), len(key))
    key[place : place + 1] = [slice(None)] * spread
    widths, steps, axis = [], {}, 0
    for k in key:
        if k is None:
            continue
        size, axis = shape[axis], axis + 1
        if k == slice(None):
            widths.append((0, 0))
            continue
        if axis == 1:
            raise NoRuleError("indexing the batch axis is not supported", mixes_images=True)
        if size is None:
            raise NoRuleError("indexing is supported for axes of fixed size only")
        first, last, step = (k if isinstance(k, slice) else slice(k % size, k % size + 1)).indices(size)
        if step == 1:
            widths.append((-first, -(size - max(first, last))))
        else:
            widths.append((0, 0))
            steps[axis - 1] = tuple(range(first, last, step))
    x = b.step("pad", x, tuple(widths))
    for place, taken in steps.items():
        x = b.step("take", x, (place, taken))
    if all(isinstance(k, slice) for k in key):
        return x
    return reshaped(b, x, shapes[node.outputs[0]])


def reshaped(b, x, shape):
    """A value in the shape that an operation gives it, (N, ...), with one open size at most."""
    wanted = tuple(-1 if n is None else n for n in shape[1:])
    if wanted.count(-1) > 1:
        raise NoRuleError("adding or dropping an axis is supported for images of fixed size only")
    return b.step("reshape", x, wanted)


def each_axis(value, rank):
    """A number for every spatial axis, from one number or several."""
    return tuple(value) if isinstance(value, list | tuple) else (value,) * rank
