"""How far features move as the image is moved, scaled, rotated or degraded (Zeiler and Fergus 2013, figure 5).

The paper shows five images, translated vertically, scaled and rotated, at layers 1 and 7, without saying how the border
was filled. The fill affects the result, so it is an option here.
"""

from typing import Literal

import numpy as np
import pandas
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from scipy import ndimage

from kerascnn.errors import UsageError, unknown
from kerascnn.experiments import register
from kerascnn.experiments.asked import layer_names
from kerascnn.experiments.kept import Kept, blocks
from kerascnn.experiments.labels import check_classes, checked_labels
from kerascnn.experiments.outcome import Outcome, mean_interval, told_interval
from kerascnn.explain.answers import outputs_as_probabilities
from kerascnn.explain.recorded import activations
from kerascnn.explain.subjects import opaque_step
from kerascnn.network.find import call_names, convolutions
from kerascnn.network.plan import make_plan
from kerascnn.plots import BLUE, GREEN, ORANGE, PURPLE, RED
from kerascnn.progress import Progress
from kerascnn.using.features import feature_names

FILLS = ("zeros", "mirror", "mean")
CHANGES = {  # name: (usual amounts, the amount that changes nothing, name of the axis)
    "translation": (np.arange(-8, 9, 2), 0, "pixels moved down"),
    "horizontal": (np.arange(-8, 9, 2), 0, "pixels moved to the right"),
    "scale": (np.linspace(1 / 1.8, 1.8, 9), 1, "times as large"),
    "rotation": (np.arange(0, 361, 30), 0, "degrees turned, counterclockwise"),
    "brightness": (np.linspace(-1, 1, 9), 0, "added, in standard deviations of the image"),
    "contrast": (np.linspace(0, 2, 9), 1, "times the contrast"),
    "blur": (np.linspace(0, 3, 7), 0, "standard deviation of the blur, pixels"),
    "noise": (np.linspace(0, 1, 6), 0, "noise, in standard deviations of the image"),
}
FILLED = ("translation", "horizontal", "scale", "rotation", "blur")  # changes that bring in what is beyond the border
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE)
DRAWN = 5  # single images, as in the paper


@register(source="Zeiler and Fergus 2013, figure 5")
def invariance(
    model,
    images,
    labels=None,
    *,
    change="translation",
    amounts=None,
    layers=None,
    fill="zeros",
    batch_size=64,
    seed=0,
    raw=False,
    keep=None,
    say=None,
):
    """How far features move as images change, and how the probability of the class changes.

    Args:
        model: keras.Model with one image input, ending in class probabilities or in scores, of which they are made.
        images: float (N, H, W, C) as the model takes them, or anything of that length that gives such arrays for
            slices; only a batch of them is in memory at a time.
        labels: int (N,), the true classes; None: the classes predicted for the unchanged images.
        change: a name in `CHANGES`.
        amounts: how much, in the unit of the change; None: the usual amounts; the usual pixels are those for images of
            32 pixels, and more for larger images.
        layers: names of layers; None: the first convolution, the last one, and the last layer before the scores.
        fill: what fills the border: "zeros", "mirror" or "mean" (the image's own mean colour).
        batch_size: images computed at once; the result does not depend on it.
        seed: seed of the noise.
        raw: True draws the distances themselves, as the paper does; False their ratio to the length of the features.
        keep: folder in which what was measured is saved, so that a stopped experiment continues; None: none.
        say: called with lines of progress.
    Returns:
        Outcome. Table: layer, amount, distance (mean Euclidean distance of the features over the images), distance_low
        and distance_high (its 95% interval), relative (each distance divided by the length of the unchanged features),
        low and high (its 95% interval), images; the rows of layer "probability" have the probability of the class in
        relative. Table "areas": layer, area (the mean of relative over the amounts), low, high, images, to compare
        networks. Table "images": layer, amount, image, distance and relative of the images that are drawn. Arrays:
        "relative" and "distance" (layers, amounts, N) and "probability" (amounts, N).
    Raises:
        UsageError: the change, the fill or a layer is unknown, a layer gives the class probabilities, an amount is not
            possible, or a label is not one of the network's classes.
    """
    amounts = _checked(change, amounts, fill, np.shape(images[:1])[1:3])
    names = _layers(make_plan(model, opaque_step), layers)
    labels = None if labels is None else checked_labels(labels, len(images))
    parts = blocks(len(images), batch_size)
    progress = Progress(f"{change}, batch", len(parts), say)
    kept = Kept(keep, model, images, labels, change, amounts, names, fill, batch_size, seed, progress=progress)
    measured = []
    for part in parts:

        def of_batch(part=part):
            few = np.asarray(images[part], "float32")
            numbers = range(part.start, part.stop)
            noise = [np.random.default_rng([seed, number]).standard_normal(few.shape[1:]) for number in numbers]
            options = (change, amounts, fill, np.array(noise, "float32"))
            return _distances(model, few, None if labels is None else labels[part], names, *options)

        measured.append(kept.measure(f"images {part.start}", of_batch))
    distance, length, probability = (
        np.concatenate([each[key] for each in measured], -1) for key in ("distance", "length", "probability")
    )
    relative = distance / length[:, None]
    return Outcome(
        f"invariance-{change}",
        _table(names, amounts, distance, relative, probability),
        (*_findings(names, relative, change, fill), *_straight(names, relative, change, amounts)),
        lambda: _figure(names, amounts, distance if raw else relative, probability, change, fill, model.name, raw),
        {"amounts": amounts, "relative": relative, "distance": distance, "probability": probability},
        {"areas": areas(names, relative), "images": _single(names, amounts, distance, relative, probability)},
    )


