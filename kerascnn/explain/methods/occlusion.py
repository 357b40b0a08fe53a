"""Occlusion: what the network answers when a square of the image is hidden (Zeiler & Fergus 2013, section 4.2).

"Occlusion" means different maps in different libraries. Here the table of scores for every place of the square is the
primitive, and the maps are made from it by name.
"""

import functools
import math

import numpy as np
from keras import ops

from kerascnn import backends
from kerascnn.errors import UsageError, counted, unknown
from kerascnn.explain import register
from kerascnn.explain.answers import probabilities
from kerascnn.explain.recorded import activations
from kerascnn.explain.reverse import shapes_of
from kerascnn.explain.subjects import looked_at
from kerascnn.explain.targets import (
    Neuron,
    check_channels_last,
    class_number,
    of_output,
    resolve_neuron,
    score_value,
)
from kerascnn.explain.walk import Task, check_finite, forward, needed_steps, run
from kerascnn.network.find import find
from kerascnn.network.plan import read_constants

CONVENTIONS = ("probability", "drop", "captum", "tf-explain")


def positions(size, patch, stride, *, cut=False):
    """First pixels of the squares along one axis: every `stride`; the last is moved inside, or cut at the border."""
    if patch > size:
        raise UsageError(f"A patch of {patch} pixels does not fit into an image of {size}: choose 1 to {size}.")
    if patch < 1 or stride < 1:
        raise UsageError(f"patch and stride must be at least 1; received {patch=}, {stride=}.")
    first = np.arange(math.ceil((size - patch) / stride) + 1) * stride
    return first if cut else np.minimum(first, size - patch)


def _pair(value):
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _hide(steps, value, given, reduce, patch, images, fills, jobs, constants):
    """The values of images with squares hidden; jobs is int32 (B, 3): image, first row, first column."""
    x = ops.take(images, jobs[:, 0], axis=0)
    hidden = None
    for axis in (1, 2):
        places = ops.reshape(ops.arange(images.shape[axis], dtype="int32"), (1, -1))
        first = ops.reshape(jobs[:, axis], (-1, 1))
        inside = ops.logical_and(places >= first, places < first + patch[axis - 1])
        inside = ops.reshape(inside, (-1, *([images.shape[1], 1] if axis == 1 else [1, images.shape[2]]), 1))
        hidden = inside if hidden is None else ops.logical_and(hidden, inside)
    x = ops.where(hidden, ops.take(fills, jobs[:, 0], axis=0), x)
    return _reduced(forward(steps, {given: x}, constants)[value], reduce)


def _reduced(maps, reduce):
    """(N, channels) of maps (N, ..., channels): "sum", "max" or "mean" over the places, or the place (row, col)."""
    if len(maps.shape) == 2:
        return maps
    if isinstance(reduce, tuple):
        return maps[(slice(None), *reduce)]
    return getattr(ops, reduce)(maps, tuple(range(1, len(maps.shape) - 1)))


@functools.lru_cache(maxsize=16)
def _compiled(steps, value, given, reduce, patch, shapes, dtype):
    return backends.compiled(functools.partial(_hide, steps, value, given, reduce, patch))


def occlusion_scores(model, images, *, patch, stride, fill="mean", layer=None, max_memory=256, dtype="float32"):
    """Class scores with a square of each image hidden, for every place of the square (Zeiler & Fergus 2013, 4.2).

    Args:
        model: keras.Model with one image input; scores are taken before the softmax or sigmoid, and of a subclass of
            keras.Model, whose layers are not known, as it answers.
        images: float32 (N, H, W, C) as the model takes them.
        patch: side of the hidden square, pixels; or (height, width).
        stride: step between squares, pixels; or (down, right).
        fill: "mean" (the image's own mean colour), a number, or an array (C,).
        layer: a layer's name: the total activity of each of its channels instead of the class scores.
        max_memory: about how many MB the largest layer's output may take at a time; it does not depend on how many
            places there are.
    Returns:
        array (N, rows, cols, num_classes or channels); rows = ceil((H - patch) / stride) + 1, the last square is moved
        inside. A classifier with one unit has two classes.
    """
    plan, arrays = _looked_at(model, images)
    value = _score_value(plan, arrays) if layer is None else find(plan, layer).value
    return _table(plan, arrays, value, _pair(patch), _pair(stride), fill, max_memory=max_memory, dtype=dtype)


