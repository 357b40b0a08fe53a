"""How many epochs fit into the given minutes: some steps and an evaluation are timed and thrown away."""

import math
import time

from kerascnn import backends
from kerascnn.errors import UsageError, counted
from kerascnn.training.build import compile_model, ready
from kerascnn.training.curves import batch_size, in_batches
from kerascnn.training.finish import MOST_TRAINING
from kerascnn.training.reading import load_data
from kerascnn.training.suited import STEPS_IN_ALL
from kerascnn.training.transfer import transfer

MOST_EPOCHS = 200  # more passes over the same images than this teach little, unless these are few steps
ENOUGH = 8  # passes over the images, below which smaller images, of which more are seen, teach more
FEW = 4  # epochs, below which their number is no longer a whole one, as much of the time would be lost
SHARE = 0.03  # of the time may go into timing
AFTERWARDS = 5.0  # seconds for figures, tables and files at the end
FLOAT32 = 2.0  # times as long as in training an image takes in the test, which is in float32


def fitted(recipe, data, precision, devices, minutes, began, say, *, smaller=None, strict=False):
    """(recipe, ImageData): the recipe with as many epochs as fit into `minutes`, and its images.

    It has steps in place of epochs if it counted steps, or if fewer than 4 epochs fit. Its schedule then runs over
    that length, and its warm-up keeps its share of the length.

    Args:
        data: the recipe's ImageData.
        smaller, strict: as for `train`.
        precision: Keras' name of the number format.
        devices: number of devices that share each batch.
        minutes: length of the whole run.
        began: start time, from `time.monotonic`.
        say: called with the sentence that says what fits.
    Raises:
        UsageError: not even two steps fit.
    """
    given = precision, devices, minutes, began, say
    if smaller is not None:
        chosen = _fitted(recipe, data, *given, least=ENOUGH)
        if chosen:
            return chosen, data
        sides = [f"{side}x{side}" for side in (recipe.image_size, smaller)]
        say(f"Fewer than {ENOUGH} epochs at {sides[0]} fit into minutes={minutes:g}: {sides[1]} instead")
        recipe = recipe.replace(image_size=smaller)
        data = load_data(recipe, strict=strict)
    return _fitted(recipe, data, *given), data


def _passes(recipe, count):
    """How often a recipe of epochs or steps goes over so many images."""
    if not (recipe.steps or recipe.eval_every):
        return recipe.epochs
    return (recipe.steps or recipe.epochs * recipe.eval_every) * recipe.batch_size / count


def _fitted(recipe, data, precision, devices, minutes, began, say, least=0):
    """The recipe with the length that fits; None if fewer than `least` passes over the images do."""
    with backends.data_parallel(devices):
        measured = _measured(recipe, data, precision, devices, 60 * minutes, least)
    if measured is None:
        return None
    warm, step, image = measured
    counts = {name: len(split) for name, split in data.splits.items()}
    evaluated = counts.get("validation", 0) + (counts["test"] if recipe.test_curve else 0)
    views = {"ten": 10}.get(recipe.test_views, (2 if recipe.test_flip else 1) * (3 if recipe.test_shift else 1))
    tested = views * counts["test"] + min(MOST_TRAINING, counts["train"])
    spent = time.monotonic() - began + warm + FLOAT32 * tested * image + AFTERWARDS
    passes = -(-counts["train"] // recipe.batch_size)
    chosen = length(recipe, passes, step, evaluated * image, 60 * minutes - spent)
    if least and (chosen is None or _passes(chosen, counts["train"]) < least):
        return None
    if chosen is None:
        needed = math.ceil((spent + 2 * step + evaluated * image) / 6) / 10
        raise UsageError(
            f"minutes={minutes:g} is not enough: reading, building and testing alone take about {spent:.0f} s here. "
            f"Give minutes={needed:g} or more."
        )
    told = counted(chosen.steps, "step") if chosen.steps else counted(chosen.epochs, "epoch")
    period, most = recipe.eval_every or passes, _most(passes)
    if chosen.steps >= most or (not chosen.steps and chosen.epochs * period > most - period):
        say(f"A step takes {1000 * step:.3g} ms here: {told}, which take less than minutes={minutes:g}, are enough")
    else:
        say(f"A step takes {1000 * step:.3g} ms here, so {told} and all around them take about {minutes:g} minutes")
    return chosen


def length(recipe, passes, step, evaluation, seconds):
    """The recipe with the length that fits into this many seconds; None if not even two steps fit.

    Args:
        passes: steps in a pass over the training images.
        step: seconds per step.
        evaluation: seconds of the evaluation at the end of each period.
    """
    period = recipe.eval_every or passes
    each = period * step + evaluation
    had = recipe.steps / passes if recipe.steps else recipe.epochs * period / passes  # passes over the images
    whole, most = max(0, _whole(seconds / each)), _most(passes)
    more = max(0, _whole((seconds - whole * each - evaluation) / step))  # steps of a part of an epoch, at the end
    epochs = min(whole, most // period)
    if recipe.steps or epochs == 0 or (epochs == whole < FEW and more):
        steps = min(whole * period + more, most)
        if steps < 2:
            return None
        return recipe.replace(steps=steps, warmup_epochs=recipe.warmup_epochs * steps / passes / had)
    return recipe.replace(epochs=epochs, warmup_epochs=recipe.warmup_epochs * epochs * period / passes / had)


def _most(passes):
    """Steps that are never exceeded, if so many make a pass over the images."""
    return max(MOST_EPOCHS * passes, STEPS_IN_ALL)


def _whole(number):
    """The whole part of a number that may have been rounded down in its last place."""
    return int(number + 1e-9)


def _measured(recipe, data, precision, devices, seconds, least):
    """(seconds of the first two steps, which build the program; seconds of a step; seconds to evaluate an image).

    None as soon as it is seen that `least` passes over the images take longer than `seconds`.
    """
    began = time.perf_counter()
    prepared, model, batches = ready(recipe.replace(steps=0, eval_every=0), data, precision, devices)
    transfer(recipe, model, data, prepared)
    compile_model(model, recipe, batches.total, batches.period, recipe.learning_rate, nll=recipe.label_smoothing > 0)

    def timed(steps):
        batches.total = steps
        start = time.perf_counter()
        model.fit(backends.stream(batches), epochs=1, shuffle=False, verbose=0)
        return time.perf_counter() - start

    timed(min(2, batches.period))
    warm = time.perf_counter() - began
    if least and timed(1) * least * len(data.train) / recipe.batch_size > seconds:
        return None
    few = min(3, batches.period)
    step = timed(few) / few
    few = max(few, min(int(SHARE * seconds / step), batches.period))
    step = timed(few) / few
    some = 2 * batch_size(recipe, batches)
    stream = in_batches(data, "train", recipe, batches, most=some)
    model.evaluate(stream, verbose=0)
    start = time.perf_counter()
    model.evaluate(stream, verbose=0)
    return warm, step, (time.perf_counter() - start) / min(some, len(data.train))
