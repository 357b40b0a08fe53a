"""Measurements that are saved to files as they are made, so that a stopped experiment can continue."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np

from kerascnn import __version__, backends
from kerascnn.runs import plain, replacing


class Kept:
    """Measurements by name: arrays, or dicts of arrays, each in a file of a folder.

    Args:
        folder: Path of the folder, which is made when the first measurement is saved; None: nothing is saved.
        settings: what the measurements depend on: a keras.Model, images, arrays or values. With other settings, or
            another version of this package or backend, everything is measured again.
        progress: `kerascnn.progress.Progress` that counts the measurements; None: none.
    """

    def __init__(self, folder, *settings, progress=None):
        self.folder, self.progress = None if folder is None else Path(folder), progress
        self.settings = None if folder is None else digest((__version__, backends.backend(), *settings))

    def _file(self, name):
        return self.folder / f"{plain(name)[:60]}-{digest((self.settings, name))}.npz"

    def measure(self, name, function, tell=None):
        """The measurement with that name, from its file if it is there, otherwise from the function.

        Args:
            name: text.
            function: function without arguments that gives an array, a number, or {name: array}.
            tell: function (measurement) -> text for its line of progress; None: it is only counted.
        Returns:
            An array (of no dimensions for a number), or a dict of arrays.
        """
        value = self.saved(name)
        worked = value is None
        if worked:
            value = function()
            value = value if isinstance(value, dict) else np.asarray(value)
            self._save(name, value)
        if self.progress:
            self.progress.step(tell(value) if tell and worked else None, worked=worked)
        return value

    def saved(self, name, key=None):
        """The measurement with that name from its file, or one of its arrays; None if it was not saved."""
        if self.folder is None or not self._file(name).exists():
            return None
        try:
            with self._file(name).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                if arrays.files == ["value"]:
                    return arrays["value"]
                return dict(arrays) if key is None else arrays[key]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # torn: it is measured again

    def _save(self, name, value):
        if self.folder is not None:
            with replacing(self._file(name)) as temporary, temporary.open("wb") as file:
                np.savez(file, **(value if isinstance(value, dict) else {"value": value}))


def blocks(count, size):
    """Slices of at most `size` that cover `count` things."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def digest(settings):
    """A short text that changes with any of the values, arrays, images and weights."""
    state = hashlib.sha256()
    for value in settings:
        for part in _parts(value):
            state.update(f"{getattr(part, 'dtype', '')}{getattr(part, 'shape', '')}".encode())
            state.update(np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
            state.update(b";")  # or 1, 21 would be 12, 1
    return state.hexdigest()[:16]


def _structure(model):
    """What a network consists of, as text: all options of its layers where they can be written down."""
    try:
        return model.to_json()
    except (TypeError, ValueError, NotImplementedError):  # a layer of the user's own
        return repr([(layer.name, type(layer).__name__) for layer in model.layers])


def _parts(value):
    """What a setting consists of: arrays and values.

    Images that are read when they are asked for are told apart by what they come from (`origin`, or the names `files`),
    by their number, and by what the first eight of them and the last one show.
    """
    if hasattr(value, "get_weights"):
        return [_structure(value), *value.get_weights()]
    if isinstance(value, dict):
        return [part for key, each in value.items() for part in (key, *_parts(each))]
    if isinstance(value, (list, tuple)):
        return [len(value), *(part for each in value for part in _parts(each))]
    if isinstance(value, (np.ndarray, str, range)) or not hasattr(value, "__len__"):
        return [value]
    source = _parts(getattr(value, "origin", getattr(value, "files", ())))
    return [*source, len(value), np.asarray(value[: min(8, len(value))]), np.asarray(value[len(value) - 1 :])]
