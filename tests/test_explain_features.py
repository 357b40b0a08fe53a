"""Images made for a neuron, and images found by a layer."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy.ndimage import affine_transform

from kerascnn import explain
from kerascnn.errors import UsageError
from kerascnn.explain.nearest import nearest_images
from kerascnn.explain.optimised import _transformation, _warp, _warped, feature_images


def test_the_image_for_a_red_detector_turns_red():
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling2D()(layers.Conv2D(1, 1, name="c")(inputs))))
    model.get_layer("c").set_weights([np.array([1.0, -1.0, 0.0]).reshape(1, 1, 3, 1), np.zeros(1)])
    images, scores = feature_images(model, [explain.Neuron("c", 0)], steps=120)
    assert images.shape == (1, 16, 16, 3)
    assert images[..., 0].mean() > images[..., 1].mean() + 0.3
    assert scores[-1, 0] > scores[0, 0] + 0.3
    assert images.min() >= 0
    assert images.max() <= 1


def test_feature_images_are_made_in_one_batch_and_repeat_with_the_seed():
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3, name="c"), layers.Flatten(), layers.Dense(3)])
    targets = [0, explain.Neuron("c", 1), explain.Neuron("c", 0, 2, 2)]
    once, _ = feature_images(model, targets, steps=3, seed=5)
    again, _ = feature_images(model, targets, steps=3, seed=5)
    np.testing.assert_array_equal(once, again)
    assert once.shape == (3, 8, 8, 1)
    assert not np.allclose(once[0], once[1])


def test_an_image_does_not_depend_on_what_is_optimised_with_it():
    model = keras.Sequential([keras.Input((8, 9, 3)), layers.Conv2D(4, 3, name="c"), layers.Flatten(), layers.Dense(3)])
    targets = [2, *(explain.Neuron("c", channel) for channel in range(3))]
    low, high = [-1.0, 0.0, 5.0], [1.0, 2.0, 4.0]  # of the last channel white is the lower number
    together, scores = feature_images(model, targets, steps=6, low=low, high=high)
    for number, target in enumerate(targets):
        alone, own_scores = feature_images(model, [target], steps=6, low=low, high=high)
        np.testing.assert_allclose(together[number], alone[0], atol=1e-3)
        np.testing.assert_allclose(scores[:, number], own_scores[:, 0], rtol=1e-3, atol=1e-4)
    assert (together.min((0, 1, 2)) >= np.minimum(low, high) - 1e-6).all()
    assert (together.max((0, 1, 2)) <= np.maximum(low, high) + 1e-6).all()
    assert (scores[-1] > scores[0]).all()


def test_a_unit_that_is_off_at_first_is_switched_on():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(1, 3, activation="relu", name="c")(inputs)
    model = keras.Model(inputs, layers.Dense(1, name="d")(layers.Flatten()(x)))
    model.get_layer("c").set_weights([np.ones((3, 3, 1, 1)), np.array([-7.0])])  # on where nine pixels exceed 7
    images, scores = feature_images(model, [explain.Neuron("c", 0)], steps=60)
    assert scores[0, 0] == 0
    assert scores[-1, 0] > 0.5
    assert images[0, 2:6, 2:6].mean() > 0.8


@pytest.mark.parametrize(("reflect", "mode"), [(True, "reflect"), (False, "constant")])
def test_images_are_moved_as_scipy_moves_them(reflect, mode):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 9, 7, 3))
    for _ in range(8):
        matrix, offset = _transformation(rng, 9, 7, 4, 0.2, 30.0)
        moved = _warped(images, _warp(matrix, offset, 9, 7, reflect))
        for image, warped in zip(images, moved, strict=True):
            for channel in range(3):
                expected = affine_transform(image[..., channel], matrix, offset, order=1, mode=mode)
                np.testing.assert_allclose(warped[..., channel], expected, atol=1e-9)


@pytest.fixture(scope="module")
def searched():
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Conv2D(3, 3, name="c", activation="relu"), layers.Flatten(), layers.Dense(2)]
    )
    rng = np.random.default_rng(4)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    images = rng.normal(size=(50, 6, 6, 1)).astype("float32")
    images[33] = images[7]
    return model, images


def test_nearest_images_are_those_of_a_full_sort(searched, monkeypatch):
    model, images = searched
    features = explain.activations(model, images, "c").reshape(50, -1).astype("float64")
    distances = np.sqrt(((features[:4, None] - features[None]) ** 2).sum(-1))
    expected = np.argsort(distances, axis=1, kind="stable")[:, :5]
    indices, nearest = nearest_images(model, images[:4], images, "c", top=5, batch_size=7)
    assert indices.tolist() == expected.tolist()
    np.testing.assert_allclose(nearest, np.take_along_axis(distances, expected, 1), rtol=1e-3, atol=1e-3)
    monkeypatch.setattr("kerascnn.explain.nearest.GATHERED", 1)  # the batches one by one, in place of all together
    assert nearest_images(model, images[:4], images, "c", top=5, batch_size=7)[0].tolist() == indices.tolist()
    streamed, _ = nearest_images(model, images[:4], (images[i : i + 9] for i in range(0, 50, 9)), "c", top=5)
    assert streamed.tolist() == expected.tolist()


def test_of_equal_images_the_earlier_is_first(searched):
    model, images = searched
    assert nearest_images(model, images[7:8], images, "c", top=2)[0].tolist() == [[7, 33]]


def test_more_neighbours_than_images(searched):
    model, images = searched
    with pytest.raises(UsageError, match="top=51 is not allowed: it must be 1 to 50, the number of images"):
        nearest_images(model, images[:1], images, "c", top=51)
    with pytest.raises(UsageError, match="top=0 is not allowed: it must be a whole number, at least 1"):
        nearest_images(model, images[:1], images, "c", top=0)
