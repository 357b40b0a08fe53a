import types

import keras
import numpy as np
import pytest
from keras import layers

from kerascnn.errors import UsageError
from kerascnn.experiments.evolution import _numbers, evolution, settles, typed_channels
from kerascnn.experiments.kept_epochs import KeptEpochs, saved


def network(first, second):
    """Two 1x1 convolutions that multiply by a number each."""
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(1, 1, use_bias=False, activation="relu", name="conv1"),
            layers.Conv2D(1, 1, use_bias=False, activation="relu", name="conv2"),
            layers.Flatten(name="flatten"),
            layers.Dense(2, activation="softmax", name="scores"),
        ],
        name="two",
    )
    for name, factor in (("conv1", first), ("conv2", second)):
        model.get_layer(name).set_weights([np.full((1, 1, 1, 1), factor)])
    return model


def test_a_pencil_finds_when_each_layer_settles(tmp_path):
    """Features are the image times a number, so that distances are those of the numbers."""
    images = np.random.default_rng(0).uniform(0.5, 1, (5, 4, 4, 1)).astype("float32")
    factors = {0: (1.0, 1.0), 1: (2.5, 1.0), 2: (3.0, 1.5), 8: (3.0, 3.0)}
    models = {epochs: network(*both) for epochs, both in factors.items()}
    models[2] = lambda: network(*factors[2])
    result = evolution(models, images, channels=1)
    assert set(result.table["layer"]) == {"conv1", "conv2"}
    share = {name: rows["share"].tolist() for name, rows in result.table.groupby("layer")}
    np.testing.assert_allclose(share["conv1"], [1, 0.25, 0, 0], atol=1e-5)
    np.testing.assert_allclose(share["conv2"], [1, 6.5 / 8, 4.5 / 8, 0], atol=1e-5)  # 9 at the end
    assert result.tables["settled"]["epochs"].tolist() == [1, 8]
    assert "conv1 settles by epoch 1" in result.findings[0]
    assert "conv2 settles later than conv1, as in the paper" in result.findings[-1]
    brightest = int(images.reshape(5, -1).max(1).argmax())
    patches = result.tables["patches"]
    assert set(patches["image"]) == {brightest}
    np.testing.assert_allclose(patches["value"][:4], [images.max() * f for f, _ in factors.values()], rtol=1e-5)
    result.save(tmp_path)
    assert (tmp_path / "evolution-settled.csv").exists()


def test_channels_are_named_by_their_layer_or_counted():
    images = np.random.default_rng(0).uniform(0.5, 1, (3, 4, 4, 1)).astype("float32")
    models = {epochs: network(1.0 + epochs, 1.0) for epochs in (0, 1, 2)}
    patches = evolution(models, images, channels={"conv2": [0]}).tables["patches"]
    assert set(patches["layer"]) == {"conv2"}
    for channels, match in (
        ({"conv3": [0]}, "Unknown layer of channels 'conv3'"),
        ({"conv2": [1]}, "conv2 has 1 channel"),
    ):
        with pytest.raises(UsageError, match=match):
            evolution(models, images, channels=channels)
    conv = [types.SimpleNamespace(name=name, layer="conv1", channels=1) for name in ("conv1 (after relu)", "conv1")]
    assert _numbers({"conv1": [0]}, conv) == {"conv1": [0]}  # its own name comes first
    assert _numbers({"conv1": [0]}, conv[:1]) == {"conv1 (after relu)": [0]}
    assert typed_channels("12") == 12
    assert typed_channels("a:3;a:9") == {"a": [3, 9]}
    assert typed_channels("conv1:3,9; block/conv4:72") == {"conv1": [3, 9], "block/conv4": [72]}
    for text in ("conv1", "conv1:", "conv1:a", ":3", "conv1:3;", "-1"):
        with pytest.raises(UsageError, match="give how many, or which, such as"):
            typed_channels(text)


def test_a_layer_that_comes_back_has_not_settled():
    assert settles([0, 1, 2, 3], [1, 0.2, 0.7, 0]) == 3
    assert settles([0, 1, 2, 3], [1, 0.4, 0.2, 0]) == 1
    assert settles([1, 2], [0.3, 0]) == 1


def test_epochs_are_kept_as_they_were(tmp_path):
    model = network(1.0, 1.0)
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    images, labels = np.ones((4, 4, 4, 1), "float32"), np.array([0, 1, 0, 1])
    start = [w.copy() for w in model.get_weights()]
    model.fit(images, labels, epochs=3, verbose=0, callbacks=[KeptEpochs(tmp_path / "epochs", [1, 3])])
    files = saved(tmp_path / "epochs")
    assert list(files) == [0, 1, 3]
    for epochs, expected in ((0, start), (3, model.get_weights())):
        for old, new in zip(expected, keras.saving.load_model(files[epochs]).get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def test_class_probabilities_are_no_features():
    models = {epochs: network(1, 1) for epochs in range(3)}
    with pytest.raises(UsageError, match="'scores' of two gives the class probabilities, which are not features"):
        evolution(models, np.ones((2, 4, 4, 1)), ["conv1", "scores"])


def test_two_epochs_are_too_few():
    with pytest.raises(UsageError, match="models holds 2 epochs; three or more are needed"):
        evolution({0: network(1, 1), 1: network(2, 2)}, np.ones((2, 4, 4, 1)))
