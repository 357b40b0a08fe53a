"""Invariance: a network that adds up all pixels does not notice where they are, one that reads a corner does."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy import ndimage

from kerascnn.errors import UsageError
from kerascnn.experiments.invariance import CHANGES, changed, invariance, linearity, usual_layers
from kerascnn.experiments.probes import every_layer
from kerascnn.explain.answers import outputs_as_probabilities


def network(pool):
    inputs = keras.Input((12, 12, 1))
    x = layers.Conv2D(2, 1, use_bias=False, name="conv")(inputs)
    x = pool(x)
    x = layers.Dense(3, activation="tanh", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax", name="out")(x), name="small")
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


SUMS = network(layers.GlobalAveragePooling2D(name="pool"))
CORNER = network(lambda x: layers.Flatten(name="pool")(layers.Cropping2D(((0, 10), (0, 0)))(x)))
IMAGES = np.zeros((4, 12, 12, 1), "float32")
IMAGES[:, 4:8, 4:8] = np.random.default_rng(1).uniform(0.5, 1, (4, 4, 4, 1))


def test_distances_are_drawn_as_they_are_or_relative():
    options = {"amounts": [0, 2, 4], "layers": ["conv"]}
    plain, raw = invariance(SUMS, IMAGES, **options), invariance(SUMS, IMAGES, raw=True, **options)
    for result, key in ((plain, "relative"), (raw, "distance")):
        (panel, _) = result.figure().axes
        np.testing.assert_allclose(panel.lines[-1].get_ydata(), result.arrays[key][0].mean(-1))
        assert ("relative" in panel.get_ylabel()) == (key == "relative")
    rows = raw.table[raw.table["layer"] == "conv"]
    assert (rows["distance_low"] <= rows["distance"]).all()
    assert (rows["distance"] <= rows["distance_high"]).all()


def test_sums_do_not_move_and_a_corner_does():
    moved = invariance(SUMS, IMAGES, amounts=[-3, 0, 2, 4], layers=["conv", "pool", "hidden"])
    relative = moved.arrays["relative"]
    np.testing.assert_allclose(relative[1:], 0, atol=1e-6)
    assert (relative[0, [0, 2, 3]] > 0.5).all()
    np.testing.assert_array_equal(relative[:, 1], 0)
    np.testing.assert_allclose(np.ptp(moved.arrays["probability"], axis=0), 0, atol=1e-6)
    assert "move more than those of hidden" in moved.findings[-1]
    corner = invariance(CORNER, IMAGES, amounts=[0, -4, -6], layers=["hidden"])
    assert (corner.arrays["distance"][0, 1:] > 1e-3).all()


def test_how_straight_a_line_is_by_pencil():
    """At 1, 2 and 3 pixels, 2, 4, 6 lie on a line, and no part of 0, 3, 0 does. 0, 0, 3 differ from their mean by -1,
    -1, 2, the pixels by -1, 0, 1: 3 squared over 6 x 2. What does not vary has no answer."""
    distances = np.array([[2, 0, 0, 1], [4, 3, 0, 1], [6, 0, 3, 1]], float)
    np.testing.assert_allclose(linearity(distances, [1, -2, 3], "translation"), [1, 0, 0.75, np.nan])
    np.testing.assert_allclose(linearity(distances, [np.e, np.exp(-2), np.exp(3)], "scale"), [1, 0, 0.75, np.nan])
    result = invariance(CORNER, IMAGES, amounts=[0, -2, -4, -6], layers=["conv", "hidden"])
    values = [linearity(each, [0, -2, -4, -6], "translation").mean() for each in result.arrays["relative"]]
    assert f"a straight line explains {values[1]:.0%} of its variation" in result.findings[-1]
    assert f"at conv it explains {values[0]:.0%}." in result.findings[-1]
    assert "linear" not in " ".join(invariance(CORNER, IMAGES, change="rotation", layers=["hidden"]).findings)


def test_the_usual_layers_neither_scale_pixels_nor_give_scores():
    """As in SqueezeNet: a 1x1 convolution of the pixels, two branches that are joined, and a convolution of scores."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="early")(layers.Conv2D(3, 1, name="pixels")(inputs))
    branches = layers.Conv2D(3, 1, name="small")(x), layers.Conv2D(3, 3, padding="same", name="large")(x)
    x = layers.Dropout(0.5)(layers.ReLU(name="after")(layers.Concatenate(name="joined")(branches)))
    scores = layers.Conv2D(2, 1, name="scores")(layers.ZeroPadding2D(1)(x))
    model = keras.Model(inputs, layers.Softmax()(layers.GlobalAveragePooling2D()(scores)))
    assert usual_layers(model) == ["early", "after"]
    assert usual_layers(model, first=False) == ["after"]
    assert every_layer(model) == ["early", "small", "large"]
    assert usual_layers(CORNER) == ["conv", "hidden"]


