"""How far each step reaches: it turns what the places of its inputs see of the image into what those of its output see.

A function here handles the rules that `reaches` names. Rules of kind "pass" treat every value alone and need no
function.
"""

import dataclasses
import functools
import math

import numpy as np
from keras import ops

from kerascnn.network.rules.convolution import paddings, transposed_geometry
from kerascnn.network.rules.rule import RULES
from kerascnn.network.rules.selecting import adaptive_bins
from kerascnn.network.rules.shaping import resizing
from kerascnn.network.seen import EMPTY, Line, Seen, UnknownReach
from kerascnn.network.steps import filling

REACH = {}
reaches = filling(REACH)  # decorator: the function (config, shapes of the weights, *Seen) -> Seen serves these rules


def through(step, weights, inputs, shape=None):
    """The Seen of a step's output.

    Args:
        step: a plan's Step.
        weights: shapes of its weights.
        inputs: the Seen of each of its inputs that is not a constant.
        shape: shape of its output without the batch, if it is known.
    Raises:
        UnknownReach: the step's reach is not known.
    """
    seeing = [seen for seen in inputs if seen.boxes is not None]
    if not seeing:
        return Seen(shape)
    if any(seen.shape is None or None in seen.shape for seen in inputs):
        raise _unknown(step)
    if step.rule in ("unsupported", "opaque", "autodiff"):
        output = _of_a_layer(step, seeing, shape)
    elif step.rule in REACH:
        output = REACH[step.rule](step.config, weights, *inputs)
    elif RULES[step.rule].kind == "pass":
        output = _alone(step.config, weights, *inputs)
    else:
        raise _unknown(step)
    if shape is not None and None not in shape and output.shape != shape:
        output = output.fitted(shape)
    if output is None:
        raise _unknown(step)
    return output


def _unknown(step):
    return UnknownReach(
        f"How far layer {step.layer!r} ({step.operation}) reaches is not known; receptive fields behind it cannot be "
        "given. Known are the layers and keras.ops that deconvnet can walk back through."
    )


# Layers that open into no steps: those whose places see everything, and those that treat each place alone.
_WHOLE = ("AdditiveAttention", "Attention", "GroupNormalization", "GroupedQueryAttention", "MultiHeadAttention")
_ALONE = ("Dense", "Discretization", "EinsumDense")


def _of_a_layer(step, seeing, shape):
    """What a layer that opens into no steps sees: everything, if its input or output is not a map."""
    if step.operation in _ALONE:
        return _alone((), (), *seeing).mixed([len(shape) - 1]).with_channels(shape[-1])
    if step.operation not in _WHOLE and len(shape) == 3 and all(len(seen.shape) == 3 for seen in seeing):
        raise _unknown(step)
    hull = np.minimum.reduce([seen.boxes.reshape(-1, 4).min(0) for seen in seeing])
    return Seen(shape, hull.reshape(*[1] * len(shape), 4))


@reaches(
    *("identity", "negative", "add", "subtract", "multiply", "divide", "normalise", "maximum", "minimum", "where"),
    *("plus", "minus", "times", "over", "scale", "batch_norm"),
)
def _alone(config, weights, *inputs):
    """Every place alone; an axis of length 1 meets every place of the others."""
    inputs = [seen for seen in inputs if seen.boxes is not None]
    rank = max(len(seen.shape) for seen in inputs)
    inputs = [seen.reshaped((1,) * (rank - len(seen.shape)) + seen.shape) for seen in inputs]
    shape = tuple(max(sizes) for sizes in zip(*(seen.shape for seen in inputs), strict=True))
    inputs = [seen.fitted(shape) for seen in inputs]
    boxes = functools.reduce(np.minimum, [seen.boxes for seen in inputs])
    return Seen(shape, boxes, _joined(inputs))


def _joined(inputs):
    """The Lines that cover those of all inputs, where they have one stride."""
    joined = []
    for lines in zip(*(seen.lines for seen in inputs), strict=True):
        if None in lines or len({(line.axis, line.stride) for line in lines}) > 1:
            joined.append(None)
            continue
        start, end = min(line.offset for line in lines), max(line.offset + line.size for line in lines)
        joined.append(Line(lines[0].axis, end - start, lines[0].stride, start))
    return tuple(joined)


