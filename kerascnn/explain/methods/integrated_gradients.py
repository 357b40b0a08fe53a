"""Integrated gradients (Sundararajan, Taly and Yan 2017)."""

import numpy as np

from kerascnn.errors import UsageError
from kerascnn.explain import register
from kerascnn.explain.reverse import fixed_target, unpack, walk_back


@register(source="Sundararajan et al. 2017", gradients=True)
def integrated_gradients(model, images, target=None, *, baseline=0.0, steps=50, **options):
    """The gradient averaged on the straight way from a baseline to the image, times their difference.

    The map sums to score(image) - score(baseline) (completeness), up to the error of the sum over `steps` points, which
    are those of Gauss and Legendre. Sundararajan, Taly and Yan 2017.

    Args:
        baseline: a number, or an array that broadcasts to the images.
        steps: number of points on the way.
    Example:
        maps = kerascnn.explain.integrated_gradients(model, images, 3, steps=20)
        sums = maps.sum((1, 2, 3))  # near the score of class 3 less that of a black image
    """
    if steps < 1:
        raise UsageError(f"steps must be at least 1; received {steps!r}.")
    target, arrays = fixed_target(model, images, target, options)
    try:
        starts = [np.broadcast_to(np.asarray(baseline, a.dtype), a.shape) for a in arrays]
    except ValueError as error:
        raise UsageError(f"The baseline {np.shape(baseline)} does not fit images {arrays[0].shape}.") from error
    points, weights = np.polynomial.legendre.leggauss(steps)
    totals = [0.0] * len(arrays)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        between = [(s + point * (a - s)).astype(a.dtype) for s, a in zip(starts, arrays, strict=True)]
        maps = walk_back(model, between if len(between) > 1 else between[0], target, derived=True, **options)[0]
        totals = [t + weight * m for t, m in zip(totals, maps, strict=True)]
    dtype = options.get("dtype", "float32")
    return unpack([(t * (a - s)).astype(dtype) for t, a, s in zip(totals, arrays, starts, strict=True)])
