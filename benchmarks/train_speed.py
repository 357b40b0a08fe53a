"""How fast training is: against a bare loop, against PyTorch, from command to first step, and whether memory grows.

    python benchmarks/train_speed.py [FOLDER] [--rounds 5] [--images 5120]

FOLDER is a folder of class folders with 32x32 colour images (CIFAR-10); without one, images of noise are used. The
network is cifar_net, the batch 128. The contenders take turns, epoch by epoch:

    kerascnn.train        shuffled, mirrored and cropped images, its own callbacks; the second epoch of a run of two,
                          validation not counted
    bare model.fit        the same compiled network on a float32 array, no augmentation, no callbacks
    train_on_batch loop   the same on batches that lie ready
    torch, compiled       the same network with channels_last, bfloat16 autocast and torch.compile, on batches that lie
                          ready, in a process of its own that sleeps meanwhile; left out where PyTorch is missing
    torch, eager          likewise without torch.compile

Ratios are taken within a round, then the median over rounds, because shared machines change speed by a factor of two;
the first round warms up. CPU seconds stand beside wall seconds. Measure on a machine that does nothing else: beside
another program on the same cores PyTorch's threads wait for one another, and it was seen to be eight times slower.
"""

import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cyclopts import App

from kerascnn.recipes import Recipe
from kerascnn.runs import write_json

BATCH, HELD_OUT = 128, 256
WARM = 1  # rounds that do not count
RESULTS = Path(__file__).parent / "results" / "train_speed.json"
RECIPE = Recipe(model="cifar_net", augment=("flip", "crop"), batch_size=BATCH, validation=HELD_OUT, test=HELD_OUT)
BARE, FIT, OURS = "train_on_batch loop", "bare model.fit", "kerascnn.train"
COMPILED, EAGER = "torch, compiled", "torch, eager"
app = App(help="Measure the speed of training.", help_format="plaintext")


@app.default
def main(
    folder: str | None = None,
    /,
    *,
    rounds: int = 5,
    images: int = 5_120,
    precision: str = "auto",
    memory_epochs: int = 16,
    starts: int = 3,
    results: Path = RESULTS,
):
    """Measure, print and write.

    Parameters
    ----------
    folder
        folder of class folders with 32x32 colour images [default: noise]
    rounds
        rounds that count, after one that does not
    images
        images of an epoch, a multiple of 128
    precision
        auto or float32 (torch then computes in float32, too)
    memory_epochs
        epochs over which resident memory is watched
    starts
        how often the command is started
    results
        JSON file
    """
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "images.npz"
        write_images(folder, images, data)
        waited = [first_step(Path(scratch) / f"start{n}", []) for n in range(starts)]
        reading = folder and first_step(Path(scratch) / "start", [folder, "--model", "cifar_net"])
        resident = resident_memory(data, memory_epochs)
        turns = Turns(data, precision, images)
        try:
            machine, callbacks = turns.run(rounds + WARM, Path(scratch) / "run")
        finally:
            turns.close()
    measured = figures(turns, callbacks, waited, reading, resident)
    rows = contenders(turns, images)
    print_all(rows, measured)
    settings = {"data": folder and Path(folder).name, "images": images, "batch": BATCH, "rounds": rounds, "load": load}
    write_json(results, {**machine, **settings, "contenders": rows, "figures": measured, "resident_mib": resident})


def write_images(folder, count, path):
    """An .npz file of count + 2 * HELD_OUT images (32, 32, 3) and their labels."""
    rng, count = np.random.default_rng(0), count + 2 * HELD_OUT
    images, labels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8), np.arange(count) % 10
    if folder is not None:
        import kerascnn

        split = kerascnn.datasets.load(folder, image_size=32).train
        index = rng.permutation(len(split))[:count]
        images, labels = split.images[index], split.labels[index]
    np.savez(path, images=images, labels=labels)


