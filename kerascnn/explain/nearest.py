"""Nearest training images in the feature space of any layer (Krizhevsky, Sutskever and Hinton 2012, figure 4)."""

import numpy as np

from kerascnn.errors import UsageError, unknown, whole
from kerascnn.explain.recorded import activations

METRICS = ("euclidean", "cosine")
GATHERED = 2**22  # features of images whose distances are computed together: for few, waking threads takes longest


def nearest_images(model, queries, images, layer, *, top=6, metric="euclidean", batch_size=64):
    """The images whose activations at a layer are nearest to the queries', found in one streamed pass.

    Args:
        model: as for every look.
        queries: (Q, H, W, C) as the model takes them.
        images: (N, H, W, C), or an iterable of such batches (a generator, a tf.data.Dataset of images): never held
            in memory together.
        layer: the layer's name; its output is flattened.
        top: how many; at most the number of images.
        metric: "euclidean", or "cosine" (1 less the cosine of the angle between the activations).
    Returns:
        (indices int64 (Q, top), distances float32 (Q, top)): nearest first; ties go to the earlier image.
    Raises:
        UsageError: unknown layer or metric, or top beyond the number of images.
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    check_top(top)
    wanted = _flat(activations(model, queries, layer), metric)
    lengths = (wanted**2).sum(1)[:, None]
    best = np.full((len(wanted), top), np.inf), np.full((len(wanted), top), -1)
    seen = 0
    for features in _gathered(model, _batches(images, batch_size), layer, batch_size, metric):
        squares = lengths - 2 * wanted @ features.T + (features**2).sum(1)
        places = np.broadcast_to(np.arange(seen, seen + len(features)), squares.shape)
        distances = np.concatenate([best[0], np.maximum(squares, 0)], 1)
        indices = np.concatenate([best[1], places], 1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :top]
        best = np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1)
        seen += len(features)
    check_top(top, seen)
    distances = best[0] / 2 if metric == "cosine" else np.sqrt(best[0])
    return best[1], distances.astype("float32")


def check_top(top, count=None):
    """Raise a UsageError if `top` is no whole number from 1 up to the number of images, if that is known."""
    if whole("top", top) and count is not None and top > count:
        raise UsageError(f"top={top} is not allowed: it must be 1 to {count}, the number of images.")


def _flat(maps, metric):
    """The activations as float64 (N, units); for the cosine each image's are of length 1."""
    flat = maps.reshape(len(maps), -1).astype("float64")
    if metric == "cosine":
        flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-30)
    return flat


def _gathered(model, batches, layer, batch_size, metric):
    """The features of several batches of images at a time."""
    held = []
    for batch in batches:
        held.append(_flat(activations(model, batch, layer, batch_size=batch_size), metric))
        if sum(each.size for each in held) >= GATHERED:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _batches(images, batch_size):
    if not isinstance(images, np.ndarray):
        yield from (np.asarray(batch) for batch in images)
        return
    for start in range(0, len(images), batch_size):
        yield images[start : start + batch_size]
