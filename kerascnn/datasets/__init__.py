"""The data sets: by name, or from a folder or file in its real format. Nothing here imports Keras.

`kerascnn.datasets.load("cifar10")` or `load("path/to/folder")` gives an `ImageData`; `DATASETS` lists the names.

A data set is a function `name(path=None, *, options) -> ImageData` in a file of this folder. Facts of a data set
(literals in its `@register(...)`):
    description: a few words for the listing.
    image_shape: (height, width, channels) of its images, or None where they vary.
    num_classes: number of classes, or None where it varies.
Its file has a function `recognises(path) -> bool`, if a folder or file of the user's can be one.
"""

from pathlib import Path

from kerascnn.registry import Registry

DATASETS = Registry("data set", __name__, Path(__file__).parent, hint="kerascnn datasets")
register = DATASETS.register
