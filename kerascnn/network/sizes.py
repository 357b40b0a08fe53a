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
    expected, shape = tuple(flat.tensors[flat.inputs[0]].shape[1:]), tuple(input_shape)
    channel = 0 if channels_first(flat) else -1
    if len(shape) != len(expected) or expected[channel] not in (None, shape[channel]):
        raise UsageError(f"Model {model.name!r} takes inputs of {expected}; not input_shape={shape}.")
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
