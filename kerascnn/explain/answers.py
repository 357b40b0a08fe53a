"""Which class an explanation is about, and how probable the network finds it."""

import numbers

import numpy as np
from keras import ops

from kerascnn.errors import UsageError
from kerascnn.explain.reverse import shapes_of
from kerascnn.explain.subjects import looked_at, opaque_step
from kerascnn.explain.targets import both_scores, class_number, score_value
from kerascnn.explain.walk import Task, run
from kerascnn.network.heads import from_logits, head_step
from kerascnn.network.plan import make_plan


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


def probabilities(plan, scores):
    """Class scores (..., num_classes) as the model's probabilities: through its softmax or sigmoid.

    Where none is known (in a model of the user's own class), answers that sum to 1 are probabilities already.
    """
    head = head_step(plan.steps, plan.outputs[0])
    if both_scores(plan) is not None or (head is not None and head.rule == "sigmoid"):
        return 1 / (1 + np.exp(-scores))
    if head is None and (scores >= 0).all() and np.allclose(scores.sum(-1), 1, atol=1e-3):
        return scores
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def class_probabilities(model, answers):
    """A model's answers (N, 1) as the probabilities (N, 2) of classes 0 and 1; of more than one unit, as they are.

    A single unit without a sigmoid is taken for the score of class 1.
    """
    if len(answers.shape) != 2 or answers.shape[1] != 1:
        return answers
    second = ops.sigmoid(answers) if _is_score(model) else answers
    both = ops.concatenate([1 - second, second], 1)
    return ops.convert_to_numpy(both) if isinstance(answers, np.ndarray) else both


def outputs_as_probabilities(model, answers):
    """What a model of one answer gives, (N, classes), as probabilities of two classes or more: of a model that ends in
    scores, through a softmax, or through a sigmoid if it has one unit."""
    both = np.asarray(class_probabilities(model, np.asarray(answers)))
    plan = make_plan(model, opaque_step)
    return both if head_step(plan.steps, plan.outputs[0]) else probabilities(plan, both)


def _is_score(model):
    if from_logits(model):
        return True
    try:
        plan = make_plan(model)
    except UsageError:  # a subclassed model: Keras keeps no graph of it
        return False
    return head_step(plan.steps, plan.outputs[0], single=True) is None
