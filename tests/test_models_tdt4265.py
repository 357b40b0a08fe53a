"""The TDT4265 networks against the report's equations (1)-(6) and its table 2."""

import pytest
from keras import layers

from kerascnn import models


def test_tdt_lenet_is_the_reports_sum_and_ten_forgotten_biases():
    counts = [layer.count_params() for layer in models.tdt_lenet().layers if layer.count_params()]
    printed = [2_432, 51_264, 204_928, 131_136, 640]
    assert sum(printed) == 390_400
    assert counts == [*printed[:-1], 640 + 10]


def kinds(model):
    """Table 2's words for the layers of a model, without input, flatten and softmax."""
    words = {
        layers.Conv2D: "conv",
        layers.Dense: "dense",
        layers.ReLU: "relu",
        layers.SpatialDropout2D: "dropout",
        layers.BatchNormalization: "bn",
        layers.MaxPooling2D: "pool",
    }
    listed = []
    for layer in model.layers:
        if type(layer) in words:
            size = getattr(layer, "filters", getattr(layer, "units", ""))
            listed.append(f"{words[type(layer)]}{size}")
    return " ".join(listed)


def test_model_1_is_table_2_layer_for_layer():
    assert kinds(models.tdt_model1()) == (
        "conv32 relu dropout bn pool conv64 relu conv128 relu bn pool conv256 relu conv512 relu bn pool "
        "dense2048 relu dense64 relu bn dense10"
    )
    without = kinds(models.tdt_model1(relu_after_2048=False))
    assert "dense2048 dense64 relu" in without


def test_model_2_is_table_2_layer_for_layer():
    assert kinds(models.tdt_model2()) == (
        "conv32 dropout bn relu pool conv64 bn relu pool conv128 bn relu pool dense64 bn relu dense10"
    )


@pytest.mark.parametrize("k", [3, 5])
def test_counts_by_pencil_for_either_kernel_size(k):
    k2 = k * k
    convolutions = k2 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256 + 256 * 512) + 32 + 64 + 128 + 256 + 512
    dense = (4 * 4 * 512 + 1) * 2048 + (2048 + 1) * 64 + (64 + 1) * 10
    assert models.tdt_model1(kernel_size=k).count_params() == convolutions + dense + 4 * (32 + 128 + 512 + 64)
    convolutions = k2 * (3 * 32 + 32 * 64 + 64 * 128) + 32 + 64 + 128
    dense = (4 * 4 * 128 + 1) * 64 + (64 + 1) * 10
    assert models.tdt_model2(kernel_size=k).count_params() == convolutions + dense + 4 * (32 + 64 + 128 + 64)


def test_ten_percent_of_whole_maps_is_dropped_and_weights_start_from_xavier():
    for model in (models.tdt_model1(), models.tdt_model2()):
        assert model.get_layer("dropout1").rate == 0.1
        assert type(model.get_layer("conv1").kernel_initializer).__name__ == "GlorotUniform"


@pytest.mark.parametrize(("build", "norms"), [(models.tdt_model1, 32 + 128 + 512 + 64), (models.tdt_model2, 288)])
def test_without_batch_normalisation(build, norms):
    plain = build(batch_norm=False)
    assert "bn" not in kinds(plain)
    assert plain.count_params() == build().count_params() - 4 * norms


def test_lenet_with_batch_normalisation_and_dropout_is_model_2():
    lenet, model2 = models.tdt_lenet(batch_norm=True, dropout=0.1), models.tdt_model2()
    assert kinds(lenet) == kinds(model2)
    assert [w.shape for w in lenet.weights] == [w.shape for w in model2.weights]


@pytest.mark.parametrize("build", [models.tdt_lenet, models.tdt_model1, models.tdt_model2])
def test_strided_convolutions_in_place_of_pools_leave_sizes_and_parameters_as_they_are(build):
    pooled, strided = build(), build(strided=True)
    assert "pool" not in kinds(strided)
    assert [w.shape for w in strided.weights] == [w.shape for w in pooled.weights]
    assert strided.get_layer("flatten").output.shape == pooled.get_layer("flatten").output.shape
    convolutions = [layer.strides for layer in strided.layers if isinstance(layer, layers.Conv2D)]
    assert convolutions.count((2, 2)) == 3
