"""kerascnn: build, train, tune and look inside the classic convolutional networks, on Keras 3.

    import kerascnn
    data = kerascnn.datasets.load("digits", image_size=32)
    model = kerascnn.models.lenet5()

Importing the package does not import Keras; the first use of a name that needs it does.
"""

from kerascnn.registry import room

__version__ = "0.1.0"

_HOME = {
    "ImageData": "datasets.image_data",
    "Recipe": "recipes",
    "Run": "runs",
    "train": "training.train",
    "recipe_for": "training.suited",
    "lr_find": "training.finders",
    "batch_find": "training.finders",
    "check_data": "datasets.check",
    "adopt": "using.classifier",
    "load": "keras_file",
    "predict": "using.prediction",
    "evaluate": "using.evaluation",
    "export": "using.exporting",
    "scan": "dataset_scan.scanning",
    "merge": "dataset_scan.merging",
    "microscope": "pages.microscope.build",
}
_ROOMS = (
    "anatomy",
    "callbacks",
    "dataset_scan",
    "datasets",
    "experiments",
    "explain",
    "models",
    "recipes",
    "runs",
    "using",
)

__all__ = [*sorted(_HOME), *_ROOMS]

__getattr__, __dir__ = room(__name__, _HOME)