def _table(plan, arrays, value, patch, stride, fill, *, cut=False, reduce="sum", max_memory=256, dtype="float32"):
    """The table of `occlusion_scores`; `cut` leaves the last square where it is, so that the border cuts it."""
    x = arrays[0].astype(dtype)
    rows, cols = (positions(*axis, cut=cut) for axis in zip(x.shape[1:3], patch, stride, strict=True))
    fills = _fills(x, fill)
    jobs = np.stack(np.meshgrid(np.arange(len(x)), rows, cols, indexing="ij"), -1).reshape(-1, 3).astype("int32")
    steps = needed_steps(plan.steps, [value])
    sizes = [math.prod(n or 1 for n in plan.shapes[s.output][1:]) for s in steps if s.output in plan.shapes]
    most = max([math.prod(x.shape[1:]), *sizes]) * np.dtype(dtype).itemsize
    batch = int(np.clip(max_memory * 2**20 // (4 * most), 1, 128))
    with backends.precise(dtype):
        constants = read_constants(plan, dtype)
        shapes = x.shape[1:], tuple(tuple(c.shape) for c in constants)
        opaque = any(step.rule == "opaque" for step in steps)  # it points to the user's layers: not kept
        make = _compiled.__wrapped__ if opaque else _compiled
        function = make(steps, value, plan.inputs[0], reduce, patch, shapes, dtype)
        device, colours, scores = ops.convert_to_tensor(x), ops.convert_to_tensor(fills), []
        for chunk in np.array_split(jobs, math.ceil(len(jobs) / batch)):
            scores.append(ops.convert_to_numpy(function(device, colours, ops.convert_to_tensor(chunk), constants)))
        table = np.concatenate(scores).reshape(len(x), len(rows), len(cols), -1)
    check_finite(plan, [table])
    return table


def _looked_at(model, images):
    """What `looked_at` gives, of a model with one image input."""
    plan, arrays = looked_at(model, images)
    check_channels_last(plan)
    if len(arrays) > 1 or arrays[0].ndim != 4:
        raise UsageError(f"Occlusion needs a model with one image input; {plan.model!r} takes {len(arrays)} inputs.")
    return plan, arrays


def _score_value(plan, arrays):
    """The number of the value that holds the class scores."""
    if len(plan.outputs) > 1:
        names = plan.output_names
        raise UsageError(
            f"Model {plan.model!r} has {len(names)} outputs, {', '.join(names)}: name a layer, layer=..., or give "
            f"occlusion target={{{names[0]!r}: class}} or a Neuron."
        )
    if len(shapes_of(plan, arrays)(score_value(plan))) != 2:
        raise UsageError(f"Model {plan.model!r} does not end in one vector of class scores: name a layer, layer=...")
    return score_value(plan)


def _wanted(plan, arrays, target, convention, class_names):
    """(plan with the output that is meant, number of the value, how to reduce it, channels (N,) or None: the top)."""
    n = len(arrays[0])
    if isinstance(target, dict):
        plan, target = of_output(plan, target)
    if isinstance(target, Neuron):
        if convention in ("probability", "tf-explain"):
            raise UsageError(f"{target} has no probability: type convention='drop' or 'captum', or give a class.")
        wanted = resolve_neuron(target, plan, shapes_of(plan, arrays))
        reduce = wanted.row[:-1] if wanted.kind == "position" else wanted.kind
        return plan, wanted.value, reduce, np.full(n, wanted.row[-1])
    value = _score_value(plan, arrays)
    if target is None:
        return plan, value, "sum", None
    classes = shapes_of(plan, arrays)(value)[-1]
    targets = target if isinstance(target, list | tuple | np.ndarray) else [target] * n
    if len(targets) != n and (n != 1 or not len(targets)):
        raise UsageError(
            f"There are {n} images and {counted(len(targets), 'target')}: give one target for all, or one per image, "
            "or several for a single image."
        )
    return plan, value, "sum", np.array([class_number(t, classes, plan.model, class_names) for t in targets])


def _fills(x, fill):
    if isinstance(fill, str):
        if fill != "mean":
            raise unknown("fill", fill, ("mean", "a number", "an array (C,)"))
        return x.mean((1, 2), keepdims=True)
    fill = np.asarray(fill, x.dtype)
    if fill.ndim > 1 or (fill.ndim == 1 and len(fill) not in (1, x.shape[-1])):
        raise UsageError(f"fill must be 'mean', a number or {x.shape[-1]} numbers; received shape {fill.shape}.")
    return np.broadcast_to(fill, (len(x), 1, 1, x.shape[-1])).copy()


def occlusion_trio(model, images, labels, *, patch, stride, fill="mean", layer=None):
    """Zeiler and Fergus' three maps (figure 7, b, d and e) for every place of the hidden square.

    Args:
        labels: int (N,), the true classes.
        layer: the layer whose strongest feature map is followed; None: the deepest convolution.
    Returns:
        dict of arrays (N, rows, cols): "activity", the total activity of the feature map that is strongest in the
        whole image; "probability" of the true class; "label", the most probable class. "channel" (N,) names the maps.
    """
    plan, _ = looked_at(model, images)
    layer = layer or "deepest"
    options = {"patch": patch, "stride": stride, "fill": fill}
    scores = occlusion_scores(model, images, **options)
    activity = occlusion_scores(model, images, layer=layer, **options)
    clear = activations(model, images, layer)
    channel = clear.reshape(len(clear), -1, clear.shape[-1]).sum(1).argmax(-1)
    labels = [class_number(int(c), scores.shape[-1], plan.model) for c in np.broadcast_to(labels, len(clear))]
    chances, image = probabilities(plan, scores), np.arange(len(clear))
    return {
        "activity": activity[image, :, :, channel],
        "probability": chances[image, :, :, labels],
        "label": scores.argmax(-1),
        "channel": channel,
    }


@register(
    source="Zeiler and Fergus 2013",
    options=("patch", "stride"),
    zero="hiding any of the squares leaves the answer as it is, as far as float32 can tell",
)
def occlusion(
    model,
    images,
    target=None,
    *,
    patch=None,
    stride=None,
    fill="mean",
    convention="captum",
    class_names=None,
):
    """How much the score falls when a square of the image is hidden, one map per image (Zeiler and Fergus 2013, 4.2).

    Args:
        target: a class or one per image, or one Neuron; None: each image's top class. {"name of an output": class} for
            a model with several outputs.
        patch: side of the hidden square, pixels, or (height, width); None: a quarter of the image's shorter side.
        stride: step between squares, pixels, or (down, right); None: half the patch.
        fill: as of `occlusion_scores`.
        convention: "captum": the drop of the score, for every pixel averaged over the squares that hide it, the last
            square of a row or column being cut at the border as in Captum, not moved inside; "drop": how much the score
            falls, per place; "probability": of the class, per place (Zeiler and Fergus); "tf-explain": one minus the
            probability, per place.
    Returns:
        float32 (N, rows, cols), or (N, H, W) for "captum".
    Raises:
        UsageError: a patch larger than the image; for "captum", a stride larger than the patch.
    Example:
        maps = kerascnn.explain.occlusion(model, images, 3, patch=4, stride=2)  # (N, H, W)
    """
    if convention not in CONVENTIONS:
        raise unknown("convention", convention, CONVENTIONS)
    plan, arrays = _looked_at(model, images)
    patch = _pair(max(1, min(arrays[0].shape[1:3]) // 4) if patch is None else patch)
    stride = _pair(max(1, min(patch) // 2) if stride is None else stride)
    cut = convention == "captum"
    if cut:
        _check_strides(arrays[0].shape[1:3], patch, stride)
    plan, value, reduce, targets = _wanted(plan, arrays, target, convention, class_names)
    table = _table(plan, arrays, value, patch, stride, fill, cut=cut, reduce=reduce)
    n = len(table)
    whole = run(plan, Task(plan.steps, plan.inputs, (value,)), arrays, [])[0][0]
    base = ops.convert_to_numpy(_reduced(ops.convert_to_tensor(whole), reduce))
    targets = base.argmax(-1) if targets is None else targets
    image = np.arange(n) if len(targets) == n else np.zeros(len(targets), int)
    if convention in ("probability", "tf-explain"):
        chance = probabilities(plan, table)[image, :, :, targets]
        return chance if convention == "probability" else 1 - chance
    drop = base[image, targets][:, None, None] - table[image, :, :, targets]
    if convention == "drop":
        return drop
    covers = [_covers(*axis) for axis in zip(arrays[0].shape[1:3], patch, stride, strict=True)]
    hidden = np.einsum("ri,cj->ij", *covers)
    total = np.einsum("nrc,ri,cj->nij", drop, *covers)
    return (total / hidden).astype("float32")


def _check_strides(size, patch, stride):
    """Raise a UsageError where squares would leave pixels between them that none hides; Captum refuses them, too."""
    for n, p, s in zip(size, patch, stride, strict=True):
        if s > p and p < n:
            raise UsageError(
                f"A stride of {s} pixels is larger than the patch of {p}: no square would hide the pixels between. "
                f"Choose a stride of 1 to {p}, or convention='drop', which has a value per square."
            )


def _covers(size, patch, stride):
    """(places, size): 1 where the square at that place hides that pixel."""
    first = positions(size, patch, stride, cut=True)[:, None]
    pixel = np.arange(size)[None]
    return ((pixel >= first) & (pixel < first + patch)).astype("float32")
