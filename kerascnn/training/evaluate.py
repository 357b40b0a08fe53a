"""Evaluate a classifier on one split: loss, top-1 and top-5 with intervals, results per class, and confused classes.

The loss is computed in float64 from the scores before the softmax or sigmoid.
"""

import dataclasses
import itertools
from dataclasses import dataclass

import keras
import numpy as np
import pandas
from scipy.special import log_softmax
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from kerascnn import backends, notebook, plots
from kerascnn.datasets.balance import balance
from kerascnn.errors import counted
from kerascnn.training import measures
from kerascnn.training.batches import InOrder

MOST_DRAWN = 30  # classes of a confusion matrix that a notebook shows
SMALLEST = 1e-45  # probability of a network whose scores are not known: less is 0 in float32


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `score` measured.

    Attributes:
        images: number of images.
        loss: mean negative log likelihood, nats, without label smoothing, class weights or penalties.
        accuracy, top5: fractions; top5 is None with fewer than six classes.
        accuracy_interval, top5_interval: their 95% Wilson intervals.
        balanced_accuracy: the mean recall of the classes that have images.
        macro_f1: the mean F1 of the classes that have images or were predicted.
        baseline_accuracy: accuracy of always predicting the most frequent class of these images.
        baseline_class: name of that class.
        per_class: DataFrame: class, images, precision, recall, f1.
        confusion: DataFrame (num_classes, num_classes), rows true, columns predicted, counts.
        log_probabilities: (N, num_classes), nats.
        labels: int (N,).
        files: N names, relative to `source`; or () if images do not come from their own files.
        source: the folder that they are in.
    """

    images: int
    loss: float
    accuracy: float
    accuracy_interval: tuple
    top5: float | None
    top5_interval: tuple | None
    balanced_accuracy: float
    macro_f1: float
    baseline_accuracy: float
    baseline_class: str
    per_class: pandas.DataFrame
    confusion: pandas.DataFrame
    log_probabilities: np.ndarray
    labels: np.ndarray
    files: tuple = ()
    source: str = ""

    def _repr_html_(self):
        def told(value, interval):
            return None if value is None else f"{100 * value:.2f}% ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"

        rows = [("images", f"{self.images:,}"), ("loss", f"{self.loss:.4f} nats")]
        rows += [("top-1", told(self.accuracy, self.accuracy_interval)), ("top-5", told(self.top5, self.top5_interval))]
        rows += [("balanced accuracy", f"{100 * self.balanced_accuracy:.2f}%"), ("macro F1", f"{self.macro_f1:.3f}")]
        title = f"Evaluation on {counted(self.images, 'image')}"
        figure = plots.confusion(self.confusion, title) if len(self.confusion) <= MOST_DRAWN else None
        return notebook.card(title, rows, [notebook.drawn(figure)] if figure else [])

    @property
    def predictions(self):
        """A row per image (`measures.by_image`)."""
        return measures.by_image(self.log_probabilities, self.labels, list(self.per_class["class"]), self.files)

    @property
    def calibration(self):
        """(table, expected calibration error) of `measures.calibration`."""
        return measures.calibration(np.exp(self.log_probabilities), self.labels)

    @property
    def ranking(self):
        """Area under the ROC curve and average precision of each class (`measures.ranking`)."""
        return measures.ranking(np.exp(self.log_probabilities), self.labels, list(self.per_class["class"]))

    @property
    def imbalance(self):
        """A sentence if one class has many more of these images than another, or ""."""
        counts = self.per_class["images"].to_numpy()
        spread = balance(np.repeat(np.arange(len(counts)), counts), len(counts))
        return spread.sentence(list(self.per_class["class"]), "evaluated") if spread.uneven else ""

    def to_dict(self):
        """The numbers without the tables, for JSON."""
        tables = ("per_class", "confusion", "log_probabilities", "labels", "files", "source")
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in tables}


def interval(successes, total):
    """The 95% Wilson score interval of a fraction, as (low, high)."""
    low, high = binomtest(int(successes), int(total)).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def score(log_probabilities, labels, class_names, files=(), source=""):
    """The Evaluation of log probabilities (N, num_classes), nats, against labels (N,)."""
    total, num_classes = log_probabilities.shape
    likelihood = log_probabilities[np.arange(total), labels].astype("float64")
    predicted = log_probabilities.argmax(1)
    hits = int((predicted == labels).sum())
    top5 = None
    if num_classes > 5:
        top5 = int((np.argpartition(-log_probabilities, 5, axis=1)[:, :5] == labels[:, None]).any(1).sum())
    present = range(num_classes)
    precision, recall, f1, count = precision_recall_fscore_support(labels, predicted, labels=present, zero_division=0)
    count = count.astype("int64")  # floats where no answer is right
    answered = np.bincount(predicted, minlength=num_classes)
    spread = balance(labels, num_classes)
    return Evaluation(
        images=total,
        loss=float(-likelihood.mean()),
        accuracy=hits / total,
        accuracy_interval=interval(hits, total),
        top5=None if top5 is None else top5 / total,
        top5_interval=None if top5 is None else interval(top5, total),
        balanced_accuracy=float(recall[count > 0].mean()),
        macro_f1=float(f1[(count > 0) | (answered > 0)].mean()),
        baseline_accuracy=spread.baseline,
        baseline_class=class_names[spread.commonest],
        per_class=pandas.DataFrame(
            {"class": class_names, "images": count, "precision": precision, "recall": recall, "f1": f1}
        ),
        confusion=pandas.DataFrame(
            confusion_matrix(labels, predicted, labels=present),
            index=pandas.Index(class_names, name="true"),
            columns=pandas.Index(class_names, name="predicted"),
        ),
        log_probabilities=log_probabilities,
        labels=labels,
        files=files,
        source=source,
    )


def images_at_once(size):
    """How many images of a size (height, width) to compute at once: 2**19 pixels in all, at most 256 images.

    The first layers of VGG-16 then take 128 MB each, not 3.3 GB.
    """
    return max(1, min(256, 2**19 // (size[0] * size[1])))


def before_head(model):
    """(the model up to the scores that its last softmax or sigmoid takes, sharing its weights; the activation), or None
    if it ends in another way.

    The loss of a confident mistake cannot be computed from probabilities: in float32 they are 0 below 1e-45.
    """
    outputs = getattr(model, "outputs", None) or ()  # a subclassed model has none
    if len(outputs) != 1:
        return None
    layer, node, _ = outputs[0]._keras_history
    given = layer._inbound_nodes[node].input_tensors
    if len(given) != 1:
        return None
    if isinstance(layer, keras.Model):
        inner = before_head(layer)
        return inner and (keras.Model(model.inputs, inner[0](given[0])), inner[1])
    if isinstance(layer, keras.layers.Softmax):
        return (keras.Model(model.inputs, given[0]), keras.activations.softmax) if layer.axis == -1 else None
    activation = getattr(layer, "activation", None)
    if activation not in (keras.activations.softmax, keras.activations.sigmoid):
        return None
    linear = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    scores = linear(given[0])
    linear.set_weights(layer.get_weights())
    return keras.Model(model.inputs, scores), activation


def log_probabilities(model):
    """(a network, a function from its output (N, ...) to log probabilities float64 (N, num_classes)) of a classifier.

    A classifier with one unit has two classes: its score, before the sigmoid, is the score of class 1.
    """
    scores, activation = before_head(model) or (None, None)
    units = scores and scores.output_shape[-1]
    if activation is keras.activations.softmax and units > 1:
        return scores, lambda seen: log_softmax(seen.astype("float64"), 1)
    if activation is keras.activations.sigmoid and units == 1:
        return scores, lambda seen: -np.logaddexp(0, seen.astype("float64") * [1, -1])
    from kerascnn.explain.answers import class_probabilities  # not at the top: `train` loads no looks

    return model, lambda seen: np.log(np.maximum(class_probabilities(model, seen).astype("float64"), SMALLEST))


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


CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))  # and the centre, as of `Preprocessing.crop`


def views_of(recipe):
    """The arguments of `evaluate_split` that say which views of each image a recipe's test uses."""
    return {"mirrored": recipe.test_flip, "shifted": recipe.test_shift, "ten": recipe.test_views == "ten"}


