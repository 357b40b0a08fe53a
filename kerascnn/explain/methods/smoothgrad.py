"""SmoothGrad (Smilkov, Thorat, Kim, Viegas and Wattenberg 2017)."""

import numpy as np

from kerascnn.errors import UsageError
from kerascnn.explain import register
from kerascnn.explain.reverse import fixed_target, unpack, walk_back


@register(source="Smilkov et al. 2017", gradients=True)
def smoothgrad(model, images, target=None, *, noise=0.15, samples=25, squared=False, seed=0, **options):
    """The gradient averaged over noisy copies of the image (Smilkov, Thorat, Kim, Viegas and Wattenberg 2017).

    Args:
        noise: standard deviation of the noise, as a fraction of each image's range (maximum - minimum).
        samples: number of noisy copies.
        squared: True averages the squared gradients (SmoothGrad-squared, Hooker et al. 2019).
        seed: seed of the noise; each image has its own stream, so that batches do not change it.
    Example:
        maps = kerascnn.explain.smoothgrad(model, images, 3, samples=10)
    """
    if samples < 1 or noise < 0:
        raise UsageError(f"samples must be at least 1 and noise at least 0; received {samples=}, {noise=}.")
    target, arrays = fixed_target(model, images, target, options)
    spreads = [noise * (np.ptp(a.reshape(len(a), -1), axis=1)).reshape(-1, *[1] * (a.ndim - 1)) for a in arrays]
    streams = [[np.random.default_rng([seed, k, i]) for i in range(len(a))] for k, a in enumerate(arrays)]
    totals = [0.0] * len(arrays)
    for _ in range(samples):
        noisy = []
        for a, spread, generators in zip(arrays, spreads, streams, strict=True):
            drawn = np.stack([stream.standard_normal(a.shape[1:]) for stream in generators])
            noisy.append((a + spread * drawn).astype(a.dtype))
        maps = walk_back(model, noisy if len(noisy) > 1 else noisy[0], target, derived=True, **options)[0]
        totals = [t + (m * m if squared else m) / samples for t, m in zip(totals, maps, strict=True)]
    return unpack([t.astype(options.get("dtype", "float32")) for t in totals])
