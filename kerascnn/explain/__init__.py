"""Looks inside one image: what in it a network's answer, or any of its neurons, depends on.

`kerascnn.explain.saliency(model, images, target)` and the other methods take any built Functional or Sequential
keras.Model and images as it takes them, and return arrays; the model is never changed. `EXPLANATIONS` finds the methods
by name without importing Keras. `Neuron(layer, channel, row, col)` is a target besides classes.

Facts of a method (literals in its `@register(...)`):
    source: who proposed it, with the year.
    rectifier: what it does to the signal g at a ReLU with input x, where that defines it.
    gradients: True where it is made of plain gradients, so that it takes `fallback`.
    of_layer: True where its maps are those of a layer, which `layer` names; they are heat maps, without a sign.
    zero: why a map may be zero everywhere, where there is a reason of its own.
    options: the names of its own options that the command line takes, too.
    fails_randomisation: True where the maps hardly change with the weights (Adebayo et al. 2018).
"""

from pathlib import Path

from kerascnn.registry import Registry, room

_FOLDER = Path(__file__).parent / "methods"
EXPLANATIONS = Registry("explanation method", f"{__name__}.methods", _FOLDER, hint="kerascnn explain --help")


def register(**facts):
    """Decorator: the function becomes a method, and warns of maps that are empty (kerascnn.explain.caveats)."""

    def add(function):
        from kerascnn.explain.caveats import warned

        return EXPLANATIONS.register(**facts)(warned(function, facts))

    return add


# What is no method but belongs to the looks: name -> file.
_OTHERS = {
    "Neuron": "targets",
    "coverage": "coverage_table",
    "activations": "recorded",
    "cautions": "caveats",
    "switches": "recorded",
    "enlarge": "class_maps",
    "maps": "by_name",
    "occlusion_scores": "methods.occlusion",
    "occlusion_trio": "methods.occlusion",
    "feature_images": "optimised",
    "nearest_images": "nearest",
}

__getattr__, __dir__ = room(__name__, _OTHERS, registry=EXPLANATIONS)
