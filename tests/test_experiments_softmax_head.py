"""A network up to a layer with a new softmax: what of it is new, and what is trained."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerascnn.experiments.softmax_head import with_softmax
from kerascnn.layers import PatchWhitening


@pytest.mark.parametrize("fresh", [True, False])
def test_filters_that_whiten_stay_those_of_the_data(fresh):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(PatchWhitening(name="whitening")(inputs))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
    model.get_layer("whitening").adapt(np.random.default_rng(0).normal(size=(20, 8, 8, 3)).astype("float32"))
    network = with_softmax(model, "conv", 3, 0, fresh=fresh)
    ours, theirs = (ops.convert_to_numpy(each.get_layer("whitening").kernel) for each in (network, model))
    np.testing.assert_array_equal(ours, theirs)
    trained = [variable.path for variable in network.trainable_variables]
    assert not any("whitening/kernel" in path for path in trained)
    assert any("whitening/bias" in path for path in trained)
    first, second = (ops.convert_to_numpy(each.get_layer("conv").kernel) for each in (network, model))
    assert (first == second).all() != fresh
