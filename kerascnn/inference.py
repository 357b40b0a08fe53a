"""What a trained run says about images: `load` its network, `predict` files or arrays, `evaluate` on a data set."""

import glob
import os
from pathlib import Path

import numpy as np
import pandas

from kerascnn import datasets, runs
from kerascnn.adopt import Classifier, preprocessing, subject
from kerascnn.class_names import class_indices
from kerascnn.datasets.decoding import SUFFIXES, BrokenImage, read_image
from kerascnn.datasets.folder_tree import look_below
from kerascnn.datasets.loading import resolve
from kerascnn.datasets.resize import resize_batch
from kerascnn.errors import DataError, UsageError, command
from kerascnn.explain.plans.heads import class_probabilities
from kerascnn.keras_file import load  # noqa: F401  kerascnn.inference.load
from kerascnn.recipes import Recipe
from kerascnn.training import digests
from kerascnn.training.evaluate import evaluate_split, images_at_once
from kerascnn.training.prepare import fingerprint
from kerascnn.training.reading import load_data


def image_paths(names):
    """The image files that files, folders and glob patterns name, in order.

    Raises:
        UsageError: a name that matches nothing, or a folder without images.
    """
    paths = []
    for name in map(str, names):
        if Path(name).is_dir():
            below = look_below(Path(name), Path(name))
            pipes = [file for file in below.special if file.lower().endswith(SUFFIXES)]  # said to be broken
            found = sorted(Path(name) / file for file in below.images + pipes)
            if not found:
                raise UsageError(f"The folder {name} holds no images. Read are {', '.join(SUFFIXES)}.")
        elif Path(name).exists():
            found = [Path(name)]
        else:
            found = [Path(p) for p in sorted(glob.glob(name, recursive=True)) if Path(p).is_file()]
            if not found:
                raise UsageError(
                    f"There is no image {name!r}. Name a file, a folder or a pattern such as 'photos/*.jpg'."
                )
        paths += found
    return paths


def predict(run, images, *, top=5, batch_size=None):
    """The most probable classes of images, which are read batch by batch: any number of them takes the same memory.

    Args:
        run: a Run, its folder, its name or "last"; or whatever `kerascnn.adopt.subject` takes.
        images: paths (files, folders, patterns), or uint8 (N, H, W, C) of any size.
        top: classes to give for each image; at most all of them.
        batch_size: images that are in memory at a time; None: fewer where they are larger, at most 256.
    Returns:
        DataFrame with columns image (file name or number), rank (from 1), index, probability, label. Files that
        cannot be read are left out and listed as (name, reason) in its `.attrs["broken"]`.
    """
    if top < 1:
        raise UsageError(f"--top {top} is not allowed: it must be at least 1.")
    classifier = subject(run)
    model, prepared, labels = classifier.model, classifier.preprocessing, classifier.labels
    if isinstance(images, np.ndarray):
        if images.ndim != 4 or images.dtype != "uint8" or images.shape[-1] not in (1, 3):
            raise UsageError(
                f"images has shape {images.shape} and dtype {images.dtype}; uint8 (N, H, W, C) is allowed, with "
                "1 or 3 channels."
            )
        paths = None
    else:
        paths = image_paths([images] if isinstance(images, (str, Path)) else images)
    size = batch_size or images_at_once(prepared.resize_to)
    rows, broken = [], []
    for first in range(0, len(images if paths is None else paths), size):
        part = slice(first, first + size)
        if paths is None:
            pixels = resize_batch(images[part], prepared.resize_to, prepared.channels)
            names = range(first, first + len(pixels))
        else:
            names, pixels = _read(paths[part], prepared, broken)
        if not len(pixels):
            continue
        probabilities = class_probabilities(model, np.asarray(model.predict_on_batch(prepared(pixels))))
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        rows += [
            (name, rank + 1, int(i), float(p[i]), labels[i])
            for name, p, best in zip(names, probabilities, order, strict=True)
            for rank, i in enumerate(best)
        ]
    table = pandas.DataFrame(rows, columns=["image", "rank", "index", "probability", "label"])
    table.attrs["broken"] = broken
    return table


def _read(paths, prepared, broken):
    """(names, uint8 (N, H, W, C)) of the files that can be read; (name, reason) of the others joins `broken`."""
    names, pixels = [], []
    for path in paths:
        try:
            pixels.append(read_image(path, prepared.resize_to, prepared.channels))
            names.append(str(path))
        except BrokenImage as error:
            broken.append((str(path), error.reason))
    return names, np.stack(pixels) if pixels else np.zeros((0, *prepared.resize_to, prepared.channels), "uint8")


