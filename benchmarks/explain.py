"""Explaining with kerascnn and with Captum: same weights, same images, same CPU, one run.

    python benchmarks/explain.py [--models cifar_net zfnet_miniplaces] [--rounds 3] [--repeats 5] [--json explain.json]

Each library runs in a process of its own, because TensorFlow's and torch's thread pools slow one another down in one;
the processes take turns, round after round, so that another load on the machine hits both. The medians over all rounds
are printed, CPU milliseconds beside them, and the machine's load is written down. Captum's occlusion runs with its
default (one square at a time) and with several `perturbations_per_eval`, of which the best counts. Needs torch and
captum; the twins come from tests/torch_twin.py.

ConvNeXt-Tiny at 64x64, whose convolutions have 96 to 768 groups, is walked on every backend besides: seconds of the
first walk, and CPU seconds of a later one over those of a forward pass. `--models` without a name measures this alone
and adds it to the file.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from kerascnn import backends, explain
from kerascnn.models import MODELS
from kerascnn.processes import num_cpus

METHODS = {"saliency": "Saliency", "guided_backprop": "GuidedBackprop", "deconvnet": "Deconvolution"}
GEOMETRY = {32: (8, 4), 96: (16, 8)}  # image side: (patch, stride)
PER_EVAL = (4, 8, 16, 32, 64)


def forward_of(model):
    """The model's compiled forward pass: function of an array."""
    if backends.backend() == "tensorflow":
        import tensorflow as tf

        function = tf.function(lambda x: model(x, training=False))
        return lambda x: function(tf.constant(x)).numpy()
    return model.predict_on_batch


def measure(functions, repeats):
    """{name: (seconds, CPU seconds) of every repeat}; the functions take turns, after two runs unmeasured."""
    times = {name: ([], []) for name in functions}
    for function in functions.values():
        function()
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            times[name][0].append(time.perf_counter() - wall)
            times[name][1].append(time.process_time() - cpu)
    return times


def ours(model, images, repeats):
    """Measurements of kerascnn on the backend that is set."""
    forward, first = forward_of(model), np.ones(len(images), int)
    functions = {"forward": lambda: forward(images)}
    for name in METHODS:
        functions[name] = lambda name=name: explain.EXPLANATIONS.get(name)(model, images, first)
    patch, stride = GEOMETRY[images.shape[1]]
    for n in (1, 8):
        functions[f"occlusion of {n}"] = lambda n=n: explain.occlusion_scores(
            model, images[:n], patch=patch, stride=stride, fill=0
        )
    times = measure(functions, repeats)
    times["memory growth, MB"] = memory_growth(model, images.shape[1])
    return times


def theirs(model, images, repeats):
    """Measurements of Captum on the model's torch twin."""
    import torch
    from captum import attr
    from torch_twin import Twin

    torch.set_num_threads(num_cpus())
    twin, tensor = Twin(model), torch.tensor(images.transpose(0, 3, 1, 2).copy())
    target = torch.ones(len(images), dtype=torch.long)

    def forward():
        with torch.no_grad():
            return twin(tensor)

    def occlusion(n, per_eval):
        windows = (3, patch, patch), (3, stride, stride)
        return attr.Occlusion(twin).attribute(
            tensor[:n], *windows, 0, target=target[:n], perturbations_per_eval=per_eval
        )

    functions = {"forward": forward}
    for name, method in METHODS.items():
        functions[name] = lambda method=method: getattr(attr, method)(twin).attribute(
            tensor.clone().requires_grad_(), target=target
        )
    patch, stride = GEOMETRY[images.shape[1]]
    functions["occlusion of 1, default"] = lambda: occlusion(1, 1)
    for n in (1, 8):
        for per_eval in PER_EVAL:
            if n * per_eval <= 128:
                functions[f"occlusion of {n}, {per_eval} per eval"] = lambda n=n, e=per_eval: occlusion(n, e)
    return measure(functions, repeats)


def grouped(repeats):
    """Seconds (wall, CPU) of the first saliency of ConvNeXt-Tiny, and CPU seconds of a later one over the forward's."""
    model = keras.applications.ConvNeXtTiny(weights=None, input_shape=(64, 64, 3), classes=10)
    images = np.random.default_rng(0).normal(size=(8, 64, 64, 3)).astype("float32")
    forward, target = forward_of(model), np.ones(len(images), int)
    forward(images)
    wall, cpu = time.perf_counter(), time.process_time()
    explain.saliency(model, images, target)
    first = time.perf_counter() - wall, time.process_time() - cpu
    functions = {"forward": lambda: forward(images), "saliency": lambda: explain.saliency(model, images, target)}
    cpu = {name: float(np.median(times[1])) for name, times in measure(functions, repeats).items()}
    return {"first walk, seconds (wall, CPU)": first, "times its forward pass": cpu["saliency"] / cpu["forward"]}


