"""Experiments on anyone's network: arrays in, an `Outcome` with a table and a figure out.

`kerascnn.experiments.invariance(model, images)` and the others take any built keras.Model and images as it takes them;
the model is never changed. `EXPERIMENTS` lists them without importing Keras.
"""

from pathlib import Path

from kerascnn.registry import Registry

EXPERIMENTS = Registry("experiment", __name__, Path(__file__).parent, hint="kerascnn experiments")
register = EXPERIMENTS.register


def __getattr__(name):
    if name in EXPERIMENTS:
        return EXPERIMENTS.get(name)
    if name.startswith("_"):
        raise AttributeError(name)
    raise AttributeError(f"module 'kerascnn.experiments' has no {name!r}; it has {', '.join(EXPERIMENTS.names())}")


def __dir__():
    return [*EXPERIMENTS.names(), "EXPERIMENTS"]
