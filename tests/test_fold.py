"""Batch normalisation folded into the convolutions before it."""

import keras
import numpy as np
import pytest

from kerascnn import models
from kerascnn.errors import UsageError
from kerascnn.recipes import Recipe
from kerascnn.training.fold import fold
from kerascnn.training.train import train


def test_a_scaled_normalisation_folds_into_a_dense_layer_by_hand():
    inputs = keras.Input((1,))
    trained = keras.Model(
        inputs, keras.layers.BatchNormalization(name="fc_bn")(keras.layers.Dense(1, name="fc")(inputs))
    )
    trained.get_layer("fc").set_weights([np.array([[3.0]]), np.array([1.0])])
    trained.get_layer("fc_bn").epsilon = 0.0
    trained.get_layer("fc_bn").set_weights([np.array([v]) for v in (5.0, 7.0, 2.0, 4.0)])  # gamma, beta, mean, variance
    inputs = keras.Input((1,))
    plain = fold(trained, keras.Model(inputs, keras.layers.Dense(1, name="fc")(inputs)))
    kernel, bias = plain.get_layer("fc").get_weights()
    assert kernel.item() == pytest.approx(3 * 5 / 2)
    assert bias.item() == pytest.approx((1 - 2) * 5 / 2 + 7)


def test_the_folded_cifar_net_computes_the_same_with_the_published_parameters():
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    trained = models.cifar_net((16, 16, 3), foldable_norm=True)
    for layer in trained.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = [rng.normal(size=v.shape) for v in layer.weights]
            layer.set_weights([*values[:-1], values[-1] ** 2 + 0.1])
    plain = fold(trained, models.cifar_net((16, 16, 3)))
    images = rng.normal(size=(8, 16, 16, 3)).astype("float32")
    logits, expected = (
        keras.Model(model.inputs, model.get_layer("softmax").output).predict(images, verbose=0)
        for model in (plain, trained)
    )
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.ptp(expected))
    assert np.std(expected, axis=0).min() > 0.001 * np.ptp(expected)  # the images differ in their answers
    assert plain.count_params() == models.cifar_net((16, 16, 3)).count_params()


def test_both_normalisations_at_once_are_refused():
    with pytest.raises(UsageError, match="Give one"):
        models.cifar_net(batch_norm=True, foldable_norm=True)


@pytest.mark.slow
def test_a_run_keeps_the_folded_network(tmp_path):
    recipe = Recipe(model="cifar_net", data="digits", image_size=8, epochs=1, fold_norm=True, batch_size=128)
    run = train(recipe, out=tmp_path / "run", say=lambda line: None)
    kept = keras.models.load_model(run / "best.keras")
    assert [layer.name for layer in kept.layers if layer.name.endswith("_bn")] == []
    assert kept.get_layer("conv1").activation is keras.activations.relu
    assert run.read("run")["parameters"] == kept.count_params()
