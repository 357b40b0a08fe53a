"""Features over scales: scikit-learn called by hand, laws, and a network that is fine-tuned."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.svm import LinearSVC

from kerascnn.errors import UsageError
from kerascnn.experiments.multiscale import choices, multiscale
from kerascnn.explain import activations


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(2, name="pool")(x))
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="scores")(x), name="small")


@pytest.fixture(scope="module")
def task():
    """Three classes of colours in noise, at two scales: ({scale: training images}, labels, {scale: test}, labels)."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = rng.normal(0, 1, (90, 6, 6, 3)).astype("float32")
    images[np.arange(90), :, :, labels] += 0.35
    both = {6: images, 8: np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")}
    train, test = ({scale: each[part] for scale, each in both.items()} for part in (slice(60), slice(60, None)))
    return train, labels[:60], test, labels[60:]


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def places(model, images, top, left):
    return activations(model, np.ascontiguousarray(images[:, top : top + 6, left : left + 6]), "hidden")


def by_hand(model, images):
    """Of each size and each mirror image, the mean over the places that the network can stand at, 2 pixels apart."""
    features = []
    for scale, each in images.items():
        views = []
        for view in (each, each[:, :, ::-1]):
            starts = [(top, left) for top in range(0, scale - 5, 2) for left in range(0, scale - 5, 2)]
            views.append(np.mean([places(model, view, *start) for start in starts], 0))
        features.append(unit(np.mean(views, 0)))
    return features


def test_accuracies_are_scikit_learns(model, task):
    train, labels, test, test_labels = task
    result = multiscale(model, train, labels, test, test_labels, strengths=[10.0], batch_size=7)
    small, large = by_hand(model, train)
    test_small, test_large = by_hand(model, test)
    expected = {
        "6/one": (small, test_small),
        "8/one": (large, test_large),
        "6,8/mean": (unit(small + large), unit(test_small + test_large)),
        "6,8/stack": (unit(np.hstack([small, large])), unit(np.hstack([test_small, test_large]))),
    }
    assert list(result.arrays) == [f"as it is/{name}" for name in expected]
    for name, (features, test_features) in expected.items():
        machine = LinearSVC(C=10.0, dual="auto", random_state=0).fit(features, labels)
        np.testing.assert_array_equal(
            result.arrays[f"as it is/{name}"], machine.predict(test_features) == test_labels, err_msg=name
        )
    table = result.table
    assert table["features"].tolist() == [8, 8, 8, 16]
    np.testing.assert_allclose(table["accuracy"], [each.mean() for each in result.arrays.values()])
    assert result.findings[0].startswith("Network as it is: the mean of 6,8 is right ")
    assert result.findings[1].startswith("Network as it is: stacking them is right ")


def test_scales_with_the_same_images_are_one_scale(model, task):
    """The mean of equal features is what they are; stacked they are the same twice, over sqrt(2): the same margin."""
    train, labels, test, test_labels = task
    same = multiscale(model, {1: train[6], 2: train[6]}, labels, {1: test[6], 2: test[6]}, test_labels)
    assert same.table["accuracy"].nunique() == 1
    assert same.table["validation"].nunique() == 1
    assert "+0.0 points" in same.findings[0]
    alone = multiscale(model, {6: train[6]}, labels, {6: test[6]}, test_labels)
    assert len(alone.table) == 1
    assert alone.table["accuracy"][0] == same.table["accuracy"][0]
    assert "A linear SVM is right for" in alone.findings[0]
    assert choices([6]) == [([6], "one")]


def test_fine_tuning_trains_a_copy_and_helps(model, task, tmp_path):
    train, labels, test, test_labels = task
    before = [weight.copy() for weight in model.get_weights()]
    given = ({8: train[8]}, labels, {8: test[8]}, test_labels)
    options = {"fine_tune": 60, "learning_rate": 0.02, "strengths": [10.0], "keep": tmp_path / "kept"}
    lines = []
    result = multiscale(model, *given, **options, say=lines.append)
    assert result.table["network"].tolist() == ["as it is", "fine-tuned"]
    tuned = result.table.set_index("network")["accuracy"]
    assert tuned["fine-tuned"] > tuned["as it is"]
    assert result.findings[-1].startswith("The fine-tuned network (scales 8, one) is right ")
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    # What was kept is not computed again, and gives the same.
    kept = sorted((tmp_path / "kept").iterdir())
    assert len(kept) == 7  # the weights, and for each network features of two splits and an SVM
    again = multiscale(model, *given, **options)
    np.testing.assert_allclose(again.table["accuracy"], result.table["accuracy"])
    assert sorted((tmp_path / "kept").iterdir()) == kept
    path = result.save(tmp_path)
    assert path == tmp_path / "multiscale.png"
    assert (tmp_path / "multiscale.csv").read_text().startswith("network,scales,aggregate,features")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": "hiden"}, "Did you mean"),
        ({"layer": "scores"}, "gives the class probabilities, which are not features"),
        ({"images": {}}, "the same scales"),
        ({"labels": np.zeros(3, int)}, "60 images at scale 6, and there are 3 labels"),
        ({"labels": np.eye(60, dtype=int)[0]}, "the smallest of 2 has 1"),
        ({"fine_tune": -1}, "fine_tune=-1 is not allowed"),
        ({"fine_tune": 3, "learning_rate": 1e30}, "learning_rate=1e.30 is too high"),
    ],
)
def test_bad_input(model, task, changes, message):
    names = ("images", "labels", "test_images", "test_labels")
    with pytest.raises(UsageError, match=message):
        multiscale(model, **{**dict(zip(names, task, strict=True)), **changes})


def test_images_smaller_than_the_network(model, task):
    train, labels, test, test_labels = task
    small = {4: train[6][:, :4, :4]}, labels, {4: test[6][:, :4, :4]}, test_labels
    for steps in (0, 2):
        with pytest.raises(UsageError, match="scales=4 is smaller than small takes: its images have 6x6 pixels"):
            multiscale(model, *small, fine_tune=steps)
