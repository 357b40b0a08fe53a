"""The flat graph of a model with the shape of every tensor, at the model's own input size or another."""

import keras
from keras import tree

from kerascnn import graph
from kerascnn.errors import UsageError


def sized(model, input_shape=None):
    """(graph, shapes): the model's flat Graph, and one shape per tensor, batch first.

    Args:
        model: keras.Model; a Sequential that is not built needs `input_shape` (a copy is built, the model stays as is).
        input_shape: (height, width, channels) in place of the model's own, for a model with one image input.
    Raises:
        UsageError: not built and no input_shape; or an input_shape that the model cannot take, as when the weights of
            a dense layer belong to another size.
    """
    if input_shape is not None and isinstance(model, keras.Sequential) and not model.built:
        copy = keras.Sequential.from_config(model.get_config())
        with graph.without_weights():
            copy.build((None, *input_shape))
        model = copy
    flat = graph.flatten(model)
    if input_shape is None:
        return flat, [tuple(tensor.shape) for tensor in flat.tensors]
    if len(flat.inputs) != 1:
        raise UsageError(f"Model {model.name!r} has {len(flat.inputs)} inputs; input_shape= serves models with one.")
    own = flat.tensors[flat.inputs[0]]
    if len(input_shape) != len(own.shape) - 1 or input_shape[-1] != own.shape[-1]:
        raise UsageError(f"Model {model.name!r} takes inputs of {own.shape[1:]}; not input_shape={tuple(input_shape)}.")
    try:
        known = flat.run([keras.KerasTensor((None, *input_shape), dtype=own.dtype)], _shapes_only)
    except ValueError as error:
        raise UsageError(f"Model {model.name!r} cannot take input_shape={tuple(input_shape)}: {error}") from error
    return flat, [tuple(known[number].shape) if number in known else None for number in range(len(flat.tensors))]


def _shapes_only(node, args, kwargs):
    spec = getattr(node.operation, "input_spec", None)
    axes = getattr(spec, "axes", None) or {}
    for axis, side in axes.items():
        if args and side is not None and args[0].shape[axis] != side:
            raise ValueError(f"layer {node.name!r} was made for {side} numbers, it would get {args[0].shape[axis]}.")
    specs = node.operation.compute_output_spec(*args, **kwargs)
    return tree.map_structure(lambda spec: keras.KerasTensor(spec.shape, dtype=spec.dtype), specs)


def label(node):
    """A node's name in tables: its path, and which call of a shared layer it is, from the second on."""
    return node.name if node.call == 0 else f"{node.name} (call {node.call + 1})"


def macs(operation, input_shape, output_shape):
    """Multiply-accumulates of one image in a convolution, dense or recurrent layer; 0 for layers without products.

    Additions of biases, pooling, normalisation and activations are not counted, as is usual.

    Returns:
        int, or None where a size is open or the layer's arithmetic is not known here.
    """
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
        return _product(input_shape[1:-1]) * _product(kernels["kernel"])
    if isinstance(operation, (keras.layers.SimpleRNN, keras.layers.LSTM, keras.layers.GRU)):
        return input_shape[1] * sum(_product(shape) for shape in kernels.values())
    spatial = output_shape
    if isinstance(operation, (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose)):
        spatial = input_shape
    elif isinstance(operation, keras.layers.SeparableConv2D):
        # The depthwise half makes as many places as the pointwise half.
        return _places(operation, spatial) * sum(_product(shape) for shape in kernels.values())
    elif not isinstance(operation, CONVOLUTIONS):
        return None
    return _places(operation, spatial) * _product(next(iter(kernels.values())))


CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
)


def _places(layer, shape):
    return _product(shape[1:-1] if layer.data_format == "channels_last" else shape[2:])


def _product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result


def elements(shape):
    """Numbers per image in a tensor of this shape, or None where a size is open."""
    return None if shape is None or None in shape[1:] else _product(shape[1:])


def itemsize(dtype):
    """Bytes of one number of a Keras dtype."""
    return {"bool": 1, "float8_e4m3fn": 1, "float8_e5m2": 1}.get(dtype) or int("".join(filter(str.isdigit, dtype))) // 8
