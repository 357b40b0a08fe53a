"""What the pass forward records, to look at: activations of any layer, and the switches of max-pooling."""

import numpy as np

from kerascnn.errors import UsageError
from kerascnn.explain.subjects import looked_at
from kerascnn.explain.targets import check_channels_last
from kerascnn.explain.walk import Task, run
from kerascnn.network.find import call_names, find_all, means_several
from kerascnn.network.rules.pooling import switch_positions


def activations(model, images, layers=None, *, batch_size=64, dtype="float32"):
    """The outputs of layers.

    Args:
        model, images: as for every look.
        layers: a layer's name, or a list of names and patterns (kerascnn.network.find); None: every layer's, "name#1"
            and so on where one is called twice.
    Returns:
        `dtype` array (N, H, W, channels) or (N, units) for one name, a dict {name: array} otherwise.
    """
    plan, arrays = looked_at(model, images)
    places = find_all(plan, call_names(plan) if layers is None else layers)
    wanted = tuple(place.value for place in places)
    values, _ = run(plan, Task(plan.steps, plan.inputs, wanted), arrays, [], dtype=dtype, batch_size=batch_size)
    return _named(layers, places, values)


def _named(layers, places, arrays):
    """The array of the one layer that a string names, else {name: array}."""
    if isinstance(layers, str) and not means_several(layers) and len(places) == 1:
        return arrays[0]
    return {place.name: array for place, array in zip(places, arrays, strict=True)}


def switches(model, images, layers=None, *, batch_size=64):
    """Which value each max-pooling window chose: at equal values the first in row-major order, on every backend.

    Args:
        model, images: as for every look.
        layers: a max-pooling layer's name, or a list of names; None: all of them.
    Returns:
        int32 array (N, rows, cols, channels, 2), the row and column of the chosen value in the pooling's input (one
        number for one-dimensional pooling), for one name; a dict {name: array} otherwise.
    """
    plan, arrays = looked_at(model, images)
    check_channels_last(plan)
    pools = {step.output: step for step in plan.steps if step.rule == "max_pool"}
    # A layer of the user's own may hold a pooling whose output is not the layer's
    paths = dict.fromkeys(step.layer for step in pools.values() if {*plan.layers[step.layer]} & pools.keys())
    every = call_names(plan, paths)
    named = find_all(plan, layers or every) if layers or every else []
    for place in named:
        if place.value not in pools:
            raise UsageError(
                f"Layer {place.name!r} of model {plan.model!r} is not a max-pooling layer; "
                f"those are: {', '.join(every) or 'none'}."
            )
    steps = [pools[place.value] for place in named]
    wanted = tuple(step.inputs[0] for step in steps)
    paths, _ = run(plan, Task(plan.steps, plan.inputs, wanted), arrays, [], batch_size=batch_size)
    places = [np.asarray(switch_positions(s.config, x), "int32") for s, x in zip(steps, paths, strict=True)]
    return _named(layers, named, places)
