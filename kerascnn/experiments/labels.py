"""Labels as experiments take them: a whole number for each image, a class of the network."""

import numpy as np

from kerascnn.errors import UsageError


def checked_labels(labels, count):
    """int (count,): the labels of `count` images.

    Raises:
        UsageError: there are no images, or the labels are not a whole number for each.
    """
    labels = np.asarray(labels)
    if not count or labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UsageError(
            f"labels of shape {labels.shape} and dtype {labels.dtype} are not allowed: a whole number for each of the "
            f"{count} images is needed, and one or more images."
        )
    return labels


def check_classes(labels, classes):
    """Raise a UsageError if a label is not one of a network's classes."""
    if labels.min() < 0 or labels.max() >= classes:
        raise UsageError(
            f"labels from {labels.min()} to {labels.max()} are not allowed: the network has {classes} classes, 0 to "
            f"{classes - 1}."
        )
