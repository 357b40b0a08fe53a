import keras
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

import kerascnn
from kerascnn.datasets import Split
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.training.evaluate import evaluate_split, images_at_once, interval, score


def test_four_images_by_pencil():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
    measured = score(np.log(probabilities), np.array([0, 1, 2, 0]), ("a", "b", "c"))
    assert measured.images == 4
    assert measured.accuracy == 0.75
    assert measured.top5 is None
    np.testing.assert_allclose(measured.loss, (3 * np.log(2) + np.log(4)) / 4)
    assert measured.confusion.to_numpy().tolist() == [[2, 0, 0], [0, 1, 0], [0, 1, 0]]
    table = measured.per_class.set_index("class")
    assert table["images"].tolist() == [2, 1, 1]
    assert table["precision"].tolist() == [1, 0.5, 0]
    assert table["recall"].tolist() == [1, 1, 0]


def test_top5_counts_the_five_most_probable():
    probabilities = np.tile(np.arange(8, 0, -1.0), (8, 1))
    measured = score(np.log(probabilities), np.arange(8), tuple("abcdefgh"))
    assert measured.top5 == 5 / 8
    assert measured.accuracy == 1 / 8


def test_a_class_without_images():
    measured = score(np.log([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 0]), ("a", "b"))
    assert measured.per_class["images"].tolist() == [2, 0]
    assert (measured.balanced_accuracy, measured.macro_f1, measured.imbalance) == (1, 1, "")


def test_counts_are_whole_numbers_where_no_answer_is_right():
    measured = score(np.log([[0.75, 0.25], [0.25, 0.75]]), np.array([1, 0]), ("a", "b"))
    assert measured.per_class["images"].dtype == "int64"
    assert (measured.accuracy, measured.balanced_accuracy, measured.macro_f1) == (0, 0, 0)


def test_unequal_classes_against_scikit_learn():
    """Of class 3 there is no image, but an answer; of class 4 there is neither."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 100, p=[0.9, 0.07, 0.03])
    probabilities = rng.dirichlet([9, 1, 1, 1], 100) @ np.eye(4, 5) + 1e-9
    measured = score(np.log(probabilities), labels, tuple("abcde"))
    predicted = probabilities.argmax(1)
    assert 3 in predicted
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert measured.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert measured.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert (measured.baseline_class, measured.baseline_accuracy) == ("a", (labels == 0).mean())
    assert "Always answering 'a'" in measured.imbalance


HEADS = {
    "softmax": lambda: [keras.layers.Dense(4), keras.layers.Softmax()],
    "dense": lambda: [keras.layers.Dense(4, activation="softmax")],
    "activation": lambda: [keras.layers.Dense(4), keras.layers.Activation("softmax")],
    "nested": lambda: [keras.Sequential([keras.Input((90,)), keras.layers.Dense(4, activation="softmax")])],
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_loss_of_confident_mistakes_is_exact(head, mirrored):
    """Scores of some hundreds, whose probabilities float32 cannot hold."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (12, 5, 6, 3), np.uint8), np.arange(12) % 4
    prepared = Preprocessing.fit(pixels, image_size=(5, 6), normalize="standard")
    model = keras.Sequential([keras.Input((5, 6, 3)), keras.layers.Flatten(), *HEADS[head]()])
    kernel, bias = rng.normal(0, 20, (90, 4)), rng.normal(0, 20, 4)
    model.set_weights([kernel, bias])
    images = prepared(pixels).astype("float64")
    views = [images, images[:, :, ::-1]] if mirrored else [images]
    scores = np.array([view.reshape(12, -1) @ kernel + bias for view in views])
    logs = scores - np.logaddexp.reduce(scores, -1)[..., None]
    expected = -(np.logaddexp.reduce(logs) - np.log(len(views)))[np.arange(12), labels].mean()
    measured = evaluate_split(model, Split(pixels, labels), prepared, list("abcd"), mirrored=mirrored)
    assert expected > 50
    np.testing.assert_allclose(measured.loss, expected, rtol=1e-5)


def test_the_loss_of_a_classifier_with_one_unit_is_exact():
    pixels, labels = np.random.default_rng(0).integers(0, 256, (12, 5, 6, 3), np.uint8), np.arange(12) % 2
    prepared = Preprocessing.fit(pixels, image_size=(5, 6), normalize="standard")
    flat = [keras.Input((5, 6, 3)), keras.layers.Flatten()]
    model = keras.Sequential([*flat, keras.layers.Dense(1, activation="sigmoid")])
    kernel = np.random.default_rng(1).normal(0, 200, (90, 1))
    model.set_weights([kernel, np.zeros(1)])
    score_of_1 = (prepared(pixels).reshape(12, -1).astype("float64") @ kernel)[:, 0]
    expected = np.logaddexp(0, np.where(labels == 1, -score_of_1, score_of_1)).mean()
    assert expected > 50
    measured = evaluate_split(model, Split(pixels, labels), prepared, list("ab"))
    np.testing.assert_allclose(measured.loss, expected, rtol=1e-5)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.flat, self.dense = keras.layers.Flatten(), keras.layers.Dense(4, activation="softmax")

    def call(self, x):
        return self.dense(self.flat(x))


