"""How good a classifier is on one split: loss, top-1 and top-5 with intervals, per class, and who is taken for whom."""

import dataclasses
from dataclasses import dataclass

import keras
import numpy as np
import pandas
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

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


class _Mirrored(keras.utils.PyDataset):
    """Batches with every image left to right."""

    def __init__(self, batches):
        super().__init__(workers=1)
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, step):
        images, labels = self.batches[step]
        return images[:, :, ::-1], labels


def evaluate_split(model, split, preprocessing, class_names, batch_size=256, *, mirrored=False):
    """The Evaluation of a model (images -> probabilities) on a Split.

    Args:
        mirrored: True takes the mean of the probabilities of each image and its mirror image.
    """
    batches = InOrder(split, preprocessing, batch_size)
    probabilities = model.predict(batches, verbose=0)
    if mirrored:
        probabilities = (probabilities + model.predict(_Mirrored(batches), verbose=0)) / 2
    return score(np.asarray(probabilities), split.labels, class_names)
