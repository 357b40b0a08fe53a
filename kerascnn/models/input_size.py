"""Errors for input shapes that a network cannot take, above all images that its pools shrink to nothing."""

import inspect

import keras
import numpy as np
from keras import tree

from kerascnn.errors import UsageError
from kerascnn.network import graph

LARGEST_SIDE = 1024  # pixels; a network that takes no square image up to this size is at fault itself


def check_size(builder, *args, **kwargs):
    """What `builder(*args, **kwargs)` returns, or a UsageError naming the layer at which the input vanishes."""
    if keras.config.image_data_format() != "channels_last":
        raise UsageError(
            "The networks take images as (height, width, channels), and Keras is set to channels_first (by keras.json "
            'or a script). Type keras.config.set_image_data_format("channels_last") or change keras.json.'
        )
    bound = inspect.signature(builder).bind(*args, **kwargs)
    bound.apply_defaults()
    shape = bound.arguments["input_shape"] = _checked_shape(builder, bound.arguments["input_shape"])
    bound.arguments["num_classes"] = _checked_num_classes(builder, bound.arguments["num_classes"])
    try:
        model = builder(*bound.args, **bound.kwargs)
    except UsageError:
        raise
    except ValueError as error:
        _explain(builder, bound, shape, error)
        raise
    if any(0 in tensor.shape[1:] for tensor in graph.flatten(model).tensors):
        _explain(builder, bound, shape, None)
    return model


def _checked_shape(builder, shape):
    """`shape` as a tuple, or a UsageError if it is not (height, width, channels)."""
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    sides_fit = len(shape) == 3 and all(side is None or _is_count(side) for side in shape[:2])
    if not (sides_fit and _is_count(shape[2])):
        raise UsageError(
            f"Model {builder.__name__!r}: input_shape must be (height, width, channels), whole numbers above 0, as in "
            f"(32, 32, 3); received {shape!r}."
        )
    return tuple(side if side is None else int(side) for side in shape)


def _checked_num_classes(builder, num_classes):
    if not _is_count(num_classes):
        raise UsageError(
            f"Model {builder.__name__!r}: num_classes must be a whole number above 0; received {num_classes!r}."
        )
    return int(num_classes)


def _is_count(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value > 0


def _explain(builder, bound, shape, error):
    """Raises the UsageError if the image size is what is wrong; returns if it is something else."""
    flat = _flat_at_working_size(builder, bound, shape[2])
    if flat is None:
        return
    if None in shape[:2]:
        raise UsageError(
            f"Model {builder.__name__!r} has dense layers on its maps, so it needs images of one size; received "
            f"input_shape={shape}. Give numbers for None, as in (32, 32, {shape[2]})."
        ) from error
    layer = _vanishes_at(flat, shape)
    if layer is None:
        return
    smallest = next(s for s in range(1, LARGEST_SIDE + 1) if _vanishes_at(flat, (s, s, shape[2])) is None)
    raise UsageError(
        f"Model {builder.__name__!r} cannot take images of {shape[0]}x{shape[1]} pixels: nothing is left of them at "
        f"layer {layer!r}. The smallest square it takes is {smallest}x{smallest}: give image_size={smallest} or "
        f"larger (to a builder: input_shape=({smallest}, {smallest}, {shape[2]}))."
    ) from error


def _flat_at_working_size(builder, bound, channels):
    """The graph of the same network at the first square size of 32, 64, 128 ... that works, or None."""
    side = 32
    while side <= LARGEST_SIDE:
        arguments = {**bound.arguments, "input_shape": (side, side, channels)}
        try:
            with graph.without_weights():
                return graph.flatten(builder(**arguments))
        except ValueError:
            side *= 2
    return None


def _vanishes_at(flat, shape):
    """The name of the first layer that leaves nothing of an image of this shape, or None."""

    def call(node, args, kwargs):
        try:
            out = node.operation.compute_output_spec(*args, **kwargs)
        except ValueError as error:
            raise _Vanished(node.name) from error
        if any(0 in tensor.shape[1:] for tensor in tree.flatten(out)):
            raise _Vanished(node.name)
        return out

    try:
        flat.run([keras.KerasTensor((None, *shape))], call)
    except _Vanished as vanished:
        return vanished.args[0]
    return None


class _Vanished(Exception):  # noqa: N818 - a message between two functions, not an error
    """args[0]: the name of the layer that left nothing."""