def test_scores_become_probabilities():
    """Of softmax(2, 0) for one image, sigmoid(1) for another network, whose one unit is a score."""
    inputs = keras.Input((1, 1, 2))
    two = keras.Model(inputs, layers.Dense(2, use_bias=False, name="scores")(layers.Flatten()(inputs)))
    two.set_weights([np.eye(2)])
    one = keras.Model(inputs, layers.Dense(1, use_bias=False, name="scores")(layers.Flatten()(inputs)))
    one.set_weights([np.array([[0.5], [0.0]])])
    image = np.array([[[[2, 0]]]], "float32")
    for model, expected in ((two, np.exp(2) / (np.exp(2) + 1)), (one, 1 / (1 + np.exp(-1)))):
        np.testing.assert_allclose(outputs_as_probabilities(model, model(image)).sum(1), 1, atol=1e-6)
        assert outputs_as_probabilities(model, model(image)).max() == pytest.approx(expected, abs=1e-6)


def test_distances_by_hand():
    """At the convolution: the distance of two images moved apart, times the length of its two weights."""
    result = invariance(SUMS, IMAGES, amounts=[3], layers="conv")
    apart = np.zeros_like(IMAGES)
    apart[:, 3:] = IMAGES[:, :-3]
    kernel = np.linalg.norm(SUMS.get_layer("conv").get_weights()[0])
    expected = kernel * np.linalg.norm((apart - IMAGES).reshape(4, -1), axis=1)
    np.testing.assert_allclose(result.arrays["distance"][0, 0], expected, rtol=1e-5)
    row = result.table[result.table["layer"] == "conv"].iloc[0]
    assert row["distance"] == pytest.approx(expected.mean(), rel=1e-5)
    relative = expected / (kernel * np.linalg.norm(IMAGES.reshape(4, -1), axis=1))
    assert row["relative"] == pytest.approx(relative.mean(), rel=1e-5)
    reach = 3.182446 * relative.std(ddof=1) / 2  # Student's t with 3 degrees of freedom
    assert (row["low"], row["high"]) == pytest.approx((relative.mean() - reach, relative.mean() + reach), rel=1e-4)


@pytest.mark.parametrize("change", CHANGES)
def test_the_neutral_amount_changes_nothing_and_batches_do_not_matter(change):
    images = np.random.default_rng(2).normal(size=(5, 12, 12, 1)).astype("float32")
    neutral, usual = CHANGES[change][1], CHANGES[change][0]
    result = invariance(CORNER, images, change=change, amounts=[neutral, usual[1]], fill="mirror")
    np.testing.assert_allclose(result.arrays["relative"][:, 0], 0, atol=1e-6)
    assert result.arrays["relative"][0, 1].max() > 1e-3
    again = invariance(CORNER, images, change=change, amounts=[neutral, usual[1]], fill="mirror", batch_size=2)
    np.testing.assert_allclose(again.arrays["relative"], result.arrays["relative"], atol=1e-5)
    one = invariance(CORNER, images[:1], change=change, amounts=[usual[1]], fill="mirror")
    np.testing.assert_allclose(one.arrays["relative"][:, 0, 0], result.arrays["relative"][:, 1, 0], atol=1e-5)


def test_a_full_turn_comes_back_and_a_quarter_is_numpys():
    images = np.random.default_rng(3).normal(size=(2, 7, 7, 2)).astype("float32")
    np.testing.assert_allclose(changed(images, "rotation", 360), images, atol=1e-5)
    np.testing.assert_allclose(changed(images, "rotation", 90, "mirror"), np.rot90(images, 1, (1, 2)), atol=1e-5)


@pytest.mark.parametrize(("fill", "edge"), [("zeros", 0.0), ("mean", 5.0), ("mirror", 3.0)])
def test_what_comes_in_over_the_border(fill, edge):
    """Rows of 1 to 9: two rows down, the first row is 0, the mean 5, or row 3 of the mirrored ones."""
    image = np.arange(1, 10, dtype="float32").reshape(1, 9, 1, 1) * np.ones((1, 9, 9, 1), "float32")
    moved = changed(image, "translation", 2, fill)
    np.testing.assert_allclose(moved[0, 0], edge, atol=1e-5)
    np.testing.assert_allclose(moved[0, 2:], image[0, :-2], atol=1e-5)


