"""What an exported network answers, in this process or in a fresh one that has never seen the network in Keras."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from kerascnn.errors import DataError
from kerascnn.processes import python_module
from kerascnn.using.formats import FORMATS, module_of


def answers(name, path, pixels, *, fresh):
    """Probabilities float32 (N, num_classes) of uint8 images (N, *resize_to, C) by the file of a format at a path.

    Raises:
        DataError: a fresh process cannot load it.
    """
    if not fresh:
        return module_of(name).opened(path)(pixels)
    with tempfile.TemporaryDirectory() as folder:
        given, answered = Path(folder) / "pixels.npy", Path(folder) / "answers.npy"
        np.save(given, pixels)
        words = [*python_module("kerascnn.using.reloading"), name, path, given, answered]
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        if done.returncode or not answered.exists():
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
            raise DataError(
                f"{FORMATS.facts(name)['title']} was written, but a fresh process cannot load it: {lines[-1]}"
            )
        return np.load(answered)


if __name__ == "__main__":
    _name, _path, _pixels, _answers = sys.argv[1:]
    np.save(_answers, answers(_name, Path(_path), np.load(_pixels), fresh=False))
