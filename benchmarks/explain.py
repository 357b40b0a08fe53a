"""Explaining with kerascnn and with Captum: same weights, same images, same CPU, one run.

    python benchmarks/explain.py [--models cifar_net zfnet_miniplaces] [--repeats 9] [--json explain.json]

The two libraries take turns within every repeat, so that another load on the machine hits both; medians are printed,
CPU seconds beside them. Captum's occlusion runs with its default (one square at a time) and with each of several
`perturbations_per_eval`, of which the best counts. Needs torch and captum; the twins come from tests/torch_twin.py.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import captum
import keras
import numpy as np
import torch
from captum import attr

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from torch_twin import Twin

from kerascnn import backends, explain
from kerascnn.models import MODELS

GEOMETRY = {32: (8, 4), 96: (16, 8)}
PER_EVAL = (4, 8, 16, 32, 64)


def forward_of(model):
    """The model's compiled forward pass, as fast as its backend runs it: function of an array."""
    if backends.backend() == "tensorflow":
        import tensorflow as tf

        function = tf.function(lambda x: model(x, training=False))
        return lambda x: function(tf.constant(x)).numpy()
    return lambda x: keras.ops.convert_to_numpy(model.predict_on_batch(x))


def measure(functions, repeats):
    """{name: (median seconds, median CPU seconds)}; every function runs once per repeat, after two runs unmeasured."""
    for function in functions.values():
        function(), function()
    wall, cpu = {n: [] for n in functions}, {n: [] for n in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            w, c = time.perf_counter(), time.process_time()
            function()
            wall[name].append(time.perf_counter() - w)
            cpu[name].append(time.process_time() - c)
    return {n: (float(np.median(wall[n])), float(np.median(cpu[n]))) for n in functions}


def walks(model, twin, images, repeats):
    first, tensor = np.ones(len(images), int), torch.tensor(images.transpose(0, 3, 1, 2).copy())
    target, forward = torch.ones(len(images), dtype=torch.long), forward_of(model)
    methods = {"saliency": attr.Saliency, "guided_backprop": attr.GuidedBackprop, "deconvnet": attr.Deconvolution}
    functions = {"forward": lambda: forward(images), "torch forward": lambda: _torch_forward(twin, tensor)}
    for name, theirs in methods.items():
        functions[name] = lambda name=name: explain.EXPLANATIONS.get(name)(model, images, first)
        functions[f"captum {name}"] = lambda theirs=theirs: theirs(twin).attribute(
            tensor.clone().requires_grad_(), target=target
        )
    return measure(functions, repeats)


def _torch_forward(twin, tensor):
    with torch.no_grad():
        return twin(tensor)


def hiding(model, twin, images, repeats):
    patch, stride = GEOMETRY[images.shape[1]]
    tensor, target = torch.tensor(images.transpose(0, 3, 1, 2).copy()), torch.ones(len(images), dtype=torch.long)
    windows = (3, patch, patch), (3, stride, stride)

    def captum_occlusion(n):
        return attr.Occlusion(twin).attribute(tensor, *windows, 0, target=target, perturbations_per_eval=n)

    functions = {"occlusion": lambda: explain.occlusion(model, images, patch=patch, stride=stride, fill=0)}
    if len(images) == 1:
        functions["captum default"] = lambda: captum_occlusion(1)
    for n in PER_EVAL:
        if n * len(images) <= 128:
            functions[f"captum {n} per eval"] = lambda n=n: captum_occlusion(n)
    return measure(functions, repeats)


def memory_growth(model, side):
    """MB by which the process' peak grows when a hidden square takes four times as many positions."""
    images, (patch, stride) = np.zeros((1, side, side, 3), "float32"), GEOMETRY[side]
    explain.occlusion(model, images, patch=patch, stride=stride // 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    explain.occlusion(model, images, patch=patch, stride=stride // 4)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def report(name, found, repeats):
    """Prints one network's table; returns the ratios that the requirements are about."""
    table, ratios = found["walks"], {}
    print(f"\n{name}, batch of 64, medians of {repeats}, ms (CPU ms)")
    for row, (wall, cpu) in table.items():
        print(f"  {row:26s} {1e3 * wall:8.1f} ({1e3 * cpu:.0f})")
    for method in ("saliency", "guided_backprop", "deconvnet"):
        ratios[method] = {
            "over_forward": table[method][0] / table["forward"][0],
            "times_as_fast_as_captum": table[f"captum {method}"][0] / table[method][0],
        }
    for count in ("occlusion_1", "occlusion_8"):
        table = found[count]
        print(f"{name}, {count.replace('_', ' of ')} image(s)")
        for row, (wall, cpu) in table.items():
            print(f"  {row:26s} {1e3 * wall:8.1f} ({1e3 * cpu:.0f})")
        best = min(wall for row, (wall, _) in table.items() if row.startswith("captum") and "default" not in row)
        ratios[count] = {"times_as_fast_as_captum_best": best / table["occlusion"][0]}
        if "captum default" in table:
            ratios[count]["times_as_fast_as_captum_default"] = table["captum default"][0] / table["occlusion"][0]
    ratios["occlusion_memory_growth_mb"] = found["memory_growth_mb"]
    for what, numbers in ratios.items():
        print(f"  {what}: {numbers}")
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["cifar_net", "zfnet_miniplaces"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path, default=Path("explain.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(backends.usable_cores())
    versions = {**backends.versions(), "torch": torch.__version__, "captum": captum.__version__}
    result = {"machine": backends.processor(), "versions": versions, "repeats": arguments.repeats, "models": {}}
    print(f"{result['machine']}; {', '.join(f'{k} {v}' for k, v in versions.items())}")
    for name in arguments.models:
        keras.utils.set_random_seed(0)
        model = MODELS.get(name)()
        twin = Twin(model)
        images = np.random.default_rng(0).normal(size=(64, *model.input_shape[1:])).astype("float32")
        found = {
            "walks": walks(model, twin, images, arguments.repeats),
            "occlusion_1": hiding(model, twin, images[:1], arguments.repeats),
            "occlusion_8": hiding(model, twin, images[:8], max(3, arguments.repeats // 3)),
            "memory_growth_mb": memory_growth(model, images.shape[1]),
        }
        result["models"][name] = {"seconds": found, "ratios": report(name, found, arguments.repeats)}
    arguments.json.write_text(json.dumps(result, indent=1))
    print(f"\nwritten: {arguments.json}")


if __name__ == "__main__":
    main()
