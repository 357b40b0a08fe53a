"""How each Keras layer opens into primitive steps.

One function per kind of layer, found by the layer's class. A subclass with its own computation (a new `call`,
`convolution_op` or `transform_images`) is not treated like its parent: its `call` in inference is traced into keras.ops
operations instead. So are custom layers, Lambda layers and activation functions. A layer that cannot be traced has no
rule, and the result says so.
"""

import functools

import keras

from kerascnn.network import open_arrays  # noqa: F401  it fills OPERATIONS
from kerascnn.network.activation_names import activation_rule
from kerascnn.network.graph import Node, Ref, flatten, traced
from kerascnn.network.open_operations import OPERATIONS
from kerascnn.network.steps import NoRuleError, filling

_OPENINGS, _MASKED = {}, {}
# Decorator: the function (builder, layer, x, shape) -> value opens layers of these classes. `x` and `shape` are the
# number and the symbolic shape of the only input, or lists of them for merging layers.
opens = filling(_OPENINGS)
masked = filling(_MASKED)  # the function (builder, layer, x, shape, mask) -> value opens them if they get a mask


def open_node(b, node, known, shapes):
    """Adds the steps of one node of the graph; returns the number of the value that it computes.

    Raises:
        NoRuleError: there is no rule for it.
    """
    operation = node.operation
    if not isinstance(operation, keras.Layer):
        name = type(operation).__name__
        if type(operation).__module__.startswith("keras.") and name in OPERATIONS:
            return OPERATIONS[name](b, node, known, shapes)
        raise NoRuleError(f"the operation {name} is not supported")
    if quantised := getattr(operation, "quantization_mode", None):
        raise NoRuleError(f"its weights are quantised ({quantised})")
    opening = _opening(type(operation))
    if opening is None:
        return b.open_inner(_traced(operation, node, shapes), [known[t] for t in node.inputs])
    mask = node.kwargs.get("mask")
    if isinstance(mask, Ref):
        return _open_masked(b, node, known, shapes, mask.id)
    values, all_shapes = [known[t] for t in node.inputs], [shapes[t] for t in node.inputs]
    if len(values) == 1 and not isinstance(node.args[0] if node.args else None, list | tuple):
        return opening(b, operation, values[0], all_shapes[0])
    return opening(b, operation, values, all_shapes)


def _open_masked(b, node, known, shapes, mask):
    function, tensors = _MASKED.get(type(node.operation)), [t for t in node.inputs if t != mask]
    if function is None or len(tensors) != 1:
        raise NoRuleError("it reads a mask")
    return function(b, node.operation, known[tensors[0]], shapes[tensors[0]], known[mask])


def open_call(b, layer, x, shape):
    """Adds the steps of a layer, or of a whole model, that is called on one value inside another layer."""
    if isinstance(layer, keras.Sequential | keras.Function):
        return b.open_inner(flatten(layer), [x])
    return open_node(b, Node(layer, b.layer, 0, (Ref(0),), {}, (0,), (1,)), {0: x}, {0: shape, 1: ()})


@functools.cache
def _opening(kind):
    for parent in kind.__mro__:
        if parent in _OPENINGS:
            return _OPENINGS[parent]
        if {"call", "__call__", "convolution_op", "transform_images"} & set(vars(parent)):
            return None
    return None


def _traced(function, node, shapes):
    """The Graph that `traced` gives; NoRuleError for what symbolic tensors cannot follow."""
    try:
        return traced(function, node, shapes)
    except Exception as error:  # whatever the user's own code raises when it is given symbolic tensors
        name = getattr(function, "__name__", type(function).__name__)
        raise NoRuleError(f"{name} cannot be traced into keras.ops operations") from error


def activate(b, x, function, shape):
    """Adds the step of an activation function, in whatever form it was given."""
    if isinstance(function, keras.Layer):
        opening = _opening(type(function))
        if opening is None:
            raise NoRuleError(f"its activation is a {type(function).__name__} layer")
        return opening(b, function, x, shape)
    known = activation_rule(function)
    if known is None:
        return b.open_inner(_traced(function, None, {0: shape}), [x])
    name, config = known
    return x if name == "identity" else b.step(name, x, config)


def channels_last(function):
    """Wraps an opening of channels-last layers so that it also works for channels-first layers."""

    @functools.wraps(function)
    def wrapped(b, layer, x, shape):
        if getattr(layer, "data_format", "channels_last") != "channels_first":
            return function(b, layer, x, shape)
        rank = len(shape)
        x = b.step("transpose", x, (0, *range(2, rank), 1))
        y = function(b, layer, x, (shape[0], *shape[2:], shape[1]))
        if len(layer.compute_output_shape(shape)) < rank:
            return y
        return b.step("transpose", y, (0, rank - 1, *range(1, rank - 1)))

    return wrapped
