"""LayerCAM (Jiang et al. 2021)."""

import numpy as np

from kerascnn.explain import register
from kerascnn.explain.class_maps import gradients_and_maps


@register(
    source="Jiang et al. 2021",
    gradients=True,
    of_layer=True,
    zero="nothing at this layer speaks for the target",
)
def layer_cam(model, images, target=None, *, layer=None, **options):
    """LayerCAM (Jiang et al. 2021): every value of a layer's maps weighted by its own positive gradient.

    Arguments and result as for grad_cam; it stays sharp at early layers.

    Example:
        maps = kerascnn.explain.layer_cam(model, images, 3, layer="conv1")  # (N, h, w), of conv1
    """
    gradients, maps = gradients_and_maps(model, images, target, layer, **options)
    return np.maximum((np.maximum(gradients, 0) * maps).sum(-1), 0)
