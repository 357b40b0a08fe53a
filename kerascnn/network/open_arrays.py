"""How keras.ops operations that pick, repeat, compare or contract arrays open into primitive steps."""

import math

import keras
import numpy as np

from kerascnn.network.graph import Ref
from kerascnn.network.open_operations import (
    argument,
    axes_of,
    check_no_initial,
    class_of,
    only_tensor,
    opens_operation,
    opens_unary,
    reshaped,
)
from kerascnn.network.steps import NoRuleError


def _axis(o, rank):
    """The operation's only axis, counted from 0; never the batch axis."""
    if o.axis is None or o.axis % rank == 0:
        raise NoRuleError(f"{type(o).__name__} along the batch is not supported", mixes_images=True)
    return o.axis % rank


def _taken(b, x, shape, axis, numbers):
    return b.step("take", x, (axis, tuple(int(i) % shape[axis] for i in numbers)))


def _known_size(shape, axis):
    if shape[axis] is None:
        raise NoRuleError("an axis of open size is not supported")
    return shape[axis]


@opens_unary("Split")
def _split(b, o, x, shape):
    axis, parts = _axis(o, len(shape)), o.indices_or_sections
    size = _known_size(shape, axis)
    ends = [size // parts * i for i in range(1, parts)] if isinstance(parts, int) else list(parts)
    limits = [slice(*pair).indices(size)[:2] for pair in zip([0, *ends], [*ends, size], strict=True)]
    return tuple(_cut(b, x, shape, axis, first, end) for first, end in limits)


def _cut(b, x, shape, axis, first, end):
    return b.step("pad", x, tuple((-first, end - shape[axis]) if i == axis else (0, 0) for i in range(len(shape))))


@opens_unary("Unstack")
def _unstack(b, o, x, shape):
    axis = _axis(o, len(shape))
    parts = [_cut(b, x, shape, axis, i, i + 1) for i in range(_known_size(shape, axis))]
    return tuple(b.step("squeeze", part, ((axis,),)) for part in parts)


@opens_operation("Stack")
def _stack(b, node, known, shapes):
    tensors = keras.tree.flatten(argument(node, 0, "x"))
    if any(not isinstance(tensor, Ref) for tensor in tensors):
        raise NoRuleError("stacking with constants is not supported")
    axis = _axis(node.operation, len(shapes[node.outputs[0]]))
    return b.step("concatenate", [b.step("expand", known[t.id], (axis,)) for t in tensors], (axis,))


@opens_unary("Tile")
def _tile(b, o, x, shape):
    repeats = np.atleast_1d(o.repeats).tolist()
    repeats = [1] * (len(shape) - len(repeats)) + repeats
    if len(repeats) != len(shape) or repeats[0] != 1:
        raise NoRuleError("tiling is supported only where it keeps the batch axis", mixes_images=True)
    for axis, times in enumerate(repeats):
        if times != 1:
            x = b.step("concatenate", [x] * times, (axis,))
    return x


@opens_unary("Repeat")
def _repeat(b, o, x, shape):
    axis = _axis(o, len(shape))
    return _taken(b, x, shape, axis, np.repeat(np.arange(_known_size(shape, axis)), o.repeats))


@opens_operation("Take")
def _take(b, node, known, shapes):
    x, shape = only_tensor(node, known, shapes)
    numbers = argument(node, 1, "indices")
    if isinstance(numbers, Ref):
        raise NoRuleError("taking places that depend on the image is not supported")
    axis, numbers = _axis(node.operation, len(shape)), np.asarray(keras.ops.convert_to_numpy(numbers))
    _known_size(shape, axis)
    x = _taken(b, x, shape, axis, numbers.ravel())
    return x if numbers.ndim == 1 else reshaped(b, x, shapes[node.outputs[0]])


@opens_unary("Roll")
def _roll(b, o, x, shape):
    for axis, shift in zip(np.atleast_1d(o.axis), np.atleast_1d(o.shift), strict=True):
        if axis is None or axis % len(shape) == 0:
            raise NoRuleError("rolling along the batch is not supported", mixes_images=True)
        axis = int(axis) % len(shape)
        x = _taken(b, x, shape, axis, np.roll(np.arange(_known_size(shape, axis)), shift))
    return x


@opens_unary("Var", "Std")
def _variance(b, o, x, shape):
    axes = axes_of(o, shape)
    square = b.step("square", b.step("subtract", (x, b.step("mean", x, (axes, True)))))
    variance = b.step("mean", square, (axes, bool(o.keepdims)))
    return b.step("sqrt", variance) if type(o).__name__ == "Std" else variance


@opens_unary("Min", "Amin")
def _minimum(b, o, x, shape):
    check_no_initial(o)
    return b.step("negative", b.step("max", b.step("negative", x), (axes_of(o, shape), bool(o.keepdims))))


def _operands(b, node, known, shapes, names):
    """Numbers of the operands: values of one rank, or constants that are the same for every image."""
    rank, operands = len(shapes[node.outputs[0]]), []
    for position, name in enumerate(names):
        value = argument(node, position, name)
        if isinstance(value, Ref):
            if len(shapes[value.id]) != rank:
                raise NoRuleError(f"{type(node.operation).__name__} of tensors of different ranks is not supported")
            operands.append(known[value.id])
            continue
        array = value if isinstance(value, keras.Variable) else np.asarray(keras.ops.convert_to_numpy(value))
        if len(array.shape) == rank and array.shape[0] != 1:
            raise NoRuleError("a constant that differs from image to image is not supported", mixes_images=True)
        operands.append(b.constant(array))
    return operands


@opens_operation("Where")
def _where(b, node, known, shapes):
    if len(node.args) + len(node.kwargs) < 3 or argument(node, 1, "x1") is None:
        raise NoRuleError("where is supported with two alternatives only")
    return b.step("where", _operands(b, node, known, shapes, ("condition", "x1", "x2")))


def _compares(name, *operands):
    @opens_operation(class_of(name))
    def opening(b, node, known, shapes):
        if getattr(node.operation, "decimals", 0):
            raise NoRuleError("rounding to decimals is not supported")
        return b.step("piecewise", _operands(b, node, known, shapes, operands), (name,))


for _name in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "logical_and", "logical_or"):
    _compares(_name, "x1", "x2")
