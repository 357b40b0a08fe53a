"""The data sets: by name, or from a folder or file in its real format. Nothing here imports Keras.

`kerascnn.datasets.load("cifar10")` or `load("path/to/folder")` gives an `ImageData`; `DATASETS` lists the names.

A data set is a function `name(path=None, *, options) -> ImageData` in a file of this folder. It gives the splits that
the source has and images as they are there, as uint8 arrays or as `ImageFiles` of no size yet; `load` does the rest.
Facts of a data set (literals in its `@register(...)`):
    description: a few words for the listing.
    image_shape: (height, width, channels) of its images; left out where they vary (None).
    num_classes: number of classes; left out where it varies (None).
    needs_path: True if it is only ever read from a path of the user's; usually False.
Its file has a function `recognises(path)` that gives the data set's name if a user's folder or file is one, else None.
"""

from pathlib import Path

from kerascnn.registry import Registry, room

USUAL = {"image_shape": None, "num_classes": None, "needs_path": False}
DATASETS = Registry("data set", __name__, Path(__file__).parent, hint="kerascnn datasets", **USUAL)
register = DATASETS.register


_PLACES = {
    "load": "loading",
    "pack": "packing",
    "ImageData": "image_data",
    "Split": "image_data",
    "ImageFiles": "image_files",
}

__getattr__, __dir__ = room(__name__, _PLACES)