def test_scaling_is_about_the_centre():
    image = np.zeros((1, 9, 9, 1), "float32")
    image[0, 3:6, 3:6] = 1
    larger = changed(image, "scale", 1.8)
    assert larger[0, 4, 4, 0] == pytest.approx(1)
    np.testing.assert_allclose(larger, larger[:, ::-1, ::-1], atol=1e-6)
    assert 2 < larger.sum() / image.sum() < 4.2
    expected = ndimage.zoom(image[0, ..., 0], 1.8, order=1, grid_mode=True, mode="grid-constant")
    assert larger.sum() == pytest.approx(expected.sum(), rel=0.1)


def test_it_is_saved_with_its_numbers_and_the_model_stays_as_it_is(tmp_path):
    before = [w.copy() for w in SUMS.get_weights()]
    result = invariance(SUMS, IMAGES, change="rotation")
    path = result.save(tmp_path)
    assert path.stat().st_size > 10_000
    assert len(path.with_suffix(".csv").read_text().splitlines()) == 1 + 13 * (len(set(result.table["layer"])))
    assert "rotation" in path.with_suffix(".txt").read_text()
    for one, other in zip(before, SUMS.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1], r"labels of shape \(2,\) .* for each of the 4 images"), ([0, 1, 2, 1], "0 to 2 are not allowed")],
)
def test_labels_that_are_not_possible(labels, message):
    with pytest.raises(UsageError, match=message):
        invariance(SUMS, IMAGES, labels, amounts=[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"change": "shear"}, "Unknown change of images 'shear'"),
        ({"fill": "wrap"}, "Unknown filling 'wrap'"),
        ({"change": "scale", "amounts": [0]}, "not allowed for scale"),
        ({"amounts": []}, "not allowed for translation"),
        ({"layers": "conv9"}, "no layer 'conv9'"),
        ({"layers": ["conv", "out"]}, "'out' of small gives the class probabilities, which are not features"),
    ],
)
def test_what_is_not_possible(options, message):
    with pytest.raises(UsageError, match=message):
        invariance(SUMS, IMAGES, **options)


def test_one_image_proves_nothing():
    """Its interval is not known, so no verdict is measurable."""
    result = invariance(CORNER, IMAGES[:1], amounts=[0, -4], layers=["conv", "hidden"])
    assert result.table[["low", "high"]].isna().all().all()
    assert result.table["relative"].notna().sum() == len(result.table)
    assert "not measurably otherwise than" in result.findings[2]
    assert "(one image)" in result.findings[0]
    assert "interval" not in " ".join(result.findings)
    result.figure()


def test_without_labels_the_class_of_one_unit_is_the_side_of_a_half_that_it_is_on():
    inputs = keras.Input((12, 12, 1))
    unit = layers.Dense(1, activation="sigmoid", use_bias=False, name="unit")
    model = keras.Model(inputs, unit(layers.Conv2D(1, 12, name="conv")(inputs)[:, 0, 0]))
    model.set_weights([np.ones((12, 12, 1, 1)), np.zeros(1), np.ones((1, 1))])
    images = np.stack([np.full((12, 12, 1), value, "float32") for value in (0.02, -0.02)])
    certain = 1 / (1 + np.exp(-144 * 0.02))
    result = invariance(model, images, amounts=[0], layers=["conv"])
    np.testing.assert_allclose(result.arrays["probability"][0], certain, rtol=1e-4)


def test_the_usual_layers_are_calls():
    """Of a layer that is called twice, the last call; the first convolution can be left out, if there is another."""
    inputs = keras.Input((8, 8, 1))
    dense = layers.Dense(4, name="twice")
    x = layers.Flatten()(layers.Conv2D(2, 3, name="conv")(inputs))
    x = dense(layers.Dense(4, name="narrow")(x))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax", name="out")(dense(x)))
    assert usual_layers(model) == ["conv", "twice#2"]
    assert usual_layers(model, first=False) == ["conv", "twice#2"]
    x = layers.Conv2D(2, 3, name="conv2")(layers.Conv2D(2, 3, name="conv1")(inputs))
    pooled = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax", name="out")(pooled))
    assert usual_layers(model) == ["conv1", "conv2"]
    assert usual_layers(model, first=False) == ["conv2"]
