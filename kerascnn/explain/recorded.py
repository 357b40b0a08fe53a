"""What the pass forward records, to look at: activations of any layer, and the switches of max-pooling."""

import numpy as np

from kerascnn.errors import UsageError
from kerascnn.explain.subjects import looked_at
from kerascnn.explain.targets import check_channels_last, every_call, find_layer
from kerascnn.explain.walk import Task, run
from kerascnn.network.rules.pooling import switch_positions


def activations(model, images, layers=None, *, batch_size=64, dtype="float32"):
    """The outputs of layers.

    Args:
        model, images: as for every look.
        layers: a layer's name, or a list of names; None: every layer's, "name#1" and so on where one is called twice.
    Returns:
        `dtype` array (N, H, W, channels) or (N, units) for one name, a dict {name: array} otherwise.
    """
    plan, arrays = looked_at(model, images)
    names = every_call(plan, plan.layers) if layers is None else [layers] if isinstance(layers, str) else list(layers)
    wanted = tuple(find_layer(plan, name)[1] for name in names)
    found, _ = run(plan, Task(plan.steps, plan.inputs, wanted), arrays, [], dtype=dtype, batch_size=batch_size)
    return found[0] if isinstance(layers, str) else dict(zip(names, found, strict=True))


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
    found = dict.fromkeys(step.layer for step in pools.values() if {*plan.layers[step.layer]} & pools.keys())
    every = every_call(plan, found)
    names = every if layers is None else [layers] if isinstance(layers, str) else list(layers)
    outputs = [find_layer(plan, name)[1] for name in names]
    for name, output in zip(names, outputs, strict=True):
        if output not in pools:
            raise UsageError(
                f"Layer {name!r} of model {plan.model!r} is no max-pooling layer; "
                f"those are: {', '.join(every) or 'none'}."
            )
    steps = [pools[output] for output in outputs]
    wanted = tuple(step.inputs[0] for step in steps)
    found, _ = run(plan, Task(plan.steps, plan.inputs, wanted), arrays, [], batch_size=batch_size)
    places = [np.asarray(switch_positions(s.config, x), "int32") for s, x in zip(steps, found, strict=True)]
    return places[0] if isinstance(layers, str) else dict(zip(names, places, strict=True))