class Turns:
    """The contenders and their seconds: `seconds[name]` holds (wall, CPU) of every round, warm-up included."""

    def __init__(self, data, precision, count):
        from kerascnn.processes import num_cpus
        from kerascnn.training.build import compile_model, ready
        from kerascnn.training.prepare import precision_of
        from kerascnn.training.reading import load_data

        self.recipe = RECIPE.replace(data=str(data), precision=precision)
        self.precision = precision_of(self.recipe)
        loaded = load_data(self.recipe)
        assert len(loaded.train) == count, "the number of images must be a multiple of the batch"
        _, model, self.batches = ready(self.recipe, loaded, self.precision)
        compile_model(model, self.recipe, self.batches.total, self.batches.period)
        still = [self.batches.preprocessing(loaded.train.images[i : i + BATCH]) for i in range(0, count, BATCH)]
        labels = np.split(loaded.train.labels, range(BATCH, count, BATCH))
        x, y = np.concatenate(still), loaded.train.labels

        def loop():
            for images, targets in zip(still, labels, strict=True):
                model.train_on_batch(images, targets)

        self.others = {
            BARE: lambda: timed(loop),
            FIT: lambda: timed(lambda: model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)),
        }
        self.twins = []
        for name in (COMPILED, EAGER):
            options = ["--bf16"] * (self.precision != "float32") + ["--compiled"] * (name == COMPILED)
            twin = torch_process(data, num_cpus(), model.count_params(), options)
            if twin:
                self.twins.append(twin)
                self.others[name] = functools.partial(torch_epoch, twin)
        self.seconds = {name: [] for name in (OURS, *self.others)}
        self.input_seconds = []

    def run(self, rounds, folder):
        """Everybody's epoch, `rounds` times: (what run.json says of the machine, callbacks' share of our step)."""
        import kerascnn

        shares = []
        for number in range(rounds):
            clock = make_clock()
            recipe = self.recipe.replace(epochs=2)
            out = folder.with_name(f"{folder.name}{number}")
            run = kerascnn.train(recipe, out=out, callbacks=[clock], say=lambda line: None)
            state = run.read("run")
            shutil.rmtree(out)
            self.seconds[OURS].append(clock.steps[-1])
            shares.append(1 - clock.computing[-1] / clock.steps[-1][0])
            self.take_turns()
        machine = {name: state[name] for name in ("processor", "device", "versions", "precision")}
        return machine, statistics.median(shares[WARM:])

    def take_turns(self):
        """One epoch of everybody else; then all the batches of one epoch, made and thrown away."""
        for name, epoch in self.others.items():
            self.seconds[name].append(epoch())
        self.input_seconds.append(timed(lambda: [self.batches[i] for i in range(len(self.batches))])[0])

    def close(self):
        for twin in self.twins:
            twin.stdin.close()
            twin.wait()


def make_clock():
    """A callback that keeps in `steps` the (wall, CPU) seconds of each epoch's steps, and in `computing` those spent in
    the compiled step, which also waits for its batch."""
    import keras

    class Clock(keras.callbacks.Callback):
        async_safe = True

        def __init__(self):
            super().__init__()
            self.steps, self.computing = [], []

        def on_train_begin(self, logs=None):
            step = self.model.train_function

            def timed_step(iterator):
                began = time.perf_counter()
                logs = step(iterator)
                self.computing[-1] += time.perf_counter() - began
                return logs

            self.model.train_function = timed_step

        def on_epoch_begin(self, epoch, logs=None):
            self.computing.append(0.0)
            self.began = time.perf_counter(), time.process_time()

        def on_test_begin(self, logs=None):
            self.steps.append((time.perf_counter() - self.began[0], time.process_time() - self.began[1]))

    return Clock()


def timed(function):
    """(wall, CPU) seconds of a call."""
    began = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def torch_epoch(twin):
    """(wall, CPU) seconds of an epoch of a `torch_process`."""
    print("epoch", file=twin.stdin, flush=True)
    return tuple(json.loads(twin.stdout.readline()))


