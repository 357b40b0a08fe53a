"""Exported files answer as the network does, carry labels and preprocessing, and say what is wrong with them."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import kerascnn
from kerascnn import backends, runs, using
from kerascnn.errors import DataError, UsageError
from kerascnn.using import exporting, model_card
from kerascnn.using.formats import FORMATS, check_installed, missing, packages

pytest.importorskip("tensorflow")

EXACT = [
    pytest.param(name, marks=[] if FORMATS.facts(name)["suffix"] else pytest.mark.slow)  # a SavedModel takes seconds
    for name in FORMATS.names()
    if FORMATS.facts(name)["exact"]
]
FILES = [name for name in FORMATS.names() if FORMATS.facts(name)["suffix"]]
WITHOUT_KERAS = """
import sys
from kerascnn.cli import run_command
assert run_command(sys.argv[1:]) == 0
print(sorted({"keras", "tensorflow", "jax", "torch", "pandas"} & set(sys.modules)))
"""


def needs(name):
    if missing(name):
        pytest.skip(f"needs {', '.join(missing(name))}: pip install 'kerascnn[{FORMATS.facts(name)['extra']}]'")


@pytest.fixture(scope="module")
def files(trained):
    """Function: format -> what `export` wrote of the run, once."""
    known = {}

    def file(name):
        needs(name)
        if name not in known:
            known[name] = kerascnn.export(trained, name, fresh=False)
        return known[name]

    return file


@keras.saving.register_keras_serializable("kerascnn tests")
class Odd(keras.layers.Layer):
    """An operation that only TensorFlow has."""

    def call(self, x):
        import tensorflow as tf

        return tf.math.betainc(tf.abs(x) + 1, tf.abs(x) + 1, tf.sigmoid(x))


def mean_colour(policy="float32"):
    """A network whose probabilities are the softmax of the mean of each channel of its input."""
    inputs = keras.Input((4, 4, 3))
    inner = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.AveragePooling2D(4, dtype=policy)], name="inner")
    x = keras.layers.Flatten(dtype=policy)(inner(inputs))
    return keras.Model(inputs, keras.layers.Softmax(dtype="float32")(x), name="mean_colour")


def test_listing_formats_imports_neither_keras_nor_tensorflow():
    done = subprocess.run([sys.executable, "-c", WITHOUT_KERAS, "formats"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("saved-model", "litert-int8", "model.onnx"))
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", FILES)
def test_a_file_answers_as_the_run_does(trained, files, name):
    photos = trained.folder.parent / "photos"
    ours, theirs = (kerascnn.predict(run, photos, top=3) for run in (trained, str(files(name).path)))
    assert list(theirs["image"]) == list(ours["image"])
    if FORMATS.facts(name)["exact"]:
        assert list(theirs["label"]) == list(ours["label"])
        np.testing.assert_allclose(theirs["probability"], ours["probability"], atol=1e-5)
    else:
        first = ours["rank"] == 1
        assert (ours[first]["label"] == theirs[first]["label"]).mean() >= 0.98
        assert 0 < files(name).difference < 0.1


@pytest.mark.parametrize("name", EXACT)
def test_crop_scaling_and_blue_first_are_inside(tmp_path, monkeypatch, name):
    """The answer worked out in float64: softmax of the mean blue, green and red of the central 4x4 pixels."""
    needs(name)
    monkeypatch.chdir(tmp_path)
    classifier = using.adopt(mean_colour(), labels=list("bgr"), preprocess="caffe", resize=(6, 8), crop=4)
    result = exporting.export(classifier, name, fresh=False)
    pixels = np.random.default_rng(0).integers(90, 130, (3, 6, 8, 3), np.uint8)
    means = pixels[:, 1:5, 2:6].mean((1, 2)) - [123.68, 116.779, 103.939]
    powers = np.exp(means[:, ::-1])
    answers = sys.modules[FORMATS.get(name).__module__].opened(result.path)(pixels)
    np.testing.assert_allclose(answers, powers / powers.sum(1, keepdims=True), rtol=1e-4)
    assert not any(".tmp" in path.name for path in result.path.parent.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_predict_takes_a_file_without_keras(trained, files, name):
    path, image = files(name).path, trained.folder.parent / "photos" / "grass" / "0.png"
    words = [sys.executable, "-c", WITHOUT_KERAS, "predict", path, image, "--json", "--top", "2"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=trained.folder)
    printed, _, modules = done.stdout.strip().rpartition("\n")
    assert (modules, done.stderr) == ("[]", "")
    rows = kerascnn.predict(str(path), image, top=2).to_dict("records")
    assert json.loads(printed) == rows
    assert rows[0]["label"] == "grass"


def test_shards_of_what_an_exported_file_predicts_are_merged(trained, files, call, tmp_path):
    """72 images make three blocks of 32; the file tells itself from another one."""
    path, photos = files("litert").path, trained.folder.parent / "photos"
    _, expected, _ = call("predict", path, photos, "--csv")
    for number in (3, 1, 2):
        code, _, err = call("predict", path, photos, "--shard", f"{number}/3")
        assert (code, err) == (0, "")
    shards = [tmp_path / f"predict-{number}-of-3.npz" for number in (1, 2, 3)]
    assert call("merge", *shards, "-o", "all.csv")[0] == 0
    assert (tmp_path / "all.csv").read_text() == expected
    assert call("predict", files("litert-int8").path, photos, "--shard", "1/3", "--out", "other.npz")[0] == 0
    code, _, err = call("merge", "other.npz", *shards[1:], "-o", "x.csv")
    assert (code, "do not belong to one job. They differ in: the network." in err) == (2, True), err


def test_the_command_reloads_a_file_in_a_fresh_process_and_compares(trained, call):
    needs("litert")
    code, out, err = call("export", trained.folder, "--format", "litert")
    assert (code, err) == (0, "")
    path = trained.folder / "export" / "model.tflite"
    lines = out.splitlines()
    assert lines[0].startswith(f"{path}  (reloaded in a fresh process; probabilities differ by at most ")
    assert lines[0].endswith(" test images)")
    assert lines[1] == f"{path}.md  (model card)"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saved-model", "onnx"])
def test_every_format_is_compared_in_a_fresh_process(trained, name):
    needs(name)
    result = kerascnn.export(trained, name)
    assert result.kind == "test images"
    assert result.difference <= 1e-4


@pytest.mark.slow
@pytest.mark.skipif(backends.backend() != "tensorflow", reason="starts with TensorFlow")
def test_another_backend_leaves_writing_to_tensorflow(trained):
    needs("litert")
    code = "import sys, kerascnn; made = kerascnn.export(sys.argv[1], 'litert'); print(made.path, made.images)"
    done = subprocess.run(
        [sys.executable, "-c", code, trained.folder], capture_output=True, text=True, check=True, cwd=trained.folder,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )  # fmt: skip
    path, images = done.stdout.split()[-2:]
    assert path.endswith("model.tflite")
    assert int(images) == trained.read("data")["splits"]["test"]["images"]


def test_eight_bits_are_smaller_and_their_accuracy_is_told(trained, files):
    whole, eighth = files("litert"), files("litert-int8")
    assert eighth.num_bytes < whole.num_bytes / 2  # a quarter of the weights, and what is not weights
    count, before, after = eighth.tested
    result = trained.read("run")["result"]
    assert (count, before) == (result["images"], result["accuracy"])
    assert f"accuracy {100 * after:.2f}% on {count} test images" in eighth.card.read_text()


def test_eight_bits_that_answer_otherwise_are_not_kept(trained, files, monkeypatch):
    result = files("litert-int8")
    monkeypatch.setattr(exporting, "LEAST_EQUAL", 1.5)
    before = result.path.read_bytes()
    with pytest.raises(DataError, match=r"finds another class than the network in 0 of .* It was not kept\."):
        kerascnn.export(trained, "litert-int8", fresh=False)
    assert result.path.read_bytes() == before


def test_eight_bits_that_cost_accuracy_are_not_kept():
    """Five in a thousand may be lost; of fewer test images a single one may weigh more."""
    model = types.SimpleNamespace(name="net")
    for tested in (None, (1000, 0.9, 0.895), (999, 0.9, 0.5), (1000, 0.9, 0.91)):
        exporting._check_accuracy(model, {"title": "LiteRT"}, tested)
    with pytest.raises(DataError, match=r"right for 89.40% of 1,000 test .* 90.00%: at most 0.5 points may be lost"):
        exporting._check_accuracy(model, {"title": "LiteRT"}, (1000, 0.9, 0.894))


def test_eight_bits_need_images(tmp_path, monkeypatch):
    needs("litert-int8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="calibrated on training images, and mean_colour has no data of its own"):
        exporting.export(using.adopt(mean_colour(), preprocess="0-1"), "litert-int8")


def test_mixed_precision_is_written_in_float32(tmp_path, monkeypatch):
    needs("litert")
    monkeypatch.chdir(tmp_path)
    classifier = using.adopt(mean_colour("mixed_bfloat16"), preprocess="0-255")
    result = exporting.export(classifier, "litert", fresh=False)
    assert result.difference <= 1e-5
    assert "mixes precisions" in result.card.read_text()
    assert classifier.model.get_layer("inner").layers[-1].compute_dtype == "bfloat16"  # the network itself stays


@pytest.mark.parametrize("name", ["litert", "onnx"])
def test_the_layer_that_a_format_cannot_express_is_named(tmp_path, monkeypatch, name):
    needs(name)
    monkeypatch.chdir(tmp_path)
    layers = [keras.layers.Conv2D(2, 3, name="fine"), Odd(name="strange"), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((6, 6, 1)), *layers, keras.layers.Dense(3, "softmax")], name="net")
    with pytest.raises(DataError, match=r"cannot express net: its layer 'strange' \(Odd\) is the first .* Betainc\."):
        exporting.export(using.adopt(model, preprocess="0-1"), name, fresh=False)
    assert list((tmp_path / "net" / "export").iterdir()) == []


def test_a_missing_package_is_named_with_what_to_type(monkeypatch, call, trained):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(DataError, match=r"needs ai_edge_litert, which is not installed\. Type: pip install 'keras"):
        check_installed("litert")
    code, _, err = call("export", trained.folder, "--format", "litert-int8")
    assert (code, "pip install 'kerascnn[litert]'" in err) == (1, True)
    assert "pip install 'kerascnn[litert]'" in call("formats")[1]


def test_classes_are_compared_on_more_images_than_probabilities(trained, files):
    """Where there are fewer images than that, all are compared."""
    assert files("litert-int8").images == trained.read("data")["splits"]["test"]["images"]
    assert exporting.MOST_CLASSIFIED == 10 * exporting.MOST_COMPARED
    assert exporting.evenly(10_000, exporting.MOST_CLASSIFIED)[[0, -1]].tolist() == [0, 9_999]
    assert exporting.evenly(3, 100).tolist() == [0, 1, 2]


def test_unknown_formats_are_answered_with_the_nearest(call, trained):
    code, _, err = call("export", trained.folder, "--format", "litert-int9")
    assert code == 2
    assert "Unknown format 'litert-int9'. Did you mean 'litert-int8'" in err


def test_a_card_has_data_recipe_metrics_limits_and_hash(trained):
    needs("litert")
    result = kerascnn.export(trained, "litert", fresh=False)
    card, low = result.card.read_text(), trained.read("run")["result"]["accuracy_interval"][0]
    assert result.sha256 == hashlib.sha256(result.path.read_bytes()).hexdigest()
    for told in (result.sha256, "| train | ", f"(95% interval {100 * low:.2f} to ", "| learning\\_rate | 0.003 |"):
        assert told in card
    for part in ("Use", "Data", "Recipe", "Metrics", "Limits"):
        assert f"\n## {part}\n" in card
    assert "blue sky, grass, tomato" in card


def test_the_hash_of_a_folder_depends_on_names_and_contents(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"12")
    first = model_card.size_and_hash(tmp_path / "a")
    assert first == (2, hashlib.sha256(b"x\x002\x0012").hexdigest())
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert model_card.size_and_hash(tmp_path / "a")[1] != first[1]


def test_names_are_shown_in_a_card_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classifier = using.adopt(mean_colour(), labels=["a|b", "*c*\n# d", "<e>"], preprocess="0-1")
    result = exporting.Exported(
        tmp_path / "m", tmp_path / "m.md", "saved-model", 4, "images of noise", 0.0, 1.0, 1, "f"
    )
    assert "in this order: a\\|b, \\*c\\* \\# d, \\<e>." in model_card.text(classifier, result)


def test_a_damaged_file_is_a_sentence(files, tmp_path, call):
    image, content = tmp_path / "a.png", bytearray(files("litert").path.read_bytes())
    Image.new("RGB", (16, 16)).save(image)
    content[len(content) // 4] ^= 1
    (tmp_path / "flipped.tflite").write_bytes(content)
    (tmp_path / "torn.tflite").write_bytes(content[: len(content) // 2])
    with zipfile.ZipFile(tmp_path / "empty.tflite", "w") as archive:
        archive.writestr("labels.txt", "a\n")
    for name, said in {
        "flipped": "is damaged: its network does not agree with its checksum",
        "torn": "carries no labels and no preprocessing",
        "empty": "carries no labels and no preprocessing",
    }.items():
        code, _, err = call("predict", f"{name}.tflite", image)
        assert (code, said in err) == (1, True), err
    assert call("predict", "none.tflite", image)[::2] == (2, "kerascnn: There is no file none.tflite.\n")


def test_a_damaged_onnx_file_is_a_sentence(files, tmp_path, call):
    onnx = pytest.importorskip("onnx")

    result = files("onnx")
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    (tmp_path / "torn.onnx").write_bytes(result.path.read_bytes()[:1000])
    foreign = onnx.load(result.path)
    foreign.ClearField("metadata_props")
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for name, said in {"torn": "cannot be loaded by ONNX Runtime", "foreign": "carries no labels"}.items():
        code, _, err = call("predict", f"{name}.onnx", tmp_path / "a.png")
        assert (code, said in err) == (1, True), err


def test_other_commands_say_that_only_predict_takes_a_file(call):
    code, _, err = call("evaluate", "model.tflite")
    assert code == 2
    assert "model.tflite is an exported network, which only kerascnn predict takes" in err
    code, _, err = call("predict", "model.tflite", ".", "--evaluate")
    assert (code, "--evaluate takes a run or a model file" in err) == (2, True)


def test_a_run_without_its_data_is_compared_on_its_samples(trained, tmp_path, monkeypatch):
    needs("litert")
    shutil.copytree(trained.folder, tmp_path / "moved")
    recipe = trained.read("recipe")
    runs.Run(tmp_path / "moved").write("recipe", {**recipe, "data": str(tmp_path / "gone")})
    result = kerascnn.export(tmp_path / "moved", "litert", fresh=True)
    assert (result.kind, result.images) == ("sample images", len(list((tmp_path / "moved" / "samples").glob("*.png"))))


def test_the_script_of_the_page_reads_a_file_with_litert_alone(trained, files, tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "export.md").read_text()
    (script,) = re.findall(r"^```\n(import .*?)^```$", page, re.MULTILINE | re.DOTALL)
    photo = trained.folder.parent / "photos" / "tomato" / "1.png"
    words = [sys.executable, "-c", script, files("litert").path, photo]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    label, probability = done.stdout.split()
    assert label == "tomato"
    expected = kerascnn.predict(trained, photo, top=1)["probability"][0]
    assert abs(float(probability) - expected) < 0.01


def test_running_a_file_may_need_less_than_writing_it():
    assert packages("onnx", run=True) == ("onnxruntime",)
    for name in ("onnx", "html"):
        assert packages(name) == ("tf2onnx", "onnxruntime")
    assert packages("litert", run=True) == packages("litert") == ("ai_edge_litert",)
