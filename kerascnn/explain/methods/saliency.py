"""Saliency: the plain gradient (Simonyan, Vedaldi and Zisserman 2013)."""

from kerascnn.explain import register
from kerascnn.explain.reverse import unpack, walk_back


@register(source="Simonyan et al. 2013", rectifier="g * (x > 0)", gradients=True)
def saliency(model, images, target=None, **options):
    """The plain gradient of the explained score with respect to every pixel (Simonyan et al. 2013).

    Example:
        maps = kerascnn.explain.saliency(model, images)  # (N, H, W, C), for the most probable classes
    """
    return unpack(walk_back(model, images, target, "gradient", **options)[0])
