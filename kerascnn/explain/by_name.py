"""Any method's maps at the images' size, for what treats all methods alike."""

from kerascnn.errors import UsageError
from kerascnn.explain import EXPLANATIONS
from kerascnn.explain.class_maps import enlarge


def maps(method, model, images, target=None, **options):
    """The maps of images by a method's name, one value for each pixel or for each of its colours.

    Args:
        method: name in `EXPLANATIONS`.
        model, images, target: as the method takes them.
        **options: further arguments of the method.
    Returns:
        float array (N, H, W), or (N, H, W, C) from methods that go back to the colours.
    Raises:
        UsageError: unknown method, and what the method raises.
    """
    values = EXPLANATIONS.get(method)(model, images, target, **options)
    if not hasattr(values, "shape"):
        raise UsageError(
            f"{method} gives maps of each of the {len(values)} inputs of {model.name}, and only those of a network "
            f"with one input can be brought to the images' size. Call kerascnn.explain.{method} itself."
        )
    size = images.shape[1:3]
    return enlarge(values, size) if values.ndim == 3 and values.shape[1:] != size else values