def data_of(run, data=None, *, strict=False):
    """The ImageData that a run was trained on, with its splits; or other data, at the size that the run takes.

    Args:
        run: a Run, its folder, its name or "last"; or a Classifier (`kerascnn.adopt`), for which data must be named.
        data: a registered name or a path; None: the run's. It may have one class only, no training images, or images
            without labels.
    Raises:
        DataError: the run's data have changed, so that its splits can no longer be told.
    """
    if isinstance(run, Classifier) and run.run is None:
        if data is None:
            raise UsageError(f"{run.name} is no run, so no data are its own. Name a data set or a folder.")
        size = {"image_size": run.preprocessing.resize_to, "channels": run.preprocessing.channels}
        return datasets.load(data, **size, validation=0, test=0, strict=strict, training=False)
    run = run.run if isinstance(run, Classifier) else runs.as_run(run)
    recipe = Recipe.from_dict(run.read("recipe"))
    if data is None:
        own = load_data(recipe, strict=strict)
        if run.read("data").get("fingerprint", "") not in ("", fingerprint(own)):
            raise _changed(run, own)
        changed = digests.changes(run, own, times=False)
        if changed:
            raise _changed(run, own, f" What changed: {'; '.join(changed)}.")
        return own
    prepared = preprocessing(run)
    same_kind = resolve(data)[0] in {"leaves": ("image_folder",), "present": ("npz", "mnist")}.get(recipe.classes, ())
    return datasets.load(
        data,
        image_size=prepared.resize_to,
        channels=prepared.channels,
        classes=recipe.classes if same_kind else None,
        validation=0,
        test=0,
        strict=strict,
        training=False,
    )


def _changed(run, data, what=""):
    return DataError(
        f"The data at {data.source} have changed since {run.folder} was trained on them, so its test images can no "
        f"longer be told from its training images.{what} Bring the old data back, or name others to look at."
    )


def _same_data(run, data, strict):
    """The ImageData at a path or of a name, split as the run's, if they are what the run was trained on; else None."""
    try:
        found = load_data(Recipe.from_dict(run.read("recipe")).replace(data=str(data)), strict=strict)
    except (DataError, UsageError):  # too few images to be split, say
        return None
    if run.read("data").get("fingerprint") != fingerprint(found):
        return None
    changed = digests.changes(run, found, times=False)
    if changed:
        raise _changed(run, found, f" What changed: {'; '.join(changed)}.")
    return found


def evaluate(run, data=None, *, strict=False):
    """The Evaluation of a run's network: on its own test split, or on other data with the same classes.

    Args:
        run: a Run, its folder, its name or "last"; or whatever `kerascnn.adopt.subject` takes.
        data: a registered name or a path; its test split is used, or all of it where it has none. One class is enough.
            None: the run's, of which the test images are used, also if it is named or was moved: the others were
            trained on.
    Raises:
        UsageError: the data have no labels, or classes that the run does not know.
    """
    classifier = subject(run)
    run, views, moved = classifier.run, {}, None
    if run is not None:
        own = run.read("recipe")["data"]
        # A folder may be called as a registered data set is
        paths = own not in datasets.DATASETS and str(data) not in datasets.DATASETS
        if data is not None and (str(data) == own or (paths and os.path.realpath(data) == os.path.realpath(own))):
            data = None
        moved = None if data is None else _same_data(run, data, strict)
        recipe = Recipe.from_dict(run.read("recipe"))
        views = {"mirrored": recipe.test_flip, "shifted": recipe.test_shift}
    other = data_of(classifier, data, strict=strict) if moved is None else moved
    names = other.class_names
    if run is not None and (data is None or moved is not None):
        split = other.test
    else:
        split = other.test or other.train or other.validation
        if not names:
            split, names = _named_by_files(split, classifier, data)
        split = datasets.Split(split.images, class_indices(names, classifier.labels, data)[split.labels], split.files)
    return evaluate_split(
        classifier.model, split, classifier.preprocessing, classifier.labels, source=str(other.source), **views
    )


def _named_by_files(split, classifier, data):
    """(Split, class names) of images without labels whose files are called as the classes are: n02391049_zebra.jpg.

    Raises:
        UsageError: they are not.
    """
    names = [Path(file).stem for file in split.files]
    try:
        class_indices(names, classifier.labels, data)
    except UsageError:
        model = classifier.run.folder if classifier.run else "MODEL"
        raise UsageError(
            f"{data} has no labels: evaluate needs a folder a class, called as the network's classes are. To see what "
            f"the network answers, type: {command('predict', model, data)}"
        ) from None
    return datasets.Split(split.images, np.arange(len(names)), split.files), names
