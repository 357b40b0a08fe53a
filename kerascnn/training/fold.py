"""Batch normalisation folded into the layer before it: what it does at inference is one more affine map."""

import numpy as np
from keras import layers, ops

from kerascnn.layers import give_weights

SUFFIX = "_bn"


def fold(trained, plain):
    """Give `plain` the weights with which it computes what `trained` computes at inference.

    Args:
        trained: keras.Model, some of whose convolutions and dense layers NAME are followed by a batch normalisation
            NAME_bn, with nothing between them but a max pooling (then without scale, so that the map is increasing).
        plain: keras.Model with the same layers but for these normalisations. Its weights are replaced.
    Returns:
        `plain`.
    """
    norms = {layer.name: layer for layer in trained.layers if isinstance(layer, layers.BatchNormalization)}
    for layer in plain.layers:
        if not layer.weights:
            continue
        values = [np.asarray(ops.convert_to_numpy(v), "float64") for v in trained.get_layer(layer.name).weights]
        norm = norms.get(layer.name + SUFFIX)
        if norm:
            kernel, bias = values
            mean, variance = (ops.convert_to_numpy(v) for v in (norm.moving_mean, norm.moving_variance))
            factor = 1 / np.sqrt(np.asarray(variance, "float64") + norm.epsilon)
            if norm.scale:
                factor = factor * ops.convert_to_numpy(norm.gamma)
            values = [kernel * factor, (bias - mean) * factor]
            if norm.center:
                values[1] = values[1] + ops.convert_to_numpy(norm.beta)
        give_weights(layer, values)
    return plain
