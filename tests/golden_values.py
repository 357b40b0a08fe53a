"""What test_golden.py compares: maps, tables, receptive fields, one scan and three trainings, by public names only.

`python tests/golden_values.py` records them again in tests/golden/. Do so only where a fault was mended, and name the
fault in the commit.
"""

import csv
import json
import os
import platform
import re
import signal
import sys
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
from golden_networks import EXPLAINED, NAMES, network

import kerascnn
from kerascnn import anatomy, explain
from kerascnn.errors import Stopped, UsageError
from kerascnn.recipes import Recipe

FOLDER = Path(__file__).parent / "golden"
OPTIONS = {"integrated_gradients": {"steps": 4}, "smoothgrad": {"samples": 3}, "lrp": {"epsilon": 1e-2}}
TARGETS = {"grad_cam": None, "layer_cam": None}  # the top class, for which something speaks at any layer
OF_UNITS = ("saliency", "deconvnet", "guided_backprop", "lrp")
TABLE = ("macs", "activation_bytes", "parameters", "trainable", "not_trainable", "neurons", "part", "type")
MEMORY = ("weight", "gradient", "optimizer", "training", "inference")
COSTS = ("macs", "parameters", *(f"{what}_bytes" for what in MEMORY))
FIELD = ("rf_size", "rf_stride", "rf_offset")


def looks(name, methods):
    """{words: (method, target, options)}: all that is asked of a network."""
    asked = {m: (m, TARGETS.get(m, 1), OPTIONS.get(m, {})) for m in methods}
    asked["lrp alpha-beta"] = ("lrp", 1, {"epsilon": 1e-2, "alpha": 2})
    if EXPLAINED[name]:
        unit = explain.Neuron(*EXPLAINED[name])
        asked |= {f"{m} of a unit": (m, unit, OPTIONS.get(m, {})) for m in OF_UNITS}
    if name == "ties":
        del asked["integrated_gradients"]  # rounding on the way from black breaks ties, each precision its own
    if name == "two_inputs":
        del asked["occlusion"]  # of one image only
    return asked


def maps(name, dtype, methods):
    """{words: a list of maps, one for each input, or None where the method refuses the network}."""
    model, images = network(name)
    several = isinstance(images, list)
    results = {}
    for words, (method, target, options) in looks(name, methods).items():
        if method != "occlusion":  # always in float32
            options = {**options, "dtype": dtype}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is said of empty maps and missing rectifiers has tests of its own
            try:
                if several:
                    result = explain.EXPLANATIONS.get(method)(model, images, target, **options)
                else:
                    result = explain.maps(method, model, images, target, **options)
            except UsageError:
                result = None
        results[words] = result if result is None or isinstance(result, list) else [result]
    return results


def tables(name):
    """The layer table and costs of a network, as JSON would give them back."""
    model, _ = network(name)
    table = anatomy.layer_table(model)
    rows = [{column: row[column] for column in ("output_shape", *TABLE, *FIELD)} for row in table.to_dict("records")]
    cost = anatomy.cost(model, batch_size=8)
    costs = {field: getattr(cost, field) for field in COSTS}
    layers = cost.layers.drop(columns="layer").to_dict("list")
    names = [re.sub(r"(_\d+)?(#\d+)?$", "", layer) for layer in table["layer"]]  # without Keras' running numbers
    return plain({"layers": names, "rows": rows, "costs": costs, "costs of layers": layers})


