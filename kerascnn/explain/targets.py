"""What is explained: a class, a set of classes, one neuron, a channel; per image or one for all."""

import dataclasses
import numbers

import numpy as np

from kerascnn.errors import UsageError, unknown
from kerascnn.network.find import find
from kerascnn.network.heads import TWO_CLASSES, head_step


@dataclasses.dataclass(frozen=True)
class Neuron:
    """One unit of a layer's output, as a target.

    Args:
        layer: the layer's name, or its path in a nested model ("block1/conv2"); "conv#2" is the second call of a
            shared layer.
        channel: number of the channel (for a dense layer: of the unit).
        row, col: its place in the map; both None: the place where the channel is largest in each image.
        reduce: with row and col None: "max", or "mean" for the channel's mean over the map.
    """

    layer: str
    channel: int
    row: int | None = None
    col: int | None = None
    reduce: str = "max"


def score_value(plan):
    """Number of the value that holds the class scores of the first output: before its softmax or sigmoid.

    For a classifier with one unit z these are the two numbers -z and z (kerascnn.network.heads).
    """
    both = both_scores(plan)
    if both is not None:
        return both
    head = head_step(plan.steps, plan.outputs[0])
    return plan.outputs[0] if head is None else head.inputs[0]


def both_scores(plan):
    """Number of the value that holds -z and z, if the first output is a classifier with one unit z; else None."""
    steps = (step for step in plan.steps if step.rule == TWO_CLASSES and step.config == plan.outputs[:1])
    return next((step.output for step in steps), None)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One target, resolved: a value, how to start there, and the arrays' row."""

    value: int
    kind: str
    row: tuple = ()


def resolve(plan, target, num_images, num_classes_shape, class_names=None):
    """(seeds, arrays, number of maps) of a target as a user gives it.

    Args:
        target: None, a class (number or name), a set of classes, a Neuron, {output: one of these} for a model with
            several outputs, or a list or array of these.
        num_images: how many images there are.
        num_classes_shape: function value number -> its shape, batch first.
        class_names: names of the classes, for targets given by name.
    Returns:
        seeds as in walk.Task, one dict of arrays each, and how many maps come out: one image and a list of targets
        make one map per target.
    """
    one = _is_one(target)
    targets = [target] * num_images if one else list(target)
    if not targets:
        raise UsageError("An empty list of targets was given: name at least one class or Neuron, or leave target out.")
    if not one and len(targets) != num_images and num_images != 1:
        raise UsageError(
            f"There are {num_images} images and {len(targets)} targets: give one target for all, or one per image, or "
            "several for a single image."
        )
    context = plan, num_classes_shape, class_names
    wanted = [_resolve_one(t, *context) for t in (targets[:1] if one else targets)] * (len(targets) if one else 1)
    seeds, arrays = [], []
    for key in dict.fromkeys((w.value, w.kind) for w in wanted):
        here = [(w.value, w.kind) == key for w in wanted]
        example = next(w.row for w, h in zip(wanted, here, strict=True) if h)
        rows = np.array([w.row if h else example for w, h in zip(wanted, here, strict=True)])
        seed = {"scale": np.array(here, "float32")}
        name, dtype = {"weights": ("weights", "float32"), "position": ("index", "int32")}.get(
            key[1], ("channel", "int32")
        )
        if key[1] != "top":
            seed[name] = rows.astype(dtype)[:, 0] if name == "channel" else rows.astype(dtype)
        seeds.append(key)
        arrays.append(seed)
    return tuple(seeds), arrays, len(targets)


def _is_one(target):
    if target is None or isinstance(target, str | Neuron | dict | set | frozenset | numbers.Integral):
        return True
    if isinstance(target, np.ndarray) and target.ndim == 0:
        return True
    if isinstance(target, list | tuple | range) or (isinstance(target, np.ndarray) and target.ndim == 1):
        return False
    raise UsageError(
        f"{target!r} is not a target: give a class (a number or a name), a set of classes, "
        "kerascnn.explain.Neuron(layer, channel), {output: class}, or a list of these, one per image."
    )