def evaluate_split(model, split, preprocessing, class_names, batch_size=None, *, source="", **views):
    """The Evaluation of a model (images -> probabilities) on a Split.

    Args:
        source: the folder that the split's files are in.
        batch_size, views: as for `answers`.
    """
    answered = answers(model, split, preprocessing, batch_size, **views)
    return score(answered, split.labels, class_names, split.files, source)


def answers(model, split, preprocessing, batch_size=None, *, mirrored=False, shifted=False, ten=False):
    """float64 (N, num_classes), nats: the log probabilities that a model (images -> probabilities) gives a Split.

    Args:
        batch_size: images computed at once; None: from `images_at_once`.
        mirrored: True takes the mean of the probabilities of each image and its mirror image.
        shifted: True takes half the probabilities of each image and a quarter of those of the image moved by a pixel up
            and left, and down and right (Jordan 2024, arXiv:2404.00498); with `mirrored` six views in all.
        ten: True takes the mean of the probabilities of ten views of larger images: the four corners and the centre,
            each also mirrored (Krizhevsky et al. 2012, section 4.1).
    """
    batch_size = batch_size or images_at_once(split.images.shape[1:3])
    mirrored = mirrored or ten
    shifts = ((0, 0.5), (-1, 0.25), (1, 0.25)) if shifted else ((0, 1.0),)
    network, logs = log_probabilities(model)
    views = []
    for place in CORNERS if ten else (None,):
        batches = InOrder(split, preprocessing, batch_size, place=place)
        for (shift, weight), mirror in itertools.product(shifts, (False, True) if mirrored else (False,)):
            seen = np.asarray(network.predict(backends.stream(_View(batches, shift, mirror)), verbose=0))
            views.append(logs(seen) + np.log(weight / (1 + mirrored) / (len(CORNERS) if ten else 1)))
    return np.logaddexp.reduce(views)
