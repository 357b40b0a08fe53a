"""Does a network treat the same part of different images alike? (Zeiler and Fergus 2013, section 4.4 and table 1)

A part, such as the left eye, is hidden in every image, and the features of the image without it are subtracted from
those of the whole image. If the signs of these differences agree more between images than when random places are
hidden, the network responds to what the part is, not to where it is. The paper hides the eyes and noses of five dogs.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas
from matplotlib.figure import Figure

from kerascnn.errors import DataError, UsageError, counted
from kerascnn.experiments import register
from kerascnn.experiments.asked import layer_names
from kerascnn.experiments.invariance import usual_layers
from kerascnn.experiments.outcome import Outcome
from kerascnn.explain.recorded import activations
from kerascnn.explain.subjects import opaque_step
from kerascnn.network.find import find_all
from kerascnn.network.plan import make_plan
from kerascnn.plots import BLUE, GREEN, ORANGE, PURPLE, RED

RANDOM = "random places"
SIDES = ("top", "left", "bottom", "right")


@register(source="Zeiler and Fergus 2013, table 1")
def correspondence(model, images, parts, layers, *, fill="mean", repeats=10, batch_size=64, seed=0):
    """How far the signs of feature differences disagree between images when the same part is hidden.

    Args:
        model: keras.Model with one image input.
        images: float (N, H, W, C) as the model takes them, two or more.
        parts: {name: int (N, 4)}: top, left, bottom, right of the part in each image, pixels; bottom and right are the
            first row and column outside.
        layers: names of layers; the paper uses the fifth and the seventh of its eight.
        fill: what replaces the part: "mean" (the image's own mean colour) or a number.
        repeats: how often random places of each image are hidden, with the sizes of its parts in turn.
        seed: seed of the random places.
    Returns:
        Outcome. Table: part, layer, distance (mean Hamming distance of the signs over all pairs of images, from 0:
        always alike, to 1), error (its standard error, by the jackknife over images), below_random (random places'
        distance less the part's), below_error (its standard error), images.
    Raises:
        UsageError: there are fewer than two images, the number of boxes differs, a box is outside the image, or a part
            is called "random places".
    """
    images = np.asarray(images, "float32")
    boxes = _checked(images, parts)
    names = [place.name for place in find_all(make_plan(model, opaque_step), layers)]
    whole = _features(model, images, names, batch_size)
    rng = np.random.default_rng(seed)
    signs = {part: _signs(model, images, whole, names, of_part, fill, batch_size) for part, of_part in boxes.items()}
    sizes = itertools.cycle(boxes.values())
    places = [_elsewhere(next(sizes), images.shape[1:3], rng) for _ in range(repeats)]
    random = [_signs(model, images, whole, names, place, fill, batch_size) for place in places]
    rows, table_arrays = [], {}
    for layer in names:
        chance = np.mean([pair_distances(signs_of[layer]) for signs_of in random], axis=0)
        for part in boxes:
            between = pair_distances(signs[part][layer])
            table_arrays[f"{part}/{layer}"] = between
            below = chance - between
            rows.append((part, layer, *jackknife(between), *jackknife(below), len(images)))
        rows.append((RANDOM, layer, *jackknife(chance), 0.0, 0.0, len(images)))
    columns = ["part", "layer", "distance", "error", "below_random", "below_error", "images"]
    table = pandas.DataFrame(rows, columns=columns)
    return Outcome("correspondence", table, _findings(table), lambda: _figure(table, names, model.name), table_arrays)


def pair_distances(signs):
    """float (N, N): the share of features in which the signs int8 (N, D) of two images differ."""
    same = np.zeros((len(signs), len(signs)))
    for value in (-1, 0, 1):
        where = (signs == value).astype("float32")
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


def read_boxes(path, files, size, patch=None):
    """Parts from a CSV file with columns file, part, top, left, bottom, right, or file, part, x, y.

    Args:
        path: the CSV file.
        files: names of the images; a file in the table stands for the image whose name ends with it.
        size: (height, width) of the images, pixels.
        patch: side of the square about each place x, y (column and row), which is moved inside the image; None: a
            quarter of the image's shorter side.
    Returns:
        (int (N,): which of the files have boxes, {part: int (N, 4)}).
    Raises:
        UsageError: the patch is larger than the image.
        DataError: a column is missing, a box is not whole numbers, a place lies outside the image, a file matches none
            or several of the images, or a part is missing in one of them.
    """
    try:
        table = pandas.read_csv(path, dtype={"file": str, "part": str}, keep_default_na=False)
    except ValueError as error:  # pandas' own, and that of text that is not UTF-8
        raise DataError(f"{path} is not a table of boxes: {error}") from error
    if {"x", "y"} <= set(table.columns) and not set(SIDES) & set(table.columns):
        table = _about_places(table, path, size, patch)
    missing = [column for column in ("file", "part", *SIDES) if column not in table]
    if missing or table.empty or any(table[side].dtype.kind not in "iu" for side in SIDES):
        raise DataError(
            f"{path} needs the columns file, part, {', '.join(SIDES)}, the last four whole numbers, or x, y."
        )
    rows = {}
    for name in dict.fromkeys(table["file"]):
        same = [row for row, file in enumerate(files) if file == name or file.endswith(f"/{name}")]
        if len(same) != 1:
            raise DataError(f"{path}: {name!r} names {counted(len(same), 'image')} of the data; one is needed.")
        rows[name] = same[0]
    parts = {}
    for part, of_part in table.groupby("part", sort=False):
        of_file = of_part.set_index("file")[list(SIDES)]
        lacking = [name for name in rows if (of_file.index == name).sum() != 1]
        if lacking:
            raise DataError(f"{path}: {lacking[0]!r} needs one box of {part!r}, as every image does.")
        parts[part] = of_file.loc[list(rows)].to_numpy()
    return np.array(list(rows.values())), parts


def _about_places(table, path, size, patch):
    """The table with the sides of a square about each place x, y."""
    patch = max(1, min(size) // 4) if patch is None else patch
    if not 1 <= patch <= min(size):
        raise UsageError(f"patch={patch} is not allowed for images of {size[0]}x{size[1]} pixels: 1 to {min(size)}.")
    places = table[["y", "x"]]
    if any(kind.kind not in "iuf" for kind in places.dtypes) or not np.isfinite(places.to_numpy("float64")).all():
        raise DataError(f"{path} needs numbers as x and y, pixels from the left and from the top.")
    places = places.to_numpy("float64")
    outside = ((places < 0) | (places >= size)).any(1)
    if outside.any():
        row = table[outside].iloc[0]
        raise DataError(
            f"{path}: x={row['x']:g}, y={row['y']:g} of {row['file']!r} lies outside the image of {size[0]}x{size[1]} "
            "pixels."
        )
    corners = np.clip(np.floor(places - patch / 2 + 0.5), 0, np.array(size) - patch).astype(int)
    return table.assign(**dict(zip(SIDES, np.hstack([corners, corners + patch]).T, strict=True)))


def _features(model, images, names, batch_size):
    found = activations(model, images, names, batch_size=batch_size)
    return {name: found[name].reshape(len(images), -1) for name in names}


def _signs(model, images, whole, names, boxes, fill, batch_size):
    without = _features(model, hidden(images, boxes, fill), names, batch_size)
    return {name: np.sign(whole[name] - without[name]).astype("int8") for name in names}


def _elsewhere(boxes, size, rng):
    """Boxes of the same sizes at random places."""
    heights, widths = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    tops = rng.integers(0, size[0] - heights + 1)
    lefts = rng.integers(0, size[1] - widths + 1)
    return np.stack([tops, lefts, tops + heights, lefts + widths], 1)


def _checked(images, parts):
    if len(images) < 2:
        raise UsageError(f"Correspondence is between images: {len(images)} were given, two or more are needed.")
    if not parts or RANDOM in parts:
        raise UsageError(f"parts={list(parts)} is not allowed: name one or more parts, none of them {RANDOM!r}.")
    height, width = images.shape[1:3]
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
    for row in table[table["part"] != RANDOM].itertuples():
        alike = "alike" if row.below_random > 2 * row.below_error else "no more alike than random places"
        said.append(
            f"{row.layer}: {row.part} is treated {alike}: {row.distance:.3f} +- {row.error:.3f}, "
            f"{row.below_random:.3f} +- {row.below_error:.3f} below random places ({row.images} images)."
        )
    return tuple(said)


def _figure(table, names, model):
    figure = Figure(figsize=(2.2 + 2.6 * len(names), 3.4), layout="constrained")
    axes = figure.subplots()
    parts = list(dict.fromkeys(table["part"]))
    colours = (BLUE, ORANGE, GREEN, RED, PURPLE)
    width = 0.8 / len(parts)
    for number, part in enumerate(parts):
        rows = table[table["part"] == part].set_index("layer").loc[names]
        colour = "0.6" if part == RANDOM else colours[number % 5]
        places = np.arange(len(names)) + (number - (len(parts) - 1) / 2) * width
        error = rows["error"].fillna(0)
        axes.bar(
            places, rows["distance"], width * 0.92, yerr=error, color=colour, label=part, error_kw={"linewidth": 1}
        )
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("share of signs that differ")
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    count = table["images"].iloc[0]
    axes.set_title(f"{model}: parts hidden in {count} images\nlower means treated alike", fontsize="medium")
    return figure


def command(
    asked,
    *,
    boxes: Path,
    patch: int | None = None,
    layers: str | None = None,
    repeats: int = 10,
    seed: int = 0,
):
    """Measure whether a network treats the same part of different images alike, wherever the part is.

    Parameters
    ----------
    boxes
        CSV file with columns file, part, top, left, bottom, right, or file, part, x, y: pixels of the image as the
        network sees it
    patch
        side of the square that is hidden about each place x, y, pixels [default: a quarter of the image's shorter side]
    layers
        names of layers, separated by commas [default: the last convolution and the last layer before the scores]
    repeats
        how often to hide random places for comparison
    seed
        of the random places
    """
    if not boxes.is_file():
        raise UsageError(f"There is no file {boxes}. Its columns are file, part, top, left, bottom, right.")
    rows, parts = read_boxes(boxes, asked.split.files, asked.classifier.preprocessing.image_size, patch)
    chosen = layer_names(layers) or usual_layers(asked.model)[1:]
    return correspondence(asked.model, asked.prepared(asked.split)[rows], parts, chosen, repeats=repeats, seed=seed)
