"""One pass over a data set against plain prediction, and what each look costs while training.

    python benchmarks/scan.py [--images 50000] [--rounds 3] [--json scan.json]

cifar_net on images of noise. "scan" is every convolution's leaders (top=9) and statistics; "predict" is
`model.predict` of the same images; both take turns. Memory is the growth of a fresh process' peak during the scan,
beyond what it held after loading the images and one scan of one block. For the callbacks a training of one epoch of
a fifth of the images runs with each look at its default settings; the seconds spent in the look are divided by five
times the rest. TopPatches looks once here, and every ten epochs by default.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import kerascnn
from kerascnn import backends, callbacks, models

BATCH = 128


def pixels(count):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count)


def scale(images):
    return images.astype("float32") / 128 - 1


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(count):
    """MB by which the peak grows from one block to the whole data."""
    images, labels = pixels(count)
    model = models.cifar_net()
    options = {"preprocessing": scale, "batch_size": BATCH, "class_names": [str(i) for i in range(10)]}
    kerascnn.scan(model, images[:BATCH], labels=labels[:BATCH], **options)
    before = peak()
    kerascnn.scan(model, images, labels=labels, **options)
    return peak() - before


def turns(functions, rounds):
    """{name: [(seconds, CPU seconds)]}, the functions taking turns."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def speed(count, rounds):
    images, labels = pixels(count)
    x, model = scale(images), models.cifar_net()
    model.predict(x[: 2 * BATCH], batch_size=BATCH, verbose=0)
    kerascnn.scan(model, x[: 2 * BATCH])
    return turns(
        {
            "predict": lambda: model.predict(x, batch_size=BATCH, verbose=0),
            "scan": lambda: kerascnn.scan(model, x, labels=labels, batch_size=BATCH),
        },
        rounds,
    )


class Timed(keras.callbacks.Callback):
    """Another callback, with the seconds spent in it."""

    async_safe = True

    def __init__(self, inner):
        super().__init__()
        self.inner, self.seconds = inner, 0.0

    def set_model(self, model):
        super().set_model(model)
        self.inner.set_model(model)

    def _timed(self, name, *arguments):
        began = time.perf_counter()
        getattr(self.inner, name)(*arguments)
        self.seconds += time.perf_counter() - began

    def on_train_begin(self, logs=None):
        self._timed("on_train_begin")

    def on_train_batch_end(self, batch, logs=None):
        self._timed("on_train_batch_end", batch)

    def on_epoch_end(self, epoch, logs=None):
        self._timed("on_epoch_end", epoch)

    def on_train_end(self, logs=None):
        self._timed("on_train_end")


def looks(count):
    """{look: share of an epoch of `count` images that it takes}."""
    images, labels = pixels(count // 5)
    x = scale(images)
    keras.config.set_dtype_policy(backends.fastest_precision())
    shares = {}
    with tempfile.TemporaryDirectory() as folder:
        watches = {
            "FilterGrid": callbacks.FilterGrid(folder=folder),
            "FilterEvolution": callbacks.FilterEvolution(folder=folder),
            "ActivationStats": callbacks.ActivationStats(x[:256], folder=folder),
            "FeatureEvolution": callbacks.FeatureEvolution(x[:2000], folder=folder),
            "TopPatches": callbacks.TopPatches(x[:2000], folder=folder, labels=labels[:2000]),
            "ExplainEachEpoch": callbacks.ExplainEachEpoch("guided_backprop", x[:6], folder=folder),
        }
        for name, look in watches.items():
            model = models.cifar_net(dropout=0.5)
            model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", jit_compile=backends.jit_compile())
            model.train_on_batch(x[:100], labels[:100])
            model.optimizer.iterations.assign(0)
            timed, began = Timed(look), time.perf_counter()
            model.fit(x, labels, batch_size=100, epochs=1, verbose=0, callbacks=[timed])
            epoch = 5 * (time.perf_counter() - began - timed.seconds)
            shares[name] = {"seconds": timed.seconds, "epoch_seconds": epoch, "share": timed.seconds / epoch}
            print(f"  {name:18s} {timed.seconds:5.1f} s, {100 * timed.seconds / epoch:4.1f}% of {epoch:.0f} s")
    return shares


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "scan.json")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.memory:
        print(memory(arguments.images))
        return
    result = {"machine": backends.processor(), "versions": backends.versions(), "images": arguments.images}
    result |= {"batch_size": BATCH, "load_before": os.getloadavg()}
    command = [sys.executable, __file__, "--memory", "--images", str(arguments.images)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result["memory_growth_MB"] = float(done.stdout.splitlines()[-1])
    print(f"memory growth over {arguments.images:,} images: {result['memory_growth_MB']:.0f} MB")
    times_of = speed(arguments.images, arguments.rounds)
    result["seconds"] = times_of
    medians = {name: np.median(times, axis=0) for name, times in times_of.items()}
    for name, (wall, cpu) in medians.items():
        print(f"  {name:8s} {wall:6.1f} s (CPU {cpu:.1f})")
    result["scan_per_predict"] = float(medians["scan"][0] / medians["predict"][0])
    print(f"  scan takes {result['scan_per_predict']:.2f} of predict's time")
    result["looks"] = looks(arguments.images)
    result["load_after"] = os.getloadavg()
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {arguments.json}")


if __name__ == "__main__":
    main()
