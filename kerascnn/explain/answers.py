"""Which class an explanation is about, and how probable the network finds it."""

import numbers

import numpy as np

from kerascnn.errors import UsageError
from kerascnn.explain.hiding import probabilities
from kerascnn.explain.reverse import shapes_of
from kerascnn.explain.subjects import looked_at
from kerascnn.explain.targets import class_number, score_value
from kerascnn.explain.walk import Task, run


def class_answers(model, images, target=None, class_names=None):
    """(classes, probabilities), each (N,), of what is explained of images.

    Args:
        target: as of every method. None is each image's top class.
    Returns:
        (None, None) where it is not one class of one classifier: a neuron, a set of classes, a model with several
        outputs, without class scores or without a graph.
    """
    try:
        plan, arrays = looked_at(model, images)
    except UsageError:  # a model without a graph
        return None, None
    if len(plan.outputs) > 1 or len(shapes_of(plan, arrays)(score_value(plan))) != 2:
        return None, None
    one = target is None or isinstance(target, (str, numbers.Integral)) or np.ndim(target) == 0
    targets = [target] * len(arrays[0]) if one else list(target)
    scores = run(plan, Task(plan.steps, plan.inputs, (score_value(plan),)), arrays, [])[0][0]
    if len(targets) != len(scores):
        return None, None
    try:
        classes = [
            int(score.argmax()) if wanted is None else class_number(wanted, len(score), plan.model, class_names)
            for wanted, score in zip(targets, scores, strict=True)
        ]
    except UsageError:  # neurons or sets of classes
        return None, None
    return np.array(classes), probabilities(plan, scores)[np.arange(len(scores)), classes]
