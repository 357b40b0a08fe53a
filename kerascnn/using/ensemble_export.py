"""Several networks that answer together, written as one SavedModel."""

from pathlib import Path

import numpy as np

from kerascnn import backends, runs
from kerascnn.errors import DataError, UsageError
from kerascnn.using.exporting import TOLERANCE, samples
from kerascnn.using.formats import saved_model


def export_ensemble(members, folder):
    """Write several networks that answer by the mean of their probabilities as one SavedModel; load and compare it.

    Its endpoints are those of a single network. Each network has its own preprocessing inside; what is the same for
    several of them is computed once.

    Args:
        members: Classifiers with the same classes, in any order; the SavedModel has the order of the first.
        folder: path of the SavedModel: a new or empty folder, or an earlier SavedModel, which is replaced.
    Returns:
        The largest difference between the SavedModel's probabilities and the mean of the networks', on the first
        network's sample images, or on images of noise.
    Raises:
        UsageError: the folder holds something else, the classes differ, or the backend is not TensorFlow.
        DataError: the folder may not be written, or the answers differ by more than 1e-4.
    """
    folder = Path(folder)
    if backends.backend() != "tensorflow":
        raise UsageError("A SavedModel of several networks is written by TensorFlow: set KERAS_BACKEND=tensorflow")
    if folder.exists() and not (
        folder.is_dir() and ((folder / "saved_model.pb").exists() or not any(folder.iterdir()))
    ):
        raise UsageError(f"export={folder} is not allowed: it holds something else. Name a new folder.")
    for member in members:
        if sorted(member.labels) != sorted(members[0].labels):
            raise UsageError(f"{member.name} has other classes than {members[0].name}, so they cannot answer together.")
    runs.check_writable(folder.parent)
    with runs.replacing(folder) as temporary:
        saved_model.write(members, temporary)
        difference = _difference(members, temporary)
    return difference


def _difference(members, path):
    """The largest difference between the probabilities of a SavedModel and those of the networks; a DataError if it is
    too large."""
    from kerascnn.using import tf_answer, tf_images

    pixels = samples(members[0]).pixels
    each = []
    for member in members:
        prepared = member.preprocessing
        fitted = tf_images.resize(tf_images.in_channels(pixels, prepared.channels), prepared.resize_to)
        each.append(member.model.predict(prepared(np.asarray(fitted)), verbose=0))
    difference = float(np.abs(saved_model.opened(path)(pixels) - np.asarray(tf_answer.together(members, each))).max())
    if not difference <= TOLERANCE:
        raise DataError(
            f"The SavedModel of {len(members)} networks answers differently from them, by {difference:g} in a "
            "probability. It was not kept."
        )
    return difference
