"""Which training images does a network find most like a test image? (Krizhevsky, Sutskever and Hinton 2012, figure 4)

The paper shows five test images and, for each, the six training images whose activations at the last hidden layer are
nearest. Here any layer can be used, and the share of neighbours of the same class says how good they are.
"""

from typing import Literal

import numpy as np
import pandas
from matplotlib.figure import Figure

from kerascnn.errors import UsageError, counted
from kerascnn.experiments import register
from kerascnn.experiments.asked import some
from kerascnn.experiments.invariance import usual_layers
from kerascnn.experiments.kept import Kept, blocks
from kerascnn.experiments.labels import checked_labels
from kerascnn.experiments.outcome import Outcome, mean_interval, told_interval
from kerascnn.explain.nearest import check_top, nearest_images
from kerascnn.explain.sheets import draw_image
from kerascnn.explain.subjects import opaque_step
from kerascnn.network.plan import make_plan
from kerascnn.plots import GREEN, RED, shortened
from kerascnn.progress import Progress
from kerascnn.using.features import feature_place

DRAWN = 5  # rows of the figure, as in the paper
BLOCK = 4096  # images whose nearest are saved together


@register(source="Krizhevsky, Sutskever and Hinton 2012, figure 4")
def nearest(
    model,
    queries,
    images,
    layer,
    *,
    query_labels=None,
    labels=None,
    class_names=None,
    files=None,
    top=6,
    metric="euclidean",
    batch_size=64,
    keep=None,
    say=None,
):
    """The images whose features at a layer are nearest to those of other images, and whether their classes agree.

    Args:
        model: keras.Model with one image input.
        queries: float (Q, H, W, C) as the model takes them, such as test images.
        images: (N, H, W, C), or anything of that length that gives such arrays for slices, such as training images.
        layer: a layer's name.
        query_labels, labels: int (Q,) and (N,), the classes; give both or neither.
        class_names: what the labels are called.
        files: names of the images (N,), for the table.
        top: how many neighbours.
        metric: "euclidean" or "cosine".
        batch_size: images computed at once; the result does not depend on it.
        keep: folder in which what was measured is saved, so that a stopped experiment continues; None: none.
        say: called with lines of progress.
    Returns:
        Outcome. Table: query, rank (from 1), image (its number), distance; with labels query_class, class and same;
        with files file.
    Raises:
        UsageError: the layer or metric is unknown, the layer gives the class probabilities, top is larger than the
            number of images, only one kind of labels is given, or their number is not that of the images.
    """
    if (query_labels is None) != (labels is None):
        raise UsageError("query_labels and labels go together: one of them is missing.")
    if labels is not None:
        labels, query_labels = checked_labels(labels, len(images)), checked_labels(query_labels, len(queries))
    feature_place(make_plan(model, opaque_step), layer)
    check_top(top, len(images))
    parts = blocks(len(images), BLOCK)
    progress = Progress(f"block of {counted(min(BLOCK, len(images)), 'image')}", len(parts), say)
    kept = Kept(keep, model, queries, images, layer, top, metric, progress=progress)

    def of_block(part):
        starts = range(part.start, part.stop, batch_size)
        batches = (images[start : min(start + batch_size, part.stop)] for start in starts)
        nearest_of = min(top, part.stop - part.start)
        options = {"top": nearest_of, "metric": metric, "batch_size": batch_size}
        indices, distances = nearest_images(model, queries, batches, layer, **options)
        return {"indices": indices + part.start, "distances": distances}

    neighbours = [kept.measure(f"images {part.start}", lambda part=part: of_block(part)) for part in parts]
    indices, distances = (np.concatenate([each[key] for each in neighbours], 1) for key in ("indices", "distances"))
    order = np.argsort(distances, axis=1, kind="stable")[:, :top]
    indices, distances = (np.take_along_axis(values, order, 1) for values in (indices, distances))
    rows = {
        "query": np.repeat(np.arange(len(queries)), top),
        "rank": np.tile(np.arange(1, top + 1), len(queries)),
        "image": indices.ravel(),
        "distance": distances.ravel(),
    }
    if files is not None:
        rows["file"] = np.asarray(files)[indices.ravel()]
    said = ()
    if labels is not None:
        names = np.asarray(
            class_names if class_names is not None else range(int(max(labels.max(), query_labels.max())) + 1)
        )
        of_query, of_image = np.repeat(query_labels, top), labels[indices.ravel()]
        rows |= {"query_class": names[of_query], "class": names[of_image], "same": of_query == of_image}
        said = _findings(layer, indices, labels, query_labels)
    table = pandas.DataFrame(rows)
    drawn = np.unique(np.linspace(0, len(queries) - 1, min(DRAWN, len(queries))).astype(int))
    neighbours = {int(number): np.asarray(images[number : number + 1])[0] for number in np.unique(indices[drawn])}
    title = f"{model.name}: nearest images at {layer}, {metric.replace('euclidean', 'Euclidean')} distance"
    return Outcome(
        "nearest", table, said, lambda: _figure(queries, drawn, neighbours, table, title), {"indices": indices}
    )


def _findings(layer, indices, labels, query_labels):
    same = (labels[indices] == query_labels[:, None]).mean(1)
    mean, low, high = np.clip(mean_interval(same), 0, 1)
    chance = np.mean([(labels == label).mean() for label in query_labels])
    return (
        f"{layer}: {mean:.1%} of the {indices.shape[1]} nearest images are of the image's own class "
        f"{told_interval(low, high, len(same), form='{:.1%}')}; of any images {chance:.1%} are.",
    )


def _figure(queries, drawn, neighbours, table, title):
    """A row for each query that is drawn: the query, then its neighbours, in green where they are of its class."""
    top = int(table["rank"].max())
    figure = Figure(figsize=(1.25 * (top + 1), 1.5 * len(drawn) + 0.6), layout="constrained")
    panels = figure.subplots(len(drawn), top + 1, squeeze=False)
    for query, row in zip(drawn, panels, strict=True):
        draw_image(row[0], queries[query])
        of_query = table[table["query"] == query]
        if "class" in table:
            row[0].set_title(shortened(str(of_query["query_class"].iloc[0]), 14), fontsize="small", fontweight="bold")
        for axes, each in zip(row[1:], of_query.itertuples(), strict=True):
            draw_image(axes, neighbours[each.image])
            if "class" in table:
                name = shortened(str(of_query["class"].loc[each.Index]), 14)
                axes.set_title(name, fontsize="small", color=GREEN if each.same else RED)
    figure.suptitle(title, fontsize="medium")
    return figure


def command(
    asked,
    *,
    layer: str | None = None,
    top: int = 6,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    images: int = 100,
    seed: int = 0,
):
    """Find the training images that are most similar to test images for a network.

    Parameters
    ----------
    layer
        a layer's name [default: the last layer before the scores]
    top
        how many neighbours to find for each image
    metric
        how to measure the distance between the features of two images
    images
        how many test images to use; five of them are drawn
    seed
        seed for the choice of images
    """
    train, test = asked.both(seed)
    test = some(test, images, seed)
    known = {"files": train.files or None}
    if asked.loaded.class_names:
        known |= {"query_labels": test.labels, "labels": train.labels, "class_names": asked.loaded.class_names}
    given = asked.prepared(test)[:], asked.prepared(train), layer or usual_layers(asked.model)[-1]
    known |= {"keep": asked.kept("nearest"), "say": asked.say}
    return nearest(asked.model, *given, top=top, metric=metric, **known)
