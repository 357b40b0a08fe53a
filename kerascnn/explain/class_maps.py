"""Class activation maps at any convolutional layer: Grad-CAM and LayerCAM."""

import numpy as np

from kerascnn.errors import UsageError
from kerascnn.explain import register
from kerascnn.explain.reverse import shapes_of
from kerascnn.explain.subjects import subject
from kerascnn.explain.targets import check_channels_last, find_layer, resolve
from kerascnn.explain.walk import Task, needed_steps, run


def _gradients_and_maps(
    model, images, target, layer, *, class_names=None, batch_size=64, dtype="float32", fallback=None
):
    """(gradients, maps), each (N, h, w, channels), of a layer; None is the deepest with maps from a convolution."""
    plan, arrays = subject(model, images, fallback)
    check_channels_last(plan)
    shape_of = shapes_of(plan, arrays)
    if layer is None:
        found = [p for p, kind in plan.kinds.items() if "Conv" in kind and len(plan.shapes[plan.layers[p][-1]]) == 4]
        if not found:
            raise UsageError(f"Model {plan.model!r} has no convolution with maps: name a layer with maps, layer=...")
        path, value = found[-1], plan.layers[found[-1]][-1]
    else:
        path, value = find_layer(plan, layer)
    if len(shape_of(value)) != 4:
        raise UsageError(f"Layer {path!r} of model {plan.model!r} has no maps: its output is {shape_of(value)[1:]}.")
    seeds, starts, count = resolve(plan, target, len(arrays[0]), shape_of, class_names)
    ends = [v for v, _ in seeds]
    if not all(_depends(plan, end, value) for end in ends):
        raise UsageError(f"The target does not depend on layer {path!r}: choose a layer before the target.")
    arrays = [np.repeat(a, count, axis=0) if count != len(a) else a for a in arrays]
    task = Task(plan.steps, plan.inputs, (value,), seeds, kept=(value,))
    return run(plan, task, arrays, starts, dtype=dtype, batch_size=batch_size)[0]


def _depends(plan, end, value):
    return end == value or any(value in step.inputs for step in needed_steps(plan.steps, [end]))


@register(source="Selvaraju et al. 2016")
def grad_cam(model, images, target=None, *, layer=None, rectify=True, **options):
    """Grad-CAM (Selvaraju et al. 2016): a layer's maps weighted by their mean gradient, summed, rectified.

    Args:
        model, images, target: as for every method (kerascnn.explain.reverse).
        layer: the layer's name or path; None: the deepest convolution.
        rectify: False keeps what speaks against the target (Captum's default).
        options: class_names, batch_size, dtype, and fallback, as for saliency.
    Returns:
        array (N, h, w), the size of the layer's maps; kerascnn.explain.enlarge brings it to the image's.
    """
    gradients, maps = _gradients_and_maps(model, images, target, layer, **options)
    found = np.einsum("nijc,nc->nij", maps, gradients.mean((1, 2)))
    return np.maximum(found, 0) if rectify else found


@register(source="Jiang et al. 2021")
def layer_cam(model, images, target=None, *, layer=None, **options):
    """LayerCAM (Jiang et al. 2021): every value of a layer's maps weighted by its own positive gradient.

    Arguments and result as for grad_cam; it stays sharp at early layers.
    """
    gradients, maps = _gradients_and_maps(model, images, target, layer, **options)
    return np.maximum((np.maximum(gradients, 0) * maps).sum(-1), 0)


def enlarge(maps, size):
    """Maps (N, h, w) brought to (N, height, width) by bilinear interpolation."""
    from keras import ops

    wide = ops.image.resize(np.asarray(maps, "float32")[..., None], size, "bilinear", data_format="channels_last")
    return np.array(ops.convert_to_numpy(wide)[..., 0])
