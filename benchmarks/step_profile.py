"""Where the time of a training step goes: the operations of TensorFlow, by their kind.

    python benchmarks/step_profile.py [--recipes cifar-net-88 cifar-94] [--steps 20]

Each recipe's network is compiled as for training and steps over noise images of the recipe's batch and size, with
TensorFlow's profiler on. What is counted are the seconds that each kind of operation spends in its kernel on one of the
processors, also where several run at once, so that the shares are of work, not of the clock. Beside it stand the
seconds of a step by the clock, the multiply-accumulates of the network's convolutions and dense layers (three times
those of an answer), and the speed at which this machine multiplies two matrices in the same precision: the share of the
peak is the speed of a step as a part of that. Measure on a machine that does nothing else.
"""

import collections
import re
import tempfile
import time
from pathlib import Path

import numpy as np
from cyclopts import App

from kerascnn.recipes import RECIPES
from kerascnn.runs import write_json

RESULTS = Path(__file__).parent / "results" / "step_profile.json"
WARM = 5  # steps before the profiler is on
SIDE, PRODUCTS = 2048, 8  # of the matrices that are multiplied
CONTAINERS = ("StatefulPartitionedCall", "PartitionedCall", "While", "If", "Case")  # they hold the others
OPERATION = re.compile(r"[^:#]+:(\w+)(?:#|$)")  # "the name of an operation:its kind"
app = App(help="Profile a training step.", help_format="plaintext")


@app.default
def main(*, recipes: tuple[str, ...] = ("cifar-net-88", "cifar-94"), steps: int = 20, results: Path = RESULTS):
    """Measure, print and write.

    Parameters
    ----------
    recipes
        named recipes whose steps are measured
    steps
        steps under the profiler
    results
        JSON file
    """
    told = {}
    for name in recipes:
        told[name] = of_recipe(name, steps)
        print(f"{name}: {told[name]['ms_a_step']:.0f} ms a step, {told[name]['images_a_second']:.0f} images a second")
        print(f"  {told[name]['tflops']:.3f} TFLOP/s, {told[name]['share_of_peak']:.0%} of a product of matrices")
        for kind, share in list(told[name]["shares"].items())[:8]:
            print(f"  {share:6.1%}  {kind}")
    write_json(results, told)


def of_recipe(name, steps):
    """What a recipe's training steps cost: see the top of this file."""
    from kerascnn import backends
    from kerascnn.network.cost import cost
    from kerascnn.training.build import compile_model, ready
    from kerascnn.training.prepare import precision_of
    from kerascnn.training.reading import load_data

    recipe = RECIPES.get(name)()
    with tempfile.TemporaryDirectory() as scratch:
        recipe = recipe.replace(data=str(_noise(Path(scratch), recipe, steps)), validation=10, test=10, classes=None)
        data = load_data(recipe)
        precision = precision_of(recipe)
        _, model, batches = ready(recipe, data, precision)
        compile_model(model, recipe, batches.total, batches.period)
        parts = [batches[number][:2] for number in range(steps + WARM)]
        for part in parts[:WARM]:
            model.train_on_batch(*part)
        seconds, kernels = profiled(model, parts[WARM:], Path(scratch))
    flops = 6 * cost(model).macs * recipe.batch_size  # two an answer, four for the gradients
    peak = matrix_speed("bfloat16" if precision == "mixed_bfloat16" else "float32")
    total = sum(kernels.values())
    return {
        "processor": backends.processor(),
        "versions": backends.versions(),
        "precision": precision,
        "batch": recipe.batch_size,
        "steps": steps,
        "ms_a_step": 1000 * seconds / steps,
        "images_a_second": recipe.batch_size * steps / seconds,
        "tflops": flops * steps / seconds / 1e12,
        "peak_tflops": peak / 1e12,
        "share_of_peak": flops * steps / seconds / peak,
        "kernel_seconds_a_step": total / steps,
        "shares": {kind: round(spent / total, 4) for kind, spent in kernels.most_common() if spent > total / 1000},
    }


def _noise(folder, recipe, steps):
    """The path of an .npz file of noise: images enough for the steps of a recipe."""
    rng, count = np.random.default_rng(0), recipe.batch_size * (steps + WARM)
    side, channels = recipe.image_size or 32, recipe.channels or 3
    images = rng.integers(0, 256, (count + 20, side, side, channels), np.uint8)
    np.savez(folder / "noise.npz", images=images, labels=np.arange(count + 20) % 10)
    return folder / "noise.npz"


def profiled(model, parts, folder):
    """(seconds of training steps by the clock, Counter of the seconds of each kind of operation) with the profiler."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    began = time.perf_counter()
    for part in parts:
        model.train_on_batch(*part)
    seconds = time.perf_counter() - began
    tf.profiler.experimental.start(str(folder))
    for part in parts:
        model.train_on_batch(*part)
    tf.profiler.experimental.stop()
    kernels = collections.Counter()
    for path in folder.rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace()
        space.ParseFromString(path.read_bytes())
        for plane in space.planes:
            if not plane.name.startswith("/host:CPU"):
                continue
            for line in plane.lines:
                for event in line.events:
                    found = OPERATION.match(plane.event_metadata[event.metadata_id].name)
                    if found and not found[1].startswith(CONTAINERS):
                        kernels[found[1]] += event.duration_ps / 1e12
    return seconds, kernels


def matrix_speed(dtype):
    """Multiplications and additions a second in products of large matrices, the best of three tries."""
    import tensorflow as tf

    a, b = (tf.cast(tf.random.normal((SIDE, SIDE)), dtype) for _ in range(2))
    times = []
    for _ in range(4):
        began = time.perf_counter()
        for _ in range(PRODUCTS):
            product = tf.matmul(a, b)
        product.numpy()
        times.append(time.perf_counter() - began)
    return 2 * SIDE**3 * PRODUCTS / min(times[1:])


if __name__ == "__main__":
    app()
