"""The flat graph of a model with the shape of every tensor, at the model's own input size or at another size."""

import math

import keras
from keras import tree

from kerascnn.errors import UsageError
from kerascnn.network import graph


def sized(model, input_shape=None):
    """(graph, shapes): the model's flat Graph, and one shape per tensor, batch first.

    Args:
        model: keras.Model; a Sequential that is not built needs `input_shape` (a copy is built; the model stays as it
            is).
        input_shape: (height, width, channels) instead of the model's own, for a model with one input.
    Raises:
        UsageError: the model is not built and there is no input_shape; or the model cannot take the input_shape, for
            example because the weights of a dense layer belong to another size.
    """
    if input_shape is not None and isinstance(model, keras.Sequential) and not model.built:
        with graph.without_weights():
            model = keras.models.clone_model(model)
            model.build((None, *input_shape))
    flat = graph.flatten(model)
    if input_shape is None:
        asked = [tuple(flat.tensors[number].shape[1:]) for number in flat.inputs]
        inner_open = any(None in tensor.shape[1:] for tensor in flat.tensors)  # as in a backbone for any size
        if not inner_open or any(None in shape for shape in asked):
            return flat, [tuple(tensor.shape) for tensor in flat.tensors]
    else:
        asked = [_asked_shape(model, flat, input_shape)]
    dtypes = [flat.tensors[number].dtype for number in flat.inputs]
    inputs = [keras.KerasTensor((None, *shape), dtype) for shape, dtype in zip(asked, dtypes, strict=True)]
    try:
        known = flat.run(inputs, _shapes_only)
    except ValueError as error:
        raise UsageError(f"Model {model.name!r} cannot take input_shape={asked[0]}: {error}") from error
    return flat, [tuple(known[number].shape) if number in known else None for number in range(len(flat.tensors))]


def _asked_shape(model, flat, input_shape):
    """`input_shape` as a tuple; a UsageError if the model's input has not as many sides, or other channels."""
    if len(flat.inputs) != 1:
        raise UsageError(f"Model {model.name!r} has {len(flat.inputs)} inputs; input_shape= serves models with one.")
    own, shape = tuple(flat.tensors[flat.inputs[0]].shape[1:]), tuple(input_shape)
    channel = 0 if channels_first(flat) else -1
    if len(shape) != len(own) or own[channel] not in (None, shape[channel]):
        raise UsageError(f"Model {model.name!r} takes inputs of {own}; not input_shape={shape}.")
    return shape


def channels_first(flat):
    """True if a layer of the graph has its channels before its rows and columns."""
    return any(getattr(node.operation, "data_format", None) == "channels_first" for node in flat.nodes)


def _shapes_only(node, args, kwargs):
    spec = getattr(node.operation, "input_spec", None)
    axes = getattr(spec, "axes", None) or {}
    for axis, side in axes.items():
        if args and side is not None and args[0].shape[axis] != side:
            raise ValueError(f"layer {node.name!r} was made for {side} numbers, it would get {args[0].shape[axis]}.")
    specs = node.operation.compute_output_spec(*args, **kwargs)
    return tree.map_structure(lambda spec: keras.KerasTensor(spec.shape, dtype=spec.dtype), specs)


def label(node):
    """A node's name in tables: its path, and the number of the call of a shared layer, from the second call on."""
    return node.name if node.call == 0 else f"{node.name}#{node.call + 1}"


def macs(operation, input_shape, output_shape):
    """Multiply-accumulates of one image in a convolution, dense or recurrent layer; 0 for layers without products.

    Additions of biases, pooling, normalisation and activations are not counted, as is usual.

    Returns:
        int, or None if a size is open or the layer's arithmetic is not known here.
    """
    if type(operation).__name__ in PRODUCTS:
        return None
    if isinstance(operation, keras.layers.Embedding):
        return 0
    kernels = {
        v.name: tuple(v.shape)
        for v in getattr(operation, "weights", ())
        if len(v.shape) > 1 and v.name not in ("bias", "alpha", "gamma", "beta")
    }
    if not kernels:
        return 0
    if None in input_shape[1:] or None in output_shape[1:]:
        return None
    if isinstance(operation, keras.layers.Dense):
        return math.prod(input_shape[1:]) * operation.units  # not the kernel's size: 4-bit weights are packed
    if isinstance(operation, (keras.layers.SimpleRNN, keras.layers.LSTM, keras.layers.GRU)):
        return input_shape[1] * sum(math.prod(shape) for shape in kernels.values())
    spatial = output_shape
    if isinstance(operation, TRANSPOSED):
        spatial = input_shape
    elif isinstance(operation, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)):
        # The depthwise half makes as many places as the pointwise half.
        return _places(operation, spatial) * sum(math.prod(shape) for shape in kernels.values())
    elif not isinstance(operation, CONVOLUTIONS):
        return None
    return _places(operation, spatial) * math.prod(next(iter(kernels.values())))


TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
CONVOLUTIONS = (
    *TRANSPOSED,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
# Layers and operations without weights of their own that multiply: how much is not known here.
_PRODUCTS = """
    AdditiveAttention Attention Conv ConvTranspose DepthwiseConv Dot DotProductAttention Einsum Inner Matmul Outer
    SeparableConv Tensordot Vdot
"""
PRODUCTS = frozenset(_PRODUCTS.split())


def _places(layer, shape):
    return math.prod(shape[1:-1] if layer.data_format == "channels_last" else shape[2:])


def count(variables):
    """The number of values that variables hold."""
    return sum(math.prod(variable.shape) for variable in variables)


def elements(shape):
    """The number of values per image in a tensor of this shape, or None if a size is open."""
    return None if shape is None or None in shape[1:] else math.prod(shape[1:])


def itemsize(dtype):
    """Bytes of one number of a Keras dtype; 0 for strings, whose length is not known."""
    if dtype in ITEM_BYTES:
        return ITEM_BYTES[dtype]
    return int("".join(filter(str.isdigit, dtype))) // 8


ITEM_BYTES = {"bool": 1, "float8_e4m3fn": 1, "float8_e5m2": 1, "string": 0}  # others have their bits in their name
