"""Gradient times input (Shrikumar, Greenside, Shcherbina and Kundaje 2016)."""

from kerascnn.explain import register
from kerascnn.explain.reverse import unpack, walk_back


@register(source="Shrikumar et al. 2016", gradients=True)
def gradient_x_input(model, images, target=None, **options):
    """Each pixel times its gradient (Shrikumar et al. 2016); in a bias-free ReLU network the map sums to the score.

    Example:
        maps = kerascnn.explain.gradient_x_input(model, images, labels)  # for the true classes
    """
    maps, arrays, _ = walk_back(model, images, target, "gradient", **options)
    return unpack([m * a.astype(m.dtype) for m, a in zip(maps, arrays, strict=True)])