def test_a_model_without_a_graph_is_evaluated_by_its_probabilities():
    pixels, labels = np.random.default_rng(0).integers(0, 256, (12, 5, 6, 3), np.uint8), np.arange(12) % 4
    prepared = Preprocessing.fit(pixels, image_size=(5, 6), normalize="standard")
    model = Subclassed()
    probabilities = model.predict(prepared(pixels), verbose=0)
    measured = evaluate_split(model, Split(pixels, labels), prepared, list("abcd"))
    assert measured.loss == pytest.approx(-np.log(probabilities[np.arange(12), labels]).mean(), rel=1e-5)


def test_the_loss_is_scikit_learns():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet([0.02] * 4, 200), rng.integers(0, 4, 200)
    logs = np.log(np.maximum(probabilities, 1e-15))
    measured = score(logs, labels, list("abcd"))
    np.testing.assert_allclose(measured.loss, log_loss(labels, np.exp(logs), labels=range(4)), rtol=1e-6)


def test_fewer_large_images_at_once():
    assert [images_at_once((side, side)) for side in (28, 64, 128, 224, 2000)] == [256, 128, 32, 10, 1]


def test_wilson_interval_by_its_formula():
    # (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.959964, n = 100, p = 0.9
    z, n, p = 1.959964, 100, 0.9
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = [(p + z**2 / (2 * n) + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
    np.testing.assert_allclose(interval(90, 100), expected, atol=1e-6)
    assert interval(10, 10)[1] == pytest.approx(1)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
def test_views_against_numpy(mirrored, shifted):
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (12, 5, 6, 3), np.uint8), np.arange(12) % 4
    prepared = Preprocessing.fit(pixels, image_size=(5, 6), normalize="standard")
    model = keras.Sequential([keras.Input((5, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(4, "softmax")])
    kernel, bias = model.get_weights()
    images = prepared(pixels).astype("float64")
    views = [images]
    if shifted:
        up, down = images[:, [1, 2, 3, 4, 3]], images[:, [1, 0, 1, 2, 3]]
        views += [images, up[:, :, [1, 2, 3, 4, 5, 4]], down[:, :, [1, 0, 1, 2, 3, 4]]]
    if mirrored:
        views += [view[:, :, ::-1] for view in views]
    powers = [np.exp(view.reshape(12, -1) @ kernel + bias) for view in views]
    probabilities = np.mean([power / power.sum(1, keepdims=True) for power in powers], 0)
    measured = evaluate_split(
        model, Split(pixels, labels), prepared, list("abcd"), batch_size=5, mirrored=mirrored, shifted=shifted
    )
    np.testing.assert_allclose(measured.loss, -np.log(probabilities[np.arange(12), labels]).mean(), rtol=1e-5)


def test_ten_views_against_numpy():
    """The four corners and the centre of 7x8 pixels, each 4x5, and their mirror images."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (12, 7, 8, 3), np.uint8), np.arange(12) % 4
    prepared = Preprocessing.fit(pixels, image_size=(4, 5), normalize="standard")
    model = keras.Sequential([keras.Input((4, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4, "softmax")])
    model.set_weights([rng.normal(0, 1, (60, 4)), np.zeros(4)])
    kernel = model.get_weights()[0]
    whole = prepared.scale(pixels).astype("float64")
    cut = [whole[:, top : top + 4, left : left + 5] for top, left in ((0, 0), (0, 3), (3, 0), (3, 3), (1, 1))]
    powers = [np.exp(view.reshape(12, -1) @ kernel) for image in cut for view in (image, image[:, :, ::-1])]
    probabilities = np.mean([power / power.sum(1, keepdims=True) for power in powers], 0)
    measured = evaluate_split(model, Split(pixels, labels), prepared, list("abcd"), ten=True)
    np.testing.assert_allclose(np.exp(measured.log_probabilities), probabilities, rtol=1e-4)
    np.testing.assert_allclose(measured.loss, -np.log(probabilities[np.arange(12), labels]).mean(), rtol=1e-5)


@pytest.mark.slow
def test_a_run_is_tested_with_the_views_of_its_recipe(tmp_path):
    views = {"test_flip": True, "test_shift": True}
    run = kerascnn.train(data="digits", model="lenet5", epochs=1, out=tmp_path / "a", say=lambda line: None, **views)
    data = kerascnn.using.data_of(run)
    measured = evaluate_split(
        kerascnn.load(run),
        data.test,
        kerascnn.using.preprocessing(run),
        data.class_names,
        mirrored=True,
        shifted=True,
    )
    assert run.read("run")["result"]["loss"] == pytest.approx(measured.loss, rel=1e-6)
    assert kerascnn.evaluate(run).loss == pytest.approx(measured.loss, rel=1e-6)


def test_a_matrix_too_wide_to_print_is_left_out(capsys):
    from kerascnn.commands.using import MOST_COLUMNS, print_evaluation

    for count, printed in ((MOST_COLUMNS, True), (MOST_COLUMNS + 1, False)):
        names = [f"c{number}" for number in range(count)]
        print_evaluation(score(np.log(np.eye(count) * 0.5 + 0.5 / count), np.arange(count), names))
        said = capsys.readouterr().out
        assert ("Confusion (rows" in said) == printed
        assert ("--json has it" in said) != printed
