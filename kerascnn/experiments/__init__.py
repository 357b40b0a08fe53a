"""Experiments on any network: arrays in, an `Outcome` with a table and a figure out.

`kerascnn.experiments.invariance(model, images)` and the others take any built keras.Model and images in the form that
it takes; they never change the model. `EXPERIMENTS` lists them without importing Keras.
"""

from pathlib import Path

from kerascnn.registry import Registry, room

EXPERIMENTS = Registry("experiment", __name__, Path(__file__).parent, hint="kerascnn experiments")
register = EXPERIMENTS.register

__getattr__, __dir__ = room(__name__, registry=EXPERIMENTS)
