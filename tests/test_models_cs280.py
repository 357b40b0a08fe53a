"""The MiniPlaces networks: blobs and weights as the CS 280 report's figure 1 prints them."""

import pytest

from kerascnn import models
from kerascnn.errors import UsageError
from kerascnn.network import graph
from kerascnn.studies.cs280_miniplaces import BLOBS, WEIGHTS


def caffe_blobs(model):
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers if layer.name in BLOBS}
    return {name: (shape[-1], *shape[:-1]) for name, shape in shapes.items()}


def caffe_weights(model):
    kernels = {layer.name: tuple(layer.kernel.shape) for layer in model.layers if layer.weights}
    return {name: (*shape[:-3:-1], *shape[:-2]) for name, shape in kernels.items()}


def test_zfnet_is_figure_1():
    with graph.without_weights():
        model = models.zfnet_miniplaces()
    assert caffe_blobs(model) == BLOBS
    assert caffe_weights(model) == WEIGHTS


def test_alexnet_differs_in_its_first_two_layers_and_what_follows_in_size():
    with graph.without_weights():
        model = models.alexnet_miniplaces()
    assert caffe_weights(model) == {**WEIGHTS, "conv1": (96, 3, 11, 11), "fc6": (1024, 256)}
    sides = [blob[1] for blob in caffe_blobs(model).values() if len(blob) == 3]
    assert sides == [22, 10, 10, 4, 4, 4, 4, 1]


def test_groups_that_do_not_divide():
    with pytest.raises(UsageError, match="groups=3 does not divide its 96 input channels and 256 filters"):
        models.zfnet_miniplaces(groups=3)
