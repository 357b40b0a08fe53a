"""What each experiment costs, in seconds and in passes of plain prediction over the same images.

    python benchmarks/experiments.py [--images 500] [--rounds 1] [--json experiments.json]

cifar_net on images of noise, with its first weights: what is computed does not depend on what was learned, but for the
solvers of the linear classifiers, which are timed on ten classes that nothing tells apart, and of one search for the
nearest among 50,000 vectors of 4,096 numbers, which is not of these images. "predict" is `model.predict`
of the same images; "passes" is the time divided by its. Figures are drawn, too. The experiments that train networks,
generalisation, architecture and pretraining, take what their trainings take, and are left out.
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from kerascnn import backends, experiments, models
from kerascnn.using.features import features

BATCH = 64
CLASSES = 10


def cases(model, images, labels):
    """{name: function} of what is timed; each computes with all the images."""
    count = len(images)
    places = np.tile([8, 8, 16, 16], (count, 1))
    other = models.cifar_net()
    keys = keras.Sequential([keras.Input((64, 64, 1)), keras.layers.Flatten(name="values"), keras.layers.Dense(2)])
    many = np.random.default_rng(1).normal(size=(50_000, 64, 64, 1)).astype("float32")
    large = np.pad(images, ((0, 0), (0, 16), (0, 16), (0, 0)), mode="wrap")
    return {
        "predict": lambda: model.predict(images, batch_size=BATCH, verbose=0),
        "invariance, 9 amounts": lambda: experiments.invariance(model, images, labels),
        "correspondence, 1 part, 10 repeats": lambda: experiments.correspondence(
            model, images, {"part": places}, ["conv4", "fc1"]
        ),
        "occlusion-trio, 13x13 places of 10 images": lambda: experiments.occlusion_trio(
            model, images[:10], labels[:10], images
        ),
        "probes, conv4, softmax": lambda: experiments.probes(
            model, images, labels, images, labels, ["conv4"], classifiers=("softmax",), strengths=(1e-2,)
        ),
        "unit-ablation, 256 channels of conv4": lambda: experiments.unit_ablation(model, images, labels, "conv4"),
        "nearest, 5 queries": lambda: experiments.nearest(model, images[:5], images, "fc1"),
        "nearest, 5 queries among 50,000 x 4,096 features": lambda: experiments.nearest(keys, many[:5], many, "values"),
        "ensemble, 2 networks": lambda: experiments.ensemble(
            {str(n): each.predict(images, batch_size=BATCH, verbose=0) for n, each in enumerate((model, other))}, labels
        ),
        "evolution, 3 epochs, 4 layers": lambda: experiments.evolution({0: other, 1: other, 2: model}, images),
        "multiscale, 32 and 48 pixels": lambda: experiments.multiscale(
            model, {32: images, 48: large}, labels, {32: images, 48: large}, labels, "fc1", strengths=(1.0,)
        ),
        "features, 32 pixels": lambda: features(model, images, "fc1"),
        "features, 32 and 48 pixels": lambda: features(model, {32: images, 48: large}, "fc1"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "experiments.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(arguments.images, 32, 32, 3)).astype("float32")
    labels = np.arange(arguments.images) % CLASSES
    functions = cases(models.cifar_net(), images, labels)
    functions["predict"]()
    result = {"machine": backends.processor(), "versions": backends.versions(), "images": arguments.images}
    result |= {"batch_size": BATCH, "load_before": os.getloadavg(), "seconds": {name: [] for name in functions}}
    for _ in range(arguments.rounds):
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            outcome = function()
            if hasattr(outcome, "figure"):
                outcome.figure()
            seconds = time.perf_counter() - wall, time.process_time() - cpu
            result["seconds"][name].append(seconds)
            print(f"  {name:50s} {seconds[0]:6.1f} s (CPU {seconds[1]:.1f})", flush=True)
    # CPU seconds, which other programs on the machine change less
    medians = {name: float(np.median(times, axis=0)[1]) for name, times in result["seconds"].items()}
    result["passes"] = {name: seconds / medians["predict"] for name, seconds in medians.items()}
    for name, passes in result["passes"].items():
        print(f"  {name:50s} {passes:6.1f} passes of predict, by CPU seconds")
    result["load_after"] = os.getloadavg()
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {arguments.json}")


if __name__ == "__main__":
    main()
