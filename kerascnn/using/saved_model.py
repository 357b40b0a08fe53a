"""A run as a SavedModel that carries its preprocessing and labels, for plain TensorFlow without this package.

Two endpoints, each answering {"probabilities": float32 (N, num_classes), "label": string (N,)}:

    serve         uint8 images (N, height, width, channels) of any size
    serve_bytes   strings (N,), the contents of JPEG, PNG, BMP or GIF files

`classes()` on the loaded object gives the class names, in the order of the probabilities.
"""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np

from kerascnn import backends, runs
from kerascnn.errors import DataError
from kerascnn.explain.answers import class_probabilities
from kerascnn.keras_file import load
from kerascnn.processes import python_module
from kerascnn.using.classifier import preprocessing

TOLERANCE = 1e-4  # largest difference of a probability between the SavedModel and the Keras model that is accepted


def export(run):
    """Write export/saved_model of a run, load it again and compare it with the Keras model.

    Args:
        run: a Run, its folder, its name or "last".
    Returns:
        The largest difference of a probability on the run's sample images.
    Raises:
        DataError: the folder may not be written, TensorFlow is not installed, or the answers differ by more than 1e-4.
    """
    run = runs.as_run(run)
    runs.check_writable(run / "export")
    if backends.backend() == "tensorflow":
        return _export(run)
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


def _export(run):
    import tensorflow as tf

    from kerascnn.using import tf_images

    model, prepared, labels = load(run), preprocessing(run), run.read("labels")
    names = tf.constant(labels)

    def network_input(images):
        """What Preprocessing does, in TensorFlow."""
        images = tf_images.resize(images, prepared.resize_to)
        (height, width), (h, w) = prepared.resize_to, prepared.image_size
        top, left = (height - h) // 2, (width - w) // 2
        images = images[:, top : top + h, left : left + w]
        mean, std = np.asarray(prepared.mean), np.asarray(prepared.std)
        return images * (1 / (255 * std)).astype("float32") - (mean / std).astype("float32")

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
    with runs.replacing(run / "export" / "saved_model") as temporary:
        archive.write_out(str(temporary), verbose=False)

    samples = sorted((run / "samples").glob("*.png"))
    loaded = tf.saved_model.load(str(run / "export" / "saved_model"))
    answers = loaded.serve_bytes(tf.constant([path.read_bytes() for path in samples]))["probabilities"]
    pixels = np.stack([tf.io.decode_png(path.read_bytes(), channels=prepared.channels) for path in samples])
    expected = model.predict(prepared(pixels), verbose=0)
    difference = float(np.abs(np.asarray(answers) - expected).max())
    if not difference <= TOLERANCE:
        raise DataError(
            f"The SavedModel of {run.folder} answers differently from best.keras, by {difference:g} in a probability."
        )
    return difference


if __name__ == "__main__":
    print(export(runs.Run(sys.argv[1])))
