"""`kerascnn explain`: which parts of an image the answer of a run's network, or one of its neurons, depends on."""

import contextlib
import re
import warnings
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerascnn import runs
from kerascnn.commands.photographs import free, photographs, save, stacked
from kerascnn.commands.scan import channel_list
from kerascnn.commands.terminal import Subject, check_subject, computing, saying_warnings
from kerascnn.errors import UsageError, command, counted
from kerascnn.explain import EXPLANATIONS

ALL = "all"  # stands for every method, on one sheet


def methods_with(fact):
    """The names of the methods that have a fact."""
    return [name for name in EXPLANATIONS.names() if EXPLANATIONS.facts(name).get(fact)]


def _methods_help():
    return f"{', '.join(EXPLANATIONS.names())}; or {ALL}, for one sheet of all of them"


def _takes(option):
    """The names of the methods that take an option of their own."""
    return [name for name in methods_with("options") if option in EXPLANATIONS.facts(name)["options"]]


Method = Annotated[str, Parameter(help=_methods_help())]
Layer = Annotated[
    str | None,
    Parameter(
        help=f"layer whose neurons are explained; with {' and '.join(methods_with('of_layer'))}: whose maps are drawn "
        "[default: the deepest convolution with maps larger than 1x1]"
    ),
]
Patch = Annotated[
    int | None,
    Parameter(
        help=f"{', '.join(_takes('patch'))}: side of the hidden square, pixels [default: a quarter of the shorter side]"
    ),
]
Stride = Annotated[
    int | None,
    Parameter(help=f"{', '.join(_takes('stride'))}: step between squares, pixels [default: half the patch]"),
]


def explain(
    run: Subject,
    /,
    *images: str,
    method: Method = "guided_backprop",
    layer: Layer = None,
    neuron: str | None = None,
    channels: str | None = None,
    class_: str | None = None,
    top: int = 9,
    patch: Patch = None,
    stride: Stride = None,
    fallback: str | None = None,
    out: Path | None = None,
):
    """Draw which parts of images a network's answer depends on: a PNG for each image, with its numbers (NPZ).

    Parameters
    ----------
    images
        files, folders or patterns
    neuron
        CHANNEL or CHANNEL,ROW,COLUMN in that layer [default: the channels with the largest values, see --top]
    channels
        numbers of channels of that layer, separated by commas, such as 9,82,140: each at the place where it is largest
        in the image
    class_
        class to explain, by name or number [default: the most probable class of each image]
    top
        how many channels to draw if --layer is given without --neuron and --channels
    fallback
        autodiff uses automatic differentiation for your own layers that no rule can walk back through; only for methods
        made of plain gradients
    out
        folder for the files [default: explain/ in the run]
    """
    if not images:
        raise UsageError(f"No image was named. Type: {command('explain', run)} IMAGE...")
    asked_for = {"neuron": neuron, "channels": channels}
    _check_typed(method, layer, asked_for, class_, fallback, {"top": top, "patch": patch, "stride": stride})
    place = None if neuron is None else _numbers(neuron)
    places = [place] if place else None if channels is None else [(channel,) for channel in channel_list(channels)]
    check_subject(run)
    with computing() as (say, _), saying_warnings(say):
        from kerascnn.using.classifier import subject

        classifier = subject(run)
        model, prepared, labels = classifier.model, classifier.preprocessing, list(classifier.labels)
        folder = out or classifier.folder / "explain"
        hidden = {name: number for name, number in (("patch", patch), ("stride", stride)) if number is not None}
        of_maps = method in methods_with("of_layer")
        options = {
            name: {option: number for option, number in hidden.items() if name in _takes(option)}
            for name in EXPLANATIONS.names()
        }
        if of_maps and layer:
            options[method]["layer"] = layer
        if fallback is not None:
            options[method]["fallback"] = fallback
        chosen = _class(class_, labels)
        of_neurons = layer is not None and not of_maps
        asked = [] if chosen is None else [runs.plain(labels[chosen])]
        asked += [runs.plain(layer)] if layer else []
        asked += [*map(str, place or ()), *_listed(channels)] if of_neurons else []
        asked += [f"{name}{number}" for name, number in hidden.items()]
        told = [f"layer {layer}"] if of_maps and layer else []
        told += [f"{name} {counted(number, 'pixel')}" for name, number in hidden.items()]
        for few in photographs(images, prepared):
            x = prepared(stacked(few))
            if of_neurons:
                drawn = _neurons(model, few, x, method, layer, places, top, told, options.get(method, {}))
            else:
                drawn = _classes(model, few, x, method, chosen, labels, told, options)
            for photograph, image, (figure, numbers) in zip(few, x, drawn, strict=True):
                stem = free(folder / "-".join([photograph.name, method, *asked]), image)
                save([figure], stem, {"image": image, **numbers})
                say(f"{stem}.png")


