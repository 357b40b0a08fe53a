"""Which learning rate, and which batch size? Short trials on the recipe's own network and data; nothing is kept."""

import math
import time

import keras
import numpy as np
import pandas as pd

from kerascnn import backends
from kerascnn.anatomy.cost import cost
from kerascnn.errors import UsageError, counted
from kerascnn.training.build import compile_model, ready
from kerascnn.training.prepare import check, precision_of
from kerascnn.training.reading import load_data
from kerascnn.training.transfer import transfer

SMOOTHING = 0.95  # of the loss, as a moving average
BATCH_SIZES = (16, 32, 64, 128, 256, 512, 1024)


class _Losses(keras.callbacks.Callback):
    """Notes the moving average of the steps' losses; stops when it has grown fourfold."""

    def __init__(self, batches):
        super().__init__()
        self.batches, self.losses = batches, []
        self._sum = self._mean = 0.0
        self._images = 0

    def on_train_batch_end(self, step, logs=None):
        done = step % self.batches.pass_steps * self.batches.batch_size
        images = min(self.batches.batch_size, self.batches.pass_images - done)
        self._images += images
        total = logs["loss"] * self._images  # what Keras gives is the mean over the images so far
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * (total - self._sum) / images
        self._sum = total
        loss = self._mean / (1 - SMOOTHING ** (step + 1))
        self.losses.append(loss)
        if not math.isfinite(loss) or loss > 4 * min(self.losses):
            self.model.stop_training = True


def learning_rates(recipe, *, low=1e-6, high=10.0, steps=200, data=None):
    """The loss while the learning rate rises (Smith 2015, arXiv:1506.01186).

    Args:
        recipe: what would be trained; its schedule is left out.
        low, high: the first and the last rate.
        steps: training steps.
        data: the recipe's ImageData, if it is loaded already.
    Returns:
        (DataFrame rate, loss (a moving average), the rate suggested: where the loss falls most steeply, or a tenth of
        the rate at which it is smallest, whichever is smaller).
    Raises:
        UsageError: an empty range, or a loss that never fell.
    """
    if not 0 < low < high:
        raise UsageError(f"low={low:g} and high={high:g} are no range: 0 < low < high is allowed.")
    if steps < 20:
        raise UsageError(f"steps={steps} is too few: at least 20 are needed to see a slope.")
    rising = keras.optimizers.schedules.ExponentialDecay(low, steps - 1, high / low)
    model, batches = _ready(recipe.replace(steps=steps, eval_every=steps), data, rising)
    seen = _Losses(batches)
    model.fit(backends.stream(batches), epochs=1, shuffle=False, verbose=0, callbacks=[seen])
    table = pd.DataFrame({"rate": np.geomspace(low, high, steps)[: len(seen.losses)], "loss": seen.losses})
    usable = table[np.isfinite(table["loss"])]
    best = int(usable["loss"].idxmin())
    if best < 5:
        raise UsageError(
            f"The loss did not fall between {low:g} and {table['rate'].iloc[-1]:g}. "
            "Type a smaller --low, or more --find-steps."
        )
    falling = usable.iloc[: best + 1]
    slope = np.gradient(falling["loss"].to_numpy(), np.log(falling["rate"].to_numpy()))
    steepest = falling["rate"].iloc[int(slope.argmin())]
    return table, float(min(steepest, falling["rate"].iloc[-1] / 10))


def batch_sizes(recipe, *, sizes=BATCH_SIZES, seconds=5.0, data=None):
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
    """A row of `batch_sizes`."""
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
    data = load_data(recipe) if data is None else data
    check(recipe, data)
    _, model, batches = ready(recipe, data, precision_of(recipe))
    transfer(recipe, model, data.class_names)
    compile_model(model, recipe, batches.total, batches.period, rate)
    return model, batches
