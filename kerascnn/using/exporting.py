"""Write a trained network in a format of `kerascnn.using.formats`, load it again, compare, and write its model card."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerascnn import backends, runs
from kerascnn.datasets.decoding import read_image
from kerascnn.errors import DataError, UsageError, counted
from kerascnn.explain.answers import class_probabilities
from kerascnn.layers import give_weights
from kerascnn.network import graph
from kerascnn.processes import python_module
from kerascnn.using import model_card, reloading
from kerascnn.using.classifier import Classifier, subject
from kerascnn.using.formats import FORMATS, check_installed, module_of
from kerascnn.using.run_data import data_of

TOLERANCE = 1e-4  # largest difference of a probability between an export and the Keras model that is accepted
MOST_LOST = 0.005  # of the accuracy, by an export in 8 bits,
LEAST_TESTED = 1000  # on so many test images or more, of which it is five
LEAST_EQUAL = 0.98  # of the compared images, whose class an export in 8 bits must keep
MOST_COMPARED = 100  # images, for probabilities
MOST_CLASSIFIED = 1000  # images, for classes: whether 98 of 100 agree is chance among 100
MOST_CALIBRATED = 500  # training images
MOST_TESTED = 10_000  # test images


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        path: the file, or the folder of a SavedModel.
        card: its model card, a Markdown file beside it.
        format: the format's name.
        images, kind: how many images were compared, and what they are ("test images").
        difference: the largest difference between probabilities of the file and of the Keras model.
        same: the fraction of the images whose most probable class is the same.
        num_bytes: of the file, or of the folder's files together.
        sha256: of the file; of a folder, of its files' names and contents in order.
        tested: (test images, the Keras model's accuracy on them, the file's) where it computes in 8 bits, or None.
    """

    path: Path
    card: Path
    format: str
    images: int
    kind: str
    difference: float
    same: float
    num_bytes: int
    sha256: str
    tested: tuple | None = None

    @property
    def agreement(self):
        """A sentence about how well it agrees with the Keras model."""
        what = f"{counted(self.images, self.kind[:-1], self.kind)}"
        if FORMATS.facts(self.format)["exact"]:
            return f"probabilities differ by at most {self.difference:.1g} on {what}"
        text = (
            f"the same class for {round(self.same * self.images)} of {what}, probabilities differ by at most "
            f"{self.difference:.1g}"
        )
        if self.tested is None:
            return text
        count, before, after = self.tested
        return (
            f"{text}; accuracy {100 * after:.2f}% on {count:,} test images, {100 * (before - after):.2f} points less "
            f"than the network's {100 * before:.2f}%"
        )


def export(named, format="saved-model", *, data=None, fresh=True):
    """Write a network in a format into export/, load the file again, compare it with the Keras model, write its card.

    Args:
        named: a Run, its folder, its name or "last"; or whatever `kerascnn.using.subject` takes, for which it is
            written into a folder named after the model.
        format: a name in `kerascnn.using.formats.FORMATS`.
        data: a data set's name or a path, with images to compare and to calibrate on; None: the run's own, and for
            other networks images of noise.
        fresh: True loads the file in a fresh process and compares up to 100 images (in 8 bits 1,000). False does it
            here, with a run's samples only, which saves the start of a process and the reading of the data.
    Returns:
        Exported.
    Raises:
        UsageError: no such format, or one that is calibrated on images and there are none.
        DataError: the folder may not be written, a package is missing, the format cannot express a layer, or the
            answers differ by more than 1e-4 (in 8 bits: in the class of more than 2 images of 100, of up to 1,000).
    """
    title = FORMATS.facts(format)["title"]
    if isinstance(named, (str, Path)) and runs.is_run(named):
        named = runs.find(named)
    if isinstance(named, runs.Run):
        runs.check_writable(named / "export")
    check_installed(format)
    if backends.backend() == "tensorflow":
        classifier = subject(named)
        runs.check_writable(classifier.folder / "export")
        return _export(classifier, format, data, fresh)
    run = named.run if isinstance(named, Classifier) else runs.as_run(named)
    if run is None:
        raise DataError(
            f"{named.name} is not a run, so TensorFlow must write it in another format: set KERAS_BACKEND=tensorflow"
        )
    if not tensorflow_installed():
        raise DataError(
            f"{title} can only be written where TensorFlow is installed; best.keras holds the network. "
            "Type: pip install tensorflow"
        )
    return _with_tensorflow(run, format, data, fresh)