def plain(value):
    """Numbers, text, lists and dicts, as JSON gives them back; NaN, which pandas writes for None, is None."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def receptive_fields(name, recorded=None):
    """{number of a layer in the table: {"row,col": box}, or None where not known} of up to 32 units of a network.

    Of a record the same units: which are drawn depends on the layers before that are known.
    """
    model, _ = network(name)
    rng = np.random.default_rng(1)
    table = anatomy.layer_table(model)
    single = (table["type"] != "InputLayer") & ~table["layer"].str.contains("#")  # no layer that is called twice
    numbers = np.flatnonzero(single)
    boxes = {}
    for number in numbers[np.unique(np.linspace(0, len(numbers) - 1, 16).astype(int))]:
        try:
            options = {"input_name": "large"} if name == "two_inputs" else {}
            field = anatomy.receptive_field(model, table["layer"][number], **options)
        except UsageError:
            boxes[str(number)] = None
            continue
        rows, cols = field.output_size or (1, 1)
        units = {(0, 0), (int(rng.integers(rows)), int(rng.integers(cols)))}
        if recorded and recorded[str(number)]:
            units = {tuple(map(int, unit.split(","))) for unit in recorded[str(number)]}
        boxes[str(number)] = {f"{row},{col}": corners(field.box(row, col)) for row, col in sorted(units)}
    return boxes


def corners(box):
    """[top, left, bottom, right] of a box, be it a tuple or a value with fields."""
    names = ("top", "left", "bottom", "right")
    return [int(getattr(box, n)) for n in names] if hasattr(box, "top") else [int(n) for n in box]


def scan():
    """One scan of 40 images of whole numbers by the network `ties`: every number in it is exact on any machine."""
    model, _ = network("ties")
    rng = np.random.default_rng(9)
    images, labels = rng.integers(0, 3, (40, 12, 12, 3)).astype("float32"), rng.integers(0, 3, 40)
    result = kerascnn.scan(model, images, None, 4, labels=labels, batch_size=16, samples=None)
    return plain(
        {
            layer: {
                "top": result.top(layer).to_dict("list"),
                "boxes": result.boxes(layer).to_dict("list"),
                "statistics": result.stats(layer).to_dict("list"),
                "selectivity": result.selectivity(layer).to_dict("list"),
                "histogram": result.histogram(layer)[0].sum(1).tolist(),
            }
            for layer in result.layers
        }
    )


class Interrupt(keras.callbacks.Callback):
    """Sends this process SIGINT during step 2 of the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, step, logs=None):
        if (self.epoch, step) == (1, 2):
            os.kill(os.getpid(), signal.SIGINT)


SHORT = {"data": "digits", "model": "lenet5", "image_size": 16, "epochs": 2, "batch_size": 256, "seed": 3}
TRAININGS = {
    "sgd": {"optimizer": "sgd", "learning_rate": 0.05, "schedule": "constant"},
    "adam": {
        "learning_rate": 0.01,
        "schedule": "one_cycle",
        "dropout": 0.3,
        "augment": ("flip", "crop", "cutout"),
        "ema": 0.9,
        "l2": 1e-4,
    },
    "resumed": {
        "optimizer": "muon",
        "learning_rate": 0.01,
        "schedule": "cosine",
        "augment": ("crop", "mixup"),
        "class_weights": "balanced",
    },
}


def training(name):
    """(rows of metrics.csv as text, weights): `resumed` is interrupted in its second epoch and resumed."""
    with tempfile.TemporaryDirectory() as folder:
        recipe, options = Recipe(**SHORT, **TRAININGS[name]), {"say": lambda line: None}
        out = Path(folder) / "run"
        if name == "resumed":
            try:
                kerascnn.train(recipe, out=out, callbacks=[Interrupt()], **options)
                raise AssertionError("The training was not interrupted.")
            except Stopped:
                run = kerascnn.train(resume=out, **options)
        else:
            run = kerascnn.train(recipe, out=out, **options)
        rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
        return rows, kerascnn.load(run).get_weights()


def machine():
    """What decides how sums are rounded: the processor and its instruction sets, threads and versions."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    facts = sorted({re.sub(r"\s+", " ", line) for line in lines if re.match(r"(model name|flags)\s", line)})
    import tensorflow

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": facts,
        "threads": int(os.environ.get("TF_NUM_INTRAOP_THREADS") or os.cpu_count()),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""),
        "versions": {"keras": keras.__version__, "tensorflow": tensorflow.__version__, "numpy": np.__version__},
    }


def record():
    """Writes tests/golden/maps.npz, values.json and weights.npz."""
    FOLDER.mkdir(exist_ok=True)
    arrays, refused = {}, {}
    for name in NAMES:
        for words, results in maps(name, "float64", explain.EXPLANATIONS.names()).items():
            if results is None:
                refused.setdefault(name, []).append(words)
            for number, result in enumerate(results or ()):
                arrays[f"{name}|{words}|{number}"] = result.astype("float32")
    np.savez_compressed(FOLDER / "maps.npz", **arrays)
    trained = {name: training(name) for name in TRAININGS}
    weights = {f"{name}|{i}": w for name, (_, ws) in trained.items() for i, w in enumerate(ws)}
    np.savez_compressed(FOLDER / "weights.npz", **weights)
    values = {
        "machine": machine(),
        "refused": refused,
        "tables": {name: tables(name) for name in NAMES},
        "receptive fields": {name: receptive_fields(name) for name in NAMES},
        "scan": scan(),
        "trainings": {name: rows for name, (rows, _) in trained.items()},
    }
    (FOLDER / "values.json").write_text(json.dumps(values, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    sys.exit(record())
