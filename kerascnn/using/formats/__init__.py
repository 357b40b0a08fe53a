"""The formats in which a trained network leaves Python, one file a format; `FORMATS` lists them without TensorFlow.

A format is a function `(classifier, path, images)` with `@register(...)` that writes a `Classifier` at a path, with its
preprocessing and labels inside; `images` are uint8 (N, *resize_to, C) to calibrate with, or None. Its file also has

    opened(path)     -> a function, uint8 (N, *resize_to, C) -> probabilities float32 (N, num_classes)
    described(path)  -> (labels, Preprocessing) of a file; not for formats without a suffix

which import neither Keras nor, for a format with a suffix, TensorFlow. Facts, of which `USUAL` need not be given:

    title: what one is called in a sentence
    file: its name in the folder export/ of a run
    suffix: of files that `kerascnn predict` takes, or ""
    takes: what goes in, or "" for pixels of the size that images are resized to
    packages: modules that it needs besides TensorFlow; extra: what pip installs them with
    runs: those that suffice to run a file; None: all of them
    float32: True if it is written in float32, whatever the precision of the network
    exact: True if probabilities must agree to 1e-4; otherwise classes must agree on 98 of 100 images
    calibrated: True if it must see training images
"""

import importlib.util
import sys
from pathlib import Path

from kerascnn.errors import DataError
from kerascnn.registry import Registry

USUAL = {"suffix": "", "takes": "", "packages": (), "runs": None, "extra": ""}
USUAL |= {"float32": True, "exact": True, "calibrated": False}
FORMATS = Registry("format", __name__, Path(__file__).parent, hint="kerascnn formats", **USUAL)
register = FORMATS.register


def packages(name, *, run=False):
    """The modules that a format needs besides TensorFlow; those that run a file, or those that write one."""
    facts = FORMATS.facts(name)
    return facts["packages"] if not run or facts["runs"] is None else facts["runs"]


def missing(name, *, run=False):
    """The modules that a format needs and that are not installed."""
    return [module for module in packages(name, run=run) if importlib.util.find_spec(module) is None]


def check_installed(name, *, run=False):
    """Raise a DataError that says what to install if a format needs a module that is not there."""
    lacks = missing(name, run=run)
    if lacks:
        lack = "is" if len(lacks) == 1 else "are"
        raise DataError(
            f"{FORMATS.facts(name)['title']} needs {' and '.join(lacks)}, which {lack} not installed. "
            f"Type: pip install 'kerascnn[{FORMATS.facts(name)['extra']}]'"
        )


def module_of(name):
    """The module of a format, with its `opened` and `described`."""
    return sys.modules[FORMATS.get(name).__module__]
