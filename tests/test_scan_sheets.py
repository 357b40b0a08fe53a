"""The figures of a scan: which channels stand for a class, what fits a page, what colours mean."""

import keras
import numpy as np
import pytest
from keras import layers

import kerascnn
from kerascnn.callbacks.explain_each_epoch import epochs_sheet
from kerascnn.callbacks.feature_evolution import FeatureEvolution, evolution
from kerascnn.callbacks.filter_evolution import strip
from kerascnn.dataset_scan import sheets

CLASSES = ("red", "green", "blue")


def coloured(strength, per_class=6):
    """(result, images): images of one colour each, sorted by class; channel c answers by `strength` to the colours.

    Args:
        strength: (channels, colours).
    """
    inputs = keras.Input((4, 4, 3))
    kernel = np.asarray(strength, "float32").T
    conv = layers.Conv2D(kernel.shape[1], 1, use_bias=False, activation="relu", name="conv")
    model = keras.Model(inputs, conv(inputs), name="colours")
    model.set_weights([kernel[None, None]])
    labels = np.repeat(np.arange(3), per_class)
    light = np.random.default_rng(0).uniform(0.5, 1, (3 * per_class, 4, 4, 1)).astype("float32")
    images = light * np.eye(3, dtype="float32")[labels][:, None, None]
    return kerascnn.scan(model, images, "conv", 4, labels=labels, class_names=CLASSES), images


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in (*ax.texts, *ax.get_yticklabels())]


def test_dead_and_nearly_dead_channels_stand_for_no_class():
    """Channel 0 is dead: of a folder sorted by class its first images, all red, lead by their number alone."""
    result, _ = coloured([[-1, -1, -1], [1e-6, -1, -1], [2, 1, -1], [-1, -1e-7, 1], [1e-7, -1, -1]])
    assert sheets.class_channels(result, "conv") == {"red": 2, "blue": 3}
    assert sorted(result.interesting("conv", 2)["channel"]) == [2, 3]
    assert result.selectivity("conv")["strength"].between(0, 1).all()
    shown = texts(sheets.class_sheet(result, "conv"))
    assert "green" in shown
    assert shown.count("no channel is most excited by it") == 1
    assert [text for text in shown if text.startswith(("red\n", "blue\n"))] == ["red\n2: 4 of 4", "blue\n3: 4 of 4"]
    assert not [text for text in shown if text.startswith("0 ")]  # "0 red", patches that excite nothing


def test_a_strong_channel_is_taken_before_a_weak_one_of_equal_share():
    result, _ = coloured([[0.01, -1, -1], [1, -1, -1], [-1, 1, 0.1], [-1, -1, 1]])
    assert sheets.class_channels(result, "conv") == {"red": 1, "green": 2, "blue": 3}


def test_a_layer_without_a_living_channel_has_a_sheet_that_says_so():
    result, _ = coloured([[-1, -1, -1], [-1, -2, -1]])
    assert sheets.class_channels(result, "conv") == {}
    assert texts(sheets.class_sheet(result)).count("no channel is most excited by it") == 3
    assert texts(sheets.patch_sheet(result, "conv")).count("never above 0") == 2


def test_channels_that_never_rise_above_0_are_not_shown_by_default():
    result, images = coloured([[-1, -1, -1], [1, 1, 1], [-1, -1, -1], [1, 0, 0]])
    assert sheets.default_channels(result, "conv")[:2] == [3, 1]
    inputs = keras.Input((4, 4, 3))
    unlabelled = kerascnn.scan(keras.Model(inputs, layers.ReLU(name="relu")(inputs)), images * [1, 0, 1], "relu", 4)
    assert sheets.default_channels(unlabelled, "relu") == [0, 2]


