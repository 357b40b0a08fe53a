"""A run as a SavedModel that carries its preprocessing and labels, for plain TensorFlow without this package.

It has two endpoints. Each returns {"probabilities": float32 (N, num_classes), "label": string (N,)}:

    serve         uint8 images (N, height, width, channels) of any size
    serve_bytes   strings (N,), the contents of JPEG, PNG, BMP or GIF files

`classes()` of the loaded object gives the class names, in the order of the probabilities.
"""

import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from kerascnn import backends, runs
from kerascnn.errors import DataError, UsageError
from kerascnn.explain.answers import class_probabilities
from kerascnn.processes import python_module
from kerascnn.using.classifier import Classifier, subject

TOLERANCE = 1e-4  # largest difference of a probability between the SavedModel and the Keras model that is accepted


def export(named):
    """Write export/saved_model of a run or of any classifier, load it again and compare it with the Keras model.

    Args:
        named: a Run, its folder, its name or "last"; or whatever `kerascnn.using.subject` takes, for which it is
            written into a folder named after the model.
    Returns:
        The largest difference between probabilities on the run's sample images, or on images of noise.
    Raises:
        DataError: the folder may not be written, TensorFlow is not installed, or the answers differ by more than 1e-4.
    """
    if isinstance(named, (str, Path)) and runs.is_run(named):
        named = runs.find(named)
    if isinstance(named, runs.Run):
        runs.check_writable(named / "export")
    if backends.backend() == "tensorflow":
        classifier = subject(named)
        runs.check_writable(classifier.folder / "export")
        return _export(classifier)
    run = named.run if isinstance(named, Classifier) else runs.as_run(named)
    if run is None:
        raise DataError(
            f"{named.name} is not a run, so TensorFlow must write its SavedModel: set KERAS_BACKEND=tensorflow"
        )
    if not tensorflow_installed():
        raise DataError(
            "A SavedModel can only be written where TensorFlow is installed; best.keras holds the network. "
            "Type: pip install tensorflow"
        )
    with open(run / "native.log", "ab") as log:
        done = subprocess.run(
            [*python_module("kerascnn.using.saved_model"), str(run.folder)],
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=False,
        )
    if done.returncode:
        raise DataError(f"The SavedModel could not be written; see {run / 'native.log'}")
    return float(done.stdout)


def tensorflow_installed():
    """True if SavedModels can be written here."""
    return importlib.util.find_spec("tensorflow") is not None


def export_ensemble(members, folder):
    """Write several networks that answer by the mean of their probabilities as one SavedModel; load and compare it.

    Its endpoints are those of a single network. Each network has its own preprocessing inside; what is the same for
    several of them is computed once.

    Args:
        members: Classifiers with the same classes, in any order; the SavedModel has the order of the first.
        folder: path of the SavedModel: a new or empty folder, or an earlier SavedModel, which is replaced.
    Returns:
        The largest difference between the SavedModel's probabilities and the mean of the networks', on the first
        network's sample images, or on images of noise.
    Raises:
        UsageError: the folder holds something else, the classes differ, or the backend is not TensorFlow.
        DataError: the folder may not be written, or the answers differ by more than 1e-4.
    """
    folder = Path(folder)
    if backends.backend() != "tensorflow":
        raise UsageError("A SavedModel of several networks is written by TensorFlow: set KERAS_BACKEND=tensorflow")
    if folder.exists() and not (
        folder.is_dir() and ((folder / "saved_model.pb").exists() or not any(folder.iterdir()))
    ):
        raise UsageError(f"export={folder} is not allowed: it holds something else. Name a new folder.")
    for member in members:
        if sorted(member.labels) != sorted(members[0].labels):
            raise UsageError(
                f"{member.name} knows other classes than {members[0].name}, so they cannot answer together."
            )
    runs.check_writable(folder.parent)
    return _written(members, folder)


def _export(classifier):
    return _written([classifier], classifier.folder / "export" / "saved_model")


