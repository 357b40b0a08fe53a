"""Measurements that are saved to a file as they are made, so that a stopped experiment can continue."""

import hashlib
import json

import numpy as np

from kerascnn.errors import DataError
from kerascnn.files import read_json
from kerascnn.runs import replacing


class Kept:
    """Numbers by name, in a JSON file.

    Args:
        path: path of the file; None: nothing is saved.
        settings: values and arrays that the numbers depend on. If the file has other settings, it is replaced.
    """

    def __init__(self, path, *settings):
        self.path, self.settings, self.numbers = path, digest(settings), {}
        if path is not None and path.exists():
            try:
                found = read_json(path)
                if found.get("settings") == self.settings:
                    self.numbers = dict(found["numbers"])
            except (DataError, AttributeError, KeyError, TypeError):
                pass  # torn: it is begun anew

    def __contains__(self, name):
        return name in self.numbers

    def measure(self, name, function):
        """The number with that name, from the file if it is there, otherwise from the function."""
        if name not in self.numbers:
            self.numbers[name] = float(function())
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(self.path) as temporary:
                    temporary.write_text(json.dumps({"settings": self.settings, "numbers": self.numbers}))
        return self.numbers[name]


def digest(settings):
    """A short text that changes with any of the values and arrays."""
    found = hashlib.sha256()
    for value in settings:
        plain = np.ascontiguousarray(value) if isinstance(value, np.ndarray) else repr(value).encode()
        found.update(plain.tobytes() if isinstance(plain, np.ndarray) else plain)
    return found.hexdigest()[:16]
