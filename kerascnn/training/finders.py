"""Which learning rate, and which batch size? Short trials on the recipe's own network and data; nothing is kept."""

import math
import time

import keras
import numpy as np
import pandas as pd

from kerascnn import backends
from kerascnn.errors import UsageError, counted
from kerascnn.network.cost import cost
from kerascnn.training.build import compile_model, ready
from kerascnn.training.failures import check_size
from kerascnn.training.prepare import check, precision_of
from kerascnn.training.reading import load_data
from kerascnn.training.transfer import transfer

GROWN = 4  # times its least: a mean of the last losses that ends the search
WIDTH = 0.25  # of the line that is fitted around each rate, a standard deviation in decades
FLOOR = 0.02  # of the fall: so much above the least loss still counts as the least
BELOW = 10**0.5  # how far below the largest rate with the least loss the suggestion lies
BATCH_SIZES = (16, 32, 64, 128, 256, 512, 1024)


class _Losses(keras.callbacks.Callback):
    """Notes each step's own loss; stops when the mean of the last 20, the later the heavier, has grown fourfold."""

    def __init__(self, batches):
        super().__init__()
        self.batches, self.losses, self.means = batches, [], []
        self._sum = self._mean = 0.0
        self._images = 0

    def on_train_batch_end(self, step, logs=None):
        done = step % self.batches.pass_steps * self.batches.batch_size
        images = min(self.batches.batch_size, self.batches.pass_images - done)
        self._images += images
        total = logs["loss"] * self._images  # what Keras gives is the mean over the images so far
        self.losses.append((total - self._sum) / images)
        self._sum = total
        self._mean = 0.95 * self._mean + 0.05 * self.losses[-1]
        self.means.append(self._mean / (1 - 0.95 ** (step + 1)))
        if not math.isfinite(self.means[-1]) or self.means[-1] > GROWN * min(self.means):
            self.model.stop_training = True


def lr_find(recipe, *, low=1e-6, high=10.0, steps=200, data=None):
    """The loss while the learning rate rises (Smith 2015, arXiv:1506.01186), and a rate to train at.

    Losses are smoothed by a line fitted around each rate, on the logarithmic scale. The suggestion lies half a decade
    below the largest rate at which the smoothed loss is least, to within 2% of its fall; the first and last tenth of
    the steps and everything after the loss has diverged do not count. With it three epochs of training beat a tenth and
    ten times the rate in 15 of 18 trials (benchmarks/lr_find.py). The rate of the steepest fall was up to 20 times too
    low for that, a whole decade below the least loss up to 3 times.

    Args:
        recipe: what would be trained; its schedule is left out.
        low, high: the first and the last rate.
        steps: training steps.
        data: the recipe's ImageData, if it is loaded already.
    Returns:
        (DataFrame rate, loss (smoothed, nats), step_loss (each step's own); the rate suggested).
    Raises:
        UsageError: an empty range, or a loss that never fell.
    """
    if not 0 < low < high:
        raise UsageError(f"low={low:g} and high={high:g} are not a range: 0 < low < high is allowed.")
    if steps < 20:
        raise UsageError(f"steps={steps} is too few: at least 20 are needed to see a slope.")
    rising = keras.optimizers.schedules.ExponentialDecay(low, steps - 1, high / low)
    model, batches = _ready(recipe.replace(steps=steps, eval_every=steps), data, rising)
    seen = _Losses(batches)
    model.fit(backends.stream(batches), epochs=1, shuffle=False, verbose=0, callbacks=[seen])
    rates = np.geomspace(low, high, steps)[: len(seen.losses)]
    table = pd.DataFrame({"rate": rates, "step_loss": seen.losses})
    table, best = table[np.isfinite(table["step_loss"])], None
    if len(table) > 2:  # which a line around each takes
        table.insert(1, "loss", smoothed(table["rate"], table["step_loss"]))
        best = lowest(table)
    if best is None:
        raise UsageError(
            f"The loss did not fall between {low:g} and {rates[-1]:g}. Give low={low / 10:g}, or steps={2 * steps}."
        )
    return table, float(table["rate"].iloc[best] / BELOW)


