import keras
import numpy as np
import pytest

import kerascnn
from kerascnn.datasets import Split
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.training.evaluate import evaluate_split, interval, score


def test_four_images_by_pencil():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
    measured = score(probabilities, np.array([0, 1, 2, 0]), ("a", "b", "c"))
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
    measured = score(probabilities / probabilities.sum(1, keepdims=True), np.arange(8), tuple("abcdefgh"))
    assert measured.top5 == 5 / 8
    assert measured.accuracy == 1 / 8


def test_a_class_without_images_and_a_probability_of_zero():
    measured = score(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 0]), ("a", "b"))
    assert measured.per_class["images"].tolist() == [2, 0]
    worst = score(np.array([[1.0, 0.0]]), np.array([1]), ("a", "b"))
    np.testing.assert_allclose(worst.loss, -np.log(1e-7))


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


def test_a_run_is_tested_with_the_views_of_its_recipe(tmp_path):
    views = {"test_flip": True, "test_shift": True}
    run = kerascnn.train(data="digits", model="lenet5", epochs=1, out=tmp_path / "a", say=lambda line: None, **views)
    data = kerascnn.inference.data_of(run)
    measured = evaluate_split(
        kerascnn.load(run),
        data.test,
        kerascnn.inference.preprocessing(run),
        data.class_names,
        mirrored=True,
        shifted=True,
    )
    assert run.read("run")["result"]["loss"] == pytest.approx(measured.loss, rel=1e-6)
    assert kerascnn.evaluate(run).loss == pytest.approx(measured.loss, rel=1e-6)
