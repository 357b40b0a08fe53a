"""Does `lr-find` suggest a good rate? Three epochs at the suggestion against a tenth and ten times of it.

    python benchmarks/lr_find.py --cifar10 cifar10/ --scenes scenes6-128/ --mnist mnist/
    python benchmarks/lr_find.py --table

Networks on some hundred images each, with SGD and Adam, over two seeds. The suggestion is better where the loss on test
images after three epochs is less than with both other rates. Each case is written to the results as it ends; those that
are in them are skipped.
"""

import itertools
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from cyclopts import App

from kerascnn import backends, datasets
from kerascnn.recipes import Recipe
from kerascnn.runs import write_json
from kerascnn.training.build import compile_model, ready
from kerascnn.training.evaluate import evaluate_split
from kerascnn.training.finders import lr_find
from kerascnn.training.prepare import precision_of

RESULTS = Path(__file__).parent / "results" / "lr_find.json"
EPOCHS, TEST_IMAGES = 3, 500
app = App(help="Train at the rate that lr-find suggests, at a tenth and at ten times of it.", help_format="plaintext")


@dataclass(frozen=True)
class Case:
    """A network on so many training images of a data set, and how it is trained."""

    model: str
    data: str
    images: int
    optimizer: str
    batch_size: int = 32
    side: int = 32
    channels: int = 3

    def __str__(self):
        return f"{self.model} on {self.images} of {self.data}, {self.optimizer}, batches of {self.batch_size}"


CASES = (
    Case("lenet5", "digits", 1000, "adam", channels=1),
    Case("lenet5", "digits", 1000, "sgd", channels=1),
    Case("rnn", "mnist", 1000, "adam", side=28, channels=1),
    Case("lenet_grey", "mnist", 1000, "sgd", side=28, channels=1),
    Case("gru", "mnist", 1000, "adam", side=28, channels=1),
    Case("tdt_lenet", "shapes", 600, "sgd"),
    Case("tdt_lenet", "cifar10", 1000, "adam"),
    Case("tdt_model2", "cifar10", 1000, "sgd"),
    Case("cifar_net", "scenes", 600, "adam", 64),
)


def images_of(case, path):
    """The ImageData of a case, with a train and a test split of a few images, every class with as many."""
    options = {"image_size": case.side, "channels": case.channels, "validation": 0}
    if case.data in ("cifar10", "scenes"):
        data = _few_files(path, case, options)
    else:
        data = datasets.load(path or case.data, **options)
    rng = np.random.default_rng(0)
    few = {"train": case.images, "test": TEST_IMAGES}
    return data.replace(
        **{name: data.splits[name].take(rng.permutation(len(data.splits[name]))[:n]) for name, n in few.items()}
    )


def _few_files(path, case, options):
    """The ImageData of the first files of each class, so that not all have to be read."""
    with tempfile.TemporaryDirectory() as folder:
        for split, count in (("train", case.images), ("test", TEST_IMAGES)):
            classes = sorted((path / split).iterdir())
            for source in classes:
                home = Path(folder) / split / source.name
                home.mkdir(parents=True)
                for file in sorted(source.iterdir())[: math.ceil(count / len(classes))]:
                    (home / file.name).write_bytes(file.read_bytes())
        return datasets.load(folder, **options)


def losses(recipe, data, rates):
    """[(loss, accuracy) on the test images after three epochs] for each rate; NaN where training diverged."""
    prepared, model, batches = ready(recipe, data, precision_of(recipe))
    compile_model(model, recipe, batches.total, batches.period)
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    first = [np.array(keras.ops.convert_to_numpy(v)) for v in variables]
    measured = []
    for rate in rates:
        for variable, value in zip(variables, first, strict=True):
            variable.assign(value)
        model.optimizer.learning_rate = rate
        for batches.epoch in range(EPOCHS):
            model.fit(backends.stream(batches), shuffle=False, verbose=0)
        result = evaluate_split(model, data.test, prepared, list(data.class_names))
        measured.append((result.loss, result.accuracy))
    return measured


def measure(case, data, seed):
    """One row of the results."""
    recipe = Recipe(
        model=case.model, optimizer=case.optimizer, batch_size=case.batch_size, seed=seed, epochs=EPOCHS,
        image_size=case.side, channels=case.channels,
    )  # fmt: skip
    recipe = recipe.replace(validation=0, monitor="loss")
    _, suggested = lr_find(recipe, data=data)
    measured = losses(recipe, data, [suggested / 10, suggested, suggested * 10])
    keras.backend.clear_session()
    lower, loss_here, higher = (loss if math.isfinite(loss) else None for loss, _ in measured)
    better = all(other is None or loss_here < other for other in (lower, higher))
    return {
        "case": str(case),
        "seed": seed,
        "suggested": suggested,
        "loss": [lower, loss_here, higher],
        "accuracy": [accuracy for _, accuracy in measured],
        "better": better,
    }


def show(rows):
    """Print the table as Markdown."""
    print(
        "| network, data | seed | suggested | loss at a tenth | at the suggestion | at ten times | better than both |"
    )
    print("|---|---:|---:|---:|---:|---:|---|")
    for row in rows:
        numbers = " | ".join("diverged" if loss is None else f"{loss:.3f}" for loss in row["loss"])
        better = "yes" if row["better"] else "no"
        print(f"| {row['case']} | {row['seed']} | {row['suggested']:.2g} | {numbers} | {better} |")
    print(f"\nBetter than both: {sum(row['better'] for row in rows)} of {len(rows)}")


@app.default
def main(
    *,
    cifar10: Path | None = None,
    scenes: Path | None = None,
    mnist: Path | None = None,
    table: bool = False,
    results: Path = RESULTS,
):
    """Measure what is not yet in the results, and print the table.

    Parameters
    ----------
    cifar10, scenes, mnist
        folders of the data; cases whose folder is not given are left out
    table
        print the results and measure nothing
    results
        JSON file
    """
    rows = json.loads(results.read_text())["rows"] if results.exists() else []
    folders = {"cifar10": cifar10, "scenes": scenes, "mnist": mnist}
    done = {(row["case"], row["seed"]) for row in rows}
    for case, seed in () if table else itertools.product(CASES, (0, 1)):
        path = folders.get(case.data)
        if (str(case), seed) in done or (case.data in folders and path is None):
            continue
        rows.append(measure(case, images_of(case, path), seed))
        print(rows[-1], flush=True)
        write_json(results, {"processor": backends.processor(), "versions": backends.versions(), "rows": rows})
    show(rows)


if __name__ == "__main__":
    app()
