"""Why training could not continue, in words that say what to change."""

import math

from kerascnn import backends, models
from kerascnn.errors import TrainingFailed, UsageError, counted
from kerascnn.network import graph
from kerascnn.network.cost import cost, largest_batch
from kerascnn.processes import available_memory
from kerascnn.training.build import network, without_weights
from kerascnn.training.reading import image_size

HEADROOM = 0.35  # of the memory, as of `largest_batch`


def memory(devices=1):
    """Bytes that training can take on each of this machine's `devices` that share a batch: of the accelerator, or a
    part of what is free on the machine."""
    return backends.accelerator_memory() or available_memory() // devices


def not_a_number(recipe, epoch, kept):
    """The TrainingFailed for a loss that became NaN or infinite; epochs count from 0, `kept` says what is left."""
    return TrainingFailed(
        f"The loss became NaN or infinite in epoch {epoch + 1}; training stopped and {kept}. "
        f"Try a smaller learning rate: learning_rate={recipe.learning_rate / 10:g}"
    )


def memory_ran_out(recipe, model, precision, free, epoch, kept, devices=1):
    """The TrainingFailed for memory that ran out: it names the largest smaller power of two that should fit.

    Args:
        model: keras.Model, compiled.
        precision: number format of the arithmetic.
        free: bytes that there were on each device before the first step.
        epoch: the epoch in which it ran out, from 0.
        kept: what is left, in words.
        devices: how many share each batch.
    """
    size = _fitting(recipe, model, precision, free, devices)
    if size:
        advice = f"{counted(size, 'image')} {'is' if size == 1 else 'are'} predicted to fit. Give batch_size={size}"
    elif recipe.batch_size == devices:
        advice = "A batch cannot be smaller: take smaller images (image_size=PIXELS) or a smaller network (model=NAME)."
    else:
        advice = (
            "Not even one image at a time is predicted to fit: take smaller images (image_size=PIXELS) or a smaller "
            "network (model=NAME)."
        )
    return TrainingFailed(
        f"Memory ran out in epoch {epoch + 1} with batches of {recipe.batch_size} "
        f"{'image' if recipe.batch_size == 1 else 'images'}; training stopped and {kept}. "
        f"Of {free / 1e9:.1f} GB that were free{_on_each(devices)}, 65% count as usable. {advice}"
    )


def foreseen(recipe, model, precision, free, devices=1):
    """A sentence where a step is predicted to need more memory than the `free` bytes of each of the `devices`, or "":
    natively an operating system or a library may end the process before anything can be said."""
    need = cost(model, recipe.batch_size // devices, precision, model.optimizer).training_bytes
    if need <= free:
        return ""
    size = _fitting(recipe, model, precision, free, devices)
    advice = f"batch_size={size}" if size else "smaller images (image_size=PIXELS)"
    return (
        f"Note: a step is predicted to need {need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free{_on_each(devices)}; "
        f"{advice} would fit."
    )


def _fitting(recipe, model, precision, free, devices):
    """The largest smaller batch that is predicted to fit, shared out among the devices; 0 where there is none."""
    fitting = largest_batch(model, free, precision, model.optimizer)
    return devices * smaller_batch(recipe.batch_size // devices, fitting)


def _on_each(devices):
    return f" on each of {devices} devices" if devices > 1 else ""


def check_size(recipe, precision, devices=1, hosts=1):
    """Raise a UsageError where a step at a recipe's image size is predicted to need more than twice the memory there
    is, before anything of that size is made; it names the largest size that is predicted to fit.

    Args:
        devices: how many share each batch, on all `hosts` together.
    """
    size, free = max(image_size(recipe)), memory(devices // hosts)
    batch_size, recipe = recipe.batch_size, recipe.replace(batch_size=recipe.batch_size // devices)
    need = _step_bytes(recipe, size, max(size, recipe.resize_to or 0), precision)
    if need is None or need <= 2 * free:
        return
    name, fits, wrong = "image_size", lambda side: _step_bytes(recipe, side, side, precision), size
    alone = fits(size)
    if alone is not None and alone <= (1 - HEADROOM) * free:
        name, fits, wrong = "resize_to", lambda side: _step_bytes(recipe, size, side, precision), recipe.resize_to
    low, high = 0, wrong
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        there = fits(middle)
        low, high = (middle, high) if there is None or there <= (1 - HEADROOM) * free else (low, middle)
    advice = f"{low} is predicted to fit: give {name}={low}, or smaller batches."
    if fits(low) is None:  # too small for the network
        advice = (
            "No size is predicted to fit: take smaller batches (batch_size=IMAGES) or another network (model=NAME)."
        )
    needed = f"{need / 1e9:,.1f} GB" if math.isfinite(need) else "more than 10^18 bytes"
    raise UsageError(
        f"{name}={wrong} with batches of {batch_size} is predicted to need {needed} of memory for a step, and "
        f"{free / 1e9:.1f} GB are free{_on_each(devices)}. {advice}"
    )


def _step_bytes(recipe, size, read_size, precision):
    """Bytes that a training step is predicted to need; None where that is not known, as for a size that is too small.

    Args:
        size, read_size: sides of the images that the network sees and of those that they are cut from, pixels.
    """
    classes, channels = models.facts(recipe.model).get("num_classes", 10), recipe.channels or 3
    try:
        with graph.without_weights():
            model = network(without_weights(recipe), (size, size, channels), classes)
            step = cost(model, recipe.batch_size, precision, recipe.optimizer).training_bytes
    except Exception as error:  # building the network says what is wrong
        beyond = size > 10_000 and not isinstance(error, UsageError)  # more numbers than Keras can count
        return math.inf if beyond else None
    return step + recipe.batch_size * channels * (read_size**2 + 4 * size**2)


def smaller_batch(batch_size, fitting):
    """The largest power of two below a batch size and at most as large as what fits; 0 where there is none."""
    most = min(batch_size - 1, fitting)
    return 1 << (most.bit_length() - 1) if most > 0 else 0
