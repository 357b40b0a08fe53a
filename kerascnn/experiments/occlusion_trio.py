"""How hiding a square changes a feature map, the probability of the class and the answer.

This is after Zeiler and Fergus (2013), figure 7.

As in the paper: a) the image with the square; b) the total activity of the feature map that is strongest in the whole
image, for each place of the square; c) that map's deconvnet projection, framed, beside those of the three other images
that excite it most; d) the probability of the true class; e) the most probable class.
"""

import numpy as np
import pandas
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from scipy.stats import rankdata

from kerascnn.dataset_scan.scanned_layers import scanned_layers
from kerascnn.dataset_scan.sheets import class_colours
from kerascnn.errors import UsageError, counted
from kerascnn.experiments import register
from kerascnn.experiments.kept import Kept, digest
from kerascnn.experiments.labels import checked_labels
from kerascnn.experiments.outcome import Outcome, mean_interval, told_interval
from kerascnn.explain.methods.deconvnet import deconvnet
from kerascnn.explain.methods.occlusion import occlusion_trio as trio
from kerascnn.explain.methods.occlusion import positions
from kerascnn.explain.recorded import activations
from kerascnn.explain.sheets import draw_image, map_colours
from kerascnn.explain.targets import Neuron
from kerascnn.plots import UNSIGNED, shortened
from kerascnn.progress import Progress
from kerascnn.training.evaluate import interval

OTHERS = 3  # images whose projections stand beside the image's own, as in the paper
MOST = 9  # classes with a colour of their own; all others are grey


