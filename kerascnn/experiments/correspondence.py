"""Does a network treat the same part of different images alike? (Zeiler and Fergus 2013, section 4.4 and table 1)

A part, such as the left eye, is hidden in every image, and the features of the image without it are subtracted from
those of the whole image. If the signs of these differences agree more between images than when random places are
hidden, the network responds to what the part is, not to where it is. The paper hides the eyes and noses of five dogs.
"""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pandas
from scipy.stats import t as student

from kerascnn.errors import UsageError
from kerascnn.experiments import register
from kerascnn.experiments.asked import layer_names, some
from kerascnn.experiments.invariance import usual_layers
from kerascnn.experiments.kept import Kept, blocks
from kerascnn.experiments.outcome import Outcome
from kerascnn.experiments.parts import WITHOUT_CORNERS, parts_of_masks, read_boxes
from kerascnn.explain.recorded import activations
from kerascnn.explain.subjects import opaque_step
from kerascnn.network.plan import make_plan
from kerascnn.plots import BLUE, GREEN, ORANGE, PURPLE, RED, panel
from kerascnn.progress import Progress
from kerascnn.using.features import feature_names

RANDOM = "random places"
BLOCK = 4  # batches whose differences are in memory at once; of the others their signs alone
COLUMNS = 2**14  # features whose signs are compared at once; their counts are exact in float32


@register(source="Zeiler and Fergus 2013, table 1")
def correspondence(
    model, images, parts, layers, *, fill="mean", repeats=10, batch_size=64, seed=0, keep=None, say=None
):
    """How far the signs of feature differences disagree between images when the same part is hidden.

    Args:
        model: keras.Model with one image input.
        images: float (N, H, W, C) as the model takes them, or anything of that length that gives such arrays for
            slices, two or more; of their features a few batches are in memory at a time, the others in a file.
        parts: {name: int (N, 4)}: top, left, bottom, right of the part in each image, pixels; bottom and right are the
            first row and column outside.
        layers: names of layers; the paper uses the fifth and the seventh of its eight.
        fill: what replaces the part: "mean" (the image's own mean colour) or a number.
        repeats: how often random places of each image are hidden, with the sizes of each part.
        batch_size: images computed at once; the result does not depend on it.
        seed: seed of the random places.
        keep: folder in which what was measured is saved, so that a stopped experiment continues; None: none.
        say: called with lines of progress.
    Returns:
        Outcome. Table: part, layer, distance (mean Hamming distance of the signs over all pairs of images, from 0:
        always alike, to 1), error (its standard error, by the jackknife over images), below_random (random places'
        distance less the part's), below_error (its standard error), images.
    Raises:
        UsageError: there are fewer than two images, the number of boxes differs, a box is outside the image, a part is
            called "random places", or a layer is unknown or gives the class probabilities.
    """
    boxes = _checked(images, parts, repeats)
    names = feature_names(make_plan(model, opaque_step), layers)
    rng = np.random.default_rng(seed)
    size = np.shape(images[:1])[1:3]
    random = {}  # {the sizes of a part's boxes: random places of these sizes}
    for of_part in boxes.values():
        if _sizes(of_part) not in random:
            random[_sizes(of_part)] = [_elsewhere(of_part, size, rng) for _ in range(repeats)]
    progress = Progress("part", len(boxes) + repeats * len(random), say)
    kept = Kept(keep, model, images, names, fill, progress=progress)
    with tempfile.TemporaryDirectory(prefix="kerascnn-correspondence-") as folder:
        whole = functools.cache(lambda: _stored(model, images, names, batch_size, folder))

        def distances(part, where):
            def measured():
                signs = _signs(model, images, whole(), names, fill, batch_size, where)
                return np.stack([pair_distances(signs[name]) for name in names])

            return kept.measure(f"{part} {where.tolist()}", measured)

        distances_of = {part: distances(part, where) for part, where in boxes.items()}
        chances = {
            sizes: np.mean([distances(f"{RANDOM} {n}", where) for n, where in enumerate(places, 1)], axis=0)
            for sizes, places in random.items()
        }
    rows, table_arrays = [], {}
    for number, layer in enumerate(names):
        for part, of_part in boxes.items():
            between = distances_of[part][number]
            table_arrays[f"{part}/{layer}"] = between
            below = chances[_sizes(of_part)][number] - between
            rows.append((part, layer, *jackknife(between), *jackknife(below), len(images)))
        chance = np.mean([of_sizes[number] for of_sizes in chances.values()], axis=0)
        rows.append((RANDOM, layer, *jackknife(chance), 0.0, 0.0, len(images)))
    columns = ["part", "layer", "distance", "error", "below_random", "below_error", "images"]
    table = pandas.DataFrame(rows, columns=columns)
    return Outcome("correspondence", table, _findings(table), lambda: _figure(table, names, model.name), table_arrays)


