"""The fit of a training: Keras' own, with callbacks that measure, choose weights, say lines and save checkpoints."""

import contextlib
import math
import os
import signal
import threading

import keras

from kerascnn import backends
from kerascnn.errors import counted
from kerascnn.training import resume as resuming
from kerascnn.training.curves import in_batches, keep_rows, measuring
from kerascnn.training.progress import EpochLines
from kerascnn.training.resume import BEST, Checkpoint


def fit(group, run, recipe, model, batches, data, state, callbacks, checkpoint_minutes, began, say, *, test):
    """Fit until the recipe's epochs are done.

    Args:
        group: the Hosts; all of them fit, and the first one writes.
        run: the Run; None on the other hosts.
        batches: the training `Batches`.
        state: that of the checkpoint to resume from; None: start from the beginning.
        callbacks: further ones.
        checkpoint_minutes: minutes between checkpoints within an epoch.
        began: when the training began, by `time.monotonic`.
        say: called with each line.
        test: False leaves the test split out of the curves.
    Raises:
        Stopped: a signal came; the state was saved.
        HostLost: another host is gone.
    """
    folder = run and run / "checkpoint"
    if run:
        folder.mkdir(exist_ok=True)
    counting = _counting(recipe, folder)
    for name in ("rate_patience", "stop_patience"):
        if getattr(recipe, name) >= batches.epochs:
            say(f"Note: {name}={getattr(recipe, name)} is not below epochs={batches.epochs}, so it never acts.")
    measured = measuring(run and run / "metrics.csv", recipe, data, batches, test=test)
    lines = EpochLines(batches, say, by_step=recipe.eval_every > 0)
    checkpoint = Checkpoint(folder, batches, counting, checkpoint_minutes, began, group)
    nan = keras.callbacks.TerminateOnNaN(raise_error=True)
    told = [lines] if run else []
    called = [_Monitored(recipe.monitor), *counting, nan, *measured, *told, *callbacks, checkpoint]
    validation = in_batches(data, "validation", recipe, batches)

    epoch = step = 0
    if state:
        epoch, step = state["epoch"], state["step"]
        model.optimizer.build(model.trainable_variables)
        model.test_on_batch(*batches[0])  # makes the metrics' variables
        resuming.restore(model, state)
        checkpoint.state = state
        say(f"Resuming at epoch {epoch + 1}" + (f", step {step + 1}" if step else ""))
        if state["stop_training"]:
            say("Patience had already stopped the run.")
            return
    if run:
        keep_rows(run / "metrics.csv", epoch)
    try:
        with _signals(checkpoint, say, group):
            while epoch < batches.epochs:
                batches.epoch, batches.start = epoch, step
                last = epoch + 1 if step else batches.whole_epochs if epoch < batches.whole_epochs else batches.epochs
                model.fit(
                    backends.stream(batches),
                    validation_data=validation,
                    initial_epoch=epoch,
                    epochs=last,
                    shuffle=False,
                    verbose=0,
                    callbacks=list(called),
                )
                if model.stop_training:
                    worn = recipe.stop_patience and counting[-1].wait >= recipe.stop_patience
                    patience = f"{recipe.monitor} has not improved for {counted(recipe.stop_patience, 'epoch')}"
                    say(f"Stopped: {patience if worn else 'a callback asked for it'}.")
                    break
                epoch, step = last, 0
                if epoch < batches.epochs:
                    checkpoint.state = resuming.shared(group, run and resuming.newest(folder, say))
                    resuming.restore(model, checkpoint.state)  # the end of a fit changes moving averages
    finally:
        lines.close()


def _counting(recipe, folder):
    """The callbacks that count epochs and choose weights; a checkpoint keeps their state.

    Args:
        folder: where the best weights are saved; None: nowhere.
    """
    best = keras.callbacks.Callback()  # in place of the one that saves
    if folder:
        best = _BestWeights(
            str(folder / f"new.{BEST}"),
            monitor=recipe.monitor,
            save_best_only=recipe.keep == "best",
            save_weights_only=True,
        )
    counting = [_SwapAverages(swap_on_epoch=True), best] if recipe.ema else [best]
    if recipe.rate_patience:
        counting.append(
            keras.callbacks.ReduceLROnPlateau(
                recipe.monitor, factor=recipe.rate_factor, patience=recipe.rate_patience, min_delta=recipe.min_delta
            )
        )
    if recipe.stop_patience:
        counting.append(
            keras.callbacks.EarlyStopping(recipe.monitor, min_delta=recipe.min_delta, patience=recipe.stop_patience)
        )
    return counting


class _Monitored(keras.callbacks.Callback):
    """Ends a training whose monitored quantity is NaN, as `TerminateOnNaN` does, before such weights are kept: nothing
    is better than NaN, to Keras."""

    def __init__(self, monitor):
        super().__init__()
        self.monitor = monitor

    def on_epoch_end(self, epoch, logs=None):
        if math.isnan(logs[self.monitor]):
            raise RuntimeError(f"NaN or Inf loss: {self.monitor}")


class _BestWeights(keras.callbacks.ModelCheckpoint):
    """Keras' callback; the variables that saving makes are not distributed over the hosts, since only one saves."""

    def on_epoch_end(self, epoch, logs=None):
        with backends.alone():
            super().on_epoch_end(epoch, logs)


class _SwapAverages(keras.callbacks.SwapEMAWeights):
    """Keras' callback, without what it does at the end of a fit: that would overwrite the weights being trained, and a
    training that is resumed in another fit would not be the same."""

    def _finalize_ema_values(self):
        pass


@contextlib.contextmanager
def _signals(checkpoint, say, group):
    """Within this block, the first SIGINT or SIGTERM saves after the current step; a second one stops at once.

    With several hosts, JAX handles SIGTERM, so all stop after the same step (`Hosts.stopping`); SIGINT becomes one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM) if group.count == 1 else (signal.SIGINT,)
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number, frame):
        say("Saving; a second signal stops at once.")
        if group.count == 1:
            checkpoint.stop(number)
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        for n in numbers:
            signal.signal(n, before[n])

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
