"""What class activation maps are made of: the maps of a layer and their gradients, at the size of the image."""

import math

import numpy as np

from kerascnn.errors import UsageError
from kerascnn.explain.reverse import shapes_of
from kerascnn.explain.subjects import gradient_subject, subject
from kerascnn.explain.targets import check_channels_last, resolve
from kerascnn.explain.walk import Task, needed_steps, run
from kerascnn.network.find import convolutions, find


def gradients_and_maps(
    model, images, target, layer, *, class_names=None, batch_size=64, dtype="float32", fallback=None
):
    """(gradients, maps), each (N, h, w, channels), of a layer; None is the deepest convolution with maps."""
    plan, arrays = subject(model, images, fallback) if fallback else gradient_subject(model, images)
    check_channels_last(plan)
    shape_of = shapes_of(plan, arrays)
    seeds, starts, count = resolve(plan, target, len(arrays[0]), shape_of, class_names)
    ends = [v for v, _ in seeds]
    deepest = layer in (None, "deepest")
    path, value = _deepest_maps(plan, shape_of, ends) if deepest else find(plan, layer)[1:]
    if len(shape_of(value)) != 4:
        raise UsageError(f"Layer {path!r} of model {plan.model!r} has no maps: its output is {shape_of(value)[1:]}.")
    if not _all_depend(plan, ends, value):
        raise UsageError(f"The target does not depend on layer {path!r}: choose a layer before the target.")
    arrays = [np.repeat(a, count, axis=0) if count != len(a) else a for a in arrays]
    task = Task(plan.steps, plan.inputs, (value,), seeds, kept=(value,))
    return run(plan, task, arrays, starts, dtype=dtype, batch_size=batch_size)[0]


def _all_depend(plan, ends, value):
    return all(v == value or any(value in step.inputs for step in needed_steps(plan.steps, [v])) for v in ends)


def _deepest_maps(plan, shape_of, ends):
    """(path, value) of the last convolution whose maps are larger than 1x1 and that the values `ends` depend on.

    A classifier that is a 1x1 convolution of 1x1 maps is passed over. Where no layer is called a convolution, the last
    layer behind a convolution serves.
    """
    calls = [(path, value) for path, values in plan.layers.items() for value in values]
    convs = [(path, value) for path in convolutions(plan) for value in plan.layers[path]]
    behind = [call for call in calls if any("conv" in step.rule for step in needed_steps(plan.steps, call[1:]))]
    for path, value in (*reversed(convs), *reversed(behind)):
        shape = shape_of(value) if _all_depend(plan, ends, value) else ()
        if len(shape) == 4 and math.prod(shape[1:3]) > 1:
            return path, value
    raise UsageError(
        f"Model {plan.model!r} has no convolution with maps larger than 1x1 before the target: name a layer with maps, "
        "layer=..."
    )


def enlarge(maps, size):
    """Maps (N, h, w) brought to (N, height, width) by bilinear interpolation."""
    from keras import ops

    wide = ops.image.resize(np.asarray(maps, "float32")[..., None], size, "bilinear", data_format="channels_last")
    return np.array(ops.convert_to_numpy(wide)[..., 0])