def grouped_everywhere(repeats):
    """{backend: what `grouped` gives}, each in a process of its own."""
    ratios = {}
    for backend in ("tensorflow", "jax", "torch"):
        command = [sys.executable, __file__, "--worker", "grouped", "--repeats", str(repeats)]
        environment = {**os.environ, "KERAS_BACKEND": backend}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        ratios[backend] = json.loads(done.stdout.splitlines()[-1])
        print(f"ConvNeXt-Tiny at 64x64, {backend}: {ratios[backend]}")
    return ratios


def memory_growth(model, side):
    """MB by which the process' peak grows from hundreds of hidden squares to four times as many."""
    images, (patch, stride) = np.zeros((1, side, side, 3), "float32"), GEOMETRY[side]
    explain.occlusion_scores(model, images, patch=patch, stride=stride // 4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    explain.occlusion_scores(model, np.repeat(images, 4, 0), patch=patch, stride=stride // 4)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def worker(library, name, weights, repeats):
    """One library's measurements of one network, printed as JSON."""
    import warnings

    warnings.simplefilter("ignore")
    model = MODELS.get(name)()
    if not weights.exists():
        np.savez(weights, *model.get_weights())
    with np.load(weights) as saved:
        model.set_weights([saved[f"arr_{i}"] for i in range(len(saved.files))])
    images = np.random.default_rng(0).normal(size=(64, *model.input_shape[1:])).astype("float32")
    print(json.dumps((ours if library == "kerascnn" else theirs)(model, images, repeats)))


def rounds_of(name, rounds, repeats):
    """{library: {measurement: (median seconds, median CPU seconds)}} over all rounds, and the memory growth."""
    pooled = {"kerascnn": {}, "captum": {}}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for library, backend in (("kerascnn", keras.backend.backend()), ("captum", "torch")):
                command = [sys.executable, __file__, "--worker", library, "--models", name]
                command += ["--weights", f"{folder}/weights.npz", "--repeats", str(repeats)]
                environment = {**os.environ, "KERAS_BACKEND": backend}
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(done.stderr[-3000:])
                for what, times in json.loads(done.stdout.splitlines()[-1]).items():
                    pooled[library].setdefault(what, []).append(times)
    growth = max(pooled["kerascnn"].pop("memory growth, MB"))
    medians = {}
    for library, table in pooled.items():
        medians[library] = {
            what: tuple(float(np.median(np.concatenate([t[i] for t in times]))) for i in (0, 1))
            for what, times in table.items()
        }
    return medians, growth


def ratios_of(medians, growth):
    """The numbers that the requirements are about."""
    mine, captum = medians["kerascnn"], medians["captum"]
    ratios = {"occlusion, MB more for four times the squares": growth}
    for name in METHODS:
        ratios[f"{name}, times its forward pass"] = mine[name][0] / mine["forward"][0]
        ratios[f"{name}, times as fast as Captum"] = captum[name][0] / mine[name][0]
    for n in (1, 8):
        best = min(t for what, (t, _) in captum.items() if what.startswith(f"occlusion of {n}, ") and "per" in what)
        ratios[f"occlusion of {n}, times as fast as Captum's best"] = best / mine[f"occlusion of {n}"][0]
    default = captum["occlusion of 1, default"][0]
    ratios["occlusion of 1, times as fast as Captum's default"] = default / mine["occlusion of 1"][0]
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["cifar_net", "zfnet_miniplaces"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "explain.json")
    parser.add_argument("--worker", choices=("kerascnn", "captum", "grouped"), help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker == "grouped":
        print(json.dumps(grouped(arguments.repeats)))
        return
    if arguments.worker:
        worker(arguments.worker, arguments.models[0], arguments.weights, arguments.repeats)
        return
    from importlib.metadata import version

    versions = {**backends.versions(), "torch": version("torch"), "captum": version("captum")}
    result = {"machine": backends.processor(), "versions": versions, "batch_size": 64, "models": {}}
    result |= {"rounds": arguments.rounds, "repeats": arguments.repeats, "load_before": os.getloadavg()}
    print(f"{result['machine']}; {', '.join(f'{k} {v}' for k, v in versions.items())}; load {os.getloadavg()}")
    for name in arguments.models:
        medians, growth = rounds_of(name, arguments.rounds, arguments.repeats)
        print(f"\n{name}, batch of 64, median ms of {arguments.rounds} x {arguments.repeats} (CPU ms)")
        for library, table in medians.items():
            for what, (wall, cpu) in table.items():
                print(f"  {library:9s} {what:30s} {1e3 * wall:8.1f} ({1e3 * cpu:.0f})")
        ratios = ratios_of(medians, growth)
        for what, number in ratios.items():
            print(f"  {what:60s} {number:.2f}")
        result["models"][name] = {"seconds": medians, "ratios": ratios}
    if not arguments.models:
        result = json.loads(arguments.json.read_text())
    result["grouped convolutions"] = grouped_everywhere(arguments.repeats) | {"load": os.getloadavg()}
    result["load_after"] = os.getloadavg() if arguments.models else result["load_after"]
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwritten: {arguments.json}")


if __name__ == "__main__":
    main()
