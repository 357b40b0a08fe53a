"""Why training could not go on, in words that say what to type."""

from kerascnn import backends
from kerascnn.anatomy.cost import cost, largest_batch
from kerascnn.errors import TrainingFailed, counted
from kerascnn.processes import available_memory


def memory():
    """Bytes that training can take: of the accelerator, or what is free on the machine."""
    return backends.accelerator_memory() or available_memory()


def not_a_number(recipe, epoch, kept):
    """The TrainingFailed for a loss that became NaN or infinite; epochs count from 0, `kept` says what is left."""
    return TrainingFailed(
        f"The loss became NaN or infinite in epoch {epoch + 1}; training stopped and {kept}. "
        f"Try a smaller learning rate: --learning-rate {recipe.learning_rate / 10:g}"
    )


def memory_ran_out(recipe, model, precision, free, epoch, kept):
    """The TrainingFailed for memory that ran out: it names the largest smaller power of two that should fit.

    Args:
        model: keras.Model, compiled.
        precision: number format of the arithmetic.
        free: bytes that there were before the first step.
        epoch: the epoch in which it ran out, from 0.
        kept: what is left, in words.
    """
    size = smaller_batch(recipe.batch_size, largest_batch(model, free, precision, model.optimizer))
    if size:
        fitting = f"{'is' if size == 1 else 'are'} {counted(size, 'image')}"
        advice = f"Predicted to fit {fitting}, the largest smaller power of two. Type --batch-size {size}"
    elif recipe.batch_size == 1:
        advice = "A batch cannot be smaller: take smaller images (--image-size) or a smaller network (--model)."
    else:
        advice = (
            "Not even one image at a time is predicted to fit: take smaller images (--image-size) or a smaller network "
            "(--model)."
        )
    return TrainingFailed(
        f"Memory ran out in epoch {epoch + 1} with batches of {recipe.batch_size} "
        f"{'image' if recipe.batch_size == 1 else 'images'}; training stopped and {kept}. "
        f"Of {free / 1e9:.1f} GB that were free, 65% count as usable. {advice}"
    )


def foreseen(recipe, model, precision, free):
    """A sentence where a step is predicted to need more memory than the `free` bytes, or "": natively an operating
    system or a library may end the process before anything can be said."""
    need = cost(model, recipe.batch_size, precision, model.optimizer).training_bytes
    if need <= free:
        return ""
    size = smaller_batch(recipe.batch_size, largest_batch(model, free, precision, model.optimizer))
    advice = f"--batch-size {size}" if size else "a smaller --image-size"
    return (
        f"Note: a step is predicted to need {need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; {advice} would fit."
    )


def smaller_batch(batch_size, fitting):
    """The largest power of two below a batch size and at most as large as what fits; 0 where there is none."""
    most = min(batch_size - 1, fitting)
    return 1 << (most.bit_length() - 1) if most > 0 else 0
