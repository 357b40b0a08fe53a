"""Gradients averaged over many inputs: along a path from a baseline, or around the image."""

import numpy as np

from kerascnn.errors import UsageError
from kerascnn.explain import register
from kerascnn.explain.reverse import shapes_of, unpack, walk_back
from kerascnn.explain.subjects import subject
from kerascnn.explain.targets import of_output, resolve, score_value
from kerascnn.explain.walk import Task, run


def fixed_target(model, images, target, options):
    """(target that stays when the images change: None becomes each image's top class; the images as arrays)."""
    plan, arrays = subject(model, images, options.get("fallback"))
    shape_of = shapes_of(plan, arrays)
    count = resolve(plan, target, len(arrays[0]), shape_of, options.get("class_names"))[2]
    name = next(iter(target)) if isinstance(target, dict) and None in target.values() else None
    if target is None or name is not None:
        plan = plan if name is None else of_output(plan, target)[0]
        task = Task(plan.steps, plan.inputs, (score_value(plan),))
        top = run(plan, task, arrays, [], batch_size=options.get("batch_size", 64))[0][0].argmax(-1)
        target = top if name is None else [{name: int(t)} for t in top]
    if options.get("dtype") == "float64":
        arrays = [a.astype("float64") for a in arrays]
    return target, [np.repeat(a, count, axis=0) if count > len(a) else a for a in arrays]


@register(source="Sundararajan et al. 2017")
def integrated_gradients(model, images, target=None, *, baseline=0.0, steps=50, **options):
    """The gradient averaged on the straight way from a baseline to the image, times their difference.

    The map sums to score(image) - score(baseline) (completeness), up to the error of the sum over `steps` points, which
    are those of Gauss and Legendre. Sundararajan, Taly and Yan 2017.

    Args:
        baseline: a number, or an array that broadcasts to the images.
        steps: number of points on the way.
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


@register(source="Smilkov et al. 2017")
def smoothgrad(model, images, target=None, *, noise=0.15, samples=25, squared=False, random_seed=0, **options):
    """The gradient averaged over noisy copies of the image (Smilkov, Thorat, Kim, Viegas and Wattenberg 2017).

    Args:
        noise: standard deviation of the noise, as a fraction of each image's range (maximum - minimum).
        samples: number of noisy copies.
        squared: True averages the squared gradients (SmoothGrad-squared, Hooker et al. 2019).
        random_seed: seed of the noise; each image has its own stream, so that batches do not change it.
    """
    if samples < 1 or noise < 0:
        raise UsageError(f"samples must be at least 1 and noise at least 0; received {samples=}, {noise=}.")
    target, arrays = fixed_target(model, images, target, options)
    spreads = [noise * (np.ptp(a.reshape(len(a), -1), axis=1)).reshape(-1, *[1] * (a.ndim - 1)) for a in arrays]
    streams = [[np.random.default_rng([random_seed, k, i]) for i in range(len(a))] for k, a in enumerate(arrays)]
    totals = [0.0] * len(arrays)
    for _ in range(samples):
        noisy = []
        for a, spread, own in zip(arrays, spreads, streams, strict=True):
            drawn = np.stack([stream.standard_normal(a.shape[1:]) for stream in own])
            noisy.append((a + spread * drawn).astype(a.dtype))
        maps = walk_back(model, noisy if len(noisy) > 1 else noisy[0], target, derived=True, **options)[0]
        totals = [t + (m * m if squared else m) / samples for t, m in zip(totals, maps, strict=True)]
    return unpack([t.astype(options.get("dtype", "float32")) for t in totals])
