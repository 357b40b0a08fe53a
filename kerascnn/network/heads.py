"""How a classifier ends: the activation that turns class scores into probabilities, and classifiers with one unit.

A classifier with one unit has two classes. Its unit z, before the sigmoid, is the score of class 1, and -z is the score
of class 0. A single unit counts as a classifier if a sigmoid follows it, or if the model was compiled with a loss that
takes scores (BinaryCrossentropy(from_logits=True)); any other single unit is a number, and its only target is 0.
"""

import math

import keras
from keras import ops

from kerascnn.network.rules.rule import rule

# What a classifier's last activation may be: class scores are what goes into it.
HEADS = ("softmax", "log_softmax", "sigmoid")
TWO_CLASSES = "two_classes"


def head_step(steps, output, single=False):
    """The softmax or sigmoid that makes a plan's output, or None.

    Args:
        steps: the steps of the plan.
        output: number of the output value.
        single: True for an output of one number per image, which may be reshaped after its sigmoid.
    """
    passed = ("identity", "reshape", "squeeze", "expand") if single else ("identity",)
    producers = {step.output: step for step in steps}
    step = producers.get(output)
    while step is not None and step.rule in passed:
        step = producers.get(step.inputs[0])
    return step if step is not None and step.rule in HEADS else None


def add_two_classes(builder, model, output, shape, *, alone=True):
    """Adds the step that computes the scores of both classes, if an output is a classifier with one unit.

    Args:
        alone: True if it is the model's only output, so that the model's loss is that of this output.
    """
    if None in shape[1:] or math.prod(shape[1:]) != 1:
        return
    head = head_step(builder.steps, output, single=True)
    if head is None and alone and from_logits(model):
        scores = output
    elif head is not None and head.rule == "sigmoid":
        scores, builder.layer, builder.operation = head.inputs[0], head.layer, head.operation
    else:
        return
    value = builder.step(TWO_CLASSES, scores, (output,))
    builder.shapes[value] = (None, 2)


def from_logits(model):
    """True if a model was compiled with a loss that takes scores, not probabilities."""
    losses = keras.tree.flatten(getattr(model, "loss", None))
    return any(getattr(loss, "from_logits", False) for loss in losses)


def _two_classes(config, weights, x):
    z = ops.reshape(x, (-1, 1))
    return ops.concatenate([-z, z], 1), tuple(x.shape)


def _two_classes_back(config, weights, shape, g):
    return (ops.reshape(g[:, 1:] - g[:, :1], (-1, *shape[1:])),)


rule(TWO_CLASSES, _two_classes, _two_classes_back, "linear")
