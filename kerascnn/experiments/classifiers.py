"""Linear classifiers on the features of images: cross-validation chooses how strongly, the test images judge."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from kerascnn import plots
from kerascnn.errors import UsageError
from kerascnn.training.evaluate import interval

COLUMNS = ("features", "strength", "validation", "accuracy", "low", "high", "images")  # of a table of `judged`


def fitted(machine, features, labels, strengths, folds, seed):
    """The classifier with the C of the best mean accuracy over the folds, trained on all images.

    A solver that reaches its largest number of iterations is measured as it is then.

    Args:
        machine: scikit-learn's classifier, or a pipeline that ends in one.
    """
    name = f"{machine.steps[-1][0]}__C" if hasattr(machine, "steps") else "C"
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    search = GridSearchCV(machine, {name: list(strengths)}, cv=split)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return search.fit(features, labels)


def judged(kept, name, machine, data, strengths, folds, seed):
    """(the numbers of `COLUMNS`, bool (N,): which test images are classified correctly) of a classifier.

    Args:
        kept: Kept.
        name: of the measurement.
        machine, strengths, folds, seed: as of `fitted`.
        data: function without arguments that gives training features and labels, and those of the test images.
    """

    def measured():
        features, labels, test, test_labels = data()
        search = fitted(machine, features, labels, strengths, folds, seed)
        numbers = np.array([features.shape[1], *search.best_params_.values(), search.best_score_])
        return {"correct": search.predict(test) == test_labels, "numbers": numbers}

    result = kept.measure(name, measured, lambda result: f"{name}: {result['correct'].mean():.1%}")
    correct, (size, strength, score) = result["correct"], result["numbers"].tolist()
    accuracy = correct.mean(), *interval(correct.sum(), len(correct))
    return (int(size), strength, score, *accuracy, len(correct)), correct


def chance(labels, test_labels):
    """The accuracy on the test images of always answering the largest class of the training images."""
    classes, counts = np.unique(labels, return_counts=True)
    return (test_labels == classes[counts.argmax()]).mean()


def check_numbers(images, labels, test_images, test_labels):
    """Raise a UsageError if there are no images, or other numbers of images and labels."""
    for what, given, of_them in (("images", images, labels), ("test_images", test_images, test_labels)):
        if not len(given) or len(given) != len(of_them):
            raise UsageError(f"{what} holds {len(given)} images, and there are {len(of_them)} labels for them.")


def check_folds(labels, folds):
    """Raise a UsageError if a class has fewer images than folds."""
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or counts.min() < folds:
        raise UsageError(
            f"Cross-validation in {folds} folds needs two or more classes with {folds} training images each; the "
            f"smallest of {len(classes)} has {counts.min()}."
        )


def accuracy_panel(width, title, **labels):
    """(Figure, Axes) for accuracies on test images."""
    return plots.panel(width, 4.2, title, ylabel="accuracy on test images", ylim=(0, 1), **labels)


def draw_chance(axes, level):
    """Draw the level of `chance`."""
    axes.axhline(level, color="0.5", linestyle="--", linewidth=1, label="always the largest class")


def draw_accuracies(axes, places, rows, **style):
    """Draw the accuracies of a table's rows with their intervals."""
    errors = [rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]]
    axes.errorbar(places, rows["accuracy"], errors, marker="o", capsize=3, **style)
