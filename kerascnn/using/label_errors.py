"""Which labels may be wrong? Images whose given class is least likely for a network that has never seen them.

`suspects` uses a run on its own validation and test images, or any classifier on images that it was not trained on.
`cross_suspects` trains networks on parts of the data, so that every image is judged by a network that has never seen
it.
"""

import math
from pathlib import Path

import numpy as np
import pandas
from sklearn.model_selection import StratifiedKFold

from kerascnn import runs
from kerascnn.errors import DataError, UsageError
from kerascnn.recipes import Recipe
from kerascnn.training import measures, record
from kerascnn.training.evaluate import evaluate_split
from kerascnn.training.train import train
from kerascnn.using.classifier import subject
from kerascnn.using.evaluation import evaluated
from kerascnn.using.run_data import data_of


def suspects(run, data=None, *, strict=False):
    """The images whose predicted class differs from their label, least probable label first.

    Args:
        run: a run, whose validation and test images are judged; or whatever `kerascnn.using.subject` takes.
        data: a data set's name or a folder of class folders, which the network was not trained on; None: the run's own.
        strict: True stops at the first image that cannot be read.
    Returns:
        DataFrame, see `kerascnn.training.measures.suspects`.
    Raises:
        UsageError: a model file without data.
    """
    classifier = subject(run)
    if data is not None or classifier.run is None:
        split, measured, _ = evaluated(classifier, data, strict=strict)
        return _table(measured, split.files, "all")
    loaded = data_of(classifier, strict=strict)
    parts = []
    for name in ("validation", "test"):
        split = loaded.splits.get(name)
        if split is not None and len(split):
            measured = evaluate_split(classifier.model, split, classifier.preprocessing, classifier.labels)
            parts.append(_table(measured, split.files, name))
    return pandas.concat(parts, ignore_index=True).sort_values("confidence", kind="stable", ignore_index=True)


def cross_suspects(run, folds, *, out=None, say=print):
    """Like `suspects`, for all images of a run's data: the recipe is trained once for each fold, on the other folds.

    Args:
        run: a Run, its folder, its name or "last".
        folds: number of folds, at least 2; each class is spread evenly over them.
        out: folder for the runs; folds that have finished there are not trained again, and a stopped one continues.
            None: cross/ in the run.
        say: called with each line of progress.
    Returns:
        DataFrame, see `kerascnn.training.measures.suspects`.
    Raises:
        UsageError: there are fewer than two folds, or a class has fewer images than folds.
    """
    run = runs.as_run(run)
    data, recipe = data_of(run), Recipe.from_dict(run.read("recipe"))
    splits = list(data.splits.values())
    labels = np.concatenate([split.labels for split in splits])
    fewest = int(np.bincount(labels, minlength=len(data.class_names)).min())
    if isinstance(folds, bool) or not isinstance(folds, int) or not 2 <= folds <= fewest:
        raise UsageError(
            f"folds={folds!r} is not allowed: it must be a whole number from 2 to {fewest}, the images of the smallest "
            "class."
        )
    least = math.ceil(len(labels) / (record.MOST_ANSWERS // (4 * len(data.class_names))))
    if folds < least:
        raise UsageError(
            f"folds={folds} is not allowed: the answers to {-(-len(labels) // folds):,} images in "
            f"{len(data.class_names):,} classes are more than a run keeps. "
            + (f"Give folds={least} or more." if least <= fewest else "There are too many for the smallest class.")
        )
    files = [file for split in splits for file in split.files]
    folder = Path(out) if out is not None else run / "cross"
    logs = np.full((len(labels), len(data.class_names)), np.nan)
    parts = StratifiedKFold(folds, shuffle=True, random_state=recipe.seed).split(labels, labels)
    for number, (others, held) in enumerate(parts):
        say(f"fold {number + 1} of {folds}")
        logs[held] = _fold(folder / f"fold-{number + 1}", recipe, data, splits, labels, others, held, say)
    return measures.suspects(logs, labels, data.class_names, files if len(files) == len(labels) else None, split="all")


def _fold(folder, recipe, data, splits, labels, others, held, say):
    """Log probabilities of the `held` images by a network that was trained on the `others`."""
    arrays = folder.with_suffix(".npz")
    done = runs.Run(folder) if (folder / "run.json").exists() else None
    if done is None or done.status != "finished":
        _write_fold(arrays, splits, labels, data.class_names, others, held)
        settings = recipe.replace(data=str(arrays.resolve()), classes=None)
        done = train(settings, out=folder, say=say) if done is None else train(resume=folder, say=say)
        arrays.unlink()
    measured = record.evaluation(done)
    if measured is None or len(measured.labels) != len(held):
        raise DataError(f"{folder} is of other data or another recipe. Move it away, or name another folder.")
    return measured.log_probabilities


def _write_fold(path, splits, labels, class_names, others, held):
    """Write the images of a fold as an NPZ file: it is tested on the `held` ones."""
    images = np.concatenate([np.asarray(split.images[:]) for split in splits])
    with runs.replacing(path) as temporary:
        np.savez(
            temporary,
            x_train=images[others],
            y_train=labels[others],
            x_test=images[held],
            y_test=labels[held],
            class_names=np.array(class_names),
        )


def _table(measured, files, split):
    names = list(measured.per_class["class"])
    return measures.suspects(measured.log_probabilities, measured.labels, names, files, split=split)
