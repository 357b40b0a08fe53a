"""Any method's maps at the images' size, for what treats all methods alike."""

import numpy as np

from kerascnn.explain import EXPLANATIONS
from kerascnn.explain.class_maps import enlarge
from kerascnn.explain.methods.occlusion import occlusion_map


def maps(method, model, images, target=None, **options):
    """The maps of images by a method's name, one value for each pixel or for each of its colours.

    Args:
        method: name in `EXPLANATIONS`. Occlusion hides a square of a quarter of the shorter side, in steps of half of
            it, unless `patch` and `stride` say otherwise, and gives each pixel the mean drop over the squares on it.
        model, images, target: as the method takes them.
        **options: further arguments of the method.
    Returns:
        float array (N, H, W), or (N, H, W, C) from methods that go back to the colours.
    Raises:
        UsageError: unknown method, and what the method raises.
    """
    if method == "occlusion":
        patch = options.pop("patch", max(1, min(images.shape[1:3]) // 4))
        stride = options.pop("stride", max(1, int(np.min(patch)) // 2))
        return occlusion_map(model, images, target, patch=patch, stride=stride, convention="captum", **options)
    found = EXPLANATIONS.get(method)(model, images, target, **options)
    size = images.shape[1:3]
    return enlarge(found, size) if found.ndim == 3 and found.shape[1:] != size else found