@pytest.mark.parametrize(("k", "methods"), [(9, 2), (16, 0), (30, 3), (1, 1)])
def test_a_figure_is_not_wider_than_a_page(k, methods):
    """A4 at 150 dpi is 1,240 pixels wide; sheets are saved at 120 dpi."""
    inputs = keras.Input((3, 3, 1))
    model = keras.Model(inputs, layers.Conv2D(14, 1, name="conv")(inputs))
    result = kerascnn.scan(model, np.random.default_rng(0).normal(size=(30, 3, 3, 1)).astype("float32"), top=k)
    maps = {f"method{n}": {c: np.ones((k, 1, 1, 1)) for c in range(14)} for n in range(methods)}
    drawn = []
    for rows, ranks in sheets.pages(14, k):
        figure = sheets.patch_sheet(result, "conv", list(range(14))[rows], maps=maps, ranks=None if maps else ranks)
        assert figure.get_size_inches()[0] * 120 <= 1240
        assert figure.get_size_inches()[1] * 120 <= 1754
        drawn += [text for text in texts(figure) if " " in text]
    assert len(drawn) == 14 * (k if not maps else min(k, 4) * len(sheets.pages(14, k)) // 2)


def test_what_lies_beyond_the_border_is_striped_in_patches_and_maps():
    inside = np.array([[False, False], [False, True]])
    patch = np.full((2, 2, 1), 7.0)  # a patch of one colour: what lies outside, 0, does not stretch its range
    patch[~inside] = 0
    stripes = {tuple(colour) for colour in sheets.STRIPES}
    for picture in (sheets.natural(patch, inside), sheets.map_colours(np.zeros((2, 2, 3)))):
        shown = sheets.enlarged(picture, inside)
        half = sheets.SIDE // 2
        assert {tuple(pixel) for pixel in shown[:half].reshape(-1, 3)} == stripes
        assert not {tuple(pixel) for pixel in shown[half:, half:].reshape(-1, 3)} & stripes
    assert not any(len(set(colour)) == 1 and colour[0] < 1 for colour in stripes)  # neither black nor grey


def test_features_through_training_are_striped_beyond_the_border():
    inside = np.zeros((1, 6, 6), bool)
    inside[:, 3:] = True
    look = {"patches": np.ones((1, 6, 6, 3)), "deconvnet": np.ones((1, 6, 6, 3)), "inside": inside}
    figure = evolution({1: look}, (0,), "")
    for ax in figure.axes:
        first_row = {tuple(pixel) for pixel in ax.images[0].get_array()[0]}
        assert first_row == {tuple(colour) for colour in sheets.STRIPES}
    del look["inside"]  # kept by an earlier version
    assert len(evolution({1: look}, (0,), "").axes) == 2


def test_looks_at_many_epochs_fit_a_page(tmp_path):
    """Callbacks save figures at 110 dpi; a column for each look: the first, the last and some between."""
    look = FeatureEvolution(np.zeros((1, 4, 4, 3)), folder=tmp_path)
    look.folder.mkdir()
    for epoch in range(1, 30):
        look.keep(epoch, patches=np.ones((1, 6, 6, 3)), deconvnet=np.ones((1, 6, 6, 3)), filters=np.ones((4, 3, 3, 3)))
    some = look.kept(most=6)
    assert (min(some), max(some), len(some)) == (1, 29, 6)
    for figure in (evolution(some, (0,), ""), strip(some, "")):
        assert figure.get_size_inches()[0] * 110 <= 1240
    maps = {at: {"maps": np.ones((2, 4, 4))} for at in look.kept(most=8)}
    assert epochs_sheet(np.ones((2, 4, 4, 3)), maps, "", "epochs").get_size_inches()[0] * 110 <= 1240


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_images_of_any_number_of_channels_are_drawn(channels):
    rng = np.random.default_rng(0)
    inputs = keras.Input((5, 5, channels))
    model = keras.Model(inputs, layers.Conv2D(2, 3, padding="same", name="conv")(inputs))
    result = kerascnn.scan(model, rng.normal(size=(6, 5, 5, channels)).astype("float32"), top=2)
    picture = sheets.natural(result.patches("conv", 0)[0], result.inside("conv", 0)[0])
    assert picture.shape == (3, 3, 3)
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert len(sheets.patch_sheet(result, "conv").axes) == 1


def test_one_outlier_does_not_whiten_a_map():
    values = np.ones((20, 20, 1))
    values[:10] = -1
    values[3, 3] = 1000
    shown = sheets.map_colours(values)
    assert shown[0, 0, 2] > 0.3 > shown[0, 0, 0]  # blue below zero
    assert shown[15, 15, 0] > 0.3 > shown[15, 15, 2]  # red above it
    colour = sheets.map_colours(np.repeat(values, 3, -1) * [1, 0, 0])
    np.testing.assert_allclose(colour[15, 15], [1, 0.5, 0.5], atol=0.01)  # grey at zero
    np.testing.assert_array_equal(sheets.map_colours(np.zeros((2, 2, 3))), 0.5)
