import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import kerascnn
from kerascnn.errors import DataError
from kerascnn.using import exporting

tf = pytest.importorskip("tensorflow")

WITHOUT_THIS_PACKAGE = """
import json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
answer = model.serve_bytes([open(path, "rb").read() for path in sys.argv[2:]])
assert "keras" not in sys.modules or "kerascnn" not in sys.modules
labels = [label.decode() for label in answer["label"].numpy()]
classes = [name.decode() for name in model.classes()["classes"].numpy()]
print(json.dumps([labels, answer["probabilities"].numpy().tolist(), classes]))
"""


@pytest.fixture(scope="module")
def loaded(trained):
    return tf.saved_model.load(str(trained / "export" / "saved_model"))


@pytest.mark.slow
def test_plain_tensorflow_answers_like_predict(trained):
    paths = sorted(map(str, (trained.folder.parent / "photos").rglob("1*.png")))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THIS_PACKAGE, trained / "export" / "saved_model", *paths],
        capture_output=True, text=True, check=True, cwd=trained.folder,
    )  # fmt: skip
    labels, probabilities, classes = json.loads(done.stdout.splitlines()[-1])
    table = kerascnn.predict(trained, paths, top=3).sort_values(["image", "index"])
    assert classes == ["blue sky", "grass", "tomato"]
    assert labels == [classes[np.argmax(p)] for p in probabilities]
    ours = table["probability"].to_numpy().reshape(-1, 3)
    np.testing.assert_allclose(probabilities, ours, atol=1e-3)


def test_images_at_the_networks_size_give_the_same_probabilities(trained, loaded):
    images = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8)
    answer = loaded.serve(tf.constant(images))
    prepared = kerascnn.using.preprocessing(trained)
    expected = kerascnn.load(trained).predict(prepared(images), verbose=0)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)


def test_every_weight_is_written_once(trained):
    weights = 4 * kerascnn.load(trained).count_params()
    written = (trained / "export" / "saved_model" / "variables" / "variables.data-00000-of-00001").stat().st_size
    assert weights <= written < 1.1 * weights


def test_the_default_signature_is_serve(loaded):
    images = tf.constant(np.zeros((1, 16, 16, 3), np.uint8))
    answer = loaded.signatures["serving_default"](images)
    np.testing.assert_array_equal(answer["probabilities"], loaded.serve(images)["probabilities"])


@pytest.mark.slow
def test_a_difference_between_the_two_is_an_error(trained, monkeypatch):
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(kerascnn.errors.DataError, match=r"answers differently from the network"):
        kerascnn.export(trained, fresh=False)


@pytest.mark.parametrize("there", ["file", "link to nothing", "file below"])
def test_a_folder_that_cannot_be_written_is_a_sentence(there, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text("{}")
    export = tmp_path / "run" / "export"
    if there == "file":
        export.write_text("mine")
    else:
        export.symlink_to(tmp_path / ("nothing/at/all" if there == "link to nothing" else "run/recipe.json/export"))
    with pytest.raises(DataError, match=rf"^Nothing can be written into {export}: ") as refused:
        exporting.export(tmp_path / "run")
    assert str(refused.value).endswith(".")


@pytest.mark.slow
def test_an_ensemble_of_equals_is_one(trained, loaded, tmp_path):
    one = kerascnn.using.subject(trained)
    assert kerascnn.using.export_ensemble([one, one], tmp_path / "two") <= 1e-6
    images = tf.constant(np.random.default_rng(1).integers(0, 256, (3, 20, 30, 3), np.uint8))
    both = tf.saved_model.load(str(tmp_path / "two"))
    np.testing.assert_allclose(both.serve(images)["probabilities"], loaded.serve(images)["probabilities"], atol=1e-6)
    assert both.classes()["classes"].numpy().tolist() == loaded.classes()["classes"].numpy().tolist()


@pytest.mark.slow
def test_each_network_of_an_ensemble_has_its_own_preprocessing(trained, tmp_path):
    """The second one sees 12x12 grey pixels cut from 20x20, and has its classes in another order."""
    first = kerascnn.using.subject(trained)
    inputs = keras.Input((12, 12, 1))
    answers = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(inputs))
    labels = ["tomato", "blue sky", "grass"]
    second = kerascnn.adopt(keras.Model(inputs, answers), labels=labels, preprocess="-1-1", resize=20)
    difference = kerascnn.using.export_ensemble([first, second], tmp_path / "both")
    assert difference <= 1e-5
    loaded = tf.saved_model.load(str(tmp_path / "both"))
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    grey = [Image.fromarray(image).convert("L").resize((20, 20), Image.Resampling.BILINEAR) for image in images]
    pixels = np.stack([np.asarray(each, "float32")[4:16, 4:16, None] for each in grey]) / 127.5 - 1
    of_first = first.model.predict(first.preprocessing(images), verbose=0)
    of_second = second.model.predict(pixels, verbose=0)[:, [1, 2, 0]]
    expected = (of_first + of_second) / 2
    served = loaded.serve(tf.constant(images))
    np.testing.assert_allclose(served["probabilities"], expected, atol=2e-3)  # a rounded pixel more or less
    assert [name.decode() for name in served["label"].numpy()] == [first.labels[row.argmax()] for row in expected]


def test_an_ensemble_is_not_written_over_something_else(trained, tmp_path):
    one = kerascnn.using.subject(trained)
    (tmp_path / "mine").write_text("mine")
    for taken in (tmp_path, tmp_path / "mine"):
        with pytest.raises(kerascnn.errors.UsageError, match=r"holds something else\. Name a new folder"):
            kerascnn.using.export_ensemble([one, one], taken)
    assert (tmp_path / "mine").read_text() == "mine"
    other = dataclasses.replace(one, labels=("a", "b", "c"), name="other")
    with pytest.raises(kerascnn.errors.UsageError, match="other has other classes than lenet5"):
        kerascnn.using.export_ensemble([one, other], tmp_path / "new")
