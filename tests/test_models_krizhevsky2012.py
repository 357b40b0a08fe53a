"""AlexNet: sizes and weight shapes of the paper and of Caffe's model of it."""

import numpy as np
import pytest

from kerascnn import models
from kerascnn.errors import UsageError
from kerascnn.layers import LocalResponseNormalization
from kerascnn.network import graph


@pytest.fixture(scope="module")
def alexnet():
    with graph.without_weights():
        return models.alexnet()


def test_map_sizes(alexnet):
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in alexnet.layers}
    assert shapes["conv1"] == (55, 55, 96)
    assert shapes["pool1"] == (27, 27, 96)
    assert shapes["conv2"] == (27, 27, 256)
    assert shapes["pool2"] == (13, 13, 256)
    assert shapes["conv3"] == shapes["conv4"] == (13, 13, 384)
    assert shapes["conv5"] == (13, 13, 256)
    assert shapes["pool5"] == (6, 6, 256)


def test_kernels_are_as_the_paper_prints_them(alexnet):
    """Section 3.5: 96 of 11x11x3, 256 of 5x5x48, 384 of 3x3x256, 384 of 3x3x192, 256 of 3x3x192; 4096 units."""
    shapes = {layer.name: layer.kernel.shape for layer in alexnet.layers if layer.weights}
    assert shapes == {
        "conv1": (11, 11, 3, 96),
        "conv2": (5, 5, 48, 256),
        "conv3": (3, 3, 256, 384),
        "conv4": (3, 3, 192, 384),
        "conv5": (3, 3, 192, 256),
        "fc6": (9216, 4096),
        "fc7": (4096, 4096),
        "fc8": (4096, 1000),
    }


def test_neurons_by_the_papers_introduction(alexnet):
    """Figure 2 prints 253,440 for the first layer too, which 55x55x96 = 290,400 is not; the others follow."""
    neurons = {x.name: int(np.prod(x.output.shape[1:])) for x in alexnet.layers}
    assert neurons["conv2"] == 186_624
    assert neurons["conv3"] == neurons["conv4"] == 64_896
    assert neurons["conv5"] == 43_264


def test_normalisation_after_the_first_two_layers(alexnet):
    names = [layer.name for layer in alexnet.layers]
    for number in "12":
        i = names.index(f"norm{number}")
        assert names[i - 1 : i + 2] == [f"conv{number}", f"norm{number}", f"pool{number}"]
        norm = alexnet.layers[i]
        assert isinstance(norm, LocalResponseNormalization)
        assert (norm.size, norm.alpha, norm.beta, norm.k) == (5, 1e-4, 0.75, 2)


def test_the_papers_start():
    model = models.alexnet((67, 67, 3), 10, dense_units=64, initialization="2012")
    ones = {layer.name for layer in model.layers if layer.weights and np.all(np.array(layer.bias) == 1)}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert np.std(np.array(model.get_layer("conv3").kernel)) == pytest.approx(0.01, rel=0.02)
    with pytest.raises(UsageError, match="Unknown initialization of alexnet 'xavier'"):
        models.alexnet(initialization="xavier")


def test_groups_that_do_not_divide():
    with pytest.raises(UsageError, match=r"'conv2': groups=5 does not divide its 96 input channels and 256 filters"):
        models.alexnet(groups=5)
    with graph.without_weights():
        assert models.alexnet(groups=1).get_layer("conv4").kernel.shape == (3, 3, 384, 384)


def test_without_normalisation_and_with_pools_that_do_not_overlap():
    """99 pixels make maps of 23, odd, which pools of 3 and of 2 both bring to 11, 5 and 2: no weight changes."""
    with graph.without_weights():
        plain, without, apart = (
            models.alexnet((99, 99, 3), 10, dense_units=64, **options)
            for options in ({}, {"response_norm": False}, {"pool_size": 2})
        )
    assert not [layer.name for layer in without.layers if "norm" in layer.name]
    assert apart.get_layer("pool1").pool_size == (2, 2)
    for model in (plain, without, apart):
        assert [model.get_layer(f"pool{number}").output.shape[1] for number in (1, 2, 5)] == [11, 5, 2]
        assert model.count_params() == plain.count_params()
