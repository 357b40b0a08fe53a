"""The data sets: by name, or from a folder or file in its real format. Nothing here imports Keras.

`kerascnn.datasets.load("cifar10")` or `load("path/to/folder")` gives an `ImageData`; `DATASETS` lists the names.

A data set is a function `name(path=None, *, options) -> ImageData` in a file of this folder. It gives the splits that
the source has and images as they are there, as uint8 arrays or as `ImageFiles` of no size yet; `load` does the rest.
Facts of a data set (literals in its `@register(...)`):
    description: a few words for the listing.
    image_shape: (height, width, channels) of its images, or None where they vary.
    num_classes: number of classes, or None where it varies.
    needs_path: True if it is only ever read from a path of the user's.
Its file has a function `recognises(path)` that gives the data set's name if a user's folder or file is one, else None.
"""

import importlib
from pathlib import Path

from kerascnn.registry import Registry

DATASETS = Registry("data set", __name__, Path(__file__).parent, hint="kerascnn datasets")
register = DATASETS.register


_PLACES = {"ImageData": "image_data", "Split": "image_data", "ImageFiles": "image_files"}


def __getattr__(name):
    if name in _PLACES:  # only now, so that listing the data sets does not import NumPy
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(
    data,
    *,
    image_size=None,
    channels=None,
    validation=0.1,
    test=0.15,
    seed=0,
    strict=False,
    memory_limit=None,
    training=True,
    **options,
):
    """Labelled images from a registered name ("mnist") or a path, in train, validation and test splits.

    Args:
        data: a name in `DATASETS`, or the path of a folder of class folders, of MNIST, CIFAR or MiniPlaces files, or
            of an .npz file.
        image_size: an int or (height, width), pixels: every image is cropped centrally to that shape and resized (see
            `kerascnn.datasets.resize`); None keeps the images' own size if they agree, and notes a choice if not.
        channels: 1 (grey) or 3 (RGB); None keeps the data's own, 3 unless every image is grey.
        validation, test: what to hold out of the training images where the source has no such split: a fraction below
            1 or a count, both of all images that the source offers for training; 0 for no such split. Stratified.
        seed: a whole number; the same one gives the same splits.
        strict: raise DataError at a broken image file, instead of leaving it out and listing it in `skipped`.
        memory_limit: bytes that the decoded images may take. Above it they stay on disk and are decoded when indexed.
            None: a quarter of the memory that is available.
        training: False takes data that cannot be trained on, too: one class, no training images (`train` is then None),
            or images without labels (which are then -1, and there are no class names).
        options: the data set's own: `count=` of "shapes"; `classes="leaves"` of a folder, which makes every folder that
            holds images a class; `classes="present"` of an .npz file, where only labels that occur become classes.
    Returns:
        ImageData; every choice made on the way is a sentence in its `notes`, and what may not be meant one in `doubts`.
    Raises:
        UsageError: an unknown name or option, a path that does not exist, an impossible split.
        DataError: files that do not hold what they should.
    """
    from kerascnn.datasets import loading

    return loading.load(
        data,
        image_size=image_size,
        channels=channels,
        validation=validation,
        test=test,
        seed=seed,
        strict=strict,
        memory_limit=memory_limit,
        training=training,
        **options,
    )