def torch_process(data, threads, parameters, options):
    """A process that trains an epoch for every line it gets, warm already; None where PyTorch is missing."""
    arguments = ["torch-twin", str(data), str(threads), str(parameters), *options]
    twin = subprocess.Popen(
        [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return twin if twin.stdout.readline() == "ready\n" else None


@app.command
def torch_twin(data: Path, threads: int, parameters: int, *, bf16: bool = False, compiled: bool = False):
    """Used by the measurement itself: cifar_net in PyTorch."""
    try:
        import torch
        from torch import nn
    except ImportError:
        return
    torch.set_num_threads(threads)
    model = nn.Sequential(
        *(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(128, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(4096, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU()),
        *(nn.Linear(1024, 10), nn.BatchNorm1d(10)),
    ).to(memory_format=torch.channels_last)
    counted = sum(p.numel() for p in model.parameters()) + 20  # the moving mean and variance, as Keras counts
    assert counted == parameters, f"{counted} parameters, not {parameters}"
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with np.load(data) as file:
        count = len(file["labels"]) - 2 * HELD_OUT
        scaled = (file["images"][:count].astype("float32") / 255 - 0.5).transpose(0, 3, 1, 2)
        x = torch.from_numpy(np.ascontiguousarray(scaled)).contiguous(memory_format=torch.channels_last).split(BATCH)
        y = torch.from_numpy(file["labels"][:count].astype("int64")).split(BATCH)
    called = torch.compile(model) if compiled else model

    def epoch():
        for images, labels in zip(x, y, strict=True):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = nn.functional.cross_entropy(called(images), labels)
            loss.backward()
            optimizer.step()

    epoch()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(epoch)), flush=True)


def first_step(out, arguments):
    """Seconds from `kerascnn train` to the checkpoint after its first step."""
    command = [sys.executable, "-m", "kerascnn", "train", *arguments, "--out", str(out), "--checkpoint-minutes", "0"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not any((out / "checkpoint").glob("state-*.npz")):
            time.sleep(0.02)
        waited = time.perf_counter() - began
        if process.poll():
            raise SystemExit(f"{' '.join(command)} failed.")
    finally:
        process.kill()
        process.wait()
    return waited


def resident_memory(data, epochs):
    """MiB that a process of its own holds at the end of each epoch of a training."""
    done = subprocess.run(
        [sys.executable, __file__, "resident", str(data), str(epochs)], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@app.command
def resident(data: Path, epochs: int):
    """Used by the measurement itself: train and print the resident memory after each epoch."""
    import keras

    import kerascnn

    held = []

    def look(epoch, logs):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        held.append(round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1))

    callback = keras.callbacks.LambdaCallback(on_epoch_end=look)
    recipe = RECIPE.replace(data=str(data), epochs=epochs * 8, eval_every=8, steps=epochs * 8)
    with tempfile.TemporaryDirectory() as folder:
        kerascnn.train(recipe, out=Path(folder) / "run", callbacks=[callback], say=lambda line: None)
    print(json.dumps(held))


def figures(turns, callbacks, waited, reading, resident):
    """What is asked of training: [{"figure", "value", "target", "met"}, ...]."""
    step = statistics.median(wall for wall, _ in turns.seconds[OURS][WARM:])
    making = statistics.median(turns.input_seconds[WARM:])
    growth = float(np.polyfit(range(len(resident) // 2), resident[-(len(resident) // 2) :], 1)[0])
    rows = [
        ("kerascnn.train against a train_on_batch loop, ratio of images/s", ratio(turns, BARE), ">=", 0.97),
        ("input pipeline and callbacks, fraction of the step", making / step + callbacks, "<=", 0.05),
        ("of these the callbacks and fit itself", callbacks, None, None),
        ("seconds from `kerascnn train` to its first step", statistics.median(waited), "<=", 10),
        ("resident memory, MiB more an epoch, over the second half", growth, "<=", 1.0),
    ]
    for name in (EAGER, COMPILED):
        if name in turns.seconds:
            rows.insert(1, (f"kerascnn.train against {name}, ratio of images/s", ratio(turns, name), ">=", 1.2))
    if reading:
        rows.append(("seconds from the command to the first step on FOLDER, its images read", reading, None, None))
    return [
        {
            "figure": figure,
            "value": round(value, 4),
            "target": sign and f"{sign} {limit:g}",
            "met": sign and bool(value >= limit if sign == ">=" else value <= limit),
        }
        for figure, value, sign, limit in rows
    ]


def ratio(turns, name):
    """Images a second of kerascnn.train over those of another, the median over the rounds that count."""
    pairs = list(zip(turns.seconds[name], turns.seconds[OURS], strict=True))[WARM:]
    return statistics.median(other[0] / ours[0] for other, ours in pairs)


def contenders(turns, images):
    """Images a second and seconds of every contender, without the warm-up."""
    return [
        {
            "contender": name,
            "images_per_second": round(images / statistics.median(wall for wall, _ in seconds[WARM:]), 1),
            "wall_seconds": [round(wall, 2) for wall, _ in seconds[WARM:]],
            "cpu_seconds": [round(cpu, 2) for _, cpu in seconds[WARM:]],
        }
        for name, seconds in turns.seconds.items()
    ]


def print_all(rows, measured):
    for row in rows:
        cpu, wall = (statistics.median(row[name]) for name in ("cpu_seconds", "wall_seconds"))
        print(f"{row['contender']:20} {row['images_per_second']:8.1f} images/s   CPU {cpu:.1f} s in {wall:.1f} s")
    for row in measured:
        verdict = f"(target {row['target']}: {'met' if row['met'] else 'missed'})" if row["target"] else ""
        print(f"{row['figure']:75} {row['value']:9.4f} {verdict}")


if __name__ == "__main__":
    app()