@reaches("piecewise")
def _piecewise(config, weights, *inputs):
    name, *reduced = config
    return _over(tuple(reduced), weights, *inputs) if name in ("any", "all") else _alone(config, weights, *inputs)


@reaches("conv", "depthwise")
def _convolution(config, weights, x):
    strides, dilations, padding, *_ = config
    *kernel, within, out = weights[0]
    x = _windows(x, kernel, strides, dilations, padding)
    channels = out if len(config) == 4 else within * out
    return x.mixed([len(kernel)]).with_channels(channels)


def _windows(x, kernel, strides, dilations, padding):
    pads = paddings(padding, x.shape[:-1], kernel, strides, dilations)
    for axis, (taps, stride, dilation, pad) in enumerate(zip(kernel, strides, dilations, pads, strict=True)):
        length = (x.shape[axis] + sum(pad) - (taps - 1) * dilation - 1) // stride + 1
        x = x.slid(axis, length, taps, stride, dilation, pad[0])
    return x


@reaches("max_pool", "average_pool")
def _pooling(config, weights, x):
    pool, strides, padding = config
    return _windows(x, pool, strides, [1] * len(pool), padding)


@reaches("conv_transpose")
def _transposed(config, weights, x):
    strides, dilations, *_ = config
    *kernel, out, _ = weights[0]
    starts, sizes = transposed_geometry(config, x.shape[:-1], kernel)
    for axis, (before, size) in enumerate(zip(starts, sizes, strict=True)):
        reads = np.zeros((size, x.shape[axis]), bool)
        for tap in range(kernel[axis]):
            read = np.arange(x.shape[axis])
            written = read * strides[axis] - before + tap * dilations[axis]
            inside = (written >= 0) & (written < size)
            reads[written[inside], read[inside]] = True
        x = x.gathered(axis, reads)
    return x.mixed([len(kernel)]).with_channels(out)


@reaches("adaptive_average", "adaptive_max")
def _adaptive(config, weights, x):
    for axis, count in enumerate(config):
        place, limits = np.arange(x.shape[axis]), adaptive_bins(x.shape[axis], count)
        x = x.gathered(axis, np.array([(first <= place) & (place < end) for first, end in limits]))
    return x


@reaches("resample")
def _resampled(config, weights, x):
    sizes, times, interpolation, antialias = config
    for axis, old in enumerate(x.shape[:-1]):
        size = sizes[axis] if sizes else old * times[axis]
        matrix = resizing(size, old, interpolation, antialias, "float32")
        x = x.gathered(axis, ops.convert_to_numpy(matrix) != 0)
    return x


@reaches("repeat")
def _repeated(config, weights, x):
    for axis, times in enumerate(config):
        if times > 1:
            x = x.changed(axis, x.shape[axis] * times, np.repeat(x.along(axis), times, axis))
    return x


@reaches("pad")
def _padded(config, weights, x):
    for axis, (before, after) in enumerate(config[1:]):
        if before or after:
            x = x.slid(axis, x.shape[axis] + before + after, before=before)
    return x


@reaches("center_crop")
def _cropped(config, weights, x):
    for axis, size in enumerate(config):
        x = x.slid(axis, size, before=-int((x.shape[axis] - size) / 2))
    return x


@reaches("take")
def _taken(config, weights, x):
    axis, numbers = config[0] - 1, np.asarray(config[1], int)
    return x.changed(axis, len(numbers), x.along(axis)[(slice(None),) * axis + (numbers,)])


@reaches("flip")
def _flipped(config, weights, x):
    for axis in config:
        x = x.changed(axis - 1, x.shape[axis - 1], np.flip(x.boxes, axis - 1))
    return x


@reaches("concatenate")
def _concatenated(config, weights, *inputs):
    """Channels are not told apart; along other axes each input keeps its places."""
    axis, seeing = config[0] - 1, [seen for seen in inputs if seen.boxes is not None]
    size = sum(seen.shape[axis] for seen in inputs)
    if axis == len(seeing[0].shape) - 1:
        boxes = functools.reduce(np.minimum, [seen.mixed([axis]).boxes for seen in seeing])
        return Seen((*seeing[0].shape[:-1], size), boxes, _joined(seeing))
    dims = np.max([seen.boxes.shape for seen in seeing], axis=0)
    parts = []
    for seen in inputs:
        dims[axis] = seen.shape[axis]
        boxes = np.full(dims, EMPTY) if seen.boxes is None else seen.along(axis)
        parts.append(np.broadcast_to(boxes, dims))
    return Seen(seeing[0].shape, None, _joined(seeing)).changed(axis, size, np.concatenate(parts, axis))


