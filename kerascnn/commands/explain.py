"""`kerascnn explain`: what in an image the answer of a run's network, or one of its neurons, depends on."""

import contextlib
import itertools
import os
import re
import warnings
from collections import Counter
from pathlib import Path

from kerascnn import runs
from kerascnn.commands.scan import channel_list
from kerascnn.commands.terminal import RunName, computing, saying_warnings
from kerascnn.errors import UsageError, command
from kerascnn.explain import EXPLANATIONS
from kerascnn.files import read_arrays

# Methods that take `fallback`
GRADIENTS = ("saliency", "gradient_x_input", "integrated_gradients", "smoothgrad", "grad_cam", "layer_cam")


def explain(
    run: RunName,
    /,
    *images: str,
    method: str = "guided_backprop",
    layer: str | None = None,
    neuron: str | None = None,
    channels: str | None = None,
    class_: str | None = None,
    top: int = 9,
    patch: int | None = None,
    stride: int | None = None,
    fallback: str | None = None,
    out: Path | None = None,
):
    """Draw what in images a network's answer depends on: a PNG for each image, its numbers (NPZ) beside it.

    Parameters
    ----------
    images
        files, folders or patterns
    method
        saliency, deconvnet, guided_backprop, gradient_x_input, integrated_gradients, smoothgrad, lrp, grad_cam,
        layer_cam, occlusion; or all, for one sheet of all of them
    layer
        layer whose neurons are explained; with grad_cam and layer_cam: whose maps are drawn [default: the deepest
        convolution with maps larger than 1x1]
    neuron
        CHANNEL or CHANNEL,ROW,COLUMN in that layer [default: the channels with the largest values, see --top]
    channels
        numbers of channels of that layer, separated by commas, such as 9,82,140: each where it is largest in the image
    class_
        class to explain, by name or number [default: each image's most probable]
    top
        with --layer and neither --neuron nor --channels: how many channels to draw
    patch
        occlusion: side of the hidden square, pixels [default: a quarter of the shorter side]
    stride
        occlusion: step between squares, pixels [default: half the patch]
    fallback
        autodiff lets automatic differentiation serve layers of your own that no rule walks back through; for methods
        made of plain gradients
    out
        folder for the files [default: explain/ in the run]
    """
    if not images:
        raise UsageError(f"No image was named. Type: {command('explain', run)} IMAGE...")
    if method != "all":
        EXPLANATIONS.facts(method)
    if fallback is not None and method not in GRADIENTS:
        raise UsageError(f"--fallback {fallback} gives plain gradients: type --method {' or '.join(GRADIENTS)}.")
    of_maps = method in ("grad_cam", "layer_cam")
    for name, given in (("neuron", neuron), ("channels", channels)):
        if given is not None and (layer is None or of_maps or method in ("all", "occlusion")):
            raise UsageError(f"--{name} {given} needs --layer NAME, and a method that goes back to the pixels.")
    if neuron is not None and channels is not None:
        raise UsageError(f"--neuron {neuron} and --channels {channels} both say what is explained. Type one of them.")
    if layer is not None and method in ("all", "occlusion"):
        raise UsageError(f"--method {method} explains classes, so --layer {layer} has no place. Leave it out.")
    if layer is not None and class_ is not None and not of_maps:
        raise UsageError(f"--layer {layer} asks for neurons and --class {class_} for a class. Type one of them.")
    for name, given in (("patch", patch), ("stride", stride)):
        if given is not None and method not in ("occlusion", "all"):
            raise UsageError(f"--{name} {given} hides squares, so it goes with --method occlusion, or all.")
    place = None if neuron is None else _numbers(neuron)
    places = [place] if place else None if channels is None else [(channel,) for channel in channel_list(channels)]
    for name, number in (("top", top), ("patch", patch), ("stride", stride)):
        if number is not None and number < 1:
            raise UsageError(f"--{name} {number} is not allowed: it must be at least 1.")
    found = runs.find(run)
    folder = out or found / "explain"
    with computing() as (say, _), saying_warnings(say):
        import numpy as np

        from kerascnn import inference
        from kerascnn.explain import Neuron, activations, cautions, maps, sheets
        from kerascnn.explain.plans.heads import class_probabilities

        model, prepared, labels = inference.load(found), inference.preprocessing(found), found.read("labels")
        paths, pixels = _read_all(images, prepared)
        x = prepared(pixels)
        chosen = _class(class_, labels)
        answers = class_probabilities(model, model.predict(x, verbose=0))
        targets = answers.argmax(1) if chosen is None else np.full(len(x), chosen)
        hidden = {name: number for name, number in (("patch", patch), ("stride", stride)) if number is not None}
        options = {"occlusion": hidden, **({method: {"layer": layer}} if of_maps and layer else {})}
        if fallback is not None:
            options[method] = {**options.get(method, {}), "fallback": fallback}
        told = [f"layer {layer}"] if of_maps and layer else []
        told += [f"{name} {number} pixels" for name, number in hidden.items()]
        methods = [method]
        if method == "all":
            methods = [each for each in EXPLANATIONS.names() if each != "occlusion"] + ["occlusion"]
        notes = [caution for each in methods for caution in cautions(each, model)]
        for number, (path, name) in enumerate(zip(paths, _names(paths), strict=True)):
            one, target = x[number : number + 1], int(targets[number])
            title = ", ".join([model.name, f"class {labels[target]!r}", path.name, *told])
            asked = [] if class_ is None else [runs.plain(labels[target])]
            asked += [runs.plain(layer)] if of_maps and layer else []
            asked += [f"{name}{number}" for name, number in hidden.items()]
            stem = folder / "-".join([name, method, *asked])
            if method == "all":
                with _naming(path.name):
                    drawn = {each: maps(each, model, one, target, **options.get(each, {})) for each in methods}
                figure = sheets.comparison_sheet(one, drawn, [path.name], "\n".join([title, *notes]))
            elif layer and not of_maps:
                stem = folder / "-".join([name, method, runs.plain(layer), *map(str, place or ()), *_listed(channels)])
                drawn = {}
                for channel, *unit in places or _strongest(activations(model, one, layer)[0], top):
                    shown = f"{layer} {channel}" + (f" at {unit[0]},{unit[1]}" if unit else "")
                    with _naming(f"{path.name}, {shown}"):
                        drawn[shown] = EXPLANATIONS.get(method)(
                            model, one, Neuron(layer, channel, *unit), **options.get(method, {})
                        )
                caption = "\n".join([f"{method}, {model.name}, {path.name}", *notes])
                figure = sheets.comparison_sheet(one, drawn, [path.name], caption)
            else:
                with _naming(path.name):
                    drawn = {method: maps(method, model, one, target, **options.get(method, {}))}
                figure = sheets.explanation_sheet(one[0], drawn[method][0], "\n".join([f"{method}: {title}", *notes]))
            stem = _free(stem, one[0])
            _save(figure, stem, {"image": one[0], **{title.replace(" ", "_"): m[0] for title, m in drawn.items()}})
            say(f"{stem}.png")


