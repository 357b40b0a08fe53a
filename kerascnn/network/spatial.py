"""How far each kind of layer reaches: from the rectangles of its input's places to those of its output's.

A spread is a function (boxes, axes) -> (boxes, axes): boxes (rows, columns, 4) as top, left, -bottom, -right, so that
the hull of several is their minimum and an empty one is all `EMPTY`; axes one `Box` each for rows and columns, or None
where the places share no geometry.
"""

import dataclasses

import keras
import numpy as np
from keras import layers

from kerascnn.layers import AUGMENTATIONS

EMPTY = 2**40  # beyond any image


class UnknownSpread(Exception):  # noqa: N818 - kept as a value for the layers after it
    """How far an operation reaches is not known here; the message says which."""


@dataclasses.dataclass(frozen=True)
class Box:
    """Along one axis, place i sees `size` pixels from `offset + i * stride` on."""

    size: int
    stride: int
    offset: int


@dataclasses.dataclass(frozen=True)
class Window:
    """Along one axis, place i reads inputs `i * stride - before + t * dilation` for t below `taps`."""

    taps: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0

    def boxes(self, boxes, axis, length):
        """`boxes` after this window slides along `axis`, giving `length` places."""
        boxes = np.moveaxis(boxes, axis, 0)
        inside = boxes.shape[0]
        out = np.full((length, *boxes.shape[1:]), EMPTY, boxes.dtype)
        for tap in range(self.taps):
            read = np.arange(length) * self.stride - self.before + tap * self.dilation
            valid = (read >= 0) & (read < inside)
            out[valid] = np.minimum(out[valid], boxes[read[valid]])
        return np.moveaxis(out, 0, axis)

    def axis(self, box):
        """The Box of the places, from the Box of what they read; None stays None."""
        if box is None:
            return None
        size = box.size + (self.taps - 1) * self.dilation * box.stride
        return Box(size, box.stride * self.stride, box.offset - self.before * box.stride)


def windows(rows, columns, output_shape):
    """The spread of two windows."""

    def apply(boxes, axes):
        boxes = rows.boxes(boxes, 0, output_shape[1])
        boxes = columns.boxes(boxes, 1, output_shape[2])
        return boxes, (rows.axis(axes[0]), columns.axis(axes[1]))

    return apply


def gather(reads):
    """The spread of an operation whose place i reads the places `reads[axis][i]`, a list of lists per axis."""

    def apply(boxes, axes):
        for axis in (0, 1):
            moved = np.moveaxis(boxes, axis, 0)
            empty = np.full(moved.shape[1:], EMPTY, moved.dtype)
            out = [moved[places].min(0) if len(places) else empty for places in reads[axis]]
            boxes = np.moveaxis(np.stack(out), 0, axis)
        return boxes, (None, None)

    return apply


def whole(all_boxes):
    """The one rectangle around all places of several tensors, (4,)."""
    return np.minimum.reduce([boxes.reshape(-1, 4).min(0) for boxes in all_boxes])


def _same(boxes, axes):
    return boxes, axes


def _all_places(output_shape):
    """Every place sees what any place saw."""

    def apply(boxes, axes):
        return np.broadcast_to(whole([boxes]), (*output_shape[1:3], 4)), (None, None)

    return apply


# Layers and operations that treat every place alone. Batch normalisation does in inference.
POINTWISE = (
    layers.Activation,
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.BatchNormalization,
    layers.Dense,
    layers.Discretization,
    layers.Dropout,
    layers.ELU,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.LeakyReLU,
    layers.Normalization,
    layers.PReLU,
    layers.ReLU,
    layers.Rescaling,
    layers.SpatialDropout2D,
)
MERGES = (
    layers.Add,
    layers.Average,
    layers.Concatenate,
    layers.Maximum,
    layers.Minimum,
    layers.Multiply,
    layers.Subtract,
)
_POINTWISE_OPS = """
    Abs Absolute Add Cast Celu Clip Concatenate Divide Elu Exp Expm1 Gelu HardSigmoid HardSilu HardSwish HardTanh
    LeakyRelu Log Log1p LogSigmoid Maximum Mean Minimum Multiply Negative Power Reciprocal Relu Relu6 Rsqrt Selu
    Sigmoid Sign Silu Softplus Softsign Sqrt Square Subtract Swish Tanh TrueDivide
"""
POINTWISE_OPS = frozenset(_POINTWISE_OPS.split())


# Layers that relate the values along their axis: with the channels alone they treat every place alone.
_ALONG_AN_AXIS = (layers.LayerNormalization, layers.RMSNormalization, layers.UnitNormalization)