def tensorflow_installed():
    """True if networks can be exported here."""
    return importlib.util.find_spec("tensorflow") is not None


def _export(classifier, name, data, fresh):
    facts, write = FORMATS.facts(name), FORMATS.get(name)
    if facts["float32"]:
        classifier = in_float32(classifier)
    seen = _images(classifier, name, data, fresh)
    path = classifier.folder / "export" / facts["file"]
    with runs.replacing(path) as temporary:
        write(classifier, temporary, seen.calibration)
        answers = reloading.answers(name, temporary, seen.pixels, fresh=fresh)
        expected = _expected(classifier, seen.pixels)
        difference = float(np.abs(answers - expected).max())
        same = float((answers.argmax(1) == expected.argmax(1)).mean())
        _check(classifier, facts, difference, same, seen)
        tested = None if facts["exact"] or seen.test is None else _accuracies(classifier, name, temporary, seen.test)
        _check_accuracy(classifier, facts, tested)
    num_bytes, sha256 = model_card.size_and_hash(path)
    card = path.with_name(f"{path.name}.md")
    exported = Exported(path, card, name, len(seen.pixels), seen.kind, difference, same, num_bytes, sha256, tested)
    runs.write_text(card, model_card.text(classifier, exported))
    return exported


def in_float32(classifier):
    """The Classifier, as it is or with a copy of its network that computes in float32 where it mixes precisions."""
    model = classifier.model
    try:
        nodes = graph.flatten(model).nodes
    except UsageError:  # a model without a graph
        return classifier
    if all(getattr(node.operation, "compute_dtype", "float32") == "float32" for node in nodes):
        return classifier

    def plain(value):
        if isinstance(value, dict):
            return {key: "float32" if key == "dtype" and value[key] else plain(value[key]) for key in value}
        return list(map(plain, value)) if isinstance(value, list) else value

    copy = type(model).from_config(plain(model.get_config()))
    give_weights(copy, model.get_weights())
    note = "The network mixes precisions; this file computes in float32, and was compared with the network in float32."
    return dataclasses.replace(classifier, model=copy, notes=(*classifier.notes, note))


def _expected(classifier, pixels):
    model = classifier.model
    return class_probabilities(model, np.asarray(model.predict(classifier.preprocessing(pixels), verbose=0)))


def _check(classifier, facts, difference, same, seen):
    """Raise a DataError if an export does not answer as the network does."""
    if facts["exact"] and not difference <= TOLERANCE:
        raise DataError(
            f"{facts['title']} of {classifier.name} answers differently from the network, by {difference:g} in a "
            "probability. It was not kept."
        )
    if not facts["exact"] and not same >= LEAST_EQUAL:
        raise DataError(
            f"{facts['title']} of {classifier.name} finds another class than the network in "
            f"{round((1 - same) * len(seen.pixels))} of {counted(len(seen.pixels), seen.kind[:-1], seen.kind)}; "
            f"{100 * (1 - LEAST_EQUAL):.0f} of 100 are allowed. It was not kept."
        )


def _check_accuracy(classifier, facts, tested):
    """Raise a DataError if an export is right for too few test images; `tested` is as of `_accuracies`, or None."""
    images, before, after = tested or (0, 0, 0)
    if images >= LEAST_TESTED and round((before - after) * images) > MOST_LOST * images:
        raise DataError(
            f"{facts['title']} of {classifier.name} is right for {after:.2%} of {images:,} test images, the network "
            f"for {before:.2%}: at most {100 * MOST_LOST:g} points may be lost. It was not kept."
        )


