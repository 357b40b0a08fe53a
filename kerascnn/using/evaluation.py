"""How good a classifier is: `evaluate` a run on its own test images, or any classifier on other data."""

from pathlib import Path

import numpy as np

from kerascnn import datasets
from kerascnn.errors import UsageError, command
from kerascnn.recipes import Recipe
from kerascnn.training.evaluate import evaluate_split, views_of
from kerascnn.using.class_names import class_indices
from kerascnn.using.classifier import subject
from kerascnn.using.run_data import data_of, known_data


def evaluate(run, data=None, *, strict=False):
    """The Evaluation of a run's network: on its own test split, or on other data with the same classes.

    Args:
        run: a Run, its folder, its name or "last"; or whatever `kerascnn.using.subject` takes.
        data: a registered name or a path; its test split is used, or all of its images if it has none. One class is
            enough. None: the run's data. Only the test images of the run's data are used, even if the data are named or
            were moved, because the run was trained on the others.
    Raises:
        UsageError: the data have no labels, or classes that the run does not know.
    """
    return evaluated(subject(run), data, strict=strict)[1]


def evaluated(classifier, data=None, *, strict=False):
    """(the Split, the Evaluation, the ImageData that the split belongs to); arguments as for `evaluate`."""
    split, views, other = to_evaluate(classifier, data, strict=strict)
    measured = evaluate_split(
        classifier.model, split, classifier.preprocessing, classifier.labels, source=str(other.source), **views
    )
    return split, measured, other


def to_evaluate(classifier, data=None, *, strict=False, some=False):
    """(the Split that a classifier is tested on, its labels numbered as the network's classes; the views of each image
    that count; the ImageData that the split belongs to); arguments as for `evaluate`.

    Args:
        some: as for `data_of`.
    """
    run, views, known = classifier.run, {}, None
    if run is not None:
        known = known_data(run, data, strict=strict, some=some)
        views = views_of(Recipe.from_dict(run.read("recipe")))
    other = data_of(classifier, data, strict=strict, some=some) if known is None else known
    names = other.class_names
    if known is not None:
        split = known.test
    else:
        split = other.test or other.train or other.validation
        if not names:
            split, names = _named_by_files(split, classifier, data)
        split = datasets.Split(split.images, class_indices(names, classifier.labels, data)[split.labels], split.files)
    return split, views, other


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