def _resolve_one(target, plan, shape_of, class_names):
    if isinstance(target, Neuron):
        return resolve_neuron(target, plan, shape_of)
    if isinstance(target, dict):
        plan, target = of_output(plan, target)
    if len(plan.outputs) > 1:
        names = plan.output_names
        raise UsageError(
            f"Model {plan.model!r} has {len(names)} outputs, {', '.join(names)}: say which is meant with "
            f"target={{{names[0]!r}: class}}, or with target=kerascnn.explain.Neuron(layer, channel)."
        )
    value = score_value(plan)
    shape = shape_of(value)
    if len(shape) != 2:
        raise UsageError(
            f"Model {plan.model!r} does not end in class scores: its output is {shape[1:]} per image. Name what is "
            "to be explained with target=kerascnn.explain.Neuron(layer, channel, row, col)."
        )
    if target is None:
        return Wanted(value, "top")
    weights = np.zeros(shape[1])
    for one in target if isinstance(target, set | frozenset) else [target]:
        weights[class_number(one, shape[1], plan.model, class_names)] = 1
    return Wanted(value, "weights", tuple(weights))


def of_output(plan, target):
    """(the plan with one output, what is explained there) of a target {name of an output: class}.

    Raises:
        UsageError: no such output, or not one of them.
    """
    if len(target) != 1:
        raise UsageError(f"A target names one output, as {{{plan.output_names[0]!r}: class}}; received {target!r}.")
    ((name, inner),) = target.items()
    if name not in plan.output_names:
        raise unknown(f"output of {plan.model}", str(name), plan.output_names)
    value = plan.outputs[plan.output_names.index(name)]
    return dataclasses.replace(plan, outputs=(value,), output_names=(name,)), inner


def class_number(target, num_classes, model, class_names=None):
    """A class given by number or name, as a number.

    Raises:
        UsageError: there is no such class.
    """
    if isinstance(target, str):
        if class_names is None:
            raise UsageError(
                f"The class {target!r} was given by name, but the names are not known here: pass class_names=, or the "
                "class's number."
            )
        if target not in class_names:
            raise unknown("class", target, class_names)
        return list(class_names).index(target)
    if isinstance(target, bool | np.bool_) or not isinstance(target, numbers.Integral | np.ndarray):
        raise UsageError(f"{target!r} is not a class: give its number, 0 to {num_classes - 1}, or its name.")
    if num_classes == 1 and int(target) == 1:
        raise UsageError(
            f"Model {model!r} has one unit without a sigmoid, so its only target is 0. If it is the score of class 1, "
            "compile the model with keras.losses.BinaryCrossentropy(from_logits=True): then it has classes 0 and 1."
        )
    if not 0 <= int(target) < num_classes:
        raise UsageError(
            f"Model {model!r} has no class {int(target)}: it has {num_classes} classes, 0 to {num_classes - 1}."
        )
    return int(target)


def check_channels_last(plan):
    """Raise a UsageError for a model whose maps are not (N, rows, columns, channels)."""
    if plan.channels_first:
        raise UsageError(
            f"Model {plan.model!r} has its channels first; looks at maps and places need channels last. Build it with "
            'data_format="channels_last": the weights are the same, but for those of a Dense after a Flatten.'
        )


def resolve_neuron(neuron, plan, shape_of):
    """The Wanted of a Neuron.

    Raises:
        UsageError: no such layer, channel or place.
    """
    check_channels_last(plan)
    _, path, value = find(plan, neuron.layer)
    places, channels = shape_of(value)[1:-1], shape_of(value)[-1]
    if not 0 <= neuron.channel < channels:
        raise UsageError(f"Layer {path!r} has no channel {neuron.channel}: it has {channels}, 0 to {channels - 1}.")
    given = [i for i in (neuron.row, neuron.col) if i is not None]
    if not given and neuron.reduce not in ("max", "mean"):
        raise unknown("reduction of a channel", neuron.reduce, ("max", "mean"))
    if not places:
        if given:
            raise UsageError(f"Layer {path!r} has units, not maps: leave row and col out of {neuron}.")
        return Wanted(value, "position", (neuron.channel,))
    if not given:
        return Wanted(value, neuron.reduce, (neuron.channel,))
    if len(given) != len(places):
        raise UsageError(f"A neuron of layer {path!r} has {len(places)} coordinates; received {neuron}.")
    if any(not 0 <= i < n for i, n in zip(given, places, strict=True)):
        size = "x".join(str(n) for n in places)
        raise UsageError(f"The maps of layer {path!r} are {size}: {tuple(given)} lies outside; they begin at 0.")
    return Wanted(value, "position", (*given, neuron.channel))
