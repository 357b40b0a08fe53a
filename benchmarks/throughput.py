"""Images per second of `kerascnn.train`, of a bare `model.fit` on the same arrays, and of the same network in PyTorch.

    python benchmarks/throughput.py [FOLDER]

FOLDER is a folder of class folders with 32x32 colour images (CIFAR-10); without one, random images are used. The
contenders take turns, epoch by epoch, in one process; the ratio of each round is taken, then the median, because
shared machines change speed by a factor of two. CPU seconds are printed beside wall seconds.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import kerascnn
from kerascnn import backends
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.recipes import Recipe
from kerascnn.training.build import compile_model, network

IMAGES, BATCH, ROUNDS = 5_120, 128, 2
RESULTS = Path(__file__).parent / "results" / "throughput.json"


class Clock(keras.callbacks.Callback):
    """Wall and CPU seconds of the training steps of each epoch, validation not counted."""

    async_safe = True

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter(), time.process_time()

    def on_test_begin(self, logs=None):
        self.steps_done()

    def steps_done(self):
        self.epochs.append((time.perf_counter() - self.began[0], time.process_time() - self.began[1]))


def images_and_labels(folder):
    """uint8 (IMAGES, 32, 32, 3) and labels (IMAGES,)."""
    rng = np.random.default_rng(0)
    if folder is None:
        return rng.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8), rng.integers(0, 10, IMAGES)
    split = kerascnn.datasets.load(folder, image_size=32).train
    index = rng.permutation(len(split))[:IMAGES]
    return split.images[index], split.labels[index]


def ours(path, precision):
    """One run of kerascnn.train over one warm-up epoch and one that is timed: (wall, CPU) seconds of the latter."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(
            model="cifar_net", data=path, epochs=2, batch_size=BATCH, precision=precision, validation=256, test=256
        )
        kerascnn.train(recipe, out=Path(folder) / "run", callbacks=[clock], say=lambda line: None)
    return clock.epochs[-1]


def bare(precision, images, labels):
    """A function that runs two epochs of plain model.fit on float32 arrays: (wall, CPU) seconds of the second."""
    recipe = Recipe(model="cifar_net")
    model = network(recipe, (32, 32, 3), 10, precision)
    compile_model(model, recipe, 100 * recipe.epochs, 100)
    scaled = Preprocessing.fit(images, image_size=(32, 32), normalize="standard")(images)

    clock = Clock()
    clock.on_epoch_end = lambda epoch, logs=None: clock.steps_done()  # there is no validation

    def epoch():
        model.fit(scaled, labels, batch_size=BATCH, epochs=2, verbose=0, callbacks=[clock])
        return clock.epochs[-1]  # the second, as of kerascnn.train

    return epoch


def torch_twin(bf16, images, labels):
    """Likewise for the same network in PyTorch (channels_last), or None where it is not installed."""
    try:
        import torch
        from torch import nn
    except ImportError:
        return None
    torch.set_num_threads(backends.usable_cores())
    model = nn.Sequential(
        *(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(128, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(4096, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU()),
        *(nn.Linear(1024, 10), nn.BatchNorm1d(10)),
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scaled = np.ascontiguousarray((images.astype("float32") / 255 - 0.5).transpose(0, 3, 1, 2))
    x = torch.from_numpy(scaled).contiguous(memory_format=torch.channels_last)
    y = torch.from_numpy(labels)

    def epoch(steps=None):
        began = time.perf_counter(), time.process_time()
        for rows in torch.randperm(len(x)).split(BATCH)[:steps]:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
        return time.perf_counter() - began[0], time.process_time() - began[1]

    epoch(5)
    return epoch


def main(folder=None):
    images, labels = images_and_labels(folder)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        path = str(Path(scratch) / "images.npz")
        np.savez(path, images=images, labels=labels)
        for precision, bf16 in (("float32", False), ("mixed_bfloat16", True)):
            plain, twin = bare(precision, images, labels), torch_twin(bf16, images, labels)
            seconds = {"kerascnn train": [], "bare model.fit": []} | ({"torch": []} if twin else {})
            for _ in range(ROUNDS):
                seconds["bare model.fit"].append(plain())
                wall, cpu = ours(path, precision)
                share = len(images) / (len(images) - 512)  # its epoch is shorter by what it holds out
                seconds["kerascnn train"].append((wall * share, cpu * share))
                if twin:
                    seconds["torch"].append(twin())
            for name, measured in seconds.items():
                against = [b[0] / m[0] for b, m in zip(seconds["bare model.fit"], measured, strict=True)]
                row = {
                    "contender": name,
                    "precision": precision,
                    "images_per_second": round(len(images) / statistics.median(m[0] for m in measured), 1),
                    "wall_seconds": [round(m[0], 2) for m in measured],
                    "cpu_seconds": [round(m[1], 2) for m in measured],
                    "ratio_to_bare_fit": round(statistics.median(against), 3),
                }
                rows.append(row)
                print(
                    f"{name:16} {precision:15} {row['images_per_second']:8.1f} images/s "
                    f"{row['ratio_to_bare_fit']:6.3f} of bare fit   CPU {statistics.median(row['cpu_seconds']):.1f} s "
                    f"in {statistics.median(row['wall_seconds']):.1f} s",
                    flush=True,
                )
            RESULTS.parent.mkdir(exist_ok=True)
            machine = {"processor": backends.processor(), "versions": backends.versions()}
            RESULTS.write_text(json.dumps({**machine, "images": IMAGES, "batch": BATCH, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