def _written(members, folder):
    """Write the SavedModel of Classifiers that answer together, load it again and compare it with them; returns the
    largest difference between probabilities."""
    import tensorflow as tf

    from kerascnn.using import tf_images

    names = tf.constant(list(members[0].labels))
    channels = max(member.preprocessing.channels for member in members)
    sizes = list(dict.fromkeys((each.preprocessing.resize_to, each.preprocessing.channels) for each in members))

    def answer(images):
        """The answer to images uint8 (N, height, width, channels) of any size."""
        return resized([tf_images.resize(tf_images.in_channels(images, count), size) for size, count in sizes])

    def resized(images):
        inputs = {}
        for member in members:
            prepared = member.preprocessing
            if prepared not in inputs:
                inputs[prepared] = _prepared(images[sizes.index((prepared.resize_to, prepared.channels))], prepared)
        each = [member.model(inputs[member.preprocessing], training=False) for member in members]
        probabilities = _together(members, each)
        return {"probabilities": probabilities, "label": tf.gather(names, tf.argmax(probabilities, axis=1))}

    def decoded(file):
        pixels = {count: tf_images.decode(file, count) for _, count in sizes}
        return [tf_images.resize(pixels[count][None], size)[0] for size, count in sizes]

    def from_bytes(files):
        specs = [tf.TensorSpec((*size, count), tf.float32) for size, count in sizes]
        return resized(tf.map_fn(decoded, files, fn_output_signature=specs))

    archive = keras.export.ExportArchive()  # its `track` would write every weight twice; what endpoints use, it finds
    archive.add_endpoint("serve", answer, [tf.TensorSpec((None, None, None, channels), tf.uint8, "images")])
    archive.add_endpoint("serve_bytes", from_bytes, [tf.TensorSpec((None,), tf.string, "files")])
    archive.add_endpoint("classes", lambda: {"classes": names}, [])
    with runs.replacing(folder) as temporary:
        archive.write_out(str(temporary), verbose=False)
    return _difference(members, tf.saved_model.load(str(folder)))


def _prepared(images, prepared):
    """What Preprocessing does to images of its size, in TensorFlow."""
    (height, width), (h, w) = prepared.resize_to, prepared.image_size
    top, left = (height - h) // 2, (width - w) // 2
    images = images[:, top : top + h, left : left + w]
    mean, std = np.asarray(prepared.mean), np.asarray(prepared.std)
    scaled = images * (1 / (255 * std)).astype("float32") - (mean / std).astype("float32")
    return scaled[..., ::-1] if prepared.bgr else scaled


def _together(members, answers):
    """(N, num_classes): the mean of the members' probabilities, the classes in the order of the first member."""
    first = members[0].labels
    each = [
        keras.ops.take(class_probabilities(m.model, a), [m.labels.index(name) for name in first], axis=1)
        for m, a in zip(members, answers, strict=True)
    ]
    return sum(each) / len(each)


def _difference(members, loaded):
    """The largest difference between the probabilities of a SavedModel and those of the networks; a DataError if it is
    too large."""
    import tensorflow as tf

    from kerascnn.using import tf_images

    samples = _samples(members[0])
    answers = loaded.serve_bytes(tf.constant(samples))["probabilities"]
    pixels = np.stack([tf.io.decode_png(content, channels=3) for content in samples])
    each = []
    for member in members:
        prepared = member.preprocessing
        fitted = tf_images.resize(tf_images.in_channels(pixels, prepared.channels), prepared.resize_to)
        each.append(member.model.predict(prepared(np.asarray(fitted)), verbose=0))
    difference = float(np.abs(np.asarray(answers) - np.asarray(_together(members, each))).max())
    if not difference <= TOLERANCE:
        one = f"The SavedModel of {members[0].name} answers differently from the network"
        several = f"The SavedModel of {len(members)} networks answers differently from them"
        raise DataError(f"{one if len(members) == 1 else several}, by {difference:g} in a probability.")
    return difference


def _samples(classifier):
    """The contents of PNG files at the size that images are brought to: a run's own samples, or noise."""
    if classifier.run is not None:
        return [path.read_bytes() for path in sorted((classifier.run / "samples").glob("*.png"))]
    rng, files = np.random.default_rng(0), []
    shape = (*classifier.preprocessing.resize_to, classifier.preprocessing.channels)
    for coarse in (1, 8):
        pixels = rng.integers(0, 256, shape, "uint8").repeat(coarse, 0).repeat(coarse, 1)[: shape[0], : shape[1]]
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels).save(file, "png")
        files.append(file.getvalue())
    return files


if __name__ == "__main__":
    print(export(runs.Run(sys.argv[1])))
