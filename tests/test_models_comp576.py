"""`lenet_grey` as section 1.2 of the COMP 576 report describes it."""

import pytest

from kerascnn import models


def test_layers_and_counts_by_pencil():
    model = models.lenet_grey()
    shapes = [(layer.name, tuple(layer.output.shape[1:]), layer.count_params()) for layer in model.layers]
    assert shapes == [
        ("image", (28, 28, 1), 0),
        ("conv1", (28, 28, 32), 5 * 5 * 1 * 32 + 32),
        ("pool1", (14, 14, 32), 0),
        ("conv2", (14, 14, 64), 5 * 5 * 32 * 64 + 64),
        ("pool2", (7, 7, 64), 0),
        ("flatten", (3136,), 0),
        ("fc1", (1024,), 3136 * 1024 + 1024),
        ("dropout", (1024,), 0),
        ("fc2", (10,), 1024 * 10 + 10),
        ("softmax", (10,), 0),
    ]


def test_keep_rate_is_one_minus_dropout():
    assert models.lenet_grey().get_layer("dropout").rate == pytest.approx(1 - 0.8)
    assert models.lenet_grey(dropout=0.6).get_layer("dropout").rate == 0.6