def _accuracies(classifier, name, path, test):
    """(images, accuracy of the Keras model, accuracy of a file) on a test split, on each image as it is."""
    test = test.take(evenly(len(test), MOST_TESTED))
    answer, hits = module_of(name).opened(path), np.zeros(2)
    for first in range(0, len(test), 256):
        part = slice(first, first + 256)
        pixels, labels = np.asarray(test.images[part]), test.labels[part]
        for i, answers in enumerate((_expected(classifier, pixels), answer(pixels))):
            hits[i] += (answers.argmax(1) == labels).sum()
    return len(test), *map(float, hits / len(test))


def evenly(count, most):
    """int array of at most `most` evenly spaced places among `count`."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


@dataclass(frozen=True, eq=False)
class _Images:
    """Images uint8 (N, *resize_to, C) to compare, what they are, images to calibrate on, and the test Split."""

    pixels: np.ndarray
    kind: str
    calibration: np.ndarray | None = None
    test: object = None


def _images(classifier, name, data, fresh):
    calibrated = FORMATS.facts(name)["calibrated"]
    if classifier.run is None and data is None:
        if calibrated:
            raise UsageError(
                f"format={name} is calibrated on training images, and {classifier.name} has no data of its own. Name a "
                "data set or a folder: data=PATH"
            )
        return _Images(_noise(classifier.preprocessing), "images of noise")
    if not fresh and not calibrated:
        return samples(classifier)
    try:
        loaded = data_of(classifier, data)
    except (DataError, UsageError):  # moved or changed: the samples in the run are still there
        if calibrated or data is not None:
            raise
        return samples(classifier)
    test = loaded.test if data is None else None
    train, compared = loaded.train or loaded.test, loaded.test or loaded.train
    most = MOST_COMPARED if FORMATS.facts(name)["exact"] else MOST_CLASSIFIED
    pixels = np.asarray(compared.images[evenly(len(compared), most)])
    calibration = np.asarray(train.images[evenly(len(train), MOST_CALIBRATED)]) if calibrated else None
    return _Images(pixels, "images" if test is None else "test images", calibration, test)


def samples(classifier):
    """A run's own samples, test images at the size that images are brought to."""
    prepared = classifier.preprocessing
    paths = sorted((classifier.run / "samples").glob("*.png")) if classifier.run else ()
    if not paths:
        return _Images(_noise(prepared), "images of noise")
    return _Images(np.stack([read_image(p, prepared.resize_to, prepared.channels) for p in paths]), "sample images")


def _noise(prepared):
    """uint8 (4, *resize_to, C): noise in squares of 1, 2, 4 and 8 pixels."""
    rng, shape = np.random.default_rng(0), (*prepared.resize_to, prepared.channels)
    fine = rng.integers(0, 256, (4, *shape), "uint8")
    return np.stack([
        pixels.repeat(side, 0).repeat(side, 1)[: shape[0], : shape[1]]
        for pixels, side in zip(fine, (1, 2, 4, 8), strict=True)
    ])  # fmt: skip


def _with_tensorflow(run, name, data, fresh):
    """`export` of a run in a process whose backend is TensorFlow."""
    asked = json.dumps([str(run.folder), name, data and str(data), fresh])
    with open(run / "native.log", "ab") as log:
        done = subprocess.run(
            [*python_module("kerascnn.using.exporting"), asked],
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=False,
        )
    if done.returncode:
        raise DataError(f"{FORMATS.facts(name)['title']} could not be written; see {run / 'native.log'}")
    told = json.loads(done.stdout.splitlines()[-1])
    if "error" in told:
        raise DataError(told["error"])
    return Exported(**{**told, "path": Path(told["path"]), "card": Path(told["card"])})


def _main(asked):
    folder, name, data, fresh = json.loads(asked)
    try:
        exported = export(runs.Run(folder), name, data=data, fresh=fresh)
    except (DataError, UsageError) as error:
        print(json.dumps({"error": str(error)}))
    else:
        print(json.dumps(dataclasses.asdict(exported), default=str))


if __name__ == "__main__":
    _main(sys.argv[1])