def _check_typed(method, layer, asked_for, class_, fallback, numbers):
    """Errors of options that do not go together; `asked_for` and `numbers` are {option: value or None}."""
    if method != ALL:
        EXPLANATIONS.facts(method)
    gradients = methods_with("gradients")
    if fallback is not None and method not in gradients:
        raise UsageError(f"--fallback {fallback} gives plain gradients: type --method {' or '.join(gradients)}.")
    of_maps = method in methods_with("of_layer")
    for name, given in asked_for.items():
        if given is not None and (layer is None or of_maps or method == ALL):
            raise UsageError(f"--{name} {given} needs --layer NAME, and a method that goes back to the pixels.")
    if None not in asked_for.values():
        both = " and ".join(f"--{name} {given}" for name, given in asked_for.items())
        raise UsageError(f"{both} both say what is explained. Type one of them.")
    if layer is not None and method == ALL:
        raise UsageError(f"--method {method} explains classes, so --layer {layer} has no place. Leave it out.")
    if layer is not None and class_ is not None and not of_maps:
        raise UsageError(f"--layer {layer} asks for neurons and --class {class_} for a class. Type one of them.")
    for name in ("patch", "stride"):
        if numbers[name] is not None and method not in (*_takes(name), ALL):
            raise UsageError(f"--{name} {numbers[name]} goes with --method {' or '.join([*_takes(name), ALL])}.")
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise UsageError(f"--{name} {number} is not allowed: it must be at least 1.")


def _classes(model, few, x, method, chosen, labels, told, options):
    """(figure, {method: map}) of what in each image speaks for a class."""
    import numpy as np

    from kerascnn.explain import cautions, maps, sheets
    from kerascnn.explain.answers import class_probabilities

    answers = np.asarray(class_probabilities(model, model.predict_on_batch(x)))
    methods = EXPLANATIONS.names() if method == ALL else [method]
    known = [caution for name in methods for caution in cautions(name, model)]
    for number, photograph in enumerate(few):
        target, file = int(answers[number].argmax()) if chosen is None else chosen, photograph.path.name
        maps_of, notes = {}, []
        for name in methods:
            with _heard(file, notes):
                maps_of[name] = maps(name, model, x[number : number + 1], target, **options.get(name, {}))
        true = photograph.true_class(labels)
        head = f"{'all methods' if method == 'all' else method}: class {labels[target]!r}, probability "
        head += f"{answers[number][target]:.3f}" + (f"; true class {true!r}" if true else "")
        title = "\n".join([head, ", ".join([model.name, file, *told]), *known, *notes])
        if method == ALL:
            figure = sheets.comparison_sheet([photograph.seen()], maps_of, ["image"], title)
        else:
            one = maps_of[method][0]
            drawing = {"frame": photograph.frame, "signed": sheets.is_signed(method, one)}
            figure = sheets.explanation_sheet(photograph.drawn, one, title, **drawing)
        yield figure, {name: one[0] for name, one in maps_of.items()}


def _neurons(model, few, x, method, layer, places, top, told, options):
    """(figure, {neuron: map}) of what in each image speaks for neurons: `places`, or the strongest channels."""
    from kerascnn.explain import Neuron, activations, cautions, sheets

    for number, photograph in enumerate(few):
        one, maps_of, notes = x[number : number + 1], {}, []
        for channel, *unit in places or _strongest(activations(model, one, layer)[0], top):
            name = f"{layer} {channel}" + (f" at {unit[0]},{unit[1]}" if unit else "")
            with _heard(f"{photograph.path.name}, {name}", notes):
                maps_of[name] = EXPLANATIONS.get(method)(model, one, Neuron(layer, channel, *unit), **options)
        head = ", ".join([f"{method}: {layer} of {model.name}", photograph.path.name, *told])
        title = "\n".join([head, *cautions(method, model), *notes])
        figure = sheets.comparison_sheet([photograph.seen()], maps_of, ["image"], title)
        yield figure, {name.replace(" ", "_"): maps[0] for name, maps in maps_of.items()}


@contextlib.contextmanager
def _heard(what, notes):
    """Adds what is warned of empty maps within this block to `notes`; the warnings begin with what they are of."""
    from kerascnn.explain.caveats import EmptyMap

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield
    for warning in told:
        empty = warning.category is EmptyMap
        if empty:
            notes.append(f"{what}: {warning.message}")
        warnings.warn(f"{what}: {warning.message}" if empty else warning.message, warning.category, stacklevel=2)


