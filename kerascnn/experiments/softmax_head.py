"""A network up to a layer, with a new softmax on its features, and a short training of it."""

import random

import keras
import numpy as np

from kerascnn.errors import UsageError
from kerascnn.explain.subjects import opaque_step
from kerascnn.layers import PatchWhitening, give_weights
from kerascnn.network.graph import flatten
from kerascnn.network.plan import make_plan
from kerascnn.using.features import feature_place


def with_softmax(model, layer, num_classes, seed, *, fresh=True):
    """A copy of the network up to a layer, followed by averaging of the maps and a softmax.

    Args:
        model: keras.Model; it stays as it is.
        layer: name of a layer of the model itself.
        num_classes: units of the softmax.
        seed: seed of the new weights.
        fresh: True gives every layer new weights, except those that only scale the pixels, which stand before the first
            filter larger than a pixel; False keeps the model's weights.
    Returns:
        keras.Model, all of which is trained, except for what scales the pixels and for filters that whiten patches.
    Raises:
        UsageError: the layer lies in a model within the model, or gives the class probabilities.
    """
    place = feature_place(make_plan(model, opaque_step), layer)
    if "/" in place.path:
        raise UsageError(f"layer={layer!r} lies in a model within {model.name}. Name a layer of {model.name} itself.")
    state = random.getstate()
    random.seed(repr(seed))  # where Keras takes its seeds from
    try:
        copy = keras.models.clone_model(model)
        x = _output(copy, place)
        x = keras.layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x
        x = keras.layers.Dense(num_classes, activation="softmax", dtype="float32")(x)
        network = keras.Model(copy.inputs[0], x, name=f"{model.name}_{'untrained' if fresh else 'fine_tuned'}")
    finally:
        random.setstate(state)
    if not fresh:
        give_weights(copy, model.get_weights())
    network.trainable = True
    for old in model.layers:
        kept = next((each for each in network.layers if each.name == old.name), None)
        if isinstance(old, PatchWhitening) and kept is not None:  # filters of the data, never trained
            kept.kernel.assign(old.kernel)
            continue
        if np.prod(getattr(old, "kernel_size", 1)) > 1 or isinstance(old, keras.layers.Dense):
            break
        if kept is not None and old.weights:
            give_weights(kept, old.get_weights())
            kept.trainable = False
    return network


def _output(model, place):
    """The tensor that a call of a layer gives, in a copy of the Place's network."""
    graph = flatten(model)
    node = graph.nodes[place.number([node.name for node in graph.nodes])]
    return graph.tensors[node.outputs[0]]


def trained(network, images, labels, rows, steps, train_batch, learning_rate, seed, change=None):
    """Train a network with Adam, whose learning rate falls to 0 along a cosine.

    Args:
        network: keras.Model that ends in class probabilities.
        images: float (N, H, W, C), or anything of that length that gives such arrays for arrays of numbers.
        labels: int (N,).
        rows: int (n,), the images to train on.
        steps: steps of training.
        train_batch: images per step, or all of them if there are fewer.
        learning_rate: learning rate at the start.
        seed: seed of the order.
        change: function (images, rng) -> images that is applied to each batch; None: none.
    Raises:
        UsageError: the loss became infinite or NaN.
    """
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    network.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy")
    rng, left, size = np.random.default_rng(seed), np.array([], int), min(train_batch, len(rows))
    for _ in range(steps):
        if len(left) < size:
            left = rng.permutation(rows)
        batch, left = np.sort(left[:size]), left[size:]
        x = np.asarray(images[batch], "float32")
        loss = network.train_on_batch(x if change is None else change(x, rng), labels[batch])
        if not np.isfinite(loss):
            raise UsageError(
                f"learning_rate={learning_rate:g} is too high: the loss of the training became {loss}. Give a lower "
                "one."
            )


def predicted(network, images, batch_size):
    """int (N,): the most probable classes of images."""
    starts = range(0, len(images), batch_size)
    parts = [network(np.asarray(images[i : i + batch_size], "float32"), training=False) for i in starts]
    return np.concatenate([keras.ops.convert_to_numpy(part).argmax(1) for part in parts])
