"""Guided backpropagation of the same small network, written in many ways: kerascnn, xplique and tf-keras-vis.

    pip install xplique tf-keras-vis
    python benchmarks/other_libraries.py

Every row is the same function with the same weights, so every map should be the same. The answer of each library is
compared with the float64 map of `activation="relu"`: "right", "the plain gradient", "the probability's map" (behind
the softmax instead of before it), "wrong", or the error it raises.
Needs the TensorFlow backend. A library that is not installed has an empty column.
"""

import importlib.util
import os
from importlib.metadata import version

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
from keras import layers, ops

from kerascnn import explain

RNG = np.random.default_rng(11)
CONV, HEAD = [RNG.normal(size=(3, 3, 2, 4)), RNG.normal(size=4)], [RNG.normal(size=(120, 3)), RNG.normal(size=3)]
IMAGES = RNG.normal(size=(2, 7, 8, 2)).astype("float32")


def network(rectify, activation=None, head=None):
    """Convolution, rectifier, dense layer; `rectify` is put behind the convolution."""
    inputs = keras.Input((7, 8, 2))
    x = rectify(layers.Conv2D(4, 3, activation=activation)(inputs))
    model = keras.Model(inputs, layers.Dense(3, activation=head)(layers.Flatten()(x)))
    model.set_weights([*CONV, *HEAD])
    return model


def same(x):
    return x


def nested(depth):
    """The convolution and a ReLU layer inside `depth` models."""
    inner = keras.Sequential([keras.Input((7, 8, 2)), layers.Conv2D(4, 3), layers.ReLU()])
    for _ in range(depth - 1):
        outer = keras.Input((7, 8, 2))
        inner = keras.Model(outer, inner(outer))
    inputs = keras.Input((7, 8, 2))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(inner(inputs))))
    model.set_weights([*CONV, *HEAD])
    return model


def built_by_calling():
    model = keras.Sequential([layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3)])
    model(IMAGES)
    model.set_weights([*CONV, *HEAD])
    return model


WAYS = {
    'activation="relu"': lambda: network(same, "relu"),
    "layers.ReLU()": lambda: network(layers.ReLU()),
    'layers.Activation("relu")': lambda: network(layers.Activation("relu")),
    "ops.relu": lambda: network(ops.relu),
    "activation=layers.ReLU()": lambda: network(same, layers.ReLU()),
    "ops.maximum(x, 0)": lambda: network(lambda x: ops.maximum(x, 0)),
    "nested once": lambda: nested(1),
    "nested three times": lambda: nested(3),
    "Sequential built by calling": built_by_calling,
    "softmax head": lambda: network(same, "relu", "softmax"),
}


def ours(model):
    return explain.guided_backprop(model, IMAGES, 1)


def by_xplique(model):
    from xplique.attributions import GuidedBackprop

    values = GuidedBackprop(model, reducer=None)(IMAGES, np.eye(3, dtype="float32")[[1, 1]])
    return np.asarray(values)


def by_tf_keras_vis(model):
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.utils.model_modifiers import GuidedBackpropagation, ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    walk = Saliency(model, model_modifier=[ReplaceToLinear(), GuidedBackpropagation()], clone=True)
    return np.asarray(walk(CategoricalScore([1, 1]), IMAGES, keepdims=True, normalize_map=False))


def verdict(function, model, right, plain):
    try:
        values = function(model)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:50]}"
    answers = {"right": right, "the plain gradient": plain}
    answers["the probability's map"] = explain.guided_backprop(model, IMAGES, explain.Neuron(model.layers[-1].name, 1))
    for word, expected in answers.items():
        expected = np.abs(expected) if values.min() >= 0 else expected
        if values.shape == expected.shape and np.abs(values - expected).max() <= 1e-4 * np.abs(expected).max():
            return word
    return "wrong"


def main():
    plain_model = WAYS['activation="relu"']()
    right = explain.guided_backprop(plain_model, IMAGES, 1, dtype="float64")
    plain = explain.saliency(plain_model, IMAGES, 1, dtype="float64")
    libraries = {"kerascnn": ("kerascnn", ours)}
    for name, module, function in (
        ("xplique", "xplique", by_xplique),
        ("tf-keras-vis", "tf_keras_vis", by_tf_keras_vis),
    ):
        if importlib.util.find_spec(module):
            libraries[f"{name} {version(name)}"] = (module, function)
    rows = [
        {"network": way, **{n: verdict(function, make(), right, plain) for n, (_, function) in libraries.items()}}
        for way, make in WAYS.items()
    ]
    print(pd.DataFrame(rows).to_markdown(index=False))


if __name__ == "__main__":
    main()
