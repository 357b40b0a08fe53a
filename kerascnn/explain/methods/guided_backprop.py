"""Guided backpropagation (Springenberg, Dosovitskiy, Brox and Riedmiller 2014)."""

from kerascnn.explain import register
from kerascnn.explain.reverse import unpack, walk_back


@register(source="Springenberg et al. 2014", rectifier="relu(g) * (x > 0)", fails_randomisation=True)
def guided_backprop(model, images, target=None, **options):
    """Guided backpropagation: the gradient with negative signals dropped at rectifiers (Springenberg et al. 2014).

    It fails the weight-randomisation test (Adebayo et al. 2018): it shows edges of the image more than what the network
    has learned.

    Example:
        maps = kerascnn.explain.guided_backprop(model, images, 3)  # (N, H, W, C), for class 3
    """
    return unpack(walk_back(model, images, target, "guided_backprop", **options)[0])
