"""Invariance through training: a number by pencil for each epoch."""

import keras
import numpy as np
import pytest
from keras import layers

from kerascnn.errors import UsageError
from kerascnn.experiments.invariance_epochs import invariance_epochs


def network(weight):
    """One number: `weight` times the first row's sum, and the sum of all pixels."""
    rows = keras.Input((4, 4, 1))
    first = layers.Flatten()(layers.Cropping2D(((0, 3), (0, 0)))(rows))
    both = layers.Concatenate(name="sums")([first, layers.Flatten()(rows)])
    hidden = layers.Dense(1, name="hidden", use_bias=False)(both)
    model = keras.Model(rows, layers.Dense(2, activation="softmax", name="scores")(hidden), name="rows")
    kernel = np.concatenate([np.full(4, weight), np.ones(16)])[:, None]
    model.get_layer("hidden").set_weights([kernel])
    return model


def test_areas_by_pencil(tmp_path):
    """Images with ones in the first row and nothing else: moved down a row, the sum of all pixels stays, 4, and that of
    the first row is gone, of 4 w. The feature is 4 w + 4, its change 4 w: relative w / (w + 1), and 0 for no move."""
    images = np.zeros((3, 4, 4, 1), "float32")
    images[:, 0] = 1
    models = {0: network(3), 2: lambda: network(1), 5: network(0)}
    lines = []
    result = invariance_epochs(models, images, amounts=[0, 1], layers=["hidden"], say=lines.append)
    assert result.table["epochs"].tolist() == [0, 2, 5]
    np.testing.assert_allclose(result.table["area"], [0.375, 0.25, 0], atol=1e-6)
    assert "hidden: mean relative distance falls from epoch 0 to epoch 5: 0.375 to 0.000" in result.findings[0]
    assert len(lines) == 3
    assert "epoch 2: hidden 0.250" in lines[1]
    assert result.save(tmp_path) == tmp_path / "invariance-epochs-translation.png"


def test_one_epoch_is_too_few():
    with pytest.raises(UsageError, match="models holds 1 epoch; two or more are needed"):
        invariance_epochs({3: network(1)}, np.zeros((2, 4, 4, 1)))
