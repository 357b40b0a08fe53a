"""How long training stands still between epochs: Keras' own reading of a PyDataset against `kerascnn.backends.stream`.

    taskset -c 0 python benchmarks/between_epochs.py
    python benchmarks/between_epochs.py

The two take turns, each with a network of its own: one `fit` of some epochs of 64 images a step, which lie ready. A
pause is the time from an epoch's beginning to the end of its first step, less the mean time of a step; the first epoch,
in which the step is traced, does not count. What is measured on so many cores replaces what was.
"""

import json
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from cyclopts import App
from keras import layers

from kerascnn import backends
from kerascnn.runs import write_json

RESULTS = Path(__file__).parent / "results" / "between_epochs.json"
app = App(help="Measure how long training stands still between epochs.", help_format="plaintext")


class Ready(keras.utils.PyDataset):
    """The same 64 images of noise at every step."""

    def __init__(self, steps):
        super().__init__(workers=1)
        rng = np.random.default_rng(0)
        self.steps, self.images, self.labels = steps, rng.random((64, 32, 32, 3), "float32"), np.zeros(64, "int64")

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        return self.images, self.labels


class Clock(keras.callbacks.Callback):
    """Keeps in `pauses` and `epochs` the seconds of each epoch."""

    def __init__(self):
        super().__init__()
        self.pauses, self.epochs = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_train_batch_end(self, step, logs=None):
        if step == 0:
            self.first = time.perf_counter() - self.began

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(time.perf_counter() - self.began)
        self.pauses.append(self.first - (self.epochs[-1] - self.first) / (self.params["steps"] - 1))


def fit(read, steps, epochs):
    """The Clock of one fit of what `read` makes of the batches."""
    wide = [layers.Conv2D(64, 3, padding="same", activation="relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((32, 32, 3)), *wide, layers.GlobalAveragePooling2D(), layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    clock = Clock()
    model.fit(read(Ready(steps)), epochs=epochs, shuffle=False, verbose=0, callbacks=[clock])
    return clock


@app.default
def main(*, steps: int = 150, epochs: int = 4, rounds: int = 2, results: Path = RESULTS):
    """Measure, print and write.

    Parameters
    ----------
    steps
        steps of an epoch
    epochs
        epochs of a fit; the first does not count
    rounds
        how often each has its turn
    results
        JSON file
    """
    contenders = {"PyDataset": lambda batches: batches, "kerascnn.backends.stream": backends.stream}
    clocks = [(name, fit(read, steps, epochs)) for _ in range(rounds) for name, read in contenders.items()]
    rows = [
        {"processor": backends.processor(), "contender": name, "epoch_seconds": epoch, "pause_seconds": pause}
        for name, clock in clocks
        for epoch, pause in zip(clock.epochs[1:], clock.pauses[1:], strict=True)
    ]
    print(pd.DataFrame(rows).round(2).to_markdown(index=False))
    kept = json.loads(results.read_text())["rows"] if results.exists() else []
    kept = [row for row in kept if row["processor"] != backends.processor()]
    write_json(results, {"versions": backends.versions(), "steps": steps, "rows": kept + rows})


if __name__ == "__main__":
    app()
