"""Probes: scikit-learn called by hand, pencil-sized pooling, and a network whose first layer tells nothing."""

import sys

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from kerascnn.errors import UsageError
from kerascnn.experiments.classifiers import chance, fitted
from kerascnn.experiments.probes import pooled, pooled_features, probes, scaled


def test_pooling_by_pencil():
    maps = np.arange(10.0).reshape(1, 5, 2, 1)
    # rows 0-1 and 2-4; columns stay: two are fewer than three
    np.testing.assert_allclose(pooled(maps, 2)[0, :, :, 0], [[1, 2], [6, 7]])
    np.testing.assert_allclose(pooled(maps, 1)[0, 0, 0], [4.5])
    np.testing.assert_array_equal(pooled(maps, 9), maps)
    np.testing.assert_array_equal(pooled(maps[:, 0, 0], 2), maps[:, 0, 0])


@pytest.fixture(scope="module")
def task():
    """Class: whether the bright spot's colour is the first or the second. The first layer sums the two colours."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = rng.normal(0, 0.3, (120, 8, 8, 2)).astype("float32")
    for image, label in zip(images, labels, strict=True):
        row, column = rng.integers(0, 6, 2)
        image[row : row + 2, column : column + 2, label] += 3
    inputs = keras.Input((8, 8, 2))
    blind = layers.Conv2D(1, 1, use_bias=False, name="blind")(inputs)
    seeing = layers.Conv2D(2, 1, use_bias=False, name="seeing")(inputs)
    means = layers.GlobalAveragePooling2D(name="means")(layers.Concatenate(name="both")([blind, seeing]))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax", name="scores")(means), name="colours")
    model.get_layer("blind").set_weights([np.ones((1, 1, 2, 1))])
    model.get_layer("seeing").set_weights([np.eye(2).reshape(1, 1, 2, 2)])
    return model, images, labels


def test_what_a_layer_does_not_hold_cannot_be_read_off_it(task):
    model, images, labels = task
    result = probes(model, images[:80], labels[:80], images[80:], labels[80:], ["blind", "seeing"])
    table = result.table.set_index(["layer", "classifier"])
    assert table["accuracy"]["seeing", "svm"] == table["accuracy"]["seeing", "softmax"] == 1
    assert table["accuracy"]["blind", "svm"] < 0.75
    assert dict(table["features"]) == {
        (layer, kind): count for layer, count in (("blind", 4), ("seeing", 8)) for kind in ("svm", "softmax")
    }
    assert any("svm: accuracy rises from blind to seeing" in said for said in result.findings)
    assert len(result.figure().axes) == 1


def test_accuracies_are_scikit_learns(task):
    model, images, labels = task
    train, test = images[:80], images[80:]
    result = probes(model, train, labels[:80], test, labels[80:], "seeing", places=8, strengths=[0.01], batch_size=7)
    scaler = StandardScaler().fit(train.reshape(80, -1))
    for kind, classifier in (
        ("svm", LinearSVC(C=0.01, dual="auto", random_state=0)),
        ("softmax", LogisticRegression(C=0.01, max_iter=2000, tol=1e-3)),
    ):
        classifier.fit(scaler.transform(train.reshape(80, -1)), labels[:80])
        expected = classifier.predict(scaler.transform(test.reshape(40, -1))) == labels[80:]
        np.testing.assert_array_equal(result.arrays[f"seeing/{kind}"], expected)


def test_a_solver_that_does_not_converge_says_nothing_and_is_measured():
    """Warnings are errors in tests. The features are one number and a thousandth of noise; the labels are noise."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 1)) + 1e-3 * rng.normal(size=(60, 70)), np.arange(60) % 2
    chosen = fitted(scaled("svm", 0), features, labels, [10.0], 3, 0)
    assert 0.3 < chosen.best_score_ < 0.7
    with pytest.raises(ConvergenceWarning):
        chosen.best_estimator_.fit(features, labels)


def test_the_network_stays_as_it_is(task, tmp_path):
    model, images, labels = task
    before = [weight.copy() for weight in model.get_weights()]
    path = probes(model, images[:60], labels[:60], images[60:], labels[60:], ["means"], classifiers=["svm"]).save(
        tmp_path
    )
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert path == tmp_path / "probes.png"
    assert (tmp_path / "probes.csv").read_text().startswith("layer,features,classifier")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": "blend"}, "Did you mean"),
        ({"layers": "blind,scores"}, "'scores' of colours gives the class probabilities, which are not features"),
        ({"classifiers": ["swm"]}, "svm"),
        ({"labels": np.zeros(3, int)}, "80 images, and there are 3 labels"),
        ({"labels": np.zeros(80, int)}, "needs two or more classes"),
        ({"labels": np.eye(80, dtype=int)[0]}, "the smallest of 2 has 1"),
        ({"folds": 1}, "folds=1 is not allowed"),
    ],
)
def test_bad_input(task, changes, message):
    model, images, labels = task
    given = {"images": images[:80], "labels": labels[:80], "test_images": images[80:], "test_labels": labels[80:]}
    with pytest.raises(UsageError, match=message):
        probes(model, **{**given, "layers": "blind", **changes})


def test_the_scale_of_a_feature_does_not_matter(task):
    """Each feature is brought to mean 0 and standard deviation 1: labels that are noise are guessed the same."""
    model, images, _ = task
    labels = np.random.default_rng(1).integers(0, 2, 120)
    given = images[:80], labels[:80], images[80:], labels[80:]
    before = probes(model, *given, "seeing", strengths=[0.01])
    layer = model.get_layer("seeing")
    weights = layer.get_weights()
    layer.set_weights([weights[0] * np.array([1000.0, 1.0])])
    after = probes(model, *given, "seeing", strengths=[0.01])
    layer.set_weights(weights)
    for key, correct in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[key], correct)


def test_chance_is_that_of_the_test_images(task):
    """Nine of ten training images, but half of the test images, are of class 0."""
    model, images, *_ = task
    labels, tests = np.arange(len(images)) % 10 < 1, np.arange(len(images)) % 2
    result = probes(model, images, labels.astype(int), images, tests, "seeing", folds=2)
    (axes,) = result.figure().axes
    assert [0.5, 0.5] in [list(line.get_ydata()) for line in axes.lines]


def test_chance_is_the_largest_training_class_in_the_test_images():
    assert chance(np.array([0, 0, 1]), np.array([1, 1, 1, 0])) == 0.25


def test_features_that_do_not_fit_into_memory_are_told(task, monkeypatch, tmp_path):
    features = pooled_features(task[0], task[1][:6], ["seeing"], 2, 4, tmp_path)
    assert features("seeing").shape == (6, 8)
    monkeypatch.setattr(sys.modules[pooled_features.__module__], "available_memory", lambda: 10)
    with pytest.raises(UsageError, match=r"8 features at seeing of 6 images need about 0.0 GB .* or places=1"):
        pooled_features(task[0], task[1][:6], ["seeing"], 2, 4, tmp_path)
    with pytest.raises(UsageError, match=r"2 features .* Give fewer images\.") as told:
        pooled_features(task[0], task[1][:6], ["seeing"], 1, 4, tmp_path / "other")
    assert "places" not in str(told.value)
