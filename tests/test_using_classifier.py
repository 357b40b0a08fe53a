"""Anyone's model as a classifier: labels, preprocessing and sizes that are said once, and what is refused."""

import json
import re

import keras
import numpy as np
import pytest
from keras import layers

from kerascnn import cli
from kerascnn.errors import DataError, UsageError
from kerascnn.using import classifier as adopting
from kerascnn.using.applications import affine
from kerascnn.using.class_names import class_indices, unique
from kerascnn.using.classifier import adopt, application, keep, subject


def classifier(classes=3, size=(6, 8, 3), ending="softmax", first=(), name="theirs"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(size)
    x = inputs
    for layer in first:
        x = layer(x)
    x = layers.Conv2D(4, 3, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, activation=ending)(x), name=name)


IMAGES = np.random.default_rng(1).integers(0, 256, (5, 6, 8, 3), "uint8")


@pytest.mark.parametrize(
    ("preprocess", "expected"),
    [
        ("0-255", lambda x: x),
        ("0-1", lambda x: x / 255),
        ("-1-1", lambda x: x / 127.5 - 1),
        ("torch", lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        ("imagenet-mean", lambda x: x - [123.68, 116.779, 103.939]),
        ("caffe", lambda x: (x - [123.68, 116.779, 103.939])[..., ::-1]),
        ((0.5, 0.25), lambda x: (x / 255 - 0.5) / 0.25),
    ],
)
def test_what_pixels_become(preprocess, expected):
    prepared = adopt(classifier(), preprocess=preprocess).preprocessing
    np.testing.assert_allclose(prepared(IMAGES), expected(IMAGES.astype(float)), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_a_function_of_keras_applications_is_found_by_asking_it(mode):
    from keras.applications import imagenet_utils

    def preprocess_input(pixels):
        return imagenet_utils.preprocess_input(pixels, mode=mode)

    mean, std, bgr = affine(preprocess_input)
    assert bgr == (mode == "caffe")
    prepared = adopting.Preprocessing((6, 8), (6, 8), 3, mean, std, bgr)
    np.testing.assert_allclose(prepared(IMAGES), preprocess_input(IMAGES.astype("float32")), rtol=1e-5, atol=5e-5)


def test_a_function_that_mixes_channels_is_refused():
    with pytest.raises(UsageError, match="not one scale and shift"):
        affine(lambda pixels: pixels.mean(-1, keepdims=True) + 0.1 * pixels)


@pytest.mark.parametrize(
    "given",
    [
        ["cat", "dog", "sea"],
        {0: "cat", 2: "sea", 1: "dog"},
        {"0": "cat", "1": "dog", "2": "sea"},
        "json",
        "table",
        "txt",
    ],
)
def test_labels_in_every_form(tmp_path, given):
    files = {
        "json": ("labels.json", json.dumps(["cat", "dog", "sea"])),
        "table": ("labels.json", json.dumps({"0": "cat", "1": "dog", "2": "sea"})),
        "txt": ("labels.txt", "cat\ndog\nsea\n"),
    }
    if isinstance(given, str):
        name, text = files[given]
        given = tmp_path / name
        given.write_text(text)
    assert adopt(classifier(), labels=given, preprocess="0-1").labels == ("cat", "dog", "sea")


def test_labels_that_occur_twice_get_their_number():
    assert adopt(classifier(), labels=["crane", "dog", "crane"], preprocess="0-1").labels == (
        "crane",
        "dog",
        "crane (2)",
    )


def test_no_label_gets_the_name_of_another():
    assert unique(["a", "a (2)", "a"]) == ("a", "a (2)", "a (2) (2)")
    assert unique(["a (1)", "a", "a"]) == ("a (1)", "a", "a (2)")


def test_classes_that_are_spelled_as_two_labels():
    labels = ("crane", "zebra", "crane (2)")
    assert class_indices(["n01_crane", "crane"], ("n01 crane", "crane"), "x").tolist() == [0, 1]
    assert class_indices(["n02012849_crane", "n03126707_crane"], labels, "x").tolist() == [0, 2]
    assert class_indices(["crane", "n03126707_crane", "Zebra"], labels, "x").tolist() == [0, 2, 1]
    assert class_indices(["n03126707_crane", "crane (2)"], labels, "x").tolist() == [0, 2]
    with pytest.raises(UsageError, match=r"x has the class 'n03126707_crane', and .* 2 of that name. Rename .*'crane'"):
        class_indices(["n03126707_crane", "zebra"], labels, "x")


def test_labels_of_a_file_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\nsea\n", encoding="utf-8-sig")
    assert adopt(classifier(), labels=path, preprocess="0-1").labels == ("cat", "dog", "sea")


@pytest.mark.parametrize("scaling", [layers.Rescaling(1 / 255), layers.Normalization(mean=0.5, variance=1.0)])
def test_a_model_that_scales_pixels_itself_gets_them_as_they_are(scaling):
    adopted = adopt(classifier(first=[scaling]))
    np.testing.assert_array_equal(adopted.preprocessing(IMAGES), IMAGES.astype("float32"))
    assert "begins with scaling them itself" in adopted.notes[0]


def test_a_softmax_or_sigmoid_is_put_behind_scores():
    scores = classifier(ending=None)
    adopted = adopt(scores, preprocess="0-1", from_logits=True)
    values = adopted.model.predict(adopted.preprocessing(IMAGES), verbose=0)
    powers = np.exp(scores.predict(adopted.preprocessing(IMAGES), verbose=0).astype(float))
    np.testing.assert_allclose(values, powers / powers.sum(1, keepdims=True), rtol=1e-4)
    one = adopt(classifier(1, ending=None), preprocess="0-1", from_logits=True, labels=["no", "yes"])
    assert one.labels == ("no", "yes")
    assert 0 < float(one.model.predict(one.preprocessing(IMAGES), verbose=0).max()) < 1


def test_sizes_by_resize_and_crop():
    free = classifier(size=(None, None, 3))
    prepared = adopt(free, preprocess="0-1", resize=10, crop=6).preprocessing
    assert (prepared.resize_to, prepared.image_size) == ((10, 10), (6, 6))
    assert prepared(np.zeros((2, 10, 10, 3), "uint8")).shape == (2, 6, 6, 3)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (classifier(), {}, "cannot be guessed.*0-255, 0-1, -1-1, torch, imagenet-mean, caffe"),
        (classifier(), {"preprocess": "torsh"}, "'torsh'.*Did you mean 'torch'"),
        (classifier(), {"preprocess": "0-1", "labels": ["a", "b"]}, "2 labels, but the network has 3 classes"),
        (classifier(), {"preprocess": "0-1", "labels": {0: "a", 2: "b", 3: "c"}}, "not numbered from 0 to 2"),
        (classifier(), {"preprocess": "0-1", "labels": "none.json"}, "no file of labels none.json"),
        (classifier(), {"preprocess": "0-1", "crop": 5}, "not what theirs takes: 6x8"),
        (classifier(), {"preprocess": "0-1", "resize": 5}, "smaller than the 6x8"),
        (classifier(), {"preprocess": (0.5, 0.0)}, "std=0.0 is not allowed"),
        (classifier(), {"preprocess": ((0.1, 0.2), 1.0)}, r"mean=\(0.1, 0.2\) is not allowed"),
        (classifier(ending=None), {"preprocess": "0-1"}, "not probabilities.*from_logits=True"),
        (classifier(size=(None, None, 3)), {"preprocess": "0-1"}, "any size"),
        (classifier(size=(6, 8, 4)), {"preprocess": "0-1"}, "4 channels"),
        (keras.Sequential([keras.Input((5,)), layers.Dense(3)]), {}, r"inputs of shape \(None, 5\)"),
        (keras.Sequential([keras.Input((6, 8, 3)), layers.Conv2D(3, 3)]), {}, "outputs of shape"),
    ],
)
def test_what_cannot_be_adopted(model, options, message):
    with pytest.raises(UsageError, match=message):
        adopt(model, **options)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_what_was_said_is_kept_beside_the_file_and_read_again(tmp_path, suffix):
    path = tmp_path / f"theirs{suffix}"
    model = classifier()
    model.save(path)
    with pytest.raises(UsageError, match="cannot be guessed"):
        subject(path)
    first, file = keep(path, labels=["cat", "dog", "sea"], preprocess="caffe", resize=(12, 12))
    again = subject(path)
    assert file == tmp_path / "theirs.kerascnn.toml"
    assert again.labels == ("cat", "dog", "sea")
    assert vars(again.preprocessing) == vars(first.preprocessing)
    assert again.preprocessing.bgr
    inputs = again.preprocessing(np.zeros((2, 12, 12, 3), "uint8"))
    np.testing.assert_array_equal(again.model.predict(inputs, verbose=0), model.predict(inputs, verbose=0))
    file.write_text("labels = []")
    with pytest.raises(DataError, match="is damaged at 'crop'"):
        subject(path)


