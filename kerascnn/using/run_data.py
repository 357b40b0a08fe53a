"""The data that a run was trained on, recognised by their content; or other data, at the size that the run takes."""

import os

from kerascnn import datasets, runs
from kerascnn.datasets.loading import resolve
from kerascnn.errors import DataError, UsageError
from kerascnn.recipes import Recipe
from kerascnn.training import digests
from kerascnn.training.prepare import fingerprint
from kerascnn.training.reading import load_data, reading
from kerascnn.using.classifier import Classifier, preprocessing


def data_of(run, data=None, *, side=None, strict=False, some=False):
    """The ImageData that a run was trained on, with its splits; or other data, at the size that the run takes.

    Args:
        run: a Run, its folder, its name or "last"; or a Classifier (`kerascnn.using`), for which data must be named.
        data: a registered name or a path; None: the run's data. They may have only one class, no training images, or
            images without labels.
        side: side of squares that the images are resized to, pixels; None: the size that the run takes.
        some: True if only some of the images will be looked at. Each is then decoded only when needed, and a run's data
            are recognised by all names and labels, and 64 images of each split.
    Raises:
        DataError: the run's data have changed, so its splits can no longer be determined.
    """
    memory = {"memory_limit": 0} if some else {}
    if isinstance(run, Classifier) and run.run is None:
        if data is None:
            raise UsageError(f"{run.name} is not a run, so it has no data of its own. Name a data set or a folder.")
        size = {"image_size": side or run.preprocessing.resize_to, "channels": run.preprocessing.channels}
        return datasets.load(data, **size, **memory, validation=0, test=0, strict=strict, training=False)
    run = run.run if isinstance(run, Classifier) else runs.as_run(run)
    recipe = Recipe.from_dict(run.read("recipe"))
    if data is None:
        loaded = load_data(recipe, strict=strict, **memory)
        if run.read("data").get("fingerprint", "") not in ("", fingerprint(loaded)):
            raise _changed(run, loaded)
        if not some:
            _check_images(run, loaded)
        if side is not None:
            return datasets.load(recipe.data, strict=strict, **memory, **{**reading(recipe), "image_size": side})
        return loaded
    prepared = preprocessing(run)
    same_kind = resolve(data)[0] in {"leaves": ("image_folder",), "present": ("npz", "mnist")}.get(recipe.classes, ())
    return datasets.load(
        data,
        image_size=side or prepared.resize_to,
        channels=prepared.channels,
        classes=recipe.classes if same_kind else None,
        validation=0,
        test=0,
        strict=strict,
        training=False,
        **memory,
    )


def _changed(run, data, what=""):
    return DataError(
        f"The data at {data.source} have changed since {run.folder} was trained on them, so its test images can no "
        f"longer be told from its training images.{what} Bring the old data back, or name others to look at."
    )


def _check_images(run, data):
    changed = digests.changes(run, data, times=False)
    if changed:
        raise _changed(run, data, f" What changed: {'; '.join(changed)}.")


def known_data(run, data=None, **options):
    """The ImageData of a run, if `data` is None or names them, or a copy of them; otherwise None.

    Args:
        run: a Run.
        data: a registered name or a path.
        options: side, strict and some, as for `data_of`.
    """
    recipe = Recipe.from_dict(run.read("recipe"))
    # A folder may be called as a registered data set is
    paths = recipe.data not in datasets.DATASETS and str(data) not in datasets.DATASETS
    if data is None or str(data) == recipe.data or (paths and os.path.realpath(data) == os.path.realpath(recipe.data)):
        return data_of(run, **options)
    return _copied(run, recipe.replace(data=str(data)), **options)


def _copied(run, recipe, *, side=None, strict=False, some=False):
    """The ImageData of a recipe that differs from a run's in the data alone, if they are a copy of the run's."""
    how = {"strict": strict, "memory_limit": 0 if some else None}
    try:
        loaded = load_data(recipe, **how)
    except (DataError, UsageError):  # too few images to be split, say
        return None
    if run.read("data").get("fingerprint") != fingerprint(loaded):
        return None
    if not some:
        _check_images(run, loaded)
    if side is None:
        return loaded
    return datasets.load(recipe.data, **how, **{**reading(recipe), "image_size": side})
