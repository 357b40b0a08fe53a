import shutil

import h5py
import keras
import numpy as np
import pytest

import kerascnn
from kerascnn import models
from kerascnn.errors import DataError, UsageError
from kerascnn.training.transfer import freeze, frozen_layers, start_from


@pytest.fixture(scope="module")
def lender(tmp_path_factory):
    """A run on the shapes with batch normalisation in its network."""
    return kerascnn.train(
        model="cifar_net",
        batch_norm=True,
        data="shapes",
        image_size=16,
        epochs=1,
        batch_size=512,
        precision="float32",
        out=tmp_path_factory.mktemp("lender") / "run",
        say=lambda line: None,
    )


def small(num_classes=10):
    return models.cifar_net((16, 16, 3), num_classes, batch_norm=True)


def test_layers_of_equal_name_and_shape_are_filled(lender, tmp_path):
    theirs, labels = kerascnn.load(lender), lender.read("labels")
    same = small(len(labels))
    _, left = start_from(same, lender.folder, labels)
    assert left == []
    for a, b in zip(same.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    other = small(4)
    _, left = start_from(other, lender.folder, ["a", "b", "c", "d"])
    assert left == ["softmax", "bn"]
    np.testing.assert_array_equal(other.get_layer("conv3").get_weights()[0], theirs.get_layer("conv3").get_weights()[0])
    renamed = small(len(labels))
    head = renamed.get_layer("softmax").get_weights()
    _, left = start_from(renamed, lender.folder, [*labels[:-1], "another"])
    assert left == ["softmax", "bn"]  # other classes, another head and what follows it, though of the same shape
    np.testing.assert_array_equal(renamed.get_layer("softmax").get_weights()[0], head[0])
    assert start_from(small(4), lender / "best.keras", ["a"] * 4)[1] == ["softmax", "bn"]


def test_weights_files(lender, tmp_path):
    theirs = kerascnn.load(lender)
    theirs.save_weights(tmp_path / "x.weights.h5")
    model = small(4)
    _, left = start_from(model, tmp_path / "x.weights.h5", ["a"] * 4)
    assert {"softmax", "bn"} == set(left)
    np.testing.assert_array_equal(model.get_layer("conv1").get_weights()[0], theirs.get_layer("conv1").get_weights()[0])


def chain(*names):
    """Layers of equal shapes, so that only their names tell them apart."""
    layers = [keras.layers.Conv2D(4, 3, padding="same", name=name) for name in names]
    layers.insert(2, keras.layers.BatchNormalization(name="norm"))
    layers += [
        keras.layers.Reshape((64, 4)),
        keras.layers.Bidirectional(keras.layers.LSTM(3, dropout=0.5), name="rnn"),
    ]
    return keras.Sequential([keras.Input((8, 8, 4)), *layers, keras.layers.Dense(3, name="out")])


@pytest.mark.parametrize("kind", [".weights.h5", ".keras"])
def test_names_decide_where_the_layers_of_a_file_belong(tmp_path, kind):
    theirs, model = chain("conv1", "conv2"), chain("conv1", "conv1b", "conv2")
    weights = model.get_layer("conv1b").get_weights()
    (theirs.save_weights if kind == ".weights.h5" else theirs.save)(tmp_path / f"a{kind}")
    filled, left = start_from(model, tmp_path / f"a{kind}", ["a", "b", "c"])
    assert (filled, left) == (["conv1", "norm", "conv2", "rnn", "out"], ["conv1b"])
    np.testing.assert_array_equal(model.get_layer("conv1b").get_weights()[0], weights[0])
    for name in filled:
        for a, b in zip(model.get_layer(name).get_weights(), theirs.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_files_of_weights_that_cannot_serve(tmp_path):
    path = tmp_path / "a.weights.h5"
    chain("conv1", "conv2").save_weights(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is cut short or not a file of weights"):
        start_from(small(), path, ["a"] * 10)
    path.write_bytes(whole)
    with pytest.raises(
        UsageError, match=r"No layer of 'cifar_net' has the name and shape of one in .* Give model=NAME, "
    ):
        start_from(small(), path, ["a"] * 10)
    with h5py.File(path, "r+") as file:
        for group in file["layers"].values():
            del group["vars"].attrs["name"]
    with pytest.raises(UsageError, match="holds no names of layers"):
        start_from(small(), path, ["a"] * 10)


def test_patterns_ranges_and_the_last_layers():
    model = small()
    assert frozen_layers(model, "conv1, fc*") == ["conv1", "fc1", "fc2"]
    assert frozen_layers(model, "conv1..pool2") == ["conv1", "pool1", "pool1_bn", "conv2", "pool2"]
    names = frozen_layers(model, train_last=2)  # fc2 and softmax
    assert names[-1] == "fc1"
    assert "conv1" in names
    assert frozen_layers(model) == []


@pytest.mark.slow
def test_frozen_layers_and_their_batch_statistics_stay_in_training(lender, tmp_path):
    run = kerascnn.train(
        model="cifar_net",
        batch_norm=True,
        data="shapes",
        image_size=16,
        epochs=2,
        batch_size=512,
        precision="float32",
        start_from=str(lender.folder),
        freeze="conv1..conv4,pool*",
        out=tmp_path / "run",
        say=lambda line: None,
    )
    before, after = kerascnn.load(lender), kerascnn.load(run)
    for name in ("conv1", "pool1_bn", "conv4"):
        for a, b in zip(before.get_layer(name).get_weights(), after.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert (before.get_layer("fc2").get_weights()[0] != after.get_layer("fc2").get_weights()[0]).any()
    assert run.read("recipe")["start_from"] == str(lender.folder.resolve())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"freeze": "conv9"}, r"'cifar_net' has no layer 'conv9'\. Did you mean"),
        ({"freeze": "conv9..fc1"}, "has no layer 'conv9'"),
        ({"freeze": "fc1..conv1"}, "is empty: 'conv1' comes before 'fc1'"),
        ({"train_last": 8}, "train_last=8 is more than the 7 convolutions and dense layers"),
    ],
)
def test_bad_names(wrong, message):
    with pytest.raises(UsageError, match=message):
        frozen_layers(small(), **wrong)


