"""Using a trained network: open it, ask it about images, measure it, export it, serve it.

A *subject* is what a command may name: a run, a model file that was adopted, `applications:NAME` of keras.applications,
or one of our networks, freshly initialised.
"""

import importlib

_HOME = {
    "Classifier": "classifier",
    "adopt": "classifier",
    "data_of": "run_data",
    "evaluate": "evaluation",
    "export": "saved_model",
    "image_paths": "prediction",
    "predict": "prediction",
    "preprocessing": "classifier",
    "subject": "classifier",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return sorted({*globals(), *__all__})
