"""What each format costs and keeps: size, milliseconds an image, accuracy, and the start of `kerascnn predict`.

    python benchmarks/export.py RUN

RUN is a run whose data are at hand, so that accuracies are measured on its test images (at most --images), each as it
is, without mirrored views. Prints a table and writes benchmarks/results/export.json. Latency is the median of 200
calls with one image of the network's size, in this process; the start is the median wall and CPU seconds of five
processes that classify one file.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from kerascnn import backends, runs, using
from kerascnn.using import exporting
from kerascnn.using.formats import FORMATS, missing, module_of

RESULTS = Path(__file__).parent / "results" / "export.json"
CALLS, STARTS = 200, 5


def milliseconds(answer, pixels):
    """Median milliseconds of one call with one image (1, H, W, C)."""
    times = []
    for call in range(CALLS + 5):
        began = time.perf_counter()
        answer(pixels)
        if call >= 5:
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def start_seconds(named, image):
    """(median wall, median CPU) seconds of `kerascnn predict` with one image, from nothing to the end."""
    walls, processors = [], []
    for _ in range(STARTS):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        words = [sys.executable, "-m", "kerascnn", "predict", str(named), str(image)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - began)
        processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(walls), statistics.median(processors)


def accuracy(answer, test):
    hits = 0
    for first in range(0, len(test), 256):
        part = slice(first, first + 256)
        hits += (answer(np.asarray(test.images[part])).argmax(1) == test.labels[part]).sum()
    return float(hits / len(test))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=10_000, help="test images for the accuracies, at most")
    asked = parser.parse_args()
    run = runs.find(asked.run)
    classifier = using.subject(run)
    test = using.data_of(run).test
    test = test.take(exporting.evenly(len(test), asked.images))
    image, one = next((run / "samples").glob("*.png")), np.asarray(test.images[:1])
    model, prepared = classifier.model, classifier.preprocessing

    def keras_answer(pixels):
        return np.asarray(model.predict_on_batch(prepared(pixels)))

    def row(name, answer, size, difference, named):
        wall, processor = start_seconds(named, image) if named else (None, None)
        return {
            "format": name,
            "bytes": size,
            "difference": difference,
            "milliseconds": milliseconds(answer, one),
            "accuracy": accuracy(answer, test),
            "start_seconds": wall,
            "start_cpu_seconds": processor,
        }

    rows = [row("keras", keras_answer, (run / "best.keras").stat().st_size, 0.0, run.folder)]
    for name in FORMATS.names():
        if missing(name):
            print(f"{name}: needs {', '.join(missing(name))}", file=sys.stderr)
            continue
        exported = exporting.export(run, name)
        named = exported.path if FORMATS.facts(name)["suffix"] else None  # others are not for `kerascnn predict`
        rows.append(row(name, module_of(name).opened(exported.path), exported.num_bytes, exported.difference, named))
    for r in rows:
        start = f"{r['start_seconds']:.2f} s ({r['start_cpu_seconds']:.2f} CPU)" if r["start_seconds"] else "-"
        print(
            f"{r['format']:12} {r['bytes']:>12,} bytes  {r['milliseconds']:7.2f} ms  {100 * r['accuracy']:6.2f}%  "
            f"start {start}  differs by {r['difference']:.1g}"
        )
    packages = ("keras", "tensorflow", "ai-edge-litert", "tf2onnx", "onnxruntime")
    about = {
        "run": {key: Path(str(run.read("recipe")[key])).name for key in ("model", "data", "epochs", "seed")},
        "parameters": model.count_params(),
        "test_images": len(test),
        "processor": backends.processor(),
        "versions": {name: version(name) for name in packages},
    }
    RESULTS.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
