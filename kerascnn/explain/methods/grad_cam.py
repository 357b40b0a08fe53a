"""Grad-CAM (Selvaraju et al. 2016)."""

import numpy as np

from kerascnn.explain import register
from kerascnn.explain.class_maps import gradients_and_maps


@register(
    source="Selvaraju et al. 2016",
    gradients=True,
    of_layer=True,
    zero="nothing at this layer speaks for the target; rectify=False shows what speaks against it",
)
def grad_cam(model, images, target=None, *, layer=None, rectify=True, **options):
    """Grad-CAM (Selvaraju et al. 2016): a layer's maps weighted by their mean gradient, summed, rectified.

    Args:
        model, images, target: as for every method (kerascnn.explain.reverse).
        layer: the layer's name or path; None: the deepest convolution with maps larger than 1x1.
        rectify: False keeps what speaks against the target (Captum's default).
        options: class_names, batch_size, dtype, as for saliency. Between the target and the layer, automatic
            differentiation serves what no rule does (attention, recurrent layers); fallback="autodiff" says so.
    Returns:
        array (N, h, w), the size of the layer's maps; kerascnn.explain.enlarge brings it to the image's.
    Example:
        maps = kerascnn.explain.grad_cam(model, images, 3)  # (N, h, w), of the deepest convolution
        maps = kerascnn.explain.enlarge(maps, images.shape[1:3])  # (N, H, W)
    """
    gradients, maps = gradients_and_maps(model, images, target, layer, **options)
    weighted = np.einsum("nijc,nc->nij", maps, gradients.mean((1, 2)))
    return np.maximum(weighted, 0) if rectify else weighted
