"""Exported files (.tflite, .onnx) classify images, with no Keras and no TensorFlow imported."""

from pathlib import Path

from kerascnn.errors import UsageError
from kerascnn.files import check_regular
from kerascnn.using.formats import FORMATS, check_installed, module_of
from kerascnn.using.named_images import predictions

AT_ONCE = 32  # images in memory


def format_of(named):
    """The name of a format that a file with this suffix may have, or None."""
    if not isinstance(named, (str, Path)):
        return None
    suffix = Path(named).suffix
    return next((name for name in FORMATS.names() if suffix and FORMATS.facts(name)["suffix"] == suffix), None)


def is_exported(named):
    """True for the path of a file that `predict` takes, by its suffix."""
    return bool(format_of(named))


def predict(path, images, *, top=5, batch_size=None):
    """(rows, broken) of `named_images.predictions`, by the network in an exported file.

    Raises:
        as of `opened`.
    """
    answer, prepared, labels = opened(path)
    return predictions(answer, prepared, labels, images, top=top, size=batch_size or AT_ONCE)


def opened(path):
    """(function, uint8 (N, *resize_to, C) -> probabilities; Preprocessing; class names) of an exported file.

    Raises:
        UsageError: there is no such file.
        DataError: it is damaged or not one of ours, or the package that runs it is not installed.
    """
    path, name = Path(path).expanduser(), format_of(path)
    if not path.exists():
        raise UsageError(f"There is no file {path}.")
    check_regular(path)
    check_installed(name, run=True)
    labels, prepared = module_of(name).described(path)
    return module_of(name).opened(path), prepared, labels
