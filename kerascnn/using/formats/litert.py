"""LiteRT files (.tflite), in float32 and in 8 bits, for phones, small computers and microcontrollers.

The input is one uint8 image (1, *resize_to, C); cropping, scaling and the network are inside, the output is float32
probabilities (1, num_classes). Resizing is not: LiteRT has none with antialiasing. A ZIP archive at the end of the
file, as LiteRT's own metadata have it, holds `labels.txt` and `kerascnn.json`.
"""

import hashlib
import zipfile

import numpy as np

from kerascnn.errors import DataError
from kerascnn.processes import num_cpus
from kerascnn.using import carried
from kerascnn.using.formats import register


@register(
    "litert",
    title="A LiteRT file",
    file="model.tflite",
    suffix=".tflite",
    packages=("ai_edge_litert",),
    extra="litert",
)
def litert(classifier, path, images):
    """A .tflite file in float32 for phones and small computers."""
    _write(classifier, path, _converted("A LiteRT file", classifier))


@register(
    "litert-int8",
    title="An 8-bit LiteRT file",
    file="model-int8.tflite",
    suffix=".tflite",
    packages=("ai_edge_litert",),
    extra="litert",
    exact=False,
    calibrated=True,
)
def litert_int8(classifier, path, images):
    """A .tflite file in 8 bits, a quarter as large; the ranges of its activations are those of 500 training images."""
    _write(classifier, path, _converted("An 8-bit LiteRT file", classifier, images))


def _converted(title, classifier, images=None):
    """The bytes of the network; in 8 bits if there are images to calibrate with."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from kerascnn.using import tf_answer

    def convert(function, specs):
        concrete = tf.function(function, input_signature=specs).get_concrete_function()
        # With the weights as constants; as variables, they cannot be calibrated.
        converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(concrete)])
        if images is not None and specs[0].dtype == tf.uint8:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[None]] for image in images)
        return converter.convert()

    return tf_answer.converted(title, classifier, 1, convert)


def _write(classifier, path, network):
    path.write_bytes(network)
    digest = hashlib.sha256(network).hexdigest()
    with zipfile.ZipFile(path, "a") as archive:
        # A ZipInfo without a date, so that the same network gives the same bytes
        archive.writestr(zipfile.ZipInfo("labels.txt"), "".join(f"{label}\n" for label in classifier.labels))
        text = carried.as_json(classifier, bytes=len(network), sha256=digest)
        archive.writestr(zipfile.ZipInfo(carried.KEY), text)


def described(path):
    """(labels, Preprocessing) of a file.

    Raises:
        DataError: it holds none, or the network before them is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(carried.KEY)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError):
        raise carried.not_ours(path) from None
    fields = carried.read(text, path)
    with open(path, "rb") as file:
        network = file.read(fields.get("bytes", 0))
    if hashlib.sha256(network).hexdigest() != fields.get("sha256"):
        raise DataError(f"{path} is damaged: its network does not agree with its checksum. Write it again.")
    return carried.described(text, path)


def opened(path):
    """A function, uint8 (N, *resize_to, C) -> probabilities float32 (N, num_classes)."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        network = Interpreter(model_path=str(path), num_threads=num_cpus())
        network.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise DataError(f"{path} cannot be loaded by LiteRT: {error}") from error
    source, target = network.get_input_details()[0]["index"], network.get_output_details()[0]["index"]

    def answer(images):
        rows = []
        for image in images:
            network.set_tensor(source, image[None])
            network.invoke()
            rows.append(network.get_tensor(target)[0])
        return np.stack(rows)

    return answer
