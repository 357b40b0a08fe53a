"""The looks of `kerascnn train --watch`, by name, on images of the run's own data."""

import numpy as np

from kerascnn.callbacks.activation_stats import ActivationStats
from kerascnn.callbacks.explain_each_epoch import ExplainEachEpoch
from kerascnn.callbacks.feature_evolution import FeatureEvolution
from kerascnn.callbacks.filter_evolution import FilterEvolution
from kerascnn.callbacks.filter_grid import FilterGrid
from kerascnn.callbacks.top_patches import TopPatches

PROBE, SEARCHED, EXPLAINED = 256, 2000, 6  # images


def named_looks(names, data, prepared):
    """Callbacks for names of `kerascnn.recipes.WATCHES`, their folder to be set.

    Probe images are the test split's, as in the COMP576 trials; nothing is decided by them. Patches and features are
    searched among training images.

    Args:
        names: names.
        data: the run's ImageData.
        prepared: its Preprocessing.
    """

    def spread(split, count):
        return split.take(np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).astype(int)))

    def images(split, count):
        return prepared(spread(split, count).images[:])

    def patches():
        k, options = min(9, len(data.train)), {"class_names": data.class_names, "preprocessing": prepared}
        return [TopPatches(spread(data.train, SEARCHED), k=k, **options)]

    def explained():
        few = spread(data.test, EXPLAINED)
        options = {"class_names": data.class_names, "labels": few.labels}
        return [ExplainEachEpoch("guided_backprop", prepared(few.images[:]), **options)]

    made = {
        "filters": lambda: [FilterGrid(), FilterEvolution()],
        "activations": lambda: [ActivationStats(images(data.test, PROBE))],
        "patches": patches,
        "features": lambda: [FeatureEvolution(images(data.train, SEARCHED))],
        "explain": explained,
    }
    return [look for name in dict.fromkeys(names) for look in made[name]()]