@pytest.mark.slow
def test_a_run_goes_on_without_what_it_started_from(lender, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(lender.folder, "first")
    recipe = {**lender.read("recipe"), "start_from": "first", "schedule": "constant"}
    run = kerascnn.train(kerascnn.Recipe.from_dict(recipe), out="second", say=lambda line: None)
    shutil.rmtree("first")
    assert kerascnn.train(resume=run, epochs=2, say=lambda line: None).read("run")["result"]["epochs"] == 2
    with pytest.raises(UsageError, match="There is no run 'another'"):
        kerascnn.train(resume=run, start_from="another")


def test_other_errors(lender, tmp_path):
    with pytest.raises(UsageError, match="cannot both be given"):
        kerascnn.Recipe(freeze="conv1", train_last=2)
    with pytest.raises(UsageError, match="There is no run 'nowhere'"):
        kerascnn.train(start_from="nowhere", out=tmp_path / "x")
    (tmp_path / "x.h5").write_bytes(b"")
    with pytest.raises(UsageError, match=r"start_from='.*x\.h5' is no \.keras, .* Give one, or a run's folder or name"):
        start_from(small(), tmp_path / "x.h5", [])
    with pytest.raises(UsageError, match=r"There is no file .*gone\.keras"):
        start_from(small(), tmp_path / "gone.keras", [])
    (tmp_path / "torn.keras").write_bytes(b"PK")
    with pytest.raises(DataError, match="is cut short or not a"):
        start_from(small(), tmp_path / "torn.keras", [])
    with pytest.raises(UsageError, match="No layer of 'lenet5' has the name and shape"):
        start_from(models.lenet5(), lender.folder, [])
    model = small()
    with pytest.raises(UsageError, match="Nothing of 'cifar_net' is left to train"):
        freeze(model, [layer.name for layer in model.layers])
