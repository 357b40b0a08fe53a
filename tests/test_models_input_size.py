"""Input shapes that a network cannot take: the error names the layer and the smallest size that works."""

import keras
import numpy as np
import pytest
from keras import Input, Model, layers

from kerascnn import models
from kerascnn.errors import UsageError
from kerascnn.models.input_size import check_size
from kerascnn.network import graph


def three_pools(input_shape=(32, 32, 1), num_classes=2, groups=1):
    inputs = x = Input(input_shape)
    for i in (1, 2, 3):
        x = layers.MaxPooling2D(2, name=f"pool{i}")(x)
    x = layers.Conv2D(4, 1, groups=groups, name="conv")(x)
    return Model(inputs, layers.Dense(num_classes)(layers.Flatten()(x)))


@pytest.mark.parametrize(
    ("shape", "layer"), [((7, 7, 1), "pool3"), ((3, 3, 1), "pool2"), ((1, 64, 1), "pool1"), ((64, 5, 1), "pool3")]
)
def test_the_layer_where_the_image_vanishes_and_the_smallest_size(shape, layer):
    message = rf"{shape[0]}x{shape[1]} pixels.*layer '{layer}'.*8x8: give image_size=8 or larger"
    with pytest.raises(UsageError, match=message):
        check_size(three_pools, shape)
    assert check_size(three_pools, (8, 8, 1)).input_shape == (None, 8, 8, 1)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(UsageError, match=r'channels_first.*set_image_data_format\("channels_last"\)'):
            models.cifar_net()
    finally:
        keras.config.set_image_data_format("channels_last")


def test_a_padded_network_has_no_lower_bound_but_a_valid_convolution_has():
    def padded(input_shape, num_classes=2):
        inputs = Input(input_shape)
        x = layers.MaxPooling2D(2, padding="same")(inputs)
        x = layers.Conv2D(3, 5, name="wide")(x)
        return Model(inputs, x)

    with pytest.raises(UsageError, match=r"'wide'.*smallest square it takes is 9x9"):
        check_size(padded, (8, 8, 1))


def test_a_layer_that_leaves_nothing_without_an_error_is_found():
    def cropped(input_shape, num_classes=2):
        inputs = Input(input_shape)
        x = inputs[:, 5:, 5:, :]  # an empty slice passes Keras silently
        return Model(inputs, layers.Conv2D(2, 3, padding="same", name="late")(x))

    with pytest.raises(UsageError, match="smallest square it takes is 6x6"):
        check_size(cropped, (5, 5, 1))


def test_an_error_that_is_not_about_size_passes_unchanged():
    with pytest.raises(ValueError, match="groups") as caught:
        check_size(three_pools, (32, 32, 1), groups=3)
    assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize("shape", [(32, 32), 32, (32, 0, 3), (32, 32, None), ("32", 32, 3), (32.0, 32, 3)])
def test_a_shape_that_is_no_image_shape(shape):
    with pytest.raises(UsageError, match=r"input_shape must be \(height, width, channels\)"):
        models.cifar_net(input_shape=shape)


@pytest.mark.parametrize("num_classes", [0, -1, 2.5, None, True])
def test_a_number_of_classes_that_is_none(num_classes):
    with pytest.raises(UsageError, match="num_classes must be a whole number"):
        models.cifar_net(num_classes=num_classes)


def test_the_networks_own_bounds():
    with pytest.raises(UsageError, match=r"'cifar_net' cannot take images of 7x7.*'pool3'.*8x8"):
        models.cifar_net((7, 7, 3))
    with pytest.raises(
        UsageError, match=r"'lenet5' cannot take images of 15x15.*'s4'.*16x16: give image_size=16 or larger"
    ):
        models.lenet5((15, 15, 1))


def test_numbers_of_numpy_are_numbers():
    model = models.lenet5((np.int64(32), np.int32(32), 1), num_classes=np.array([3, 9]).max() + 1)
    assert (model.input_shape, model.output_shape) == ((None, 32, 32, 1), (None, 10))


def test_a_network_with_dense_layers_needs_one_size():
    with pytest.raises(UsageError, match=r"'lenet5' has dense layers on its maps.*\(None, 32, 1\). Give numbers"):
        models.lenet5((None, 32, 1))
    with graph.without_weights():
        assert models.resnet18((None, None, 3)).output_shape == (None, 1000)