def smoothed(rates, losses):
    """At each rate the value of a line that is fitted to the losses (N,) around it, over the logarithm of the rates."""
    x, y = np.log10(np.asarray(rates)), np.asarray(losses, "float64")
    width = max(WIDTH, 1.5 * (x[-1] - x[0]) / max(1, len(x) - 1))  # so that a line has points enough
    distance = x - x[:, None]
    weights = np.exp(-0.5 * (distance / width) ** 2)
    total, first, second = ((weights * distance**power).sum(1) for power in range(3))
    constant, slope = weights @ y, (weights * distance) @ y
    return (second * constant - first * slope) / (total * second - first**2)


def lowest(table):
    """Row of the largest rate with the least smoothed loss that counts; None where the loss never fell by a fiftieth.

    The loss has diverged where it is a quarter above that of the first step, which no rate has changed yet.
    """
    loss, start = table["loss"].to_numpy(), table["step_loss"].iloc[0]
    diverged = np.flatnonzero(loss > 1.25 * start)
    end = diverged[0] if len(diverged) else len(loss)
    first, last = len(loss) // 10, min(end, len(loss) - len(loss) // 10)
    if last <= first:
        return None
    best = first + int(loss[first:last].argmin())
    if loss[best] >= 0.98 * loss[0]:
        return None
    above = np.flatnonzero(loss[best:last] > loss[best] + FLOOR * (loss[0] - loss[best]))
    return best + int(above[0]) - 1 if len(above) else last - 1


def batch_find(recipe, *, sizes=BATCH_SIZES, seconds=5.0, data=None):
    """Images a second for batch sizes up to the first that runs out of memory, and the smallest that reaches 95% of
    the fastest.

    Args:
        recipe: what would be trained.
        sizes: batch sizes, ascending.
        seconds: how long each is timed, after two steps that are not.
        data: the recipe's ImageData, if it is loaded already.
    Returns:
        (DataFrame batch_size, images_per_second, memory_bytes (predicted, for training), the size suggested).
    """
    if not seconds > 0:
        raise UsageError(f"seconds={seconds:g} is not allowed: it must be above 0.")
    check_size(recipe, precision_of(recipe))
    data = load_data(recipe) if data is None else data
    rows = []
    for size in sizes:
        if size > len(data.train):
            break
        try:
            rows.append(_timed(recipe.replace(batch_size=size, steps=10_000, eval_every=10_000), data, seconds))
        except Exception as error:
            if not rows or not backends.out_of_memory(error):
                raise
            break
    if not rows:
        images = counted(len(data.train), "training image is", "training images are")
        raise UsageError(f"The {images} fewer than the smallest batch, {sizes[0]}.")
    table = pd.DataFrame(rows)
    enough = table[table["images_per_second"] >= 0.95 * table["images_per_second"].max()]
    return table, int(enough["batch_size"].iloc[0])


def _timed(recipe, data, seconds):
    """A row of `batch_find`."""
    model, batches = _ready(recipe, data, recipe.learning_rate)
    whole = len(data.train) // recipe.batch_size  # batches that are not cut short
    for _ in range(2):
        model.train_on_batch(*batches[0])
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds or count < 2:
        model.train_on_batch(*batches[count % whole])
        count += 1
    rate = recipe.batch_size * count / (time.perf_counter() - began)
    memory = cost(model, recipe.batch_size, precision_of(recipe), recipe.optimizer).training_bytes
    return {"batch_size": recipe.batch_size, "images_per_second": rate, "memory_bytes": memory}


def _ready(recipe, data, rate):
    """(compiled network, batches) of a recipe, with a learning rate, or a schedule of it, in place of the recipe's."""
    check_size(recipe, precision_of(recipe))
    data = load_data(recipe) if data is None else data
    check(recipe, data)
    prepared, model, batches = ready(recipe, data, precision_of(recipe))
    transfer(recipe, model, data, prepared)
    compile_model(model, recipe, batches.total, batches.period, rate)
    return model, batches
