"""Predicted against measured peak memory of training and inference: python benchmarks/memory.py

Each measurement is a fresh process: it warms TensorFlow up with a tiny model, builds the network, and runs three
training (or prediction) steps on random images. "Live" is the peak of what TensorFlow's CPU allocator hands out in
these steps, above what it held before the network was built: the quantity that `kerascnn.anatomy.cost` predicts.
"Resident" is how far the process' peak rose, which includes what the allocator keeps of freed memory and what building
the network left behind. Writes benchmarks/results/memory.json. Needs Linux and the TensorFlow backend.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

CASES = [
    ("cifar_net", 128),
    ("cifar_net", 512),
    ("zfnet_miniplaces", 64),
    ("zfnet_miniplaces", 256),
    ("vgg11", 4),
    ("vgg11", 16),
]


def resident(field):
    """Bytes of /proc/self/status: VmRSS (resident now) or VmHWM (the most so far)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def measure(name, batch_size, mode, precision):
    """{"live_bytes", "resident_bytes"}: peak growths, in this process."""
    import keras
    import numpy as np
    import tensorflow as tf

    from kerascnn.models import MODELS

    def steps(model, images, labels):
        if mode == "training":
            model.compile("adam", "sparse_categorical_crossentropy")
        for _ in range(3):
            if mode == "training":
                model.train_on_batch(images, labels)
            else:
                model.predict_on_batch(images)

    keras.config.set_dtype_policy(precision)
    tiny = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()])
    tiny.add(keras.layers.Dense(2, activation="softmax", dtype="float32"))
    steps(tiny, np.zeros((4, 8, 8, 3), "float32"), np.zeros(4, "int32"))
    shape = MODELS.facts(name)["input_shape"]
    images = np.random.default_rng(0).random((batch_size, *shape), "float32")
    resident_before = resident("VmRSS")
    live_before = tf.config.experimental.get_memory_info("CPU:0")["current"]
    model = MODELS.get(name)()
    tf.config.experimental.reset_memory_stats("CPU:0")  # both peaks count from here
    Path("/proc/self/clear_refs").write_text("5")
    steps(model, images, np.zeros(batch_size, "int32"))
    return {
        "live_bytes": tf.config.experimental.get_memory_info("CPU:0")["peak"] - live_before,
        "resident_bytes": resident("VmHWM") - resident_before,
    }


def predict(name, batch_size, mode, precision):
    """What `kerascnn.anatomy.cost` says, in bytes."""
    from kerascnn import anatomy
    from kerascnn.models import MODELS
    from kerascnn.network import graph

    with graph.without_weights():
        model = MODELS.get(name)()
    cost = anatomy.cost(model, batch_size, precision=precision, optimizer="adam")
    return cost.training_bytes if mode == "training" else cost.inference_bytes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="one network")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--out", default=Path(__file__).parent / "results" / "memory.json", type=Path)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, batch_size, mode = options.measure
        print(json.dumps(measure(name, int(batch_size), mode, options.precision)))  # the last line
        return
    rows = []
    print(f"{'network':18} {'batch':>5} {'mode':9} {'predicted':>10} {'live':>10} {'ratio':>6} {'resident':>10}  (MB)")
    for name, batch_size in CASES:
        for mode in ("training", "inference"):
            if options.only not in (None, name):
                continue
            command = [sys.executable, __file__, "--precision", options.precision, "--measure", name, str(batch_size)]
            done = subprocess.run([*command, mode], capture_output=True, text=True, check=True)
            measured = json.loads(done.stdout.splitlines()[-1])
            predicted = predict(name, batch_size, mode, options.precision)
            row = {"network": name, "batch_size": batch_size, "mode": mode, "precision": options.precision}
            rows.append({**row, "predicted_bytes": predicted, **measured})
            live, grown = (measured[what] / 1e6 for what in ("live_bytes", "resident_bytes"))
            ratio = predicted / measured["live_bytes"]
            numbers = f"{predicted / 1e6:10.0f} {live:10.0f} {ratio:6.2f} {grown:10.0f}"
            print(f"{name:18} {batch_size:5} {mode:9} {numbers}", flush=True)
    import keras

    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    versions = {"python": platform.python_version(), "keras": keras.__version__, "backend": keras.backend.backend()}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine, "versions": versions, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