def activations(run: Subject, /, *images: str, layers: str | None = None, out: Path | None = None):
    """Draw what a run's network computes from images: every layer's maps as numbered grids, units as bars.

    For each image there is also a sheet that shows it before and after preprocessing. The numbers (NPZ) are next to the
    figures.

    Parameters
    ----------
    images
        files, folders or patterns
    layers
        names of layers, separated by commas [default: first and last convolution, pooling, dense layers]
    out
        folder for the files [default: activations/ in the run]
    """
    if not images:
        raise UsageError(f"No image was named. Type: {command('activations', run)} IMAGE...")
    check_subject(run)
    with computing() as (say, _):
        from kerascnn import explain
        from kerascnn.explain import activation_sheets, sheets
        from kerascnn.using.classifier import subject

        classifier = subject(run)
        model, prepared = classifier.model, classifier.preprocessing
        folder = out or classifier.folder / "activations"
        names = _shown_layers(model) if layers is None else layers.split(",")
        ends = _class_outputs(model)
        labels = list(classifier.labels)
        for few in photographs(images, prepared):
            x = prepared(stacked(few))
            values = explain.activations(model, x, names)
            for number, photograph in enumerate(few):
                file = photograph.path.name
                stem = free(folder / photograph.name, x[number], "-input")
                sheet = sheets.preprocessing_sheet(
                    photograph.pixels, x[number], f"{file} before and after preprocessing"
                )
                arrays = {"pixels": photograph.pixels, "image": x[number]}
                save([sheet], stem.with_name(f"{stem.name}-input"), arrays)
                for name, value in ((name, arrays[number]) for name, arrays in values.items()):
                    title = f"{name} of {model.name}, {file}"
                    if value.ndim == 3:
                        figures = activation_sheets.activation_grids(value, title)
                    else:
                        what = f": {ends[name]}" if name in ends else ""
                        classes = labels if name in ends and value.size == len(labels) else None
                        figures = [activation_sheets.unit_sheet(value.ravel(), f"{title}{what}", classes)]
                    save(
                        figures, stem.with_name(f"{stem.name}-{runs.plain(name.replace('/', '-'))}"), {"values": value}
                    )
                say(f"{stem}-*.png")


def _class_outputs(model):
    """{layer: what it gives} of the layers whose units are the classes."""
    from kerascnn.explain.subjects import opaque_step
    from kerascnn.explain.targets import score_value
    from kerascnn.network.heads import head_step
    from kerascnn.network.plan import make_plan

    plan = make_plan(model, opaque_step)
    step_of = {step.output: step for step in plan.steps}

    def alike(value):
        """This value and those before it whose units are the same: (value, is it normalised on the way)."""
        normalised = False
        yield value, normalised
        while value in step_of and step_of[value].rule in ("identity", "batch_norm"):
            normalised |= step_of[value].rule == "batch_norm"
            value = step_of[value].inputs[0]
            yield value, normalised

    head = head_step(plan.steps, plan.outputs[0])
    later, ends = f", before the {head.rule}" if head else "", {}
    for value, normalised in alike(score_value(plan)):
        ends[value] = (
            "units of the classes, before the normalisation" if normalised else f"scores of the classes{later}"
        )
    if head is not None:
        ends |= {value: "probabilities of the classes" for value, _ in alike(plan.outputs[0])}
    return {path: ends[values[-1]] for path, values in plan.layers.items() if values[-1] in ends}


def _shown_layers(model):
    """First and last convolution, every pooling and dense layer."""
    from kerascnn.explain.subjects import opaque_step
    from kerascnn.network.find import convolutions
    from kerascnn.network.plan import make_plan

    plan = make_plan(model, opaque_step)
    kinds = plan.kinds
    deep = convolutions(plan)
    chosen = {*deep[:1], *deep[-1:], *(path for path, kind in kinds.items() if "Pooling" in kind or kind == "Dense")}
    return [path for path in kinds if path in chosen]


def _numbers(neuron):
    """ "12,3,3" as (12, 3, 3), "12" as (12,)."""
    if not re.fullmatch(r"\d+(,\d+,\d+)?", neuron):
        raise UsageError(f"--neuron {neuron!r} is not CHANNEL or CHANNEL,ROW,COLUMN. Type for example --neuron 12,3,3")
    return tuple(map(int, neuron.split(",")))


def _listed(channels):
    """What a file's name says of --channels: "channels-9-82-140", the first twelve and how many."""
    if channels is None:
        return []
    numbers = channel_list(channels)
    more = [f"of{len(numbers)}"] if len(numbers) > 12 else []
    return ["channels", *map(str, numbers[:12]), *more]


def _class(name, labels):
    """The number of a class from its name or number."""
    from kerascnn.errors import unknown

    if name is None:
        return None
    if name in labels:
        return labels.index(name)
    if name.isdecimal() and int(name) < len(labels):
        return int(name)
    raise unknown("class", name, labels)


def _strongest(values, top):
    """(channel,) of the channels of a map (h, w, channels), or units (channels,), with the largest values."""
    peaks = values.reshape(-1, values.shape[-1]).max(0)
    return [(int(channel),) for channel in (-peaks).argsort(kind="stable")[:top]]
