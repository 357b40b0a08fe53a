"""The reverse walk's methods: gradients, deconvnet, guided backpropagation, relevance.

All walk the network from what is explained back to the pixels, each layer by its transposed operation. They differ in
what a rectifier does to the signal g that comes back, x being its input:

    saliency          g * (x > 0)         Simonyan, Vedaldi and Zisserman 2013
    deconvnet         relu(g)             Zeiler and Fergus 2013: unpool with switches, rectify, transposed filters
    guided_backprop   relu(g) * (x > 0)   Springenberg et al. 2014

Smooth activations (LeakyReLU, ELU, SiLU, GELU, tanh ...) are not rectifiers: all three use their derivative. Of a
network without rectifiers all three are therefore the plain gradient; deconvnet and guided_backprop then warn. All
methods warn of maps that are zero everywhere or not finite (kerascnn.explain.caveats).

Arguments that every method takes:
    model: a built Functional or Sequential keras.Model, nested to any depth; it is not changed.
    images: float32 (N, H, W, C) as the model takes them; for several inputs a list or dict of arrays.
    target: a class (number, or name with class_names=), a set of classes (their sum), a Neuron, or a list or array of
        these, one per image (or several for a single image: one map each). None: each image's top class. Class scores
        are taken before the softmax or sigmoid. A classifier with one unit z has two classes: z is the score of class
        1, -z that of class 0. {"name of an output": one of these} says which output of several is meant.
Options:
    start: 1 starts the walk with one; "activation" with the explained activation itself.
    class_names: the classes' names.
    fallback: "autodiff" lets automatic differentiation serve layers without a rule (plain gradients only; warns). It
        does so by itself, for Keras' own layers and operations, where that is exact: for plain gradients unless a layer
        is quantised or mixes images, for deconvnet and guided_backprop where no ReLU is inside (LSTM with tanh).
    batch_size: images at a time; the maps do not depend on it.
    dtype: "float32" or "float64", in which everything is computed and returned, whatever the model's precision.
Returns:
    array (N, H, W, C) of `dtype`; a list of them for a model with several inputs.
Raises:
    UsageError: what is wrong with the model, images, target or options, and what to type.
"""

import warnings

import numpy as np

from kerascnn import backends
from kerascnn.errors import UsageError
from kerascnn.explain.caveats import plan_cautions
from kerascnn.explain.folding import fold_batch_norm
from kerascnn.explain.relevance import Relevance
from kerascnn.explain.subjects import subject
from kerascnn.explain.targets import of_output, resolve, score_value
from kerascnn.explain.walk import Task, run
from kerascnn.network.heads import HEADS


def walk_back(
    model,
    images,
    target=None,
    method="gradient",
    *,
    start=1,
    class_names=None,
    fallback=None,
    batch_size=64,
    dtype="float32",
    derived=False,
):
    """(list of maps, one per input; list of images as arrays; scores (N,)): what all methods here are made of."""
    if start not in (1, "activation"):
        raise UsageError(f"start is 1 or 'activation'; received {start!r}.")
    if fallback and method != "gradient":
        raise UsageError("fallback='autodiff' gives plain gradients: use saliency, or a method made of gradients.")
    plan, arrays = subject(model, images, fallback, derived, method)
    for caution in plan_cautions(method, plan):
        warnings.warn(caution, stacklevel=4)
    shape_of = shapes_of(plan, arrays)
    seeds, starts, count = resolve(plan, target, len(arrays[0]), shape_of, class_names)
    if isinstance(method, Relevance) and method.merges:
        with backends.precise(dtype):
            plan = fold_batch_norm(plan, [*plan.inputs, *(value for value, _ in seeds)], shape_of, dtype)
    if count != len(arrays[0]):
        arrays = [np.repeat(a, count, axis=0) for a in arrays]
    task = Task(plan.steps, plan.inputs, plan.inputs, seeds, method, start)
    maps, scores = run(plan, task, arrays, starts, dtype=dtype, batch_size=batch_size)
    return maps, arrays, scores


def shapes_of(plan, arrays):
    """Function value number -> its shape, batch first; where the model leaves sizes open, one image is run to see."""

    def shape_of(value):
        after = [s.output for s in plan.steps if s.inputs == (value,) and s.rule in HEADS]
        known = plan.shapes.get(value) or plan.shapes.get(after[0] if after else None)
        if known is None or None in known[1:]:
            task = Task(plan.steps, plan.inputs, (value,))
            known = run(plan, task, [a[:1] for a in arrays], [])[0][0].shape
        return known

    return shape_of


def unpack(maps):
    """One array for a model with one input, a list for several."""
    return maps[0] if len(maps) == 1 else maps


def fixed_target(model, images, target, options):
    """(target that stays when the images change: None becomes each image's top class; the images as arrays)."""
    plan, arrays = subject(model, images, options.get("fallback"))
    shape_of = shapes_of(plan, arrays)
    count = resolve(plan, target, len(arrays[0]), shape_of, options.get("class_names"))[2]
    name = next(iter(target)) if isinstance(target, dict) and None in target.values() else None
    if target is None or name is not None:
        plan = plan if name is None else of_output(plan, target)[0]
        task = Task(plan.steps, plan.inputs, (score_value(plan),))
        top = run(plan, task, arrays, [], batch_size=options.get("batch_size", 64))[0][0].argmax(-1)
        target = top if name is None else [{name: int(t)} for t in top]
    if options.get("dtype") == "float64":
        arrays = [a.astype("float64") for a in arrays]
    return target, [np.repeat(a, count, axis=0) if count > len(a) else a for a in arrays]
