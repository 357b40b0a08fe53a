"""Looks during training, as ordinary Keras callbacks: `model.fit(..., callbacks=[FilterGrid("conv1")])`.

They read the network and never change what training computes; each writes PNG files with their numbers beside them.
"""

import importlib

_HOME = {
    "FilterGrid": "filter_grid",
    "FilterEvolution": "filter_evolution",
    "ActivationStats": "activation_stats",
    "FeatureEvolution": "feature_evolution",
    "TopPatches": "top_patches",
    "ExplainEachEpoch": "explain_each_epoch",
}


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module 'kerascnn.callbacks' has no {name!r}; it has {', '.join(_HOME)}")


def __dir__():
    return [*globals(), *_HOME]
