"""kerascnn: build, train, tune and look inside the classic convolutional networks, on Keras 3.

    import kerascnn
    data = kerascnn.datasets.load("digits", image_size=32)
    model = kerascnn.models.lenet5()

Importing the package does not import Keras; the first use of a name that needs it does.
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    "ImageData": "kerascnn.datasets.image_data",
    "Recipe": "kerascnn.recipes",
    "Run": "kerascnn.runs",
    "train": "kerascnn.training.train",
    "adopt": "kerascnn.using.classifier",
    "load": "kerascnn.keras_file",
    "predict": "kerascnn.using.prediction",
    "evaluate": "kerascnn.using.evaluation",
    "export": "kerascnn.using.saved_model",
    "scan": "kerascnn.dataset_scan.scanning",
}
_ROOMS = ("anatomy", "callbacks", "dataset_scan", "datasets", "explain", "models", "recipes", "runs", "using")

__all__ = [*sorted(_HOME), *_ROOMS]


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"kerascnn.{name}")
    raise AttributeError(f"module 'kerascnn' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return sorted({*__all__, "__version__"})
