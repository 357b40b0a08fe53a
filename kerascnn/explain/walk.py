"""One pass forward, recording what the rules need, and one walk back: arrays in, arrays out, on every backend."""

import dataclasses
import functools
import math

import numpy as np
from keras import ops

from kerascnn import backends
from kerascnn.errors import UsageError
from kerascnn.explain.relevance import relevance_back
from kerascnn.network.plan import read_constants
from kerascnn.network.rules.elementwise import RECTIFIERS, first_maximum
from kerascnn.network.rules.pooling import unpool
from kerascnn.network.rules.rule import RULES


@dataclasses.dataclass(frozen=True)
class Task:
    """What is computed: all that a compiled function depends on besides arrays.

    Attributes:
        steps: tuple of plan.Step.
        inputs: numbers of the model's inputs.
        wanted: numbers of the values whose maps (or, without seeds, values) come out.
        seeds: tuple of (value, kind): where the walk starts; see `seed_array`.
        method: "gradient", "deconvnet", "guided_backprop" or a relevance.Relevance.
        start: 1, or "activation" to start with the value of what is explained.
        kept: numbers of values that come out after the maps, as they are.
    """

    steps: tuple
    inputs: tuple
    wanted: tuple
    seeds: tuple = ()
    method: object = "gradient"
    start: object = 1
    kept: tuple = ()


def needed_steps(steps, ends):
    """The steps that the values `ends` depend on, in order."""
    needed, kept = set(ends), []
    for step in reversed(steps):
        if step.output in needed:
            needed.update(step.inputs)
            kept.append(step)
    return tuple(reversed(kept))


def forward(steps, values, constants, records=None):
    """Runs the steps, adding to `values` ({number: array}) and, if given, to `records` ({output: (record, xs)})."""
    for step in steps:
        xs = [values[i] if i >= 0 else constants[-i - 1] for i in step.inputs]
        weights = [constants[-i - 1] for i in step.weights]
        if records is None:
            values[step.output] = RULES[step.rule].value(step.config, weights, *xs)
        else:
            values[step.output], record = RULES[step.rule].forward(step.config, weights, *xs)
            records[step.output] = record, xs
    return values


def seed_array(kind, value, arrays):
    """What the walk starts with at one value: 1 (or a weight) where the explained score is read, 0 elsewhere.

    Args:
        kind: "top" (largest class score), "weights" (a weight per class), "position" (one neuron), "max" or "mean"
            (of one channel over the image).
        value: (N, ..., channels).
        arrays: {"scale": (N,)} and {"weights": (N, channels)}, {"index": (N, rank - 1)} or {"channel": (N,)}.
    """
    places, channels = tuple(value.shape[1:-1]), value.shape[-1]
    if kind == "top":
        start = first_maximum(value)[1]
    elif kind == "weights":
        start = ops.cast(arrays["weights"], value.dtype)
    elif kind == "position":
        start = ops.ones_like(value)
        for axis, size in enumerate(value.shape[1:], start=1):
            wide = [-1] + [size if i == axis else 1 for i in range(1, len(value.shape))]
            start = start * ops.reshape(ops.cast(ops.one_hot(arrays["index"][:, axis - 1], size), value.dtype), wide)
    else:
        channel = ops.cast(ops.one_hot(arrays["channel"], channels), value.dtype)
        channel = ops.reshape(channel, (-1, *(1 for _ in places), channels))
        if kind == "mean":
            start = channel * ops.ones_like(value) / math.prod(places)
        else:
            flat = ops.reshape(ops.sum(value * channel, -1), (-1, math.prod(places)))
            start = ops.reshape(first_maximum(flat)[1], (-1, *places, 1)) * channel
    scale = ops.cast(arrays["scale"], value.dtype)
    return start * ops.reshape(scale, (-1, *(1 for _ in value.shape[1:])))


def walk(task, images, constants, seeds):
    """(maps, one per wanted value, then the kept values; scores (N,)); without seeds (the wanted values, None)."""
    values, records = dict(zip(task.inputs, images, strict=True)), {} if task.seeds else None
    ends = [value for value, _ in task.seeds] or task.wanted
    steps = needed_steps(task.steps, [*ends, *task.kept])
    forward(steps, values, constants, records)
    if not task.seeds:
        return [values[v] for v in task.wanted], None
    signals, scores = {}, 0.0
    for (value, kind), arrays in zip(task.seeds, seeds, strict=True):
        start = seed_array(kind, values[value], arrays)
        active = start * values[value]
        scores = scores + ops.sum(active, tuple(range(1, len(active.shape))))
        start = active if task.start == "activation" or not isinstance(task.method, str) else start
        signals[value] = signals[value] + start if value in signals else start
    backward(task, steps, values, records, constants, signals)
    maps = [signals[v] if v in signals else ops.zeros_like(values[v]) for v in task.wanted]
    return [*maps, *(values[v] for v in task.kept)], scores


