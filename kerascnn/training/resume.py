"""Checkpoints from which training resumes exactly: weights, optimizer, metrics, random states and callback states.

Keras' BackupAndRestore keeps neither seed generators nor the state of callbacks, and writes in place. Here one
compressed-free NPZ file holds everything, with the checksums that ZIP files carry; it is written under a temporary
name, synced and renamed, and the last two are kept, so that a kill at any moment leaves one that can be read.
"""

import io
import json
import os
import signal
import time

import keras
import numpy as np

from kerascnn import backends
from kerascnn.errors import DataError, Stopped, counted
from kerascnn.files import read_arrays, read_text
from kerascnn.runs import Run, replacing

KEPT = 2
BEST = "best.weights.h5"
KINDS = ("trainable", "other", "optimizer", "metrics")  # of variables in a state
COUNTERS = ("best", "wait", "cooldown_counter", "stopped_epoch", "best_epoch", "_ema_weights_in_model")


class Checkpoint(keras.callbacks.Callback):
    """Saves the state of training at every epoch's end, every so many minutes, and when `stop` is called. Comes last.

    Args:
        folder: where the checkpoints go.
        batches: the training `Batches`; their epoch and start are set from here.
        callbacks: patience and best-weights callbacks of Keras, whose counters are part of the state.
        minutes: between two states within an epoch.
        began: when the training began, of `time.monotonic`, as if it had never paused.
        group: the Hosts of the training; `folder` is None on all but the first, which alone saves.
    """

    def __init__(self, folder, batches, callbacks, minutes, began, group):
        super().__init__()
        self.seconds, self._saved = 60 * minutes, time.monotonic()
        self.folder, self.batches, self.callbacks, self.began = folder, batches, callbacks, began
        self.group = group
        self.state = None
        self._signal = None

    def stop(self, signal_number):
        """Save and raise Stopped after the step that is being computed."""
        self._signal = signal_number

    def on_train_begin(self, logs=None):
        if self.state:  # after the other callbacks have reset themselves
            for callback, counters in zip(self.callbacks, self.state["callbacks"], strict=True):
                vars(callback).update(counters)

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch
        if self.state and self.batches.start:  # fit has just reset the metrics of the resumed epoch
            for variable, value in zip(self.model.metrics_variables, self.state["metrics"], strict=True):
                variable.assign(value)
            self.state = None

    def on_train_batch_end(self, step, logs=None):
        if self.group.stopping(self.batches.epoch * self.batches.period + self.batches.start + step + 1):
            self.stop(signal.SIGTERM)
        if step + 1 < len(self.batches):
            done = self.batches.start + step + 1
            if self._signal or time.monotonic() - self._saved >= self.seconds:
                self.save(self.batches.epoch, done)
            if self._signal:
                raise self._stopped(self.batches.epoch, done)

    def on_epoch_end(self, epoch, logs=None):
        if self.folder and (new := self.folder / f"new.{BEST}").exists():  # ModelCheckpoint found this epoch the best
            os.replace(new, self.folder / BEST)
        self.batches.start = 0
        self.save(epoch + 1, 0)
        if self._signal and not self.model.stop_training and epoch + 1 < self.batches.epochs:
            raise self._stopped(epoch, self.batches.steps)

    def _stopped(self, epoch, step):
        return Stopped(self._signal, self.folder and self.folder.parent, epoch, step, self.group.count)

    def save(self, epoch, step):
        """Write the state before step `step` of epoch `epoch` (both from 0); older states but one are deleted."""
        if self.folder is None:
            return
        backends.sync(self.model)
        state = {
            "epoch": epoch,
            "step": step,
            "stop_training": bool(self.model.stop_training),
            "callbacks": [_counters(callback) for callback in self.callbacks],
        }
        for kind, variables in _variables(self.model).items():
            state[kind] = [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in variables]
        with replacing(self.folder / f"state-{epoch:05d}-{step:07d}.npz") as temporary:
            np.savez(temporary, **_arrays(state))
        self._saved = time.monotonic()
        Run(self.folder.parent).update(seconds=round(self._saved - self.began, 2))  # a kill forgets what comes after
        for old in sorted(self.folder.glob("state-*.npz"))[:-KEPT]:
            old.unlink()


