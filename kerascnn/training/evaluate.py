"""How good a classifier is on one split: loss, top-1 and top-5 with intervals, per class, and who is taken for whom."""

import dataclasses
from dataclasses import dataclass

import keras
import numpy as np
import pandas
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from kerascnn import backends
from kerascnn.explain.plans.heads import class_probabilities
from kerascnn.training.batches import InOrder


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `score` measured.

    Attributes:
        images: number of images.
        loss: mean negative log likelihood, nats.
        accuracy, top5: fractions; top5 is None with fewer than six classes.
        accuracy_interval, top5_interval: their 95% Wilson intervals.
        per_class: DataFrame: class, images, precision, recall, f1.
        confusion: DataFrame (num_classes, num_classes), rows true, columns predicted, counts.
    """

    images: int
    loss: float
    accuracy: float
    accuracy_interval: tuple
    top5: float | None
    top5_interval: tuple | None
    per_class: pandas.DataFrame
    confusion: pandas.DataFrame

    def to_dict(self):
        """The numbers without the tables, for JSON."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)[:-2]}


def interval(successes, total):
    """The 95% Wilson score interval of a fraction, as (low, high)."""
    low, high = binomtest(int(successes), int(total)).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def score(probabilities, labels, class_names):
    """The Evaluation of probabilities (N, num_classes) against labels (N,)."""
    total, num_classes = probabilities.shape
    rows = np.arange(total)
    likelihood = np.clip(probabilities[rows, labels].astype("float64"), 1e-7, 1)
    predicted = probabilities.argmax(1)
    hits = int((predicted == labels).sum())
    top5 = None
    if num_classes > 5:
        top5 = int((np.argpartition(-probabilities, 5, axis=1)[:, :5] == labels[:, None]).any(1).sum())
    present = range(num_classes)
    precision, recall, f1, count = precision_recall_fscore_support(labels, predicted, labels=present, zero_division=0)
    return Evaluation(
        images=total,
        loss=float(-np.log(likelihood).mean()),
        accuracy=hits / total,
        accuracy_interval=interval(hits, total),
        top5=None if top5 is None else top5 / total,
        top5_interval=None if top5 is None else interval(top5, total),
        per_class=pandas.DataFrame(
            {"class": class_names, "images": count, "precision": precision, "recall": recall, "f1": f1}
        ),
        confusion=pandas.DataFrame(
            confusion_matrix(labels, predicted, labels=present),
            index=pandas.Index(class_names, name="true"),
            columns=pandas.Index(class_names, name="predicted"),
        ),
    )


class _View(keras.utils.PyDataset):
    """Batches with the images (B, H, W, C) moved down and right by `shift` pixels, the mirrored border moving in, and
    mirrored left to right where `mirrored`."""

    def __init__(self, batches, shift, mirrored):
        super().__init__(workers=1)
        self.batches, self.shift, self.mirrored = batches, shift, mirrored

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, step):
        images, labels = self.batches[step]
        if self.shift:
            _, height, width, _ = images.shape
            border = abs(self.shift)
            first = border - self.shift
            images = np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)), "reflect")
            images = images[:, first : first + height, first : first + width]
        return images[:, :, :: -1 if self.mirrored else 1], labels


def evaluate_split(model, split, preprocessing, class_names, batch_size=256, *, mirrored=False, shifted=False):
    """The Evaluation of a model (images -> probabilities) on a Split.

    Args:
        mirrored: True takes the mean of the probabilities of each image and its mirror image.
        shifted: True takes half the probabilities of each image and a quarter of those of the image moved by a pixel up
            and left, and down and right (Jordan 2024, arXiv:2404.00498); with `mirrored` six views in all.
    """
    batches = InOrder(split, preprocessing, batch_size)
    probabilities = 0
    for shift, weight in ((0, 0.5), (-1, 0.25), (1, 0.25)) if shifted else ((0, 1.0),):
        for mirror in (False, True) if mirrored else (False,):
            seen = np.asarray(model.predict(backends.stream(_View(batches, shift, mirror)), verbose=0))
            seen = class_probabilities(model, seen)
            probabilities = probabilities + (weight / 2 if mirrored else weight) * seen
    return score(probabilities, split.labels, class_names)
