"""Networks as they were at chosen epochs of training."""

import functools
from pathlib import Path

import keras

from kerascnn import backends, keras_file


class KeptEpochs(keras.callbacks.Callback):
    """Saves the network before the first step and after each of some epochs, as <epochs>.keras.

    Args:
        folder: folder for the files; it is made if it does not exist.
        epochs: numbers of epochs.
    """

    def __init__(self, folder, epochs):
        super().__init__()
        self.folder, self.epochs = Path(folder), set(epochs)

    def on_train_begin(self, logs=None):
        if not backends.steps_done(self.model):
            self._save(0)

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 in self.epochs:
            self._save(epoch + 1)

    def _save(self, epochs):
        self.folder.mkdir(parents=True, exist_ok=True)
        backends.sync(self.model)
        new = self.folder / f"new-{epochs}.keras"
        self.model.save(new, include_optimizer=False)
        new.replace(self.folder / f"{epochs}.keras")


def saved(folder):
    """{epochs: Path} of the networks in a folder, in order."""
    paths = {int(path.stem): path for path in Path(folder).glob("*.keras") if path.stem.isdecimal()}
    return dict(sorted(paths.items()))


def networks(folder):
    """{epochs: function without arguments that loads the network} of a folder, in order."""
    return {epochs: functools.partial(keras_file.load, path) for epochs, path in saved(folder).items()}


def loaded(model):
    """A keras.Model, or what a function without arguments gives."""
    return model if hasattr(model, "layers") else model()
