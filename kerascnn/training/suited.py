"""A recipe that suits a folder: the size of the images and the length of the training, by what the folder holds."""

import numpy as np

from kerascnn.datasets import loading
from kerascnn.datasets.balance import balance
from kerascnn.datasets.decoding import BrokenImage, probe
from kerascnn.datasets.hold_out import amount
from kerascnn.datasets.image_files import ImageFiles
from kerascnn.recipes import RECIPES

SIZES = (32, 64)  # pixels; a side of twice the length takes four times the arithmetic
LOOKED_AT = 200  # files whose size is read
IMAGES_SEEN = 500_000  # in all passes over images of 32 pixels; of larger ones fewer, as each takes longer
EPOCHS = (10, 40)
STEPS = 7  # at least, in a pass over the images, if batches are no smaller than LEAST for it
STEPS_IN_ALL = 250  # at least, however few images there are
LEAST = 16  # images in a batch, as batch normalisation's averages of few are noisy
FEWEST = 4  # images in the last batch of a pass, for the same reason
SHARED = 8  # larger batches are multiples of it, so that devices can share them
LARGEST = 2**31  # pixels, where images are not resized
BASE = 256  # images; smaller batches, whose gradients are noisier, have lower rates
CHOSEN = ("image_size", "batch_size", "epochs", "learning_rate", "class_weights")
BATCHES = (256, 128, 64, 32, 16, 8, 4, 2, 1)  # with larger ones, a short time would hold few steps


def recipe_for(data, **fields):
    """The recipe that `kerascnn train` uses for a folder of images if nothing else is asked for.

    It is the recipe `photos`, with the image size, the batch size, the number of epochs and the learning rate chosen by
    the number of images and their usual size, and with balanced class weights if one class has four times the images
    of another.

    Args:
        data: the path of a folder of class folders, or anything else that `kerascnn.datasets.load` takes.
        **fields: recipe fields that you choose yourself.
    Returns:
        Recipe.
    Raises:
        UsageError, DataError: the data cannot be trained on.
    """
    start = RECIPES.get("photos")().replace(data=str(data), **fields)
    held, count = _read(start)
    size = fields.get("image_size") or _size(held.train.images, start.resize_to or LARGEST)
    batch = fields.get("batch_size") or _batch(count)
    rate = round(start.learning_rate * min(1, batch / BASE) ** 0.5, 4)
    steps = -(-max(count, 1) // batch)  # of a pass
    passes = int(np.clip(round(IMAGES_SEEN * min(1, SIZES[0] / size) / max(count, 1)), *EPOCHS))
    passes = max(passes, -(-STEPS_IN_ALL // steps))
    epochs = -(-passes * steps // start.eval_every) if start.eval_every else passes
    values = size, batch, epochs, rate, _class_weights(held)
    return start.replace(**(dict(zip(CHOSEN, values, strict=True)) | fields))


def fitted(recipe, given):
    """A recipe for transfer with smaller batches where there are few images, and balanced class weights where one class
    has four times the images of another; raises UsageError, DataError.

    Args:
        given: the names of the fields that stay as they are.
    """
    held, count = _read(recipe)
    fields = {"batch_size": min(recipe.batch_size, _batch(count)), "class_weights": _class_weights(held)}
    return recipe.replace(**{name: value for name, value in fields.items() if name not in given})


def _read(recipe):
    """(the data of a recipe, the number of images that are left for training)."""
    held = loading.read(recipe.data, classes=recipe.classes)
    count = len(held.train)
    for split in ("validation", "test"):
        count -= 0 if split in held.splits else amount(split, getattr(recipe, split), len(held.train))
    return held, count


def _class_weights(held):
    return "balanced" if balance(held.train.labels, len(held.class_names)).uneven else "none"


def _batch(count):
    """Images a batch, of so many training images."""
    readable = max(1, count - -(-count // 10))  # files whose pixels are broken are known only when they are read
    most = next(number for number in BATCHES if number <= max(count // STEPS, min(readable, LEAST), 1))
    step = SHARED if most >= LEAST else 1
    whole = (batch for batch in range(most, most // 2, -step) if count % batch == 0 or count % batch >= FEWEST)
    return next(whole, most)


def _size(images, most):
    """The largest of SIZES that is at most the usual shorter side of the images, and at most `most`."""
    if not isinstance(images, ImageFiles):
        sides = [min(images.shape[1:3])]
    else:
        rows = np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(int))
        sides = [side for side in (_side(images, row) for row in rows) if side]
    usual = np.median(sides) if sides else SIZES[0]
    return max((size for size in SIZES if size <= min(usual, most)), default=SIZES[0])


def _side(images, row):
    """The shorter side of an image, pixels; None if the file is broken."""
    try:
        return min(probe(images.header(row))[0])
    except BrokenImage:
        return None