def _distances(model, images, labels, names, change, amounts, fill, noise):
    """{"distance": (layers, amounts, N), "length": (layers, N) of the unchanged features, "probability": (amounts, N)}
    of a batch of images."""

    def features(given):
        maps = activations(model, given, names, batch_size=len(given))
        answers = outputs_as_probabilities(model, model.predict_on_batch(given))
        return [maps[name].reshape(len(given), -1) for name in names], answers

    original, answers = features(images)
    labels = answers.argmax(1) if labels is None else labels
    check_classes(labels, answers.shape[1])
    distance = np.zeros((len(names), len(amounts), len(images)))
    probability = np.zeros((len(amounts), len(images)))
    for place, amount in enumerate(amounts):
        moved, answers = features(changed(images, change, amount, fill, noise))
        for layer, (before, after) in enumerate(zip(original, moved, strict=True)):
            distance[layer, place] = np.linalg.norm(after - before, axis=1)
        probability[place] = answers[np.arange(len(labels)), labels]
    length = np.array([np.maximum(np.linalg.norm(layer, axis=1), 1e-12) for layer in original])
    return {"distance": distance, "length": length, "probability": probability}


def changed(images, change, amount, fill="zeros", pattern=None):
    """Images float32 (N, H, W, C), changed by an amount; `pattern` is the noise, of standard deviation 1."""
    images = np.asarray(images, "float32")
    axes = (1, 2, 3)
    if change == "brightness":
        return images + np.float32(amount) * images.std(axes, keepdims=True)
    if change == "contrast":
        mean = images.mean((1, 2), keepdims=True)
        return mean + np.float32(amount) * (images - mean)
    if change == "noise":
        return images + np.float32(amount) * images.std(axes, keepdims=True) * pattern
    mean = images.mean((1, 2), keepdims=True) if fill == "mean" else np.float32(0)
    mode = "mirror" if fill == "mirror" else "constant"
    centred = images - mean  # so that the constant 0 is the mean colour
    if change == "blur":
        out = ndimage.gaussian_filter(centred, (0, amount, amount, 0), mode=mode) if amount else centred
    elif change in ("translation", "horizontal"):
        shift = (0, amount, 0, 0) if change == "translation" else (0, 0, amount, 0)
        out = ndimage.shift(centred, shift, order=1, mode=mode)
    else:
        out = _turned(centred, change, amount, mode)
    return out + mean


def _turned(images, change, amount, mode):
    """Images scaled or rotated about their centre, bilinearly."""
    height, width = images.shape[1:3]
    if change == "scale":
        matrix = np.eye(2) / amount
    else:
        angle = np.deg2rad(amount % 360)
        matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = (np.array([height, width]) - 1) / 2
    offset = centre - matrix @ centre
    full = np.eye(4)
    full[1:3, 1:3] = matrix
    return ndimage.affine_transform(images, full, (0, *offset, 0), order=1, mode=mode)


