"""The error for an input that a network's convolutions and pools shrink to nothing."""

import inspect

import keras

from kerascnn.errors import UsageError


def check_size(builder, *args, **kwargs):
    """What `builder(*args, **kwargs)` returns, or a UsageError naming the layer at which the input vanishes."""
    try:
        return builder(*args, **kwargs)
    except ValueError as error:
        bound = inspect.signature(builder).bind(*args, **kwargs)
        bound.apply_defaults()
        shape = bound.arguments.get("input_shape")
        layer = _layer_in(error)
        if isinstance(error, UsageError) or layer is None or shape is None or None in shape[:2]:
            raise
        smallest = _smallest_side(builder, bound)
        if smallest is None or min(shape[:2]) >= smallest:
            raise
        raise UsageError(
            f"Model {builder.__name__!r} cannot take images of {shape[0]}x{shape[1]} pixels: nothing is left of them "
            f"at layer {layer!r}. The smallest square it takes is {smallest}x{smallest}: "
            f"type --image-size {smallest} or larger (in Python: input_shape=({smallest}, {smallest}, {shape[2]}))."
        ) from error