for _name in ("logical_not", "sign", "floor", "ceil", "round"):
    _compares(_name, "x")
_compares("stop_gradient", "variable")


@opens_unary("Any", "All")
def _any(b, o, x, shape):
    return b.step("piecewise", x, (type(o).__name__.lower(), axes_of(o, shape), bool(o.keepdims)))


@opens_operation("Einsum")
def _einsum(b, node, known, shapes):
    values = list(node.args)
    if len(values) != 2:
        raise NoRuleError("einsum is supported for two operands only")
    ranks = [len(shapes[v.id]) if isinstance(v, Ref) else len(v.shape) for v in values]
    terms, out = _letters(node.operation.subscripts, ranks, len(shapes[node.outputs[0]]))
    if not isinstance(values[0], Ref):
        values, terms = values[::-1], terms[::-1]
    left, right = terms
    batch = left[0]
    if batch != out[0] or (right[0] == batch) != isinstance(values[1], Ref) or batch in right[1:] + left[1:] + out[1:]:
        raise NoRuleError("einsum is supported only where the batch axis stays first", mixes_images=True)
    for term, other in ((left, right), (right, left)):
        if len(set(term)) < len(term) or set(term) - set(other) - set(out):
            raise NoRuleError("einsum is supported without sums or diagonals of one operand only")
    if isinstance(values[1], Ref):
        return b.step("einsum", (known[values[0].id], known[values[1].id]), (left, right, out))
    return b.step("einsum_weight", known[values[0].id], (left, right, out), [values[1]])


def _letters(subscripts, ranks, out_rank):
    """([letters of each operand], letters of the result), with "..." spelled out in capitals."""
    before, arrow, out = subscripts.replace(" ", "").partition("->")
    if not arrow:
        raise NoRuleError("einsum without an arrow is not supported")
    dots = "ZYXWVUTS"

    def spelled(term, rank):
        return term.replace("...", dots[: rank - len(term.replace("...", ""))][::-1])

    return [spelled(t, r) for t, r in zip(before.split(","), ranks, strict=True)], spelled(out, out_rank)


@opens_operation("DotProductAttention")
def _attention(b, node, known, shapes):
    """softmax(scale * query . key) . value, for (N, places, heads, size)."""
    o, names = node.operation, ("query", "key", "value", "bias", "mask", "scale")
    given = {**dict.fromkeys(names), **dict(zip(names, node.args, strict=False)), **node.kwargs}
    values = [given[name] for name in names[:3]]
    heads = {shapes[v.id][2] for v in values if isinstance(v, Ref)}
    changed = (given["bias"], given["mask"], o.attn_logits_soft_cap, o.is_causal or None)
    if changed != (None,) * 4 or not all(isinstance(v, Ref) for v in values) or len(heads) > 1:
        raise NoRuleError("attention is supported without mask, bias and cap only")
    query, key, value = (known[v.id] for v in values)
    scale = 1 / math.sqrt(shapes[values[0].id][-1]) if given["scale"] is None else given["scale"]
    scores = b.step("einsum", (query, key), ("btnh", "bsnh", "bnts"))
    weights = b.step("softmax", b.step("times", scores, (), [np.asarray(scale)]), (-1,))
    return b.step("einsum", (weights, value), ("bnts", "bsnh", "btnh"))
