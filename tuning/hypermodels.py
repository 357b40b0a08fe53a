"""KerasTuner's HyperModel, or its `build(hp)` alone, as a search: that makes the network, `fit` trains it on the data.

What it builds is no recipe, so such a trial begins anew after a kill, and its winner comes without a TOML file.
"""

import keras
import numpy as np

from kerascnn import runs
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.errors import UsageError
from kerascnn.recipes import Recipe
from kerascnn.training.prepare import described, write_samples
from kerascnn.training.reading import check_counts, load_data
from tuning.stopping import direction_of


class HyperModelSpace:
    """A space whose networks come from a HyperModel.

    Args:
        hypermodel: keras_tuner.HyperModel whose build asks for every hyperparameter.
        path: the Python file that holds its class.
    """

    def __init__(self, hypermodel, path):
        self.hypermodel, self.path = hypermodel, str(path)

    def __call__(self, hp):
        model = self.hypermodel.build(hp)
        if not isinstance(model, keras.Model):
            raise UsageError(
                f"The build of {self.path} returns {type(model).__name__}, but it must return a keras.Model."
            )
        return Recipe()


def fit(space, values, recipe, folder, report):
    """Build and fit one trial's network; returns its Run.

    The images come as float32 (N, H, W, C) with the recipe's size and normalisation, the labels as numbers (one-hot
    float32 where the model was compiled with categorical_crossentropy), as KerasTuner would hand them on:
    `hypermodel.fit(hp, model, images, labels, validation_data=, epochs=, callbacks=)`.

    Args:
        space: HyperModelSpace.
        values: dict, the trial's hyperparameters.
        recipe: Recipe, of which data, image_size, resize_to, channels, validation, test, normalize, epochs, monitor and
            seed count.
        folder: the run folder, new.
        report: keras.callbacks.Callback that reports each epoch.
    """
    import keras_tuner

    keras.utils.set_random_seed(recipe.seed)
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    model = space.hypermodel.build(hp)
    size = tuple(model.input_shape[1:3]) if model.built else None
    recipe = recipe.replace(image_size=recipe.image_size or (size[0] if size and size[0] else None))
    data = load_data(recipe)
    counts = {name: len(split) for name, split in data.splits.items()}
    check_counts(recipe.replace(batch_size=1), data.source, counts)  # the HyperModel has its own batch size
    prepared = Preprocessing.fit(data.train.images, image_size=data.train.images.shape[1:3], normalize=recipe.normalize)
    run = runs.create(folder, model="hypermodel", data=data.name)
    run.write("recipe", recipe.to_dict())
    run.write("data", described(data, prepared))
    run.write("labels", list(data.class_names))
    run.update(status="running", hypermodel=space.path, hyperparameters=values)
    write_samples(run, data)
    best = keras.callbacks.ModelCheckpoint(
        str(run / "best.keras"), monitor=recipe.monitor, mode=direction_of(recipe.monitor), save_best_only=True
    )
    table = keras.callbacks.CSVLogger(str(run / "metrics.csv"))
    (images, labels), held_out = (
        (prepared(np.asarray(split.images[:])), _labels(model, split.labels, len(data.class_names))) if split else None
        for split in (data.train, data.validation)
    )
    space.hypermodel.fit(
        hp,
        model,
        images,
        labels,
        validation_data=held_out,
        epochs=recipe.epochs,
        verbose=0,
        callbacks=[best, table, keras.callbacks.TerminateOnNaN(raise_error=True), report],
    )
    run.update(status="finished", result={})
    return run


def _labels(model, labels, num_classes):
    """Labels as a compiled model's loss wants them."""
    loss = getattr(model, "loss", None)
    name = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", ""))
    return np.eye(num_classes, dtype="float32")[labels] if name == "categorical_crossentropy" else labels
