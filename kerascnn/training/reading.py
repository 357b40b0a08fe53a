"""The data that a recipe asks for; nothing here imports Keras, so that `data check` says what training will do."""

from kerascnn import datasets, models
from kerascnn.datasets.resize import as_size
from kerascnn.errors import DataError, UsageError, counted


def load_data(recipe, *, strict=False, **options):
    """The ImageData that a recipe asks for, its images at the size that crops are taken from."""
    return datasets.load(recipe.data, strict=strict, **reading(recipe), **options)


def reading(recipe):
    """The arguments of `datasets.load` and `datasets.check.check_data` by which a recipe's data are read."""
    given = models.is_file(recipe.model)
    return {
        "image_size": recipe.resize_to or image_size(recipe),
        "channels": recipe.channels or (models.facts(recipe.model)["input_shape"][2] if given else None),
        "classes": recipe.classes,
        "validation": recipe.validation,
        "test": recipe.test,
        "seed": recipe.seed,
    }


def image_size(recipe):
    """(height, width) of the images that the network sees."""
    size = as_size(recipe.image_size or models.facts(recipe.model)["input_shape"][:2])
    if None in size:
        raise UsageError(f"The network in {recipe.model} takes images of any size. Say which, such as image_size=224.")
    return size


def check_counts(recipe, source, counts):
    """Raise the UsageError or DataError with which training would refuse data of so many images.

    Args:
        source: where the data come from, for the message.
        counts: {split: number of images}.
    """
    size = image_size(recipe)
    if recipe.test_views and (recipe.resize_to or 0) <= max(size):
        raise UsageError(
            f"test_views={recipe.test_views!r} needs images that are larger than the {max(size)} pixels that the "
            f"network sees. Give resize_to={max(size) + max(1, max(size) // 7)}, or leave out "
            f"test_views={recipe.test_views!r}."
        )
    if recipe.resize_to and recipe.resize_to < max(size):
        raise UsageError(
            f"resize_to={recipe.resize_to} is less than the {max(size)} pixels of the images that the network sees. "
            f"Give resize_to={max(size)} or more, or image_size={recipe.resize_to} or less."
        )
    if recipe.batch_size > counts["train"]:
        raise UsageError(
            f"batch_size={recipe.batch_size} is more than the {counted(counts['train'], 'training image')}. "
            f"Give batch_size={counts['train']} or less."
        )
    if "validation" not in counts and recipe.monitor.startswith("val_"):
        raise UsageError(
            f"monitor={recipe.monitor!r} needs validation images, but validation={recipe.validation:g} holds none out. "
            "Give validation=0.1, or monitor='loss'."
        )
    if "test" not in counts:
        raise DataError(f"{source} has no test images and test={recipe.test:g} makes none. Give test=0.15")
