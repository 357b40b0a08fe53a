"""What is measured after each epoch, or every `eval_every` steps, and its row in metrics.csv."""

import csv

import keras
import numpy as np

from kerascnn import backends, runs
from kerascnn.training.batches import InOrder
from kerascnn.training.evaluate import images_at_once


def measuring(path, recipe, data, batches, *, test):
    """The callbacks that write metrics.csv at `path`, with the test split's curve if recipe and `test` ask for it; a
    host that writes nothing has None for `path`."""
    curve = [TestCurve(in_batches(data, "test", recipe, batches))] if recipe.test_curve and test else []
    return [*curve, *([Rows(path, batches, by_step=recipe.eval_every > 0)] if path else [])]


def in_batches(data, name, recipe, batches, most=None):
    """The images of a split as a stream of batches for evaluation, or None where there are none.

    Args:
        data: ImageData.
        name: of the split.
        batches: the training `Batches`.
        most: at most so many, the first; None: all.
    """
    split = data.splits.get(name)
    if not split:
        return None
    if most is not None:
        split = split.take(np.arange(min(most, len(split))))
    soft = len(data.class_names) if "mixup" in recipe.augment else 0
    size = batch_size(recipe, batches)
    return backends.stream(InOrder(split, batches.preprocessing, size, soft, batches.multiple, share=batches.share))


def batch_size(recipe, batches):
    """How many images are evaluated at once: as many as their size allows, or as training takes, if these are more."""
    most = max(recipe.batch_size, images_at_once(batches.preprocessing.image_size))
    return -(-most // batches.multiple) * batches.multiple


class TestCurve(keras.callbacks.Callback):
    """Evaluates the test split whenever validation is, for metrics.csv and the curves alone.

    It comes after the callbacks that choose weights, lower the rate and stop, so that these never see its numbers.

    Args:
        stream: the test images, of `in_batches`.
    """

    def __init__(self, stream):
        super().__init__()
        self.stream = stream

    def on_epoch_end(self, epoch, logs=None):
        measured = self.model.evaluate(self.stream, verbose=0, return_dict=True)
        logs.update({f"test_{name}": value for name, value in measured.items()})


class Rows(keras.callbacks.Callback):
    """Appends a row to metrics.csv after each epoch: `epoch` (from 0), then what was measured, by name.

    Where a period is not an epoch (`by_step`), the first column is `step`, the number of steps done. A table that was
    begun goes on with the columns that it has.

    Args:
        path: of the table.
        batches: the training `Batches`.
        by_step: True where `eval_every` is set.
    """

    def __init__(self, path, batches, by_step):
        super().__init__()
        self.path, self.batches, self.by_step = path, batches, by_step

    def on_epoch_end(self, epoch, logs=None):
        done = min((epoch + 1) * self.batches.period, self.batches.total)
        columns = header(self.path) or ["step" if self.by_step else "epoch", *sorted(logs)]
        with open(self.path, "a", newline="") as file:
            table = csv.DictWriter(file, columns, restval="NA", extrasaction="ignore")
            if not file.tell():
                table.writeheader()
            table.writerow({"epoch": epoch, "step": done, **logs})


def header(path):
    """The names of a table's columns; [] where there is none yet."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return next(csv.reader(file), [])


def keep_rows(path, epochs):
    """Leave only the first epochs' rows in metrics.csv: a killed run may have written one more, or half of one."""
    if path.exists():
        rows = path.read_bytes().splitlines(keepends=True)[: epochs + 1] if epochs else []
        with runs.replacing(path) as temporary:
            temporary.write_bytes(b"".join(rows))