def spread(node, input_shapes, output_shape):
    """The spread of a node between maps (batch, rows, columns, channels).

    Raises:
        UnknownSpread: the operation's reach is not known here.
    """
    layer, kind = node.operation, type(node.operation).__name__
    if isinstance(layer, layers.Conv2DTranspose):
        return gather([_transposed(layer, i, input_shapes[0], output_shape) for i in (0, 1)])
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)):
        return _sliding(layer, layer.kernel_size, layer.dilation_rate, input_shapes[0], output_shape)
    if isinstance(layer, (layers.MaxPooling2D, layers.AveragePooling2D)):
        return _sliding(layer, layer.pool_size, (1, 1), input_shapes[0], output_shape)
    if isinstance(layer, layers.ZeroPadding2D):
        return windows(*(Window(before=pair[0]) for pair in layer.padding), output_shape)
    if isinstance(layer, layers.Cropping2D):
        return windows(*(Window(before=-pair[0]) for pair in layer.cropping), output_shape)
    if isinstance(layer, layers.UpSampling2D):
        return gather([_resized(layer, i, input_shapes[0], output_shape) for i in (0, 1)])
    if isinstance(layer, layers.Resizing) and not (layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio):
        if layer.antialias:
            raise UnknownSpread(
                f"Layer {layer.name!r} resizes with antialias=True; its receptive field is not known here."
            )
        return gather([_resized(layer, i, input_shapes[0], output_shape) for i in (0, 1)])
    if isinstance(layer, layers.CenterCrop) and all(
        layer_side <= side for layer_side, side in _sides(layer, input_shapes)
    ):
        return windows(
            *(Window(before=-((side - kept) // 2)) for kept, side in _sides(layer, input_shapes)), output_shape
        )
    if isinstance(layer, _ALONG_AN_AXIS) or kind == "Softmax":
        axis = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        return _same if {a % 4 for a in axis} == {3} else _all_places(output_shape)
    mixing = (layers.GroupNormalization, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
    if isinstance(layer, mixing):
        return _all_places(output_shape)
    if kind == "GetItem" and (sliced := _sliced(node, input_shapes[0])):
        return windows(*sliced, output_shape)
    if isinstance(layer, AUGMENTATIONS) and output_shape == input_shapes[0]:
        return _same
    if isinstance(layer, keras.Layer):
        alone = isinstance(layer, (*POINTWISE, *MERGES)) or kind == "LocalResponseNormalization"
        if isinstance(layer, layers.Concatenate) and layer.axis % 4 != 3:
            alone = False
    else:
        alone = kind in POINTWISE_OPS and output_shape[1:3] in [shape[1:3] for shape in input_shapes if len(shape) == 4]
    if alone:
        return _broadcast(output_shape)
    raise UnknownSpread(
        f"How far layer {node.name!r} ({kind}) reaches is not known; receptive fields behind it cannot be given. "
        "Known are convolutions, pools, padding, cropping, upsampling, normalisations, activations and merges."
    )


def _broadcast(output_shape):
    """A place alone; a map of one row or column (as in squeeze-and-excitation) meets every place of the other."""

    def apply(boxes, axes):
        if boxes.shape[:2] == tuple(output_shape[1:3]):
            return boxes, axes
        return np.broadcast_to(boxes, (*output_shape[1:3], 4)), (None, None)

    return apply


def _sliding(layer, sizes, dilations, input_shape, output_shape):
    both = []
    for axis in (0, 1):
        size, stride, dilation = sizes[axis], layer.strides[axis], dilations[axis]
        reach = (size - 1) * dilation + 1
        before = 0
        if layer.padding == "same":
            before = max((output_shape[1 + axis] - 1) * stride + reach - input_shape[1 + axis], 0) // 2
        both.append(Window(size, stride, dilation, before))
    return windows(*both, output_shape)


def _transposed(layer, axis, input_shape, output_shape):
    """The inputs that each output of a transposed convolution reads: o = i * stride - before + t * dilation."""
    size, stride, dilation = layer.kernel_size[axis], layer.strides[axis], layer.dilation_rate[axis]
    if layer.output_padding is not None:
        raise UnknownSpread(f"Layer {layer.name!r} has output_padding; its receptive field is not known here.")
    before = max((size - 1) * dilation + 1 - stride, 0) // 2 if layer.padding == "same" else 0
    reads = [[] for _ in range(output_shape[1 + axis])]
    for i in range(input_shape[1 + axis]):
        for tap in range(size):
            o = i * stride - before + tap * dilation
            if 0 <= o < len(reads):
                reads[o].append(i)
    return reads


def _sides(layer, input_shapes):
    """((height kept, height), (width kept, width)) of a CenterCrop."""
    return tuple(zip((layer.height, layer.width), input_shapes[0][1:3], strict=True))


def _resized(layer, axis, input_shape, output_shape):
    """The inputs that each output of UpSampling2D or Resizing reads, with the centres of pixels at halves."""
    length, places = input_shape[1 + axis], output_shape[1 + axis]
    if layer.interpolation == "nearest":
        return [[(2 * o + 1) * length // (2 * places)] for o in range(places)]
    if layer.interpolation != "bilinear":
        raise UnknownSpread(f"Layer {layer.name!r} resizes by {layer.interpolation}; known: nearest, bilinear.")
    reads = []
    for o in range(places):
        centre = ((2 * o + 1) * length - places) / (2 * places)
        low = int(np.floor(centre))
        near = {low} if centre == low else {low, low + 1}
        reads.append(sorted({min(max(place, 0), length - 1) for place in near}))
    return reads


def _sliced(node, input_shape):
    """The Windows of `x[:, a:b:c, d:e:f]`, or None for another indexing."""
    key = node.args[1] if len(node.args) > 1 else node.kwargs.get("key")
    key = key if isinstance(key, tuple) else (key,)
    if any(part is Ellipsis or not isinstance(part, slice) for part in key):
        return None
    both = []
    for axis in (1, 2):
        start, _, step = (key[axis] if len(key) > axis else slice(None)).indices(input_shape[axis])
        if step < 1:
            return None
        both.append(Window(stride=step, before=-start))
    return both