def backward(task, steps, values, records, constants, signals):
    """Walks the steps in reverse; `signals` ({number: array}) holds the seeds, and the maps in the end."""
    reach = set(task.wanted)
    for step in steps:
        if reach & set(step.inputs):
            reach.add(step.output)
    early = pooled_rectifiers(steps, {*signals, *task.wanted}) if isinstance(task.method, str) else {}
    for step in reversed(steps):
        if step.output not in signals or step.output not in reach or step.output in task.wanted:
            continue
        g = signals.pop(step.output)
        record, xs = records[step.output]
        weights = [constants[-i - 1] for i in step.weights]
        if step.output in early:
            parts = (unpool_rectified(task.method, step, record, values[step.output], g),)
        elif step.output in early.values():
            parts = (g,)
        elif isinstance(task.method, str):
            back = RECTIFIERS[task.method].get(step.rule, RULES[step.rule].backward)
            parts = back(step.config, weights, record, g)
        else:
            parts = relevance_back(task.method, step, weights, record, xs, values[step.output], g)
        for number, signal in zip(step.inputs, parts, strict=True):
            if number >= 0 and number in reach and signal is not None:
                signals[number] = signals[number] + signal if number in signals else signal


def pooled_rectifiers(steps, kept):
    """{output of a max-pooling: output of the ReLU that feeds it alone}, walked in one go; none of `kept`."""
    readers = {}
    for step in steps:
        for number in step.inputs:
            readers.setdefault(number, []).append(step)
    pairs = {}
    for step in steps:
        after = readers.get(step.output, [])
        if step.rule == "relu" and step.output not in kept and [s.rule for s in after] == ["max_pool"]:
            pairs[after[0].output] = step.output
    return pairs


def unpool_rectified(method, step, record, maxima, g):
    """The signal behind a ReLU and the max-pooling above it.

    The value that a window chose is above 0 if and only if the window's maximum is, so that g * (x > 0) is found on the
    smaller pooled map; only relu(g) has to wait for overlapping windows to be added up.
    """
    if method != "deconvnet":
        g = ops.where(maxima > 0, g, 0.0)
    best, sizes = record
    return unpool(step.config, g, best, sizes, rectify=method != "gradient")


@functools.lru_cache(maxsize=32)
def _compiled(task, shapes, dtype):
    return backends.compiled(functools.partial(walk, task))


def run(plan, task, images, seeds, *, dtype="float32", batch_size=64):
    """Runs a task over all images in batches.

    Args:
        images: list of arrays, one per input of the model.
        seeds: list of dicts of arrays, one per seed of the task.
    Returns:
        (list of arrays (N, ...) of `dtype`, scores (N,) or None).
    """
    with backends.precise(dtype):
        parts, scores = _run_batches(plan, task, images, seeds, dtype, batch_size)
    maps = [np.concatenate(column) if len(column) > 1 else np.array(column[0]) for column in zip(*parts, strict=True)]
    score = np.concatenate(scores) if scores else None
    check_finite(plan, maps, score)
    return maps, score


def _run_batches(plan, task, images, seeds, dtype, batch_size):
    """(list of the maps of each batch, list of the scores of each batch, empty without seeds)."""
    constants = read_constants(plan, dtype)
    rules = {step.rule for step in task.steps}
    shapes = tuple(tuple(x.shape[1:]) for x in images), tuple(tuple(c.shape) for c in constants)
    if "autodiff" in rules:
        function = functools.partial(walk, task)
    elif "opaque" in rules:  # it points to the user's layers: not kept
        function = backends.compiled(functools.partial(walk, task))
    else:
        function = _compiled(task, shapes, dtype)
    parts, scores, n = [], [], len(images[0])
    for chunk in np.array_split(np.arange(n), math.ceil(n / batch_size)):
        batch = slice(chunk[0], chunk[-1] + 1)
        some = [ops.convert_to_tensor(np.ascontiguousarray(x[batch], dtype=dtype)) for x in images]
        starts = [{k: ops.convert_to_tensor(v[batch]) for k, v in arrays.items()} for arrays in seeds]
        maps, score = function(some, constants, starts)
        parts.append([ops.convert_to_numpy(m) for m in maps])
        if score is not None:
            scores.append(ops.convert_to_numpy(score))
    return parts, scores


def check_finite(plan, arrays, scores=None):
    """Raises UsageError, naming the layer whose weights are not finite, if any array is not.

    Maps that are not finite though the scores are stay as they are: the methods warn of them.
    """
    if all(np.isfinite(a).all() for a in (*arrays, 0.0 if scores is None else scores)):
        return
    for step in plan.steps:
        for number in step.weights:
            weight = ops.convert_to_numpy(ops.cast(plan.constants[-number - 1], "float32"))
            if not np.isfinite(weight).all():
                bad = "NaN" if np.isnan(weight).any() else "infinite numbers"
                raise UsageError(
                    f"Layer {step.layer!r} of model {plan.model!r} has {bad} among its weights: nothing can be "
                    "explained. Load weights from before the training diverged (a run keeps them in best.keras)."
                )
    if scores is not None and np.isfinite(scores).all():
        return
    raise UsageError(
        f"Model {plan.model!r} answers these images with NaN or infinite numbers although its weights are finite: "
        "are the images scaled as in training?"
    )
