"""Writes every method's maps on one backend to an .npz: KERAS_BACKEND=jax python explain_on_backend.py FILE."""

import sys

import keras
import numpy as np
from keras import layers, ops

from kerascnn import explain
from kerascnn.layers import GroupedConv2D, LocalResponseNormalization


def network():
    """Overlapping pools, groups, strides, dilation, a depthwise and a transposed convolution, branches, a softmax."""
    inputs = keras.Input((17, 14, 3), name="image")
    x = layers.Rescaling(0.5, 0.1)(inputs)
    x = layers.Conv2D(8, 5, strides=2, padding="same", activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = LocalResponseNormalization(alpha=0.1)(x)
    x = GroupedConv2D(8, 3, groups=2, padding="same", name="conv2")(x)
    x = layers.BatchNormalization()(x)
    x = ops.relu(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="silu")(x)
    y = layers.Conv2D(8, 3, dilation_rate=2, padding="same", activation="relu6")(y)
    gate = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    x = layers.Add()([x, layers.Multiply()([y, gate])])
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x)
    x = layers.MaxPooling2D(2)(layers.UpSampling2D(2, interpolation="bilinear")(layers.LeakyReLU()(x)))
    x = layers.Conv2D(6, 3, strides=2, activation="relu", name="last")(x)
    x = layers.Dense(5, activation="softmax")(layers.LayerNormalization()(layers.Flatten()(x)))
    model, rng = keras.Model(inputs, x, name="everything"), np.random.default_rng(3)
    for variable in model.weights:
        high = "variance" in variable.path or "gamma" in variable.path
        value = rng.uniform(0.5, 1.5, variable.shape) if high else rng.normal(scale=0.4, size=variable.shape)
        variable.assign(value.astype("float32"))
    return model


def maps():
    """{name: map}; the first image is all zeros and the second one colour, so that windows are full of ties."""
    model, rng = network(), np.random.default_rng(4)
    images = rng.normal(size=(4, 17, 14, 3)).astype("float32")
    images[0], images[1] = 0, 0.5
    targets = [2, explain.Neuron("conv2", 3), explain.Neuron("last", 1, 0, 0), {0, 4}]
    options = {"integrated_gradients": {"steps": 8}, "smoothgrad": {"samples": 4}, "lrp": {"epsilon": 1e-2}}
    relevant = keras.Model(model.input, model.get_layer("conv2").output)  # before what relevance has no rule for
    maps_of = {}
    for method in explain.EXPLANATIONS.names():
        explained = (relevant, images, explain.Neuron("conv2", 1)) if method == "lrp" else (model, images, 1)
        maps_of[method] = explain.EXPLANATIONS.get(method)(*explained, **options.get(method, {}))
    for method in ("saliency", "deconvnet", "guided_backprop", "gradient_x_input"):
        maps_of[f"{method} of units"] = explain.EXPLANATIONS.get(method)(model, images, targets)
    maps_of["layer_cam of conv2"] = explain.layer_cam(model, images, 1, layer="conv2")
    maps_of["occlusion_scores"] = explain.occlusion_scores(model, images, patch=5, stride=4)
    maps_of |= {f"switches {k}": v for k, v in explain.switches(model, images).items()}
    maps_of["lrp alpha-beta"] = explain.lrp(relevant, images, explain.Neuron("conv2", 1), epsilon=1e-2, alpha=2)
    return maps_of


if __name__ == "__main__":
    np.savez(sys.argv[1], **maps())