@register(source="Zeiler and Fergus 2013, figure 7")
def occlusion_trio(
    model,
    images,
    labels,
    others,
    *,
    layer=None,
    patch=None,
    stride=None,
    fill="mean",
    class_names=None,
    batch_size=64,
    keep=None,
    say=None,
):
    """How hiding a square changes the strongest feature map, the probability of the class, and the answer.

    Args:
        model: keras.Model with one image input, ending in class probabilities or scores.
        images: float (N, H, W, C) as the model takes them; the figure has a row for each of the first three.
        labels: int (N,), the true classes.
        others: (M, H, W, C), or anything of that length that gives such arrays for slices: the three other images are
            searched for among these.
        layer: a layer's name; None: what the next layer sees of the deepest convolution.
        patch: side of the square, pixels; None: a quarter of the image's shorter side.
        stride: step between its places, pixels; None: a quarter of the patch.
        fill: what the square shows: "mean" (the image's own mean colour) or a number.
        class_names: what the classes are called; None: their numbers.
        batch_size: images of `others` computed at once; the result does not depend on it.
        keep: folder in which what was measured is saved, so that a stopped experiment continues; None: none.
        say: called with lines of progress.
    Returns:
        Outcome. Table: image, row and column (first pixel of the square), activity, probability, label (the most
        probable class), covered (the share of the projection that the square hides). Tables by panel: "activity",
        "probability" and "label" as grids, "projection" with the pixels that are not 0 of source 0 (the image itself)
        and 1 to 3 (`other` says which). Arrays: "channel" (N,), "other" (N, 3) and "projection" (N, 4, H, W, C).
    Raises:
        UsageError: the square is larger than the image, there are fewer than three other images, or the layer is
            unknown.
    """
    images, labels = np.asarray(images, "float32"), checked_labels(labels, len(images))
    if len(others) < OTHERS:
        raise UsageError(
            f"others holds {counted(len(others), 'image')}; {OTHERS} or more are needed, to be shown beside each. Give "
            "more images, or fewer of them as images."
        )
    patch = max(1, min(images.shape[1:3]) // 4) if patch is None else patch
    stride = max(1, patch // 4) if stride is None else stride
    layer = scanned_layers(model, layer)[-1].output
    progress = Progress("image", len(images), say)
    kept = Kept(keep, model, layer, patch, stride, fill, progress=progress)
    options = {"patch": patch, "stride": stride, "fill": fill, "layer": layer}
    each = [
        kept.measure(digest((image, label)), lambda few=image[None], label=label: trio(model, few, [label], **options))
        for image, label in _pairs(images, labels)
    ]
    trios = {name: np.concatenate([of_image[name] for of_image in each]) for name in each[0]}
    strongest = _strongest(model, others, layer, trios["channel"], batch_size)
    seen = [np.concatenate([image[None], *(others[i : i + 1] for i in of)]) for image, of in _pairs(images, strongest)]
    projection = np.stack(
        [deconvnet(model, few, Neuron(layer, int(channel))) for few, channel in _pairs(seen, trios["channel"])]
    )
    rows, columns = (positions(size, patch, stride) for size in images.shape[1:3])
    covered = np.stack([_covered(one[0], rows, columns, patch) for one in projection])
    numbers = range(int(max(trios["label"].max(), np.max(labels))) + 1)
    names = [str(name) for name in (class_names if class_names is not None else numbers)]
    table = _table(trios, covered, rows, columns, names)
    arrays = {**trios, "other": strongest, "projection": projection, "covered": covered, "rows": rows, "cols": columns}
    title = f"{model.name}: a square of {patch} pixels hidden; strongest feature map of {layer}"
    return Outcome(
        "occlusion-trio",
        table,
        _findings(layer, trios, covered),
        lambda: _figure(images, labels, arrays, names, patch, title),
        arrays,
        _panels(table, arrays),
    )


def _pairs(first, second):
    return zip(first, second, strict=True)


def _strongest(model, others, layer, channels, batch_size):
    """int (N, 3): the other images in which each channel has its largest values, the strongest first."""
    largest = []
    for start in range(0, len(others), batch_size):
        maps = activations(model, np.asarray(others[start : start + batch_size]), layer, batch_size=batch_size)
        largest.append(maps.reshape(len(maps), -1, maps.shape[-1]).max(1)[:, channels])
    return np.argsort(-np.concatenate(largest), axis=0, kind="stable")[:OTHERS].T


def _covered(projection, rows, columns, patch):
    """(rows, columns): the share of a projection (H, W, C), by absolute value, that each square hides."""
    size = np.abs(projection).sum(-1, dtype="float64")
    size = np.rint(size * (2**52 / max(size.sum(), 1e-30))).astype("int64")  # sums of zeros stay exactly 0
    sums = np.pad(size.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    top, left = rows[:, None], columns[None]
    inside = sums[top + patch, left + patch] - sums[top, left + patch] - sums[top + patch, left] + sums[top, left]
    return inside / max(int(size.sum()), 1)


def _table(trios, covered, rows, columns, names):
    image, row, column = np.meshgrid(np.arange(len(covered)), rows, columns, indexing="ij")
    return pandas.DataFrame(
        {
            "image": image.ravel(),
            "row": row.ravel(),
            "column": column.ravel(),
            "activity": trios["activity"].ravel(),
            "probability": trios["probability"].ravel(),
            "label": np.asarray(names)[trios["label"].ravel()],
            "covered": covered.ravel(),
        }
    )


def _panels(table, arrays):
    """{name of a panel: its numbers}."""
    grids = {
        name: table.pivot(index=["image", "row"], columns="column", values=name).reset_index()
        for name in ("activity", "probability", "label")
    }
    projection = arrays["projection"]
    image, source, row, column = np.nonzero(np.abs(projection).sum(-1))
    which = np.concatenate([np.full((len(projection), 1), -1), arrays["other"]], 1)
    pixels = {"image": image, "source": source, "other": which[image, source], "row": row, "column": column}
    values = projection[image, source, row, column]
    pixels |= {f"channel {number}": values[:, number] for number in range(values.shape[1])}
    return {**grids, "projection": pandas.DataFrame(pixels)}


def correlation(first, second):
    """The rank correlation of two arrays; nan where one of them is constant."""
    first, second = rankdata(first), rankdata(second)
    if first.std() == 0 or second.std() == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _findings(layer, trios, covered):
    """Whether activity falls where the projection is hidden, as the paper says, and probability with the activity."""
    said = []
    hidden, low, high = _correlations(covered, trios["activity"])
    if hidden is not None:
        verdict = "as in the paper, it falls there" if high < 0 else "it does not measurably fall there"
        said.append(
            f"{layer}: rank correlation of the activity and the hidden share of its projection: {hidden}; {verdict}."
        )
    together, low, high = _correlations(trios["activity"], trios["probability"])
    if together is not None:
        verdict = "where one falls, so does the other" if low > 0 else "they do not measurably fall together"
        said.append(
            f"{layer}: rank correlation of the activity and the probability of the class: {together}; {verdict}."
        )
    changed = [len(np.unique(label)) > 1 for label in trios["label"]]
    low, high = interval(sum(changed), len(changed))
    said.append(
        f"The most probable class depends on the place of the square in {np.mean(changed):.0%} of the images "
        f"{told_interval(low, high, len(changed), form='{:.0%}')}."
    )
    return tuple(said)


def _correlations(first, second):
    """(the mean rank correlation of two arrays of each image in words, or None; its interval's ends)."""
    values = np.array([correlation(*pair) for pair in _pairs(first, second)])
    values = values[np.isfinite(values)]
    if not len(values):
        return None, 0, 0
    mean, low, high = np.clip(mean_interval(values), -1, 1)
    return f"{mean:+.2f} {told_interval(low, high, len(values))}", low, high


def _figure(images, labels, arrays, names, patch, title):
    """A row for each of the first three images, panels a to e."""
    count = min(3, len(images))
    figure = Figure(figsize=(12.5, 2.35 * count + 0.7), layout="constrained")
    panels = figure.subplots(count, 5, squeeze=False)
    numbers, often = np.unique(arrays["label"][:count], return_counts=True)
    colours = dict.fromkeys(numbers[np.argsort(-often, kind="stable")][:MOST].tolist())  # the same in every row
    colours = dict(zip(colours, class_colours([names[i] for i in colours]).values(), strict=True))
    for number, row in enumerate(panels):
        activity, chance = arrays["activity"][number], arrays["probability"][number]
        draw_image(row[0], images[number])
        worst = np.unravel_index(chance.argmin(), chance.shape)
        top, left = arrays["rows"][worst[0]], arrays["cols"][worst[1]]
        square = {"facecolor": "0.5", "edgecolor": "white", "linewidth": 1}
        row[0].add_patch(Rectangle((left - 0.5, top - 0.5), patch, patch, **square))
        row[0].set_title(f"a) {shortened(names[labels[number]], 20)}", fontsize="small")
        for axes, values, head, limits in (
            (row[1], activity, f"b) activity of channel {arrays['channel'][number]}", (None, None)),
            (row[3], chance, "d) probability of the true class", (0, 1)),
        ):
            shown = axes.imshow(values, cmap=UNSIGNED, vmin=limits[0], vmax=limits[1], interpolation="nearest")
            bar = figure.colorbar(shown, ax=axes, shrink=0.75, aspect=15)
            bar.ax.tick_params(labelsize=6)
            axes.set_title(head, fontsize="small")
        _draw_projections(row[2], arrays["projection"][number])
        _draw_labels(row[4], arrays["label"][number], names, colours)
        for axes in row:
            axes.set(xticks=[], yticks=[])
    figure.suptitle(
        f"{title}\na) the square where the class is least probable; c) projection of the image, framed, and of three "
        "other images",
        fontsize="medium",
    )
    return figure


def _draw_projections(axes, projection):
    """Four projections (4, H, W, C) as two rows of two, the first one framed."""
    pictures = [map_colours(each) for each in projection]
    height, width = pictures[0].shape[:2]
    gap = max(1, width // 24)
    sheet = np.ones((2 * height + gap, 2 * width + gap, 3))
    for number, picture in enumerate(pictures):
        top, left = number // 2 * (height + gap), number % 2 * (width + gap)
        sheet[top : top + height, left : left + width] = picture[..., :3]
    axes.imshow(sheet, interpolation="nearest")
    frame = {"fill": False, "edgecolor": "black", "linewidth": 2}
    axes.add_patch(Rectangle((-0.5, -0.5), width, height, clip_on=False, **frame))
    axes.set_title("c) its projections", fontsize="small")
    axes.spines[:].set_visible(False)


def _draw_labels(axes, label, names, colours):
    """The most probable class at each place, in colours {class: colour} that a legend names; others are grey."""
    shown = np.full((*label.shape, 3), to_rgb("0.6"))
    for number, colour in colours.items():
        shown[label == number] = to_rgb(colour)
    axes.imshow(shown, interpolation="nearest")
    here, often = np.unique(label, return_counts=True)
    order = here[np.argsort(-often, kind="stable")].tolist()
    handles = [Patch(color=colours[i], label=shortened(names[i], 18)) for i in order if i in colours]
    rest = len(order) - len(handles)
    if rest:
        handles.append(Patch(color="0.6", label=counted(rest, "other class", "other classes")))
    axes.legend(handles=handles, frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.02))
    axes.set_title("e) most probable class", fontsize="small")


def command(
    asked,
    *,
    layer: str | None = None,
    patch: int | None = None,
    stride: int | None = None,
    images: int = 3,
    others: int = 1000,
    seed: int = 0,
):
    """Hide a square of each image, and see how a feature map, the probability of the class and the answer change.

    Parameters
    ----------
    layer
        a layer's name [default: the deepest convolution]
    patch
        side of the square, pixels [default: a quarter of the image's shorter side]
    stride
        step between the places of the square, pixels [default: a quarter of the patch]
    images
        how many test images to use; the first three are drawn
    others
        largest number of images to search for those that excite the same feature map
    seed
        seed for the choice of images
    """
    asked.need_labels("the true class needs")
    chosen = asked.some(images, seed)
    rest = np.random.default_rng(seed).permutation(len(asked.split))[images:]
    beside = asked.split.take(np.sort(rest[:others]))
    given = asked.prepared(chosen)[:], asked.labels(chosen), asked.prepared(beside)
    options = {"layer": layer, "patch": patch, "stride": stride, "class_names": asked.classifier.labels}
    options |= {"keep": asked.kept("occlusion-trio"), "say": asked.say}
    return occlusion_trio(asked.model, *given, **options)