@contextlib.contextmanager
def _naming(what):
    """Warnings of empty maps within this block begin with what they are of."""
    from kerascnn.explain.caveats import EmptyMap

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield
    for warning in told:
        text = f"{what}: {warning.message}" if warning.category is EmptyMap else warning.message
        warnings.warn(text, warning.category, stacklevel=2)


def activations(run: RunName, /, *images: str, layers: str | None = None, out: Path | None = None):
    """Draw what a run's network computes of images: every layer's maps as a grid, units as bars, numbers (NPZ) beside.

    Each image also gets a sheet of what it is before and after preprocessing.

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
    found = runs.find(run)
    folder = out or found / "activations"
    with computing() as (say, _):
        from kerascnn import explain, inference
        from kerascnn.explain import sheets

        model, prepared = inference.load(found), inference.preprocessing(found)
        paths, pixels = _read_all(images, prepared)
        x = prepared(pixels)
        names = _shown_layers(model) if layers is None else [name.strip() for name in layers.split(",")]
        values = explain.activations(model, x, names)
        for number, (path, own) in enumerate(zip(paths, _names(paths), strict=True)):
            stem = _free(folder / own, x[number], "-input")
            sheet = sheets.preprocessing_sheet(pixels[number], x[number], f"{path.name} before and after preprocessing")
            _save(sheet, stem.with_name(f"{stem.name}-input"), {"pixels": pixels[number], "image": x[number]})
            for name in names:
                value, title = values[name][number], f"{name} of {model.name}, {path.name}"
                if value.ndim == 3:
                    shown = min(64, value.shape[-1])
                    figure = sheets.activation_grid(value, f"{title}\n{shown} of {value.shape[-1]} channels")
                else:
                    figure = sheets.unit_sheet(value.ravel(), title)
                _save(figure, stem.with_name(f"{stem.name}-{runs.plain(name.replace('/', '-'))}"), {"values": value})
            say(f"{stem}-*.png")


def _shown_layers(model):
    """First and last convolution, every pooling and dense layer."""
    from kerascnn.explain.plans.plan import make_plan
    from kerascnn.explain.subjects import opaque_step

    kinds = make_plan(model, opaque_step).kinds
    deep = [path for path, kind in kinds.items() if "Conv" in kind]
    chosen = {*deep[:1], *deep[-1:], *(path for path, kind in kinds.items() if "Pooling" in kind or kind == "Dense")}
    return [path for path in kinds if path in chosen]


def _read_all(images, prepared):
    """(paths, uint8 pixels (N, H, W, C)) of image files, folders and patterns."""
    import numpy as np

    from kerascnn import inference
    from kerascnn.datasets.decoding import read_image

    paths = inference.image_paths(images)
    return paths, np.stack([read_image(path, prepared.resize_to, prepared.channels) for path in paths])


def _names(paths):
    """What the files of each image begin with: its stem, and where several have one stem, its path below the folder
    that all share, such as cat-0001.png."""
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    often = Counter(path.stem for path in paths)
    return [path.stem if often[path.stem] == 1 else "-".join(path.relative_to(shared).parts) for path in paths]


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


def _free(stem, image, ending=""):
    """The stem, or stem-2, stem-3 ...: the first whose numbers, if there are any, are of this image; so the files of
    another image of the same name stay."""
    import numpy as np

    for number in itertools.count(1):
        own = stem.with_name(f"{stem.name}-{number}") if number > 1 else stem
        numbers = own.with_name(f"{own.name}{ending}.npz")
        if not numbers.exists() or np.array_equal(read_arrays(numbers).get("image"), image):
            return own


def _save(figure, stem, numbers):
    """Write a figure as PNG and its arrays as NPZ."""
    import numpy as np

    with runs.replacing(stem.with_name(stem.name + ".png")) as temporary:
        figure.savefig(temporary, dpi=120)
    with runs.replacing(stem.with_name(stem.name + ".npz")) as temporary:
        np.savez_compressed(temporary, **numbers)
