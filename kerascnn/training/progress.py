"""What training says: one plain line an epoch, with the time left for the whole run."""

import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kerascnn.progress import clock


class EpochLines(keras.callbacks.Callback):
    """Says one line an epoch, or evaluation; on a terminal, a bar that vanishes shows the steps within it.

    Args:
        batches: the training `Batches`.
        say: called with each line.
        by_step: True counts steps, where a period is not an epoch.
    """

    async_safe = True  # the bar may lag a step behind

    def __init__(self, batches, say, *, by_step=False):
        super().__init__()
        self.batches, self.epochs, self.say, self.by_step = batches, batches.epochs, say, by_step
        self._times = []
        self._bar = None
        self._console = Console()

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn(self._place(epoch)),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=self.batches.steps, completed=self.batches.start)
            self._bar.start()

    def on_train_batch_end(self, step, logs=None):
        if self._bar:
            self._bar.update(self._task, completed=self.batches.start + step + 1)

    def on_epoch_end(self, epoch, logs=None):
        self.close()
        self._times.append(time.monotonic() - self._began)
        left = (self.epochs - epoch - 1) * min(self._times[-3:])
        values = "  ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items())
        ahead = f"  ETA {clock(left)}" if left else ""
        self.say(f"{self._place(epoch)}  {values}  {self._times[-1]:.1f} s{ahead}")

    def _place(self, epoch):
        """The epoch, or the step that its period ends with, of how many."""
        done, total = epoch + 1, self.epochs
        if self.by_step:
            total = self.batches.total
            done = min(done * self.batches.period, total)
        return f"{'step' if self.by_step else 'epoch'} {done:{len(str(total))}}/{total}"

    def close(self):
        """Take the bar away."""
        if self._bar:
            self._bar.stop()
            self._bar = None
