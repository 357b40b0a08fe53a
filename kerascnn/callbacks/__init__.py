"""Looks during training, as ordinary Keras callbacks: `model.fit(..., callbacks=[FilterGrid("conv1")])`.

They read the network and never change what training computes; each writes PNG files with their numbers beside them.

`kerascnn train --watch NAME` takes the looks of a run from functions `name(data, prepared) -> list of callbacks` in the
files of this folder: `data` is the run's ImageData, `prepared` its Preprocessing, and the folder is set later. Probe
images are the test split's, as in the COMP 576 trials; nothing is decided by them. Training images are searched.
`LOOKS` lists them without importing Keras, and a look that nobody asked for is never imported.
"""

from pathlib import Path

from kerascnn.registry import Registry, room

LOOKS = Registry("look during training", __name__, Path(__file__).parent, hint="kerascnn train --help")
register = LOOKS.register

_HOME = {
    "FilterGrid": "filter_grid",
    "FilterEvolution": "filter_evolution",
    "ActivationStats": "activation_stats",
    "FeatureEvolution": "feature_evolution",
    "TopPatches": "top_patches",
    "ExplainEachEpoch": "explain_each_epoch",
}

__getattr__, __dir__ = room(__name__, _HOME)
