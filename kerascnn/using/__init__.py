"""Use a trained network: open it, classify images with it, evaluate it, export it, serve it.

A *subject* is what a command may name: a run, a model file that was adopted, `applications:NAME` of keras.applications,
or one of our networks, freshly initialised.
"""

from kerascnn.registry import room

_HOME = {
    "Classifier": "classifier",
    "adopt": "classifier",
    "cross_suspects": "label_errors",
    "data_of": "run_data",
    "evaluate": "evaluation",
    "export": "exporting",
    "export_ensemble": "ensemble_export",
    "features": "features",
    "image_paths": "named_images",
    "predict": "prediction",
    "preprocessing": "classifier",
    "subject": "classifier",
    "suspects": "label_errors",
}

__all__ = sorted(_HOME)

__getattr__, __dir__ = room(__name__, _HOME)
