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
    seed: 1 starts the walk with one; "activation" with the explained activation itself.
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
from kerascnn.explain import register
from kerascnn.explain.caveats import plan_cautions
from kerascnn.explain.plans.folding import fold_batch_norm
from kerascnn.explain.plans.heads import HEADS
from kerascnn.explain.rules.relevance import Relevance
from kerascnn.explain.subjects import subject
from kerascnn.explain.targets import resolve
from kerascnn.explain.walk import Task, run


def walk_back(
    model,
    images,
    target=None,
    method="gradient",
    *,
    seed=1,
    class_names=None,
    fallback=None,
    batch_size=64,
    dtype="float32",
    derived=False,
):
    """(list of maps, one per input; list of images as arrays; scores (N,)): what all methods here are made of."""
    if seed not in (1, "activation"):
        raise UsageError(f"seed is 1 or 'activation'; received {seed!r}.")
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
    task = Task(plan.steps, plan.inputs, plan.inputs, seeds, method, seed)
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


@register(source="Simonyan et al. 2013", rectifier="g * (x > 0)")
def saliency(model, images, target=None, **options):
    """The plain gradient of the explained score with respect to every pixel (Simonyan et al. 2013)."""
    return unpack(walk_back(model, images, target, "gradient", **options)[0])


@register(source="Zeiler and Fergus 2013", rectifier="relu(g)")
def deconvnet(model, images, target=None, **options):
    """The deconvnet's reconstruction: unpool with switches, rectify, transposed filters (Zeiler and Fergus 2013).

    It fails the weight-randomisation test (Adebayo et al. 2018): it shows edges of the image more than what the network
    has learned.
    """
    return unpack(walk_back(model, images, target, "deconvnet", **options)[0])


@register(source="Springenberg et al. 2014", rectifier="relu(g) * (x > 0)")
def guided_backprop(model, images, target=None, **options):
    """Guided backpropagation: the gradient with negative signals dropped at rectifiers (Springenberg et al. 2014).

    It fails the weight-randomisation test (Adebayo et al. 2018): it shows edges of the image more than what the network
    has learned.
    """
    return unpack(walk_back(model, images, target, "guided_backprop", **options)[0])


@register(source="Shrikumar et al. 2016")
def gradient_x_input(model, images, target=None, **options):
    """Each pixel times its gradient (Shrikumar et al. 2016); in a bias-free ReLU network the map sums to the score."""
    maps, arrays, _ = walk_back(model, images, target, "gradient", **options)
    return unpack([m * a.astype(m.dtype) for m, a in zip(maps, arrays, strict=True)])


@register(source="Bach et al. 2015")
def lrp(model, images, target=None, *, epsilon=1e-6, alpha=None, merge_batch_norm=True, **options):
    """Layer-wise relevance propagation (Bach et al. 2015): the score shared out among the pixels.

    Args:
        epsilon: stabiliser of the epsilon rule, above 0; as it goes to 0 the map becomes gradient x input.
        alpha: None, or at least 1: convolutions then use the alpha-beta rule with beta = alpha - 1 (Bach's is 2).
        merge_batch_norm: with `alpha`, batch normalisation directly after or before a convolution or dense layer is
            first merged into it, as zennit does, so that a network has the map of its folded twin; False leaves it a
            layer of its own under the epsilon rule. Without `alpha` it makes no difference.
    """
    if not epsilon > 0:
        raise UsageError(f"epsilon must be above 0; received {epsilon!r}.")
    if alpha is not None and not alpha >= 1:
        raise UsageError(f"alpha must be at least 1 (beta is alpha - 1); received {alpha!r}.")
    rules = Relevance(float(epsilon), alpha and float(alpha), merges=bool(alpha and merge_batch_norm))
    return unpack(walk_back(model, images, target, rules, **options)[0])