def _checked(change, amounts, fill, size):
    """The amounts as numbers, or an error; `size` is (height, width) of the images."""
    if change not in CHANGES:
        raise unknown("change of images", change, CHANGES)
    if fill not in FILLS:
        raise unknown("filling", fill, FILLS)
    if amounts is None:
        amounts = CHANGES[change][0]
        if change in ("translation", "horizontal"):
            amounts = amounts * max(1, min(size) // 32)
    amounts = np.asarray(amounts, "float64").ravel()
    lowest = {"scale": 1e-3, "blur": 0.0, "noise": 0.0}.get(change, -np.inf)
    if not len(amounts) or not np.isfinite(amounts).all() or amounts.min() < lowest:
        least = "" if lowest == -np.inf else f" of at least {lowest:g}"
        raise UsageError(f"amounts={amounts.tolist()} is not allowed for {change}: give numbers{least}.")
    return amounts


def usual_layers(model, *, first=True):
    """Names of the first convolution, the last one, and the last layer before the scores, where they exist.

    Convolutions that only scale pixels, before the first filter larger than a pixel, do not count, nor does one that
    gives the scores, as in SqueezeNet: what it sees is then the last layer.

    Args:
        first: False leaves the first convolution out, unless there is only one.
    """
    return _usual(make_plan(model, opaque_step), first)


def _layers(plan, layers):
    return _usual(plan) if layers is None else feature_names(plan, layers)


def _usual(plan, first=True):
    deep, dense = hidden_layers(plan)
    last = deep[-1:]
    weighted = [path for path, kind in plan.kinds.items() if path in convolutions(plan) or kind == "Dense"]
    if deep and weighted[-1] in convolutions(plan) and weighted[-1] not in deep:
        last, dense = (), [_seen(plan, weighted[-1])]
    paths = dict.fromkeys([*(deep[:1] if first else ()), *last, *dense[-1:]])
    return [call_names(plan, [path])[-1] for path in paths or weighted[:1]]


def hidden_layers(plan):
    """(paths of the convolutions, paths of the dense layers) of a network that are neither a scaling of the pixels,
    before the first filter larger than a pixel, nor give the scores, unless there are no others."""
    kernels = {s.layer: plan.constants[-s.weights[0] - 1].shape for s in plan.steps if s.rule == "conv" and s.weights}
    deep = convolutions(plan)
    large = [number for number, path in enumerate(deep) if max(kernels.get(path, (2,))[:-2], default=2) > 1]
    deep = deep[large[0] :] if large else deep
    weighted = [path for path, kind in plan.kinds.items() if path in deep or kind == "Dense"]
    hidden = weighted[:-1]
    return [p for p in hidden if p in deep] or deep, [p for p in hidden if p not in deep]


def _seen(plan, path):
    """The layer whose maps a convolution sees, padding and dropout aside."""
    made = {step.output: step for step in plan.steps}
    step = next(step for step in plan.steps if step.layer == path)
    while step.inputs[0] in made:
        step = made[step.inputs[0]]
        if plan.kinds[step.layer] not in ("ZeroPadding2D", "Dropout", "SpatialDropout2D") and step.layer != path:
            return step.layer
    return path


def _table(names, amounts, distance, relative, probability):
    rows = []
    for place, amount in enumerate(amounts):
        for layer, name in enumerate(names):
            raw = mean_interval(distance[layer, place])
            rows.append((name, amount, *raw, *mean_interval(relative[layer, place]), distance.shape[-1]))
        rows.append(("probability", amount, *[np.nan] * 3, *mean_interval(probability[place]), distance.shape[-1]))
    columns = ["layer", "amount", "distance", "distance_low", "distance_high", "relative", "low", "high", "images"]
    return pandas.DataFrame(rows, columns=columns).sort_values(["layer", "amount"], kind="stable", ignore_index=True)


def _single(names, amounts, distance, relative, probability):
    """The curves of single images that are drawn, as a table."""
    rows = [
        (name, amount, image, *(of[place, image] for of in values))
        for name, *values in [
            *zip(names, distance, relative, strict=True),
            ("probability", probability * np.nan, probability),
        ]
        for place, amount in enumerate(amounts)
        for image in range(min(DRAWN, probability.shape[1]))
    ]
    return pandas.DataFrame(rows, columns=["layer", "amount", "image", "distance", "relative"])


def areas(names, relative):
    """A DataFrame with the area under each layer's curve, as the mean of relative (layers, amounts, N) over amounts."""
    rows = [(name, *mean_interval(area), len(area)) for name, area in zip(names, relative.mean(1), strict=True)]
    return pandas.DataFrame(rows, columns=["layer", "area", "low", "high", "images"])


def _findings(names, relative, change, fill):
    """The area under each layer's curve, and whether the first layer moves more than the last."""
    said = [
        f"{row.layer}: mean relative distance over the amounts {row.area:.3f} "
        f"{told_interval(row.low, row.high, row.images, form='{:.3f}')}"
        for row in areas(names, relative).itertuples()
    ]
    if len(names) > 1:
        area = relative.mean(1)
        mean, low, high = mean_interval(area[0] - area[-1])
        verdict = "more than" if low > 0 else "less than" if high < 0 else "not measurably otherwise than"
        border = f" (border: {fill})" if change in FILLED else ""
        said.append(
            f"Under {change}{border} the features of {names[0]} move {verdict} those of {names[-1]}: difference "
            f"{mean:.3f} {told_interval(low, high, relative.shape[-1], form='{:.3f}')}."
        )
    return tuple(said)


def linearity(relative, amounts, change):
    """How much of the variation of each distance a straight line through how far the image was changed explains.

    Args:
        relative: (..., amounts, N) distances.
        amounts: (amounts,), pixels or factors.
        change: "translation", "horizontal" or "scale", of which the logarithm counts.
    Returns:
        float64 (..., N): squared correlations, nan for distances that do not vary.
    """
    amounts = np.asarray(amounts, "float64")
    far = np.abs(np.log(amounts) if change == "scale" else amounts)
    far = (far - far.mean())[:, None]
    apart = relative - relative.mean(-2, keepdims=True)
    with np.errstate(invalid="ignore"):
        return (apart * far).sum(-2) ** 2 / ((apart**2).sum(-2) * (far**2).sum())


def _straight(names, relative, change, amounts):
    """Whether the last layer's distance is nearly linear in how far the image was moved or scaled, as in the paper."""
    if change not in ("translation", "horizontal", "scale") or len(np.unique(np.abs(amounts))) < 3:
        return ()
    first, last = (values[np.isfinite(values)] for values in linearity(relative[[0, -1]], amounts, change))
    if not len(last):
        return ()
    mean, low, high = mean_interval(last)
    verdict = "nearly linear" if low > 0.9 else "not nearly linear" if high < 0.9 else "not known to be nearly linear"
    than = f"; at {names[0]} it explains {first.mean():.0%}" if len(names) > 1 and len(first) else ""
    of_what = "the logarithm of the scale" if change == "scale" else "the number of pixels"
    return (
        f"The distance at {names[-1]} is {verdict} in {of_what}: a straight line explains {mean:.0%} of its variation "
        f"{told_interval(*np.clip((low, high), 0, 1), len(last), form='{:.0%}')}{than}.",
    )


def _figure(names, amounts, distance, probability, change, fill, model, raw):
    """The curves of the first five images, thin, and the mean of all with its band, for each layer and the class."""
    figure = Figure(figsize=(3.4 * (len(names) + 1), 3.6), layout="constrained")
    panels = figure.subplots(1, len(names) + 1, squeeze=False)[0]
    for panel, name, values in zip(panels, [*names, "probability of the class"], [*distance, probability], strict=True):
        for image in range(min(DRAWN, values.shape[1])):
            panel.plot(amounts, values[:, image], color=COLOURS[image], linewidth=0.8, alpha=0.7)
        mean, low, high = mean_interval(values)
        panel.fill_between(amounts, low, high, color="0.5", alpha=0.3, linewidth=0)
        panel.plot(amounts, mean, color="black", linewidth=2)
        panel.set_title(name, fontsize="medium")
        panel.set_xlabel(CHANGES[change][2], fontsize="small")
        if change == "rotation":
            panel.xaxis.set_major_locator(MultipleLocator(90))
        panel.grid(alpha=0.25)
        panel.set_ylim(bottom=0)
    panels[0].set_ylabel("distance of the features" + ("" if raw else ", relative"))
    panels[-1].set_ylim(0, 1)
    count = distance.shape[-1]
    border = f", border {fill}" if change in FILLED else ""
    figure.suptitle(
        f"{model}: {change}{border}; mean of {count} images with its 95% band, and {min(DRAWN, count)} of them",
        fontsize="medium",
    )
    return figure


def command(
    asked,
    *,
    change: Literal[
        "translation", "horizontal", "scale", "rotation", "brightness", "contrast", "blur", "noise"
    ] = "translation",
    amounts: tuple[float, ...] = (),
    layers: str | None = None,
    fill: Literal["zeros", "mirror", "mean"] = "zeros",
    raw: bool = False,
    images: int = 100,
    seed: int = 0,
):
    """Measure how far layers' features move as images are moved, scaled, rotated or degraded.

    Parameters
    ----------
    change
        what to do to the images
    amounts
        how much, in the unit of the change: pixels, scale factor, degrees or standard deviations
    layers
        names of layers, separated by commas
    fill
        what comes in over the border
    raw
        draw the distances themselves, as the paper does, not their ratio to the length of the image's features
    images
        how many test images to use
    seed
        seed for the choice of images and for the noise
    """
    split = asked.some(images, seed)
    options = {"change": change, "amounts": amounts or None, "layers": layer_names(layers), "fill": fill, "seed": seed}
    options["raw"] = raw
    options |= {"keep": asked.kept("invariance"), "say": asked.say}
    return invariance(asked.model, asked.prepared(split), asked.labels_if_known(split), **options)
