import keras
import numpy as np
import pandas
import pytest
from keras import layers

from kerascnn.errors import UsageError
from kerascnn.experiments.occlusion_trio import _covered, correlation, occlusion_trio


def corner_and_all():
    """Two maps: the image itself, and three times the image; class 1 where the sum is above 20."""
    inputs = keras.Input((6, 6, 1))
    x = layers.Conv2D(2, 1, use_bias=False, activation="relu", name="maps")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(2, name="scores")(x)
    model = keras.Model(inputs, layers.Softmax()(x), name="sums")
    model.get_layer("maps").set_weights([np.array([[[[1.0, 3.0]]]])])
    model.get_layer("scores").set_weights([np.array([[0.0, 36.0], [0.0, 0.0]]), np.array([20.0, 0.0])])
    return model


def test_a_pencil_finds_every_panel(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.uniform(0.1, 1, (2, 6, 6, 1)).astype("float32")
    others = rng.uniform(0, 0.9, (9, 6, 6, 1)).astype("float32")
    others[[7, 2, 5], 3, 4, 0] = 5.0, 4.0, 3.0
    model = corner_and_all()
    weights = [w.copy() for w in model.get_weights()]
    result = occlusion_trio(model, images, [1, 0], others, patch=3, stride=3, fill=0.0, class_names=["few", "many"])
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert result.arrays["channel"].tolist() == [1, 1]
    assert result.arrays["other"].tolist() == [[7, 2, 5]] * 2
    for row in result.table.itertuples():
        image = images[row.image, ..., 0].astype("float64")
        inside = image[row.row : row.row + 3, row.column : row.column + 3].sum()
        left = image.sum() - inside
        np.testing.assert_allclose(row.activity, 3 * left, rtol=1e-5)
        many = 1 / (1 + np.exp(20 - left))
        np.testing.assert_allclose(row.probability, many if row.image == 0 else 1 - many, atol=1e-5)
        assert row.label == ("many" if left > 20 else "few")
    # One pixel of the image excites the map most, and the projection shows it alone; one square of four hides it.
    for image, projection in zip(images, result.arrays["projection"], strict=True):
        np.testing.assert_array_equal(projection[0] != 0, image == image.max())
        np.testing.assert_array_equal(np.argwhere(projection[1]), [[3, 4, 0]])
    assert sorted(result.table[result.table["image"] == 0]["covered"]) == [0, 0, 0, 1]
    result.save(tmp_path)
    grid = pandas.read_csv(tmp_path / "occlusion-trio-activity.csv")
    assert grid.columns.tolist() == ["image", "row", "0", "3"]
    np.testing.assert_allclose(grid.loc[1, "3"], result.arrays["activity"][0, 1, 1], rtol=1e-5)
    pixels = pandas.read_csv(tmp_path / "occlusion-trio-projection.csv")
    assert pixels[pixels["source"] == 1]["other"].tolist() == [7, 7]
    assert set(pixels.columns) == {"image", "source", "other", "row", "column", "channel 0"}


def test_laws_of_the_correlation():
    values = np.random.default_rng(0).normal(size=(4, 5))
    assert correlation(values, np.exp(values)) == pytest.approx(1)
    assert correlation(values, -values) == pytest.approx(-1)
    assert np.isnan(correlation(values, np.ones_like(values)))


def test_too_few_other_images_and_too_large_a_square():
    images = np.ones((1, 6, 6, 1), "float32")
    with pytest.raises(UsageError, match="others holds 2 images; 3 or more are needed"):
        occlusion_trio(corner_and_all(), images, [0], images.repeat(2, 0))
    with pytest.raises(UsageError, match="A patch of 7 pixels does not fit into an image of 6"):
        occlusion_trio(corner_and_all(), images, [0], images.repeat(3, 0), patch=7)


def test_a_square_that_hides_nothing_of_a_projection_hides_exactly_nothing():
    """Against the sums themselves; ties of zeros decide the rank correlation."""
    projection = np.zeros((224, 224, 3), "float32")
    projection[:30, :30] = np.random.default_rng(0).normal(size=(30, 30, 3))
    places = np.arange(0, 201, 8)
    shares = _covered(projection, places, places, 24)
    sizes = np.abs(projection).sum(-1, dtype="float64")
    by_hand = [[sizes[row : row + 24, column : column + 24].sum() for column in places] for row in places]
    np.testing.assert_allclose(shares, np.array(by_hand) / sizes.sum(), atol=1e-9)
    assert (shares[4:] == 0).all()
    assert (shares[:, 4:] == 0).all()


def test_a_class_that_is_never_predicted_has_its_number():
    images = np.full((2, 6, 6, 1), 0.1, "float32")
    result = occlusion_trio(corner_and_all(), images, [1, 1], np.concatenate([images] * 2), patch=3, stride=3, fill=0.0)
    assert set(result.table["label"]) == {"0"}
    assert "a) 1" in [axes.get_title() for axes in result.figure().axes]
