import sys

import keras
import numpy as np
import pandas
import pytest
from keras import layers

from kerascnn import explain
from kerascnn.commands.features import write_features
from kerascnn.errors import UsageError
from kerascnn.explain.recorded import activations
from kerascnn.using.features import convolutional, features


def dense_network():
    """6x6 images; a place of the maps moves by two pixels."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    x = layers.Dense(5, activation="relu", name="hidden")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dense(7, name="scores")(x)
    return keras.Model(inputs, layers.Softmax(name="softmax")(x), name="small")


def pooled_network():
    inner = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.Conv2D(6, 3, padding="same", activation="relu")], name="in"
    )
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            inner,
            layers.GlobalAveragePooling2D(name="average"),
            layers.Dense(5, name="hidden"),
            layers.Dense(2, activation="softmax", name="output"),
        ],
        name="pooled",
    )


@pytest.mark.parametrize(
    ("make", "layer"), [(dense_network, "scores"), (dense_network, "pool"), (pooled_network, "hidden")]
)
def test_at_its_own_size_it_is_the_ordinary_forward_pass(make, layer):
    model = make()
    images = np.random.default_rng(0).normal(size=(3, *model.input_shape[1:])).astype("float32")
    weights = [w.copy() for w in model.get_weights()]
    values = np.asarray(convolutional(model, layer)(images, training=False))
    expected = explain.activations(model, images, layer)
    np.testing.assert_allclose(values.reshape(expected.shape), expected, atol=1e-5)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert model.get_layer(layer).output is not None  # still called once


def test_on_a_larger_image_each_place_is_the_forward_pass_of_its_part():
    model = dense_network()
    images = np.random.default_rng(1).normal(size=(2, 10, 8, 3)).astype("float32")
    maps = np.asarray(convolutional(model, "hidden")(images, training=False))
    assert maps.shape == (2, 3, 2, 5)
    for row in range(3):
        for column in range(2):
            part = images[:, 2 * row : 2 * row + 6, 2 * column : 2 * column + 6]
            np.testing.assert_allclose(maps[:, row, column], explain.activations(model, part, "hidden"), atol=1e-5)


def test_features_by_hand():
    """Mean over the places and the mirror image, length 1 at each scale, then the mean of the scales or both."""
    model, rng = dense_network(), np.random.default_rng(2)
    images = {6: rng.normal(size=(5, 6, 6, 3)).astype("float32"), 8: rng.normal(size=(5, 8, 8, 3)).astype("float32")}

    def unit(values):
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    def ordinary(part):
        return explain.activations(model, part, "scores").astype("float64")

    small = unit((ordinary(images[6]) + ordinary(images[6][:, :, ::-1])) / 2)
    parts = [images[8][:, r : r + 6, c : c + 6] for r in (0, 2) for c in (0, 2)]
    mirrored = [images[8][:, r : r + 6, c : c + 6][:, :, ::-1] for r in (0, 2) for c in (0, 2)]
    # The mirror image's places are those of the image, since 8 - 6 is even.
    large = unit(np.mean([ordinary(part) for part in parts + mirrored], 0))
    np.testing.assert_allclose(features(model, images, "scores"), unit((small + large) / 2), atol=1e-5)
    stacked = features(model, images, "scores", aggregate="stack", batch_size=2)
    np.testing.assert_allclose(stacked, np.concatenate([small, large], 1) / np.sqrt(2), atol=1e-5)
    np.testing.assert_allclose(features(model, images[6], "scores"), small, atol=1e-5)
    assert features(model, images[6], "scores", flip=False) == pytest.approx(unit(ordinary(images[6])), abs=1e-5)


def test_what_cannot_be_is_told():
    model = dense_network()
    small = np.zeros((2, 4, 4, 3), "float32")
    with pytest.raises(UsageError, match=r"scales=4 is smaller than small takes: its images have 6x6 pixels"):
        features(model, {4: small}, "scores")
    with pytest.raises(UsageError, match="gives the class probabilities, which are not features"):
        features(model, np.zeros((2, 6, 6, 3)), "softmax")
    with pytest.raises(UsageError, match="aggregate 'sum'"):
        features(model, small, "scores", aggregate="sum")
    with pytest.raises(UsageError, match="the same number of images at each"):
        features(model, {6: np.zeros((2, 6, 6, 3)), 8: np.zeros((3, 8, 8, 3))}, "scores")
    inputs = keras.Input((4, 4, 1))
    x = layers.Dense(3, name="dense")(layers.Reshape((16,), name="shaped")(inputs))
    with pytest.raises(UsageError, match=r"'shaped' of fixed works at one size of image only \(Reshape\)"):
        convolutional(keras.Model(inputs, x, name="fixed"), "dense")


def test_the_command_writes_what_the_library_gives(call, trained, tmp_path):
    import kerascnn
    from kerascnn import using

    photos = trained.folder.parent / "photos"
    code, out, err = call("features", trained.folder, photos, "--layer", "f6", "--scales", "16,20", "-o", "f.npz")
    assert (code, err) == (0, "")
    assert "f.npz: 72 images, 84 features of f6" in out
    arrays = np.load(tmp_path / "f.npz")
    classifier = using.subject(trained)
    images = {}
    for side in (16, 20):
        loaded = kerascnn.datasets.load(str(photos), image_size=side, validation=0, test=0)
        images[side] = classifier.preprocessing.scale(loaded.train.images[:])
    expected = features(classifier.model, images, "f6")
    np.testing.assert_allclose(arrays["features"], expected, atol=1e-5)
    assert arrays["class_names"][arrays["labels"]].tolist() == [file.rsplit("/")[-2] for file in arrays["files"]]
    code, _, err = call("features", trained.folder, photos, "--layer", "f6", "--scales", "12")
    assert code == 2
    assert "--scales 12 is smaller than lenet5 takes" in err
    assert call("features", trained.folder, photos, "--layer", "f6", "-o", "f.csv")[0] == 2


def test_images_smaller_than_the_filters_of_a_network_that_takes_any_size():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(2, 5, name="conv")(inputs)
    x = layers.Conv2D(2, 5, name="deep")(layers.MaxPooling2D(2)(x))
    answers = layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, answers, name="any_size")
    for side in (3, 5, 13):
        with pytest.raises(UsageError, match=f"scales={side} is smaller than what layer 'deep' of any_size sees"):
            features(model, np.zeros((1, side, side, 3)), "deep")
    assert features(model, np.zeros((1, 14, 14, 3)), "deep").shape == (1, 2)


def test_without_pyarrow_the_command_says_what_to_install(call, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = call("features", trained.folder, "digits", "--layer", "f6", "-o", "f.parquet")
    assert code == 2
    assert "--out f.parquet needs pyarrow: pip install 'kerascnn[parquet]'" in err


def test_a_parquet_file_holds_what_the_npz_file_holds(call, trained, tmp_path):
    pytest.importorskip("pyarrow")
    for name in ("f.npz", "f.parquet"):
        code, out, err = call("features", trained.folder, trained.folder.parent / "photos", "--layer", "f6", "-o", name)
        assert (code, err) == (0, "")
        assert f"{name}: 72 images, 84 features of f6" in out
    arrays, table = np.load(tmp_path / "f.npz"), pandas.read_parquet(tmp_path / "f.parquet")
    assert table.columns.tolist() == ["file", "split", "label", "class", "features"]
    np.testing.assert_array_equal(np.stack(table["features"]), arrays["features"])
    assert table["file"].tolist() == arrays["files"].tolist()
    assert table["split"].tolist() == arrays["splits"].tolist()
    assert table["label"].tolist() == arrays["labels"].tolist()
    assert table["class"].tolist() == arrays["class_names"][arrays["labels"]].tolist()


def test_a_parquet_file_of_images_that_are_no_files(tmp_path):
    pytest.importorskip("pyarrow")
    arrays = {
        "features": np.eye(2, dtype="float32"),
        "files": np.array([]),
        "labels": np.array([], int),
        "class_names": np.array([]),
        "splits": np.array(["train", "test"]),
        "layer": np.array("f6"),
    }
    write_features(tmp_path / "f.parquet", arrays, {})
    table = pandas.read_parquet(tmp_path / "f.parquet")
    assert table.columns.tolist() == ["split", "features"]
    np.testing.assert_array_equal(np.stack(table["features"]), arrays["features"])


def test_means_of_mixed_bfloat16_maps_are_taken_in_float32():
    """A sum of 3,136 numbers of 1.5 stalls at 512 in bfloat16."""
    conv = keras.layers.Conv2D(
        1, 1, bias_initializer=keras.initializers.Constant(1.5), dtype="mixed_bfloat16", name="c"
    )
    other = keras.layers.Conv2D(1, 1, bias_initializer="ones", dtype="mixed_bfloat16", name="d")
    inputs = keras.Input((56, 56, 1))
    both = keras.layers.Concatenate(name="both")([conv(inputs), other(inputs)])
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling2D()(both))
    values = features(keras.Model(inputs, outputs), np.zeros((1, 56, 56, 1), "float32"), "both")
    np.testing.assert_allclose(values[0], np.array([1.5, 1]) / np.hypot(1.5, 1), rtol=1e-3)


def test_features_are_those_of_the_call_that_is_named():
    inputs = keras.Input((6, 6, 2))
    twice = keras.layers.Conv2D(2, 3, padding="same", activation="relu", name="c")
    x = keras.layers.GlobalAveragePooling2D()(twice(twice(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    images = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype("float32")
    for name in ("c#1", "c#2"):
        expected = activations(model, images, name).mean((1, 2))
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(features(model, images, name, flip=False), expected, rtol=1e-4)


@pytest.mark.parametrize("keepdims", [False, True])
def test_global_pooling_of_a_network_of_any_size(keepdims):
    inputs = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(4, 3, padding="same", name="maps")(inputs)
    x = keras.layers.GlobalAveragePooling2D(keepdims=keepdims, name="pool")(maps)
    x = keras.layers.Flatten()(keras.layers.Multiply()([maps, x])[:, 0, 0]) if keepdims else x
    model = keras.Model(
        inputs, keras.layers.Dense(2, activation="softmax", name="scores")(keras.layers.Dense(3, name="d")(x))
    )
    images = np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype("float32")
    if keepdims:
        with pytest.raises(UsageError, match=r"'pool' of .* works at one size of image only"):
            features(model, images, "d")
        return
    expected = activations(model, images, "d")
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(features(model, images, "d", flip=False), expected, rtol=1e-4)
