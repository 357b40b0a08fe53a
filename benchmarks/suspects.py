"""How many wrong labels `kerascnn suspects --cross` finds: 5% of the labels of CIFAR-10 images are changed at random.

    python benchmarks/suspects.py CIFAR10_FOLDER --images 5000 --folds 2 --epochs 12

Trains a network on the changed labels and one for each fold, ranks all images, and prints precision and recall of the
suspected ones and of the 5% at the top. Writes benchmarks/results/suspects.json; rows of other settings stay.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import kerascnn
from kerascnn import backends, using
from kerascnn.recipes import RECIPES

RESULTS = Path(__file__).parent / "results" / "suspects.json"
SHARE = 0.05


def changed_labels(labels, num_classes, seed=0):
    """(labels of which 5% are another class's, bool of which those are)."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(labels), round(SHARE * len(labels)), replace=False)
    wrong = labels.copy()
    wrong[rows] = (wrong[rows] + rng.integers(1, num_classes, len(rows))) % num_classes
    return wrong, wrong != labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--recipe", default="cifar-net-88")
    typed = parser.parse_args()
    data = kerascnn.datasets.load(typed.data, validation=0)
    rows = np.unique(np.linspace(0, len(data.train) - 1, typed.images).astype(int))
    images, true = np.asarray(data.train.images[rows]), data.train.labels[rows]
    given, wrong = changed_labels(true, len(data.class_names))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "changed.npz"
        np.savez(path, x_train=images, y_train=given, class_names=np.array(data.class_names))
        recipe = RECIPES.get(typed.recipe)().replace(data=str(path), epochs=typed.epochs, validation=0.1, test=0.1)
        run = kerascnn.train(recipe, out=Path(folder) / "run")
        order = _order(run, given)
        table = using.cross_suspects(run, typed.folds)
    suspected = np.zeros(len(given), bool)
    suspected[order[table["image"][table["suspected"]]]] = True
    top = order[table["image"][: round(SHARE * len(given))]]
    row = {
        "images": len(given),
        "changed": int(wrong.sum()),
        "recipe": f"{typed.recipe}, {typed.epochs} epochs, {typed.folds} folds",
        "suspected": int(suspected.sum()),
        "precision": round(float(wrong[suspected].mean()), 4),
        "recall": round(float(suspected[wrong].mean()), 4),
        "precision_of_top_5_pct": round(float(wrong[top].mean()), 4),
        "recall_of_top_5_pct": round(float(wrong[top].sum() / wrong.sum()), 4),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "processor": backends.processor(),
    }
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    rows = [known for known in rows if (known["images"], known["recipe"]) != (row["images"], row["recipe"])]
    RESULTS.write_text(json.dumps([*rows, row], indent=2) + "\n")
    for name, value in row.items():
        print(f"{name:23} {value}")


def _order(run, given):
    """int (N,): the row in `given` of each image in the order in which `cross_suspects` numbers them."""
    splits = using.data_of(run).splits.values()
    whole = np.load(run.read("recipe")["data"])["x_train"]
    known = {image.tobytes(): row for row, image in enumerate(whole)}
    return np.array([known[image.tobytes()] for split in splits for image in split.images[:]])


if __name__ == "__main__":
    main()