def pair_distances(signs):
    """float (N, N): the share of features in which the signs int8 (N, D) of two images differ."""
    same = np.zeros((len(signs), len(signs)))
    for start in range(0, signs.shape[1], COLUMNS):
        for value in (-1, 0, 1):
            where = (signs[:, start : start + COLUMNS] == value).astype("float32")
            same += where @ where.T
    return 1 - same / signs.shape[1]


def jackknife(between):
    """(mean over all pairs of different images, its standard error) of (N, N) numbers of pairs."""
    count = len(between)
    off = between - np.diag(np.diag(between))
    mean = off.sum() / (count * (count - 1))
    if count < 3:
        return float(mean), float("nan")
    left_out = (off.sum() - 2 * off.sum(1)) / ((count - 1) * (count - 2))
    return float(mean), float(np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()))


def hidden(images, boxes, fill="mean"):
    """Images float32 (N, H, W, C) with one box of each filled."""
    out = images.copy()
    for image, (top, left, bottom, right) in zip(out, boxes, strict=True):
        image[top:bottom, left:right] = image.mean((0, 1)) if fill == "mean" else fill
    return out


def _sizes(boxes):
    """The heights and widths of boxes (N, 4), as text."""
    return str((boxes[:, 2:] - boxes[:, :2]).tolist())


def _features(model, images, names, batch_size):
    maps = activations(model, images, names, batch_size=batch_size)
    return {name: maps[name].reshape(len(images), -1) for name in names}


def _stored(model, images, names, batch_size, folder):
    """{name: float32 (N, features)} of images, in files of a folder."""
    arrays = {}
    for rows in blocks(len(images), BLOCK * batch_size):
        features = _features(model, np.asarray(images[rows], "float32"), names, batch_size)
        for number, name in enumerate(names):
            if name not in arrays:
                shape = len(images), features[name].shape[1]
                arrays[name] = np.memmap(Path(folder) / f"features-{number}", "float32", "w+", shape=shape)
            arrays[name][rows] = features[name]
    return arrays


def _signs(model, images, whole, names, fill, batch_size, boxes):
    """{name: int8 (N, features)}: the signs of the features `whole` of the images, less those of the images with boxes
    hidden; in files beside those of `whole`."""
    signs = {name: np.memmap(f"{whole[name].filename}-signs", "int8", "w+", shape=whole[name].shape) for name in names}
    for rows in blocks(len(images), BLOCK * batch_size):
        few = hidden(np.asarray(images[rows], "float32"), boxes[rows], fill)
        for name, features in _features(model, few, names, batch_size).items():
            signs[name][rows] = np.sign(whole[name][rows] - features)
    return signs


def _elsewhere(boxes, size, rng):
    """Boxes of the same sizes at random places."""
    heights, widths = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    tops = rng.integers(0, size[0] - heights + 1)
    lefts = rng.integers(0, size[1] - widths + 1)
    return np.stack([tops, lefts, tops + heights, lefts + widths], 1)


def _checked(images, parts, repeats):
    if len(images) < 2:
        raise UsageError(f"Correspondence is between images: {len(images)} were given, two or more are needed.")
    if repeats < 1:
        raise UsageError(f"repeats={repeats} is not allowed: it must be at least 1.")
    if not parts or RANDOM in parts:
        raise UsageError(f"parts={list(parts)} is not allowed: name one or more parts, none of them {RANDOM!r}.")
    height, width = np.shape(images[:1])[1:3]
    checked = {}
    for name, boxes in parts.items():
        boxes = np.asarray(boxes)
        if boxes.shape != (len(images), 4) or boxes.dtype.kind not in "iu":
            raise UsageError(
                f"Part {name!r} has boxes of shape {boxes.shape} and dtype {boxes.dtype}; whole numbers "
                f"({len(images)}, 4) are needed: top, left, bottom, right of each image."
            )
        top, left, bottom, right = boxes.T
        wrong = (top < 0) | (left < 0) | (bottom > height) | (right > width) | (top >= bottom) | (left >= right)
        if wrong.any():
            image = int(wrong.argmax())
            raise UsageError(
                f"Part {name!r} of image {image} is the box {boxes[image].tolist()}, which is empty or reaches beyond "
                f"the image of {height}x{width} pixels."
            )
        checked[name] = boxes
    return checked


