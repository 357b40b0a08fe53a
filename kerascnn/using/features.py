"""Features of images from any layer, over places, mirror images and scales (Simonyan and Zisserman 2014, appendix B).

The network is applied as convolutions: a dense layer after a Flatten becomes a convolution whose filters are as large
as the maps that were flattened, and every later dense layer becomes a 1x1 convolution, so larger images give maps of
features. These are averaged over the places and over the image and its mirror image, and scaled to length 1 at each
scale.
"""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from kerascnn.errors import UsageError, unknown
from kerascnn.explain.subjects import opaque_step
from kerascnn.explain.targets import check_channels_last
from kerascnn.models.convolved import Convolved
from kerascnn.network.find import find, find_all
from kerascnn.network.graph import flatten
from kerascnn.network.heads import head_step
from kerascnn.network.plan import make_plan
from kerascnn.progress import Progress

AGGREGATES = ("mean", "stack")
BATCH_SIZE = 32


def features(model, images, layer, *, aggregate="mean", flip=True, batch_size=BATCH_SIZE, say=None):
    """The features of images at a layer, each of length 1.

    Args:
        model: keras.Model with one image input, channels last.
        images: {scale: (N, H, W, C)} as the model takes them but of any size from its own upwards, the same images at
            each scale; or one such array, or anything of that length that gives such arrays for slices.
        layer: a layer's name, such as that of the last layer before the scores.
        aggregate: how several scales are combined: "mean" (the mean of the features, scaled to length 1 again) or
            "stack" (the features one after another, also scaled to length 1).
        flip: True takes the mean of the features of each image and its mirror image.
        batch_size: images of the model's own size computed at once; fewer if images are larger. The result does not
            depend on it.
        say: called with lines of progress.
    Returns:
        float32 (N, channels), or (N, scales x channels) with "stack".
    Raises:
        UsageError: the layer or aggregate is unknown, the layer gives the class probabilities, a layer between the
            image and the features works at only one size, or images are smaller than the model's own size.
    """
    if aggregate not in AGGREGATES:
        raise unknown("aggregate", aggregate, AGGREGATES)
    by_scale = scale_features(model, images, layer, flip=flip, batch_size=batch_size, say=say)
    return aggregated(list(by_scale.values()), aggregate)


def scale_features(model, images, layer, *, flip=True, batch_size=BATCH_SIZE, say=None):
    """{scale: float32 (N, channels)}: the features at each scale, each of length 1; the arguments are those of
    `features`."""
    at_scales = images if isinstance(images, dict) else {None: images}
    if not at_scales or len({len(each) for each in at_scales.values()}) > 1:
        raise UsageError("images must hold one or more scales with the same number of images at each.")
    check_sizes(model, at_scales)
    network = convolutional(model, layer)
    model_size = model.input_shape[1:3]
    by_scale = {}
    for scale, each in at_scales.items():
        size = np.shape(each[:1])[1:3]
        _check_places(network, size, scale, layer)
        relative = np.prod(size) / np.prod([a or b for a, b in zip(model_size, size, strict=True)])
        by_scale[scale] = _unit(_averaged(network, each, _at_once(batch_size, relative), flip, say))
        if say:
            say(f"{size[0]}x{size[1]} pixels: {len(each)} images, {by_scale[scale].shape[1]} features")
    return by_scale


def aggregated(per_scale, aggregate):
    """Features of several scales, each float32 (N, channels), as one array, each row of length 1."""
    return _unit(np.concatenate(per_scale, 1) if aggregate == "stack" else np.mean(per_scale, 0))


def _at_once(batch_size, relative):
    """Images in a batch where each has `relative` times the pixels: a divisor of `batch_size`, so that batches of all
    scales end together, and images that are computed in shards lie in the same batches."""
    most = max(1, int(batch_size / relative))
    return next(size for size in range(min(most, batch_size), 0, -1) if batch_size % size == 0)


def _averaged(network, images, batch_size, flip, say):
    """float32 (N, channels): the mean over places and mirror images."""
    parts, progress = [], Progress("batch", math.ceil(len(images) / batch_size), say)
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size], "float32")
        views = [batch, batch[:, :, ::-1]] if flip else [batch]
        maps = [ops.cast(network(np.ascontiguousarray(view), training=False), "float32") for view in views]
        parts.append(np.mean([ops.convert_to_numpy(each).mean((1, 2)) for each in maps], 0))
        progress.step()
    return np.concatenate(parts)


def _unit(values):
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return (values / np.maximum(length, 1e-12)).astype("float32")


def check_sizes(model, images):
    """Raise a UsageError if images, {scale: (N, H, W, C)}, are smaller than the model takes at any scale."""
    model_size = model.input_shape[1:3]
    for scale, each in images.items():
        size = np.shape(each[:1])[1:3]
        if any(least is not None and side < least for least, side in zip(model_size, size, strict=True)):
            raise UsageError(
                f"scales={scale or size[0]} is smaller than {model.name} takes: its images have "
                f"{model_size[0]}x{model_size[1]} pixels. Choose scales from {max(model_size)} upwards."
            )


def _check_places(network, size, scale, layer):
    """Raise a UsageError if images of a size are too small for the filters of a network that takes any size."""
    try:
        shape = network.compute_output_shape((1, *size, network.input_shape[-1]))
    except ValueError:
        shape = (0,)
    if min(shape) < 1:
        raise UsageError(
            f"scales={scale or size[0]} is smaller than what layer {layer!r} of {network.name} sees of an image. "
            "Choose larger scales."
        )


def convolutional(model, layer):
    """The network up to a layer, applied as convolutions: images (N, H, W, C) of any size -> maps (N, h, w, channels).

    At the model's own size there is one place, with the layer's ordinary output. The model itself stays as it is.

    Raises:
        UsageError: as for `features`.
    """
    plan = make_plan(model, opaque_step)
    check_channels_last(plan)
    place = feature_place(plan, layer)
    graph = flatten(model)
    last = place.number([node.name for node in graph.nodes])
    graph = dataclasses.replace(graph, nodes=graph.nodes[: last + 1])
    inputs = keras.Input((None, None, model.input_shape[-1]), name="image")
    known = graph.run([inputs], Convolved(graph, model.name, cure=" Name a layer before it."))
    output = known[graph.nodes[last].outputs[0]]
    if len(output.shape) != 4:
        raise UsageError(f"Layer {layer!r} of {model.name} gives no maps of features: its output is {output.shape}.")
    return keras.Model(inputs, output, name=model.name)


def feature_place(plan, layer):
    """The Place (`kerascnn.network.find`) of a layer whose output is a feature.

    Raises:
        UsageError: there is no such layer, or it gives the class probabilities.
    """
    place = find(plan, layer)
    check_feature(plan, layer, place.value)
    return place


def feature_names(plan, layers):
    """Names of layers, given as names, patterns or ranges, whose outputs are features; raises as `feature_place`."""
    return [feature_place(plan, place.name).name for place in find_all(plan, layers)]


def check_feature(plan, layer, value):
    """Raise a UsageError if the value of a layer is the class probabilities."""
    head = head_step(plan.steps, plan.outputs[0])
    if head is not None and value == head.output:
        raise UsageError(
            f"Layer {layer!r} of {plan.model} gives the class probabilities, which are not features. Name a layer "
            f"before it. List them: kerascnn table {plan.model}"
        )