@reaches("reshape")
def _reshaped(config, weights, x):
    shape, size = list(config), math.prod(x.shape)
    if -1 in shape:
        shape[shape.index(-1)] = size // -math.prod(shape)
    return x.reshaped(tuple(shape))


@reaches("split_channels")
def _split(config, weights, x):
    return x.reshaped((*x.shape[:-1], config[0], x.shape[-1] // config[0]))


@reaches("merge_channels")
def _merged(config, weights, x):
    return x.reshaped((*x.shape[:-2], x.shape[-2] * x.shape[-1]))


@reaches("expand")
def _expanded(config, weights, x):
    axis = config[0] - 1
    axes = [*range(axis), None, *range(axis, len(x.shape))]
    return x.moved([1 if a is None else x.shape[a] for a in axes], np.expand_dims(x.boxes, axis), axes)


@reaches("squeeze")
def _squeezed(config, weights, x):
    return x.mixed([axis - 1 for axis in config[0]], kept=False)


@reaches("transpose")
def _transposed_axes(config, weights, x):
    axes = [axis - 1 for axis in config[1:]]
    return x.moved([x.shape[axis] for axis in axes], x.boxes.transpose([*axes, len(axes)]), axes)


@reaches("sum", "mean", "max", "logsumexp")
def _over(config, weights, x):
    axes, kept = [axis - 1 for axis in config[0]], config[1]
    mixed, sizes = x.mixed(axes, kept), tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    return dataclasses.replace(mixed, shape=sizes) if kept else mixed


@reaches("softmax", "log_softmax", "sparsemax")
def _along_an_axis(config, weights, x):
    return x.mixed([config[0] % (len(x.shape) + 1) - 1])


@reaches("glu")
def _gated(config, weights, x):
    axis = config[0] % (len(x.shape) + 1) - 1
    half = x.shape[axis] // 2
    return _alone((), (), x.slid(axis, half), x.slid(axis, half, before=-half))


@reaches("lrn")
def _among_channels(config, weights, x):
    return x.mixed([len(x.shape) - 1])


@reaches("dense")
def _dense(config, weights, x):
    return x.mixed([len(x.shape) - 1]).with_channels(weights[0][-1])


@reaches("two_classes")
def _two_classes(config, weights, x):
    return Seen((2,), x.boxes.reshape(-1, 4).min(0)[None])


@reaches("matmul")
def _matrix_product(config, weights, a, b):
    rank = len(a.shape)
    letters = "abcdefgh"[: rank - 2]
    return _einsum((f"n{letters}xy", f"n{letters}yz", f"n{letters}xz"), weights, a, b)


@reaches("einsum", "einsum_weight")
def _einsum(config, weights, *inputs):
    """config is the letters of the operands and of the result, the batch's first."""
    out, terms = config[-1][1:], [term[1:] for term in config[: len(inputs)]]
    sizes = dict(zip(config[1], weights[0], strict=True)) if weights else {}
    for term, seen in zip(terms, inputs, strict=True):
        sizes |= dict(zip(term, seen.shape, strict=True))
    parts = []
    for term, seen in zip(terms, inputs, strict=True):
        if seen.boxes is None:
            continue
        seen = seen.mixed([i for i, letter in enumerate(term) if letter not in out], kept=False)
        kept = [letter for letter in term if letter in out]
        axes = [kept.index(letter) if letter in kept else None for letter in out]
        boxes = seen.boxes.transpose([*(a for a in axes if a is not None), len(kept)])
        boxes = boxes.reshape([1 if a is None else seen.boxes.shape[a] for a in axes] + [4])
        parts.append(seen.moved([1 if a is None else seen.shape[a] for a in axes], boxes, axes))
    return _alone((), (), *parts).fitted(tuple(sizes[letter] for letter in out))


@reaches("fold_time")
def _folded(config, weights, x):
    """The steps in time are not told apart."""
    return x.mixed([0], kept=False)


@reaches("unfold_time")
def _unfolded(config, weights, x, like):
    return x.reshaped((1, *x.shape)).fitted((like.shape[0], *x.shape))