def has_nll(recipe, state):
    """True if the loss without label smoothing is measured beside the one with it.

    A run of a version that did not measure it goes on without: its state holds a loss and an accuracy, a sum and a
    count each (and a top-5 where the recipe asks for it), and its metrics.csv has no columns for more.

    Args:
        state: the run's newest checkpoint, or None.
    """
    return recipe.label_smoothing > 0 and (state is None or len(state["metrics"]) > (6 if recipe.top5 else 4))


def _variables(model):
    return {
        "trainable": model.trainable_variables,
        "other": model.non_trainable_variables,  # seed generators and batch statistics
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }


def _counters(callback):
    """What a patience or best-weights callback of Keras remembers from epoch to epoch."""
    return {
        name: value.item() if isinstance(value, (np.floating, np.integer)) else value
        for name, value in vars(callback).items()
        if name in COUNTERS
    }


def _arrays(state):
    """{name: array} of a state, for an NPZ file."""
    rest = {name: value for name, value in state.items() if name not in KINDS}
    arrays = {f"{kind}/{i}": array for kind in KINDS for i, array in enumerate(state[kind])}
    return {**arrays, "state": np.frombuffer(json.dumps(rest).encode(), "uint8")}


def _state(arrays):
    """The state of the arrays of an NPZ file."""
    state = json.loads(arrays["state"].tobytes())
    for kind in KINDS:
        count = sum(name.startswith(f"{kind}/") for name in arrays)
        state[kind] = [arrays[f"{kind}/{i}"] for i in range(count)]
    return state


def newest(folder, say=print):
    """The newest state that can be read, as a dict, or None where there is none; `say` hears of torn files."""
    for path in sorted(folder.glob("state-*.npz"), reverse=True):
        try:
            return _state(read_arrays(path))
        except (OSError, ValueError, KeyError, RecursionError) as error:
            say(f"{path.name} cannot be read ({error}); the checkpoint before it is used.")
    return None


def shared(group, state):
    """The state (or None) that the first of the Hosts `group` has, on every host."""
    if group.count == 1:
        return state
    packed = io.BytesIO()
    if state is not None:
        np.savez(packed, **_arrays(state))
    content = group.share(packed.getvalue())
    return _state(dict(np.load(io.BytesIO(content)))) if content else None


def check_table(folder, path, state):
    """Raise a DataError if metrics.csv at `path` and the newest state do not belong together.

    A run killed before its first checkpoint has no state and at most one row; it may start again.
    """
    rows = max(0, len(read_text(path).splitlines()) - 1) if path.exists() else 0
    if state is None and rows > 1:
        raise DataError(
            f"{folder} holds no checkpoint that can be read, though {path} has {counted(rows, 'epoch')}. Start "
            "a new run."
        )
    if state and rows < state["epoch"]:
        raise DataError(
            f"{path} has {counted(rows, 'epoch')} and the checkpoint in {folder} {state['epoch']}: the table was "
            "changed, so the run cannot resume exactly. Start a new run."
        )


def restore(model, state):
    """Put a state's weights, optimizer and random states into a built and compiled model.

    Raises:
        DataError: the state is another network's.
    """
    variables = _variables(model)
    for kind in ("trainable", "other", "optimizer"):
        shapes = [tuple(v.shape) for v in variables[kind]]
        if shapes != [value.shape for value in state[kind]]:
            raise DataError("The checkpoint is of another network or optimizer, so training cannot resume from it.")
        for variable, value in zip(variables[kind], state[kind], strict=True):
            variable.assign(value)