def test_a_network_of_keras_applications_and_one_of_ours():
    adopted = application("MobileNetV2")
    assert len(adopted.labels) == 1000
    assert (adopted.preprocessing.mean, adopted.preprocessing.bgr) == ((0.5,) * 3, False)
    assert any("freshly initialised" in note for note in adopted.notes)
    assert subject("lenet5").labels == tuple("0123456789")
    with pytest.raises(UsageError, match="Did you mean 'MobileNetV2'"):
        subject("applications:MobilNetV2")


def test_the_right_preprocessing_stands_out(tmp_path):
    """A network that compares red with blue, where pixels run from -1 to 1, is right only under that preprocessing."""
    from PIL import Image

    inputs = keras.Input((4, 4, 3))
    mean = layers.GlobalAveragePooling2D()(inputs)
    outputs = layers.Dense(2, activation="softmax", name="d")(mean)
    model = keras.Model(inputs, outputs)
    model.get_layer("d").set_weights([np.array([[9.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), np.array([-0.5, 0.5])])
    for name, red in (("n02391049_warm_red", 250), ("cold", 120)):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (4, 4), (red - i, 0, 0)).save(tmp_path / name / f"{i}.png")
    table = adopting.tried(model, tmp_path, labels=["Warm red", "Cold"])
    assert dict(zip(table["preprocess"], table["accuracy"], strict=True))["-1-1"] == 1.0
    assert (table["preprocess"][0], table["accuracy"][0], table["images"][0]) == ("-1-1", 1.0, 6)
    assert table["accuracy"].min() == 0.5
    with pytest.raises(UsageError, match=r"does not know: cold.*1 of 2 match"):
        adopting.tried(model, tmp_path, labels=["Warm red", "Cool"])


def test_layers_of_ones_own_file(tmp_path):
    source = """
import keras
class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""
    (tmp_path / "my_layers.py").write_text(source)
    assert adopting.import_custom_objects(tmp_path / "my_layers.py") == ["Twice"]
    try:
        twice = keras.saving.get_custom_objects()["Twice"]
        classifier(first=[twice()]).save(tmp_path / "own.keras")
        assert adopt(tmp_path / "own.keras", preprocess="0-1").labels == ("0", "1", "2")
    finally:
        keras.saving.get_custom_objects().pop("Twice")
    with pytest.raises(DataError, match="Twice"):
        adopt(tmp_path / "own.keras", preprocess="0-1")
    (tmp_path / "bad.py").write_text("1 / 0")
    with pytest.raises(DataError, match="ZeroDivisionError"):
        adopting.import_custom_objects(tmp_path / "bad.py")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adopt"], "Type --preprocess with one of 0-255, .*or MEAN,STD"),
        (["adopt", "--preprocess", "0-1", "--crop", "5"], "--crop 5x5 is not what .*Leave --crop out"),
        (["adopt", "--preprocess", "0-1", "--resize", "5"], "--resize 5 is smaller"),
        (["adopt", "--preprocess", "0.5,0"], "--preprocess "),
    ],
)
def test_the_command_speaks_of_options(tmp_path, capfd, arguments, message):
    path = tmp_path / "theirs.keras"
    classifier().save(path)
    assert cli.run_command([arguments[0], str(path), *arguments[1:]]) == 2
    said = capfd.readouterr().err.splitlines()[-1]
    assert re.search(message, said)
    assert not re.search(r"\b(crop|resize|preprocess|from_logits)=", said)


def test_a_file_that_was_not_adopted_names_the_command(tmp_path):
    path = tmp_path / "theirs.keras"
    classifier().save(path)
    with pytest.raises(UsageError, match=f"kerascnn adopt {path} --preprocess"):
        subject(path)


def test_a_networks_name_is_no_run_because_a_folder_is_called_so(call, tmp_path, make_folder):
    """What looks at it write lies in such a folder."""
    (tmp_path / "lenet5" / "explain").mkdir(parents=True)
    code, _, err = call("predict", "lenet5", make_folder({"a": 1}))
    assert (code, err) == (0, "")
