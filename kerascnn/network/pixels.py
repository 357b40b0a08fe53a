"""What a network expects of pixels."""

import numpy as np

from kerascnn.errors import UsageError, unknown
from kerascnn.network import graph

# What a network may expect of pixels, as (mean, std, blue first), on the 0-to-1 scale: x = (pixel / 255 - mean) / std.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the training images, as torchvision has them
CAFFE = (123.68 / 255, 116.779 / 255, 103.939 / 255)  # as keras.applications has them
PREPROCESS = {
    "0-255": (0.0, 1 / 255, False),
    "0-1": (0.0, 1.0, False),
    "-1-1": (0.5, 0.5, False),
    "torch": (*IMAGENET, False),
    "imagenet-mean": (CAFFE, 1 / 255, False),
    "caffe": (CAFFE, 1 / 255, True),
}
GUESSED = "0-255"  # where the network begins with scaling pixels itself
SCALING = ("Rescaling", "Normalization")  # layers that say, near the input, that pixels come as they are


def expected(model, name, preprocess, channels, notes):
    """(mean, std, blue first) of x = (pixel / 255 - mean) / std, each of the first two one number a channel.

    Args:
        model: keras.Model.
        name: what messages call it.
        preprocess: a name in `PREPROCESS`, or (mean, std); None: as the model itself says, by scaling its input.
        channels: of the images.
        notes: a list that takes a sentence about what was assumed.
    Raises:
        UsageError: it is not stated and cannot be guessed, or is not allowed.
    """
    allowed = ", ".join(PREPROCESS)
    if preprocess is None:
        early = [type(node.operation).__name__ for node in graph.flatten(model).nodes[:4]]
        if not any(kind in SCALING for kind in early):
            raise UsageError(
                f"{name} does not say what it expects of pixels, and that cannot be guessed. Give preprocess, one of "
                f"{allowed}, or (mean, std)."
            )
        preprocess = GUESSED
        notes.append(f"Pixels go in from 0 to 255: {name} begins with scaling them itself.")
    if isinstance(preprocess, str):
        if preprocess not in PREPROCESS:
            raise unknown("preprocessing", preprocess, PREPROCESS)
        mean, std, bgr = PREPROCESS[preprocess]
    else:
        (mean, std), bgr = preprocess, False
    for label, value in (("mean", mean), ("std", std)):
        count = np.size(value)
        if (
            count not in (1, channels)
            or not np.all(np.isfinite(value))
            or (label == "std" and np.any(np.equal(value, 0)))
        ):
            raise UsageError(
                f"{label}={value} is not allowed for images of {channels} channels (preprocess={preprocess!r})."
            )
    mean, std = (tuple(map(float, np.broadcast_to(np.ravel(value), channels))) for value in (mean, std))
    return mean, std, bgr
