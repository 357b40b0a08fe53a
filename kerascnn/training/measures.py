"""Measure a classifier from probabilities and labels: each image, calibration, ranking, and confused classes.

Arrays in, tables out; no network runs here. Classes are numbered from 0; `class_names` are their names.
"""

import numpy as np
import pandas
from sklearn.metrics import average_precision_score, roc_auc_score

FEWEST = 5  # images of a class from which confident learning can tell how sure the network usually is of it


def by_image(log_probabilities, labels, class_names, files=None, *, split="test", top=5):
    """One row per image: its class, the predicted class, and how certain the prediction was.

    Args:
        log_probabilities: (N, num_classes), nats.
        labels: int (N,).
        files: N names; None: the images' numbers.
        split: the name of the split that they come from.
        top: the classes listed for each image, at most all.
    Returns:
        DataFrame with columns file, split, label, predicted, correct, loss (nats), margin (probability of the label
        minus the largest of the others), then label_1, probability_1, label_2 ... , the most probable first.
    """
    log_probabilities, labels = np.asarray(log_probabilities, "float64"), np.asarray(labels)
    probabilities = np.exp(log_probabilities)
    rows, names = np.arange(len(labels)), np.asarray(class_names, object)
    of_label = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    order = np.argsort(-log_probabilities, axis=1, kind="stable")[:, : min(top, len(names))]
    table = {
        "file": list(files) if files is not None and len(files) else rows,
        "split": split,
        "label": names[labels],
        "predicted": names[order[:, 0]],
        "correct": order[:, 0] == labels,
        "loss": -log_probabilities[rows, labels],
        "margin": of_label - others.max(1),
    }
    for rank in range(order.shape[1]):
        table[f"label_{rank + 1}"] = names[order[:, rank]]
        table[f"probability_{rank + 1}"] = probabilities[rows, order[:, rank]]
    return pandas.DataFrame(table)


def calibration(probabilities, labels, bins=15):
    """How often a classifier is right at each confidence, and its expected calibration error (Guo et al. 2017).

    Args:
        probabilities: (N, num_classes).
        labels: int (N,).
        bins: number of bins of equal width for the largest probability, from 0 to 1; the upper bound belongs to a bin.
    Returns:
        (DataFrame with a row for each bin that has images: low, high, images, confidence (mean largest probability),
        accuracy; the error: equation 3, the mean over images of the difference between a bin's accuracy and its
        confidence).
    """
    probabilities = np.asarray(probabilities, "float64")
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == np.asarray(labels)
    part = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(part, minlength=bins)
    used = counts > 0
    sums = [np.bincount(part, values, bins)[used] / counts[used] for values in (confidence, correct)]
    edges = np.linspace(0, 1, bins + 1)
    table = pandas.DataFrame(
        {
            "low": edges[:-1][used],
            "high": edges[1:][used],
            "images": counts[used],
            "confidence": sums[0],
            "accuracy": sums[1],
        }
    )
    error = float((table["images"] * (table["accuracy"] - table["confidence"]).abs()).sum() / len(confidence))
    return table, error


def ranking(probabilities, labels, class_names):
    """How well each class's probability ranks its images before all others (one class against the rest).

    Returns:
        DataFrame with columns class, roc_auc, average_precision; NaN for a class that has no images, or all of them.
    """
    labels, rows = np.asarray(labels), []
    for number, name in enumerate(class_names):
        positive, score = labels == number, np.asarray(probabilities)[:, number]
        if positive.any() and not positive.all():
            rows.append((name, float(roc_auc_score(positive, score)), float(average_precision_score(positive, score))))
        else:
            rows.append((name, np.nan, np.nan))
    return pandas.DataFrame(rows, columns=["class", "roc_auc", "average_precision"])


def confused_pairs(confusion, most=10):
    """Which classes are most often predicted as which others.

    Args:
        confusion: DataFrame (num_classes, num_classes), rows true, columns predicted, counts.
        most: largest number of rows.
    Returns:
        DataFrame with columns true, predicted, images, share (of the true class), most images first; pairs that never
        occur are left out.
    """
    counts = confusion.to_numpy().copy()
    totals = counts.sum(1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    rows = [
        (confusion.index[i], confusion.columns[j], int(counts[i, j]), counts[i, j] / totals[i])
        for i, j in zip(*np.unravel_index(order, counts.shape), strict=True)
        if counts[i, j]
    ]
    return pandas.DataFrame(rows, columns=["true", "predicted", "images", "share"])


def suspects(log_probabilities, labels, class_names, files=None, *, split="test"):
    """The images whose label the network finds least likely; label errors are among them.

    The network must not have been trained on these images. If `cleanlab` is installed, its confident learning decides
    "suspected" (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068); without it, every image that was predicted as
    another class is suspected.

    Args:
        log_probabilities, labels, class_names, files, split: as for `by_image`.
    Returns:
        DataFrame of the images that were predicted as another class, least probable label first: image (its number),
        file, split, label, suggested (the most probable class), confidence (probability of the label), suspected.
    """
    log_probabilities, labels = np.asarray(log_probabilities, "float64"), np.asarray(labels)
    of_label, names = log_probabilities[np.arange(len(labels)), labels], np.asarray(class_names, object)
    suggested = log_probabilities.argmax(1)
    flagged = _confident_learning(np.exp(log_probabilities), labels)
    flagged = suggested != labels if flagged is None else flagged
    rows = np.flatnonzero((suggested != labels) | flagged)
    rows = rows[np.argsort(of_label[rows], kind="stable")]
    return pandas.DataFrame(
        {
            "image": rows,
            "file": [files[row] for row in rows] if files is not None and len(files) else rows,
            "split": split,
            "label": names[labels[rows]],
            "suggested": names[suggested[rows]],
            "confidence": np.exp(of_label[rows]),
            "suspected": flagged[rows],
        }
    )


def _confident_learning(probabilities, labels):
    """bool (N,): what `cleanlab` suspects; None where it is not installed, or where the images are too few for it."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return None
    present, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(present) < 2 or counts.min() < FEWEST:
        return None
    kept = probabilities[:, present]
    kept = kept / np.maximum(kept.sum(1, keepdims=True), 1e-300)
    return np.asarray(find_label_issues(numbers, kept, n_jobs=1))
