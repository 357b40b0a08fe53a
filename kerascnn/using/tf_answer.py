"""What an exported network computes, as operations of a TensorFlow graph; which layer a converter cannot express."""

import contextlib
import logging
import re
import warnings

import keras
import numpy as np
import tensorflow as tf

from kerascnn.errors import DataError, UsageError
from kerascnn.explain.answers import class_probabilities
from kerascnn.native_log import native_log
from kerascnn.network import graph


def network_input(prepared, images):
    """What Preprocessing does: images (N, *resize_to, C) of any number type -> float32 (N, *image_size, C)."""
    (height, width), (h, w) = prepared.resize_to, prepared.image_size
    top, left = (height - h) // 2, (width - w) // 2
    images = tf.cast(images, tf.float32)[:, top : top + h, left : left + w]
    mean, std = np.asarray(prepared.mean), np.asarray(prepared.std)
    scaled = images * (1 / (255 * std)).astype("float32") - (mean / std).astype("float32")
    return tf.gather(scaled, [2, 1, 0], axis=-1) if prepared.bgr else scaled


def together(members, answers):
    """(N, num_classes): the mean of Classifiers' probabilities, the classes in the order of the first one.

    Args:
        answers: what each one's model answered, TensorFlow's tensors or arrays (N, its outputs).
    """
    first = members[0].labels
    each = [
        keras.ops.take(class_probabilities(m.model, a), [m.labels.index(name) for name in first], axis=1)
        for m, a in zip(members, answers, strict=True)
    ]
    return sum(each) / len(each)


def signature(classifier, batch):
    """(the function uint8 (N, *resize_to, C) -> probabilities, its one TensorSpec); N is `batch`, None for any."""
    model, prepared = classifier.model, classifier.preprocessing

    def answer(images):
        probabilities = class_probabilities(model, model(network_input(prepared, images), training=False))
        return {"probabilities": tf.identity(probabilities, "probabilities")}

    return answer, tf.TensorSpec((batch, *prepared.resize_to, prepared.channels), tf.uint8, "images")


@contextlib.contextmanager
def quietly():
    """Within this block, converters print, log and warn nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with native_log(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def converted(title, classifier, batch, convert):
    """What `convert(function, TensorSpecs)` makes of a classifier.

    Args:
        title: what the format calls one of its files, as in its facts.
        batch: images at a time; None for any number.
    Raises:
        DataError: it failed; names the layer that the format cannot express, where one alone fails, too.
    """
    answer, spec = signature(classifier, batch)
    with quietly():
        try:
            return convert(answer, [spec])
        except Exception as error:  # converters raise almost anything
            what = culprit(classifier.model, convert) or _reason(error)
    raise DataError(
        f"{title} cannot express {classifier.name}: {what}. Write another format, such as saved-model; list them: "
        "kerascnn formats"
    )


def culprit(model, convert):
    """Words for the first layer of a model that `convert` cannot express by itself, or "" if there is none."""
    try:
        flat = graph.flatten(model)
    except UsageError:  # a model without a graph
        return ""
    for node in flat.nodes:
        specs = [
            tf.TensorSpec([1 if side is None else side for side in flat.tensors[number].shape], tf.float32)
            for number in node.inputs
        ]

        def alone(*arrays, node=node):
            values = dict(zip(node.inputs, arrays, strict=True))
            args, kwargs = node.arguments(values)
            return node.operation(*args, **kwargs)

        try:
            convert(alone, specs)
        except Exception as error:
            kind = type(node.operation).__name__
            return f"its layer {node.name!r} ({kind}) is the first that fails, {_reason(error)}"
    return ""


def _reason(error):
    """An operation of TensorFlow that an error names, or the first line of what it says."""
    text = str(error)
    match = re.search(r"\btf\.([A-Z]\w+)|op_type[: ]+(\w+)|No Op registered for (\w+)", text)
    if match:
        return f"on TensorFlow's operation {next(filter(None, match.groups()))}"
    return (text.strip() or type(error).__name__).splitlines()[0][:200]
