"""LeNet-5's sizes from the paper's figure 2, and its two variants."""

import numpy as np
import pytest
from keras import ops

from kerascnn import models
from kerascnn.errors import UsageError
from kerascnn.layers import scaled_tanh


def test_the_maps_of_figure_2():
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in models.lenet5().layers}
    assert shapes["c1"] == (28, 28, 6)
    assert shapes["s2"] == (14, 14, 6)
    assert shapes["c3"] == (10, 10, 16)
    assert shapes["s4"] == (5, 5, 16)
    assert (shapes["c5"], shapes["f6"], shapes["output"]) == ((120,), (84,), (10,))


def test_counts_by_pencil():
    counts = {layer.name: layer.count_params() for layer in models.lenet5().layers}
    assert counts["c1"] == 6 * (25 + 1) == 156  # as the paper prints for C1
    assert counts["c3"] == 16 * (6 * 25 + 1)  # the paper: 1,516, as it leaves connections out
    assert counts["c5"] == 120 * (400 + 1) == 48_120  # as the paper prints for C5
    assert counts["f6"] == 84 * (120 + 1) == 10_164  # as the paper prints for F6


def test_the_squashing_function_sends_1_to_1():
    x = np.array([-1.0, 0.0, 1.0, 100.0], "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(scaled_tanh(x)), [-1, 0, 1, 1.7159], atol=2e-5)


def test_variants():
    old = models.lenet5(variant="1998")
    assert type(old.get_layer("s2")).__name__ == "AveragePooling2D"
    assert old.get_layer("c1").activation is scaled_tanh
    with pytest.raises(UsageError, match=r"Unknown variant of lenet5 '1989'\. Did you mean '1998'"):
        models.lenet5(variant="1989")
