"""Classify images: `predict` takes files or arrays."""

import numpy as np
import pandas

from kerascnn.explain.answers import class_probabilities
from kerascnn.training.evaluate import images_at_once
from kerascnn.using import exported
from kerascnn.using.classifier import subject
from kerascnn.using.named_images import predictions


def predict(run, images, *, top=5, batch_size=None):
    """The most probable classes of images. They are read batch by batch, so any number of images takes the same memory.

    Args:
        run: a Run, its folder, its name or "last"; whatever `kerascnn.using.subject` takes; or an exported file
            (.tflite, .onnx).
        images: paths (files, folders, patterns), or uint8 (N, H, W, C) of any size.
        top: classes to give for each image; at most all of them.
        batch_size: images in memory at a time; None: at most 256, and fewer if images are larger.
    Returns:
        DataFrame with columns image (file name or number), rank (from 1), index, probability, label. Files that
        cannot be read are left out and listed as (name, reason) in its `.attrs["broken"]`.
    """
    if exported.is_exported(run):
        rows, broken = exported.predict(run, images, top=top, batch_size=batch_size)
    else:
        classifier = subject(run)
        prepared = classifier.preprocessing
        size = batch_size or images_at_once(prepared.resize_to)
        rows, broken = predictions(answering(classifier), prepared, classifier.labels, images, top=top, size=size)
    table = pandas.DataFrame(rows, columns=["image", "rank", "index", "probability", "label"])
    table.attrs["broken"] = broken
    return table


def answering(classifier):
    """The function of a Classifier, uint8 (N, *resize_to, C) -> probabilities (N, num_classes)."""
    model, prepared = classifier.model, classifier.preprocessing

    def answer(pixels):
        return class_probabilities(model, np.asarray(model.predict_on_batch(prepared(pixels))))

    return answer
