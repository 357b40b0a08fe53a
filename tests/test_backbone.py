"""Transfer: the layers of a .keras file under a new head."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.linear_model import LogisticRegression

import kerascnn
from kerascnn import models
from kerascnn.datasets.image_data import ImageData, Split
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.errors import DataError, UsageError
from kerascnn.layers import PatchWhitening
from kerascnn.models.backbone import HEAD, backbone
from kerascnn.network.find import layers_of
from kerascnn.training.head import start_head


@pytest.fixture(scope="module")
def lent(tmp_path_factory):
    """The path of a network of 7 classes that begins with scaling and ends as SqueezeNet does."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 3), name="photograph")
    x = layers.Conv2D(12, 3, activation="relu", name="early")(layers.Rescaling(1 / 255, name="scaled")(inputs))
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dropout(0.5)(layers.ZeroPadding2D(1)(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(7, 1, name="scores")(x))
    path = tmp_path_factory.mktemp("lent") / "my network.keras"
    keras.Model(inputs, layers.Softmax()(x)).save(path)
    return path


def coloured(count=60, side=16, channels=3):
    """Images whose class is the colour that is brightest."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = rng.integers(0, 120, (count, side, side, channels), dtype="uint8")
    images[range(count), :, :, labels % channels] += 60
    split = Split(images, labels)
    return ImageData("mine", "here", ("red", "green", "blue"), split, split, split)


def test_the_old_head_and_what_surrounds_it_go(lent):
    model = backbone(lent, (16, 16, 3), 3)
    assert [type(layer).__name__ for layer in model.layers] == [
        *("InputLayer", "Rescaling", "Conv2D", "BatchNormalization"),
        *("GlobalAveragePooling2D", "Dropout", "Dense"),
    ]
    assert model.name == "my_network"
    original = keras.saving.load_model(lent)
    images = np.random.default_rng(1).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    features = keras.Model(original.inputs[0], original.get_layer("norm").output)(images)
    ours = keras.Model(model.inputs[0], model.get_layer("norm").output)(images)
    np.testing.assert_allclose(ours, features, rtol=1e-6)
    assert backbone(lent, (24, 20, 3), 3).output_shape == (None, 3)


def test_fresh_weights_for_all_but_what_was_frozen(tmp_path):
    small = keras.Input((4, 4, 2))
    within = keras.Model(small, layers.Conv2D(3, 1, name="inner")(small), name="within")
    frozen = layers.Conv2D(2, 1, name="frozen", trainable=False)
    x = layers.Conv2D(3, 3, name="learned")(within(frozen(keras.Input((4, 4, 3)))))
    outputs = layers.Dense(2, name="scores")(layers.BatchNormalization(name="norm")(layers.Flatten()(x)))
    model = keras.Model(frozen.input, outputs)
    model.set_weights([weight + 0.5 for weight in model.get_weights()])
    model.save(tmp_path / "lent.keras")
    fresh = backbone(tmp_path / "lent.keras", (4, 4, 3), 5, fresh=True)
    old, new = ({layer.name: layer.get_weights() for layer in layers_of(each).values()} for each in (model, fresh))
    np.testing.assert_array_equal(new["frozen"][0], old["frozen"][0])
    assert not fresh.get_layer("frozen").trainable_weights
    for name in ("inner", "learned"):
        assert np.abs(new[name][0] - old[name][0]).max() > 0.01
        assert new[name][1].tolist() == [0] * 3
    assert [weight.tolist() for weight in new["norm"]] == [[1] * 12, [0] * 12, [0] * 12, [1] * 12]
    assert len(fresh.trainable_weights) == 2 + 2 + 2 + 2


def test_layers_that_were_frozen_when_the_file_was_saved_are_trained(tmp_path):
    """But not the weights that a layer never trains."""
    inputs = keras.Input((16, 16, 3))
    inner = keras.Sequential([keras.Input((15, 15, 24)), layers.Conv2D(4, 3), layers.BatchNormalization()])
    x = layers.GlobalAveragePooling2D()(inner(PatchWhitening(name="whitening")(inputs)))
    model = keras.Model(inputs, layers.Dense(7, activation="softmax", name="scores")(x))
    model.trainable = False
    model.get_layer("scores").trainable = True
    model.save(tmp_path / "frozen.keras")
    ours = backbone(tmp_path / "frozen.keras", (16, 16, 3), 3)
    trained = [variable.name for variable in ours.trainable_variables]
    assert trained == ["bias", "kernel", "bias", "gamma", "beta", "kernel", "bias"]
    for a, b in zip(ours.get_weights()[:-2], model.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_new_head_is_scikit_learns(lent, classes):
    model, data = backbone(lent, (16, 16, 3), classes), coloured()
    labels = data.train.labels % classes
    data = ImageData("mine", "here", ("a", "b", "c")[:classes], Split(data.train.images, labels))
    told = start_head(model, data, Preprocessing((16, 16), (16, 16), 3, (0.0,) * 3, (1 / 255,) * 3))
    assert told == "The new head starts from a logistic regression on 12 features of 60 images"
    body = keras.Model(model.inputs[0], model.get_layer(HEAD).input)
    features = np.asarray(body(data.train.images.astype("float32")), "float64")
    scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-9)
    expected = LogisticRegression(C=0.01, max_iter=300).fit(scaled, labels).predict_proba(scaled)
    np.testing.assert_allclose(model.predict(data.train.images, verbose=0), expected, atol=2e-3)


@pytest.mark.slow
def test_a_run_starts_from_a_file_and_goes_on_exactly(lent, tmp_path):
    data = coloured()
    path = tmp_path / "data.npz"
    np.savez(
        path,
        x_train=data.train.images,
        y_train=data.train.labels,
        x_test=data.test.images[:9],
        y_test=data.test.labels[:9],
    )
    told = []
    fields = {"data": str(path), "batch_size": 10, "train_last": 1}
    recipe = kerascnn.recipes.RECIPES.get("transfer")().replace(model=str(lent), schedule="constant", **fields)
    run = kerascnn.train(recipe, epochs=2, out=tmp_path / "whole", say=told.append)
    assert any("logistic regression on 12 features" in line for line in told)
    prepared = Preprocessing.from_dict(run.read("data")["preprocessing"])
    assert (prepared.mean, prepared.image_size) == ((0.0,) * 3, (16, 16))
    np.testing.assert_allclose(prepared.std, 1 / 255)
    trained, original = keras.saving.load_model(run / "best.keras"), keras.saving.load_model(lent)
    for name in ("early", "norm"):
        for ours, theirs in zip(
            trained.get_layer(name).get_weights(), original.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    assert run.read("run")["result"]["accuracy"] == 1
    told.clear()
    third = recipe.replace(start_from=str(run.folder), train_last=0, learning_rate=1e-9, epochs=1)
    third = kerascnn.load(kerascnn.train(third, out=tmp_path / "third", say=told.append))
    assert not any("logistic regression" in line for line in told)  # the run lends the head, too
    np.testing.assert_allclose(third.get_weights()[-2], trained.get_weights()[-2], atol=1e-5)
    again = recipe.replace(model=str(run / "best.keras"), epochs=1)
    described = kerascnn.train(again, out=tmp_path / "again", say=lambda line: None).read("data")
    assert described["preprocessing"] == run.read("data")["preprocessing"]
    parts = kerascnn.train(recipe, epochs=1, out=tmp_path / "parts", say=lambda line: None)
    parts = kerascnn.train(resume=parts, epochs=2, say=lambda line: None)
    assert (parts / "metrics.csv").read_text() == (run / "metrics.csv").read_text()


def test_what_a_file_says_before_keras_opens_it(lent, tmp_path):
    facts = models.facts(str(lent))
    assert facts["input_shape"] == (16, 16, 3)
    with pytest.raises(UsageError, match=r"There is no file .*nothing\.keras"):
        models.facts(tmp_path / "nothing.keras")
    (tmp_path / "torn.keras").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"cut short or not a \.keras file"):
        models.facts(tmp_path / "torn.keras")
    keras.Sequential([keras.Input((5,)), layers.Dense(2)]).save(tmp_path / "rows.keras")
    with pytest.raises(DataError, match="takes no images"):
        models.facts(tmp_path / "rows.keras")
    assert json.loads(json.dumps(facts)) == {"input_shape": [16, 16, 3], "parameters": facts["parameters"]}


def test_networks_that_cannot_lend(tmp_path):
    flat = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(6), layers.Dense(4)])
    flat.save(tmp_path / "flat.keras")
    assert backbone(tmp_path / "flat.keras", (8, 8, 3), 2).get_layer(HEAD).input.shape == (None, 6)
    with pytest.raises(UsageError, match=r"takes images of 8x8x3 and cannot take 9x8x3: .* Give image_size=8"):
        backbone(tmp_path / "flat.keras", (9, 8, 3), 2)
    keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Activation("relu")]).save(
        tmp_path / "none.keras"
    )
    with pytest.raises(UsageError, match="no head to replace"):
        backbone(tmp_path / "none.keras", (8, 8, 3), 2)
    data = tmp_path / "data.npz"
    np.savez(data, x_train=coloured(30, 8).train.images, y_train=np.arange(30) % 3)
    with pytest.raises(UsageError, match=r"normalize='none' has nothing to act on: .*flat\.keras .*Leave it out"):
        kerascnn.train(
            model=str(tmp_path / "flat.keras"), data=str(data), batch_size=8, normalize="none", say=lambda line: None
        )
    with pytest.raises(
        UsageError, match=r"flat.keras does not say what it expects of pixels.*kerascnn adopt .*flat.keras --preprocess"
    ):
        kerascnn.train(model=str(tmp_path / "flat.keras"), data=str(data), batch_size=8, say=lambda line: None)
