"""A small network and images of whole numbers, on which a scan makes no rounding error."""

import keras
import numpy as np
from keras import layers


def network(seed=0, channels=3, size=8):
    """Two convolutions and a dense layer whose weights are small whole numbers: float32 makes no rounding error."""
    rng = np.random.default_rng(seed)
    inputs = keras.Input((size, size, channels))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Conv2D(5, 3, strides=2, name="conv2")(x)
    x = layers.Flatten(name="flatten")(layers.ReLU(name="relu2")(x))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="softmax")(x), name="small")
    model.set_weights([rng.integers(-2, 3, w.shape).astype("float32") for w in model.get_weights()])
    return model


def whole_images(count, seed=0, size=8, channels=3):
    """Images of few whole numbers, so that ties abound, and labels of three classes."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, (count, size, size, channels)).astype("float32"), rng.integers(0, 3, count)
