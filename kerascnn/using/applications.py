"""The networks of keras.applications by name, with the pixel values that each expects, and ImageNet's class names."""

import os
from pathlib import Path

import keras
import numpy as np

from kerascnn.errors import UsageError, unknown
from kerascnn.files import read_json
from kerascnn.using.class_names import unique


def application_model(name):
    """The network of keras.applications with a builder's name, such as "MobileNetV2". Its weights are random, or, as in
    "MobileNetV2=FILE", those of a .weights.h5 file."""
    name, _, weights = name.partition("=")
    builders = {n: b for n, b in vars(keras.applications).items() if n[0].isupper() and callable(b)}
    if name not in builders:
        raise unknown("network of keras.applications:", name, builders)
    if weights and not Path(weights).is_file():
        raise UsageError(f"There is no file of weights {weights}.")
    return builders[name](weights=weights or None)


def affine(preprocess_input):
    """(mean, std, blue first) of a function that scales each channel of pixels from 0 to 255, found by calling it.

    Raises:
        UsageError: the function does something else.
    """
    pixels = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [51, 102, 204]], "float32")
    black, *primary, probe = np.asarray(preprocess_input(pixels.reshape(1, 5, 1, 3).copy())).reshape(5, 3)
    change = np.stack(primary) - black  # (channel of the image, channel of the input)
    order = np.abs(change).argmax(0)
    slope = change[order, range(3)] / 255
    if sorted(order) != [0, 1, 2] or not np.allclose(pixels[4][order] * slope + black, probe, atol=1e-4):
        raise UsageError("This preprocess_input is not one scale and shift for each channel.")
    bgr = list(order) == [2, 1, 0]
    back = np.argsort(order)  # mean and std are told in the order of the image's channels
    std = (1 / (255 * slope))[back]
    mean = (-black / (255 * slope))[back]
    return tuple(map(float, mean)), tuple(map(float, std)), bgr


def imagenet_labels(num_classes):
    """(class names, a note or None): ImageNet's, if Keras has already downloaded them."""
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    path = home / "models" / "imagenet_class_index.json"
    if num_classes == 1000 and path.is_file():
        listed = read_json(path)
        return unique([listed[str(i)][1] for i in range(1000)]), None
    return tuple(map(str, range(num_classes))), f"There are no class names at {path}: classes are numbers."