def _findings(table):
    said = []
    tested = table[table["part"] != RANDOM]
    for row in tested.itertuples():
        reach = student.ppf(0.975, row.images - 1) * row.below_error if row.images > 2 else np.nan
        if np.isnan(reach):
            verdict = "it is not known whether it is treated alike, as three images are needed"
        elif abs(row.below_random) <= reach:
            verdict = "it is treated not measurably more or less alike than random places"
        else:
            verdict = "it is treated alike" if row.below_random > 0 else "it is treated less alike than random places"
        said.append(
            f"{row.layer}, {row.part}: {verdict}: {row.distance:.3f} +- {row.error:.3f}, "
            f"{row.below_random:.3f} +- {row.below_error:.3f} below random places ({row.images} images)."
        )
    if len(tested) > 1:
        said.append(f"These are {len(tested)} comparisons at 5% each: one in twenty differs by chance.")
    return tuple(said)


def _figure(table, names, model):
    title = f"{model}: parts hidden in {table['images'].iloc[0]} images\nlower means treated alike"
    figure, axes = panel(2.2 + 2.6 * len(names), 3.4, title, "", ylabel="share of signs that differ")
    parts = list(dict.fromkeys(table["part"]))
    colours = (BLUE, ORANGE, GREEN, RED, PURPLE)
    width = 0.8 / len(parts)
    for number, part in enumerate(parts):
        rows = table[table["part"] == part].set_index("layer").loc[names]
        colour = "0.6" if part == RANDOM else colours[number % 5]
        places = np.arange(len(names)) + (number - (len(parts) - 1) / 2) * width
        style = {"color": colour, "label": part, "error_kw": {"linewidth": 1}}
        axes.bar(places, rows["distance"], width * 0.92, yerr=rows["error"].fillna(0), **style)
    axes.set_xticks(range(len(names)), names)
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def command(
    asked,
    *,
    boxes: Path | None = None,
    patch: int | None = None,
    layers: str | None = None,
    images: int = 100,
    repeats: int = 10,
    seed: int = 0,
):
    """Measure whether a network treats the same part of different images alike, wherever the part is.

    Parameters
    ----------
    boxes
        CSV file with columns file, part, top, left, bottom, right, or file, part, x, y: pixels of the image as the
        network sees it [default: the centre and the outermost corner of each object, if the data are shapes]
    patch
        side of the square that is hidden about each place x, y, pixels [default: a quarter of the image's shorter side]
    layers
        names of layers, separated by commas [default: the last convolution and the last layer before the scores]
    images
        how many test images to use without a CSV file
    repeats
        how often to hide random places for comparison
    seed
        of the random places, and of the choice of images
    """
    if boxes is not None and not boxes.is_file():
        raise UsageError(f"There is no file {boxes}. Its columns are file, part, top, left, bottom, right.")
    if boxes is None:
        split, parts = _with_masks(asked, images, seed, patch)
    else:
        size = asked.classifier.preprocessing.image_size
        rows, parts = read_boxes(boxes, asked.split.files, size, patch)
        split = asked.split.take(rows)
    chosen = layer_names(layers) or usual_layers(asked.model, first=False)
    options = {"repeats": repeats, "seed": seed, "keep": asked.kept("correspondence"), "say": asked.say}
    return correspondence(asked.model, asked.prepared(split), parts, chosen, **options)


def _with_masks(asked, images, seed, patch):
    """(Split of some images whose objects have corners, their parts), of data with masks."""
    if asked.split.masks is None:
        raise UsageError(
            "It is not known where the parts of these images are. Give a table of them: boxes=FILE.csv with the "
            "columns file, part, x, y"
        )
    names = np.asarray(asked.loaded.class_names)[asked.split.labels]
    split = some(asked.split.take(np.flatnonzero(~np.isin(names, WITHOUT_CORNERS))), images, seed)
    size = asked.classifier.preprocessing.image_size
    if split.masks.shape[1:3] != tuple(size):
        raise UsageError(
            f"The masks of these images have {split.masks.shape[1]}x{split.masks.shape[2]} pixels, and the network "
            f"takes {size[0]}x{size[1]}. Name a network that takes the whole image."
        )
    return split, parts_of_masks(split.masks, patch)
