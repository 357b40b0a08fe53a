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
from kerascnn.errors import DataError
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


def _export(classifier):
    import tensorflow as tf

    from kerascnn.using import tf_images

    model, prepared = classifier.model, classifier.preprocessing
    names = tf.constant(list(classifier.labels))

    def network_input(images):
        """What Preprocessing does, in TensorFlow."""
        images = tf_images.resize(images, prepared.resize_to)
        (height, width), (h, w) = prepared.resize_to, prepared.image_size
        top, left = (height - h) // 2, (width - w) // 2
        images = images[:, top : top + h, left : left + w]
        mean, std = np.asarray(prepared.mean), np.asarray(prepared.std)
        scaled = images * (1 / (255 * std)).astype("float32") - (mean / std).astype("float32")
        return scaled[..., ::-1] if prepared.bgr else scaled

    def answer(images):
        probabilities = class_probabilities(model, model(network_input(images), training=False))
        return {"probabilities": probabilities, "label": tf.gather(names, tf.argmax(probabilities, axis=1))}

    def fitted(file):
        return tf_images.resize(tf_images.decode(file, prepared.channels)[None], prepared.resize_to)[0]

    def from_bytes(files):
        pixels = tf.TensorSpec((*prepared.resize_to, prepared.channels), tf.float32)
        return answer(tf.map_fn(fitted, files, fn_output_signature=pixels))

    archive = keras.export.ExportArchive()  # its `track` would write every weight twice; what endpoints use, it finds
    archive.add_endpoint("serve", answer, [tf.TensorSpec((None, None, None, prepared.channels), tf.uint8, "images")])
    archive.add_endpoint("serve_bytes", from_bytes, [tf.TensorSpec((None,), tf.string, "files")])
    archive.add_endpoint("classes", lambda: {"classes": names}, [])
    written = classifier.folder / "export" / "saved_model"
    with runs.replacing(written) as temporary:
        archive.write_out(str(temporary), verbose=False)

    samples = _samples(classifier)
    loaded = tf.saved_model.load(str(written))
    answers = loaded.serve_bytes(tf.constant(samples))["probabilities"]
    pixels = np.stack([tf.io.decode_png(content, channels=prepared.channels) for content in samples])
    expected = class_probabilities(model, model.predict(prepared(pixels), verbose=0))
    difference = float(np.abs(np.asarray(answers) - np.asarray(expected)).max())
    if not difference <= TOLERANCE:
        raise DataError(
            f"The SavedModel of {classifier.name} answers differently from the network, by {difference:g} in a "
            "probability."
        )
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
