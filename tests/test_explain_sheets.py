"""Figures of maps, activations and filters: what is drawn, its scale, its numbers, and that it fits a page of A4."""

import keras
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from kerascnn.callbacks.filters import filter_sheet, filter_sheets, filter_views
from kerascnn.errors import UsageError
from kerascnn.explain import activation_sheets, sheets
from kerascnn.explain.answers import class_answers

A4 = 8.27, 11.69  # inches
RNG = np.random.default_rng(0)


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def titles(figure):
    return [ax.get_title() for ax in figure.axes]


def fits_a4(figure):
    return all(side <= most for side, most in zip(figure.get_size_inches(), A4, strict=True))


@pytest.mark.parametrize(
    ("channels", "bands", "expected"),
    [
        (1, None, [0.0, 1.0]),
        (2, None, [0.0, 1.0]),
        (3, None, [[0.0, 0.2, 0.4], [0.6, 0.8, 1.0]]),
        (4, None, [0.0, 1.0]),  # not red, green, blue and transparency
        (13, None, [0.0, 1.0]),
        (13, (12, 5, 0), [[12 / 25, 5 / 25, 0.0], [1.0, 18 / 25, 13 / 25]]),
        (13, [3], [0.0, 1.0]),
    ],
)
def test_images_of_any_number_of_channels(channels, bands, expected):
    image = np.arange(2.0 * channels).reshape(1, 2, channels)
    np.testing.assert_allclose(sheets.to_colours(image, bands), [expected])
    figure = sheets.explanation_sheet(image, np.ones((1, 2)), bands=bands)
    figure.draw_without_rendering()
    assert ("mean of" in titles(figure)[0]) == (channels not in (1, 3) and bands is None)
    figure = sheets.comparison_sheet([image], {"saliency": [image]}, bands=bands)
    figure.draw_without_rendering()


@pytest.mark.parametrize("bands", [(0, 1), (0, 1, 4), (-1,), (0, 1, "red"), ()])
def test_bands_that_an_image_has_not(bands):
    with pytest.raises(UsageError, match="4 channels of these images, 0 to 3"):
        sheets.explanation_sheet(np.zeros((2, 2, 4)), np.zeros((2, 2)), bands=bands)


def test_bytes_are_drawn_as_they_are():
    np.testing.assert_array_equal(sheets.to_colours(np.full((1, 1, 3), 51, "uint8")), np.full((1, 1, 3), 0.2))


def test_a_map_is_laid_on_the_part_of_the_photograph_that_the_network_saw():
    photograph, heat = np.zeros((30, 50, 3), "uint8"), RNG.normal(size=(8, 8, 3))
    figure = sheets.explanation_sheet(photograph, heat, "class 'cat', probability 0.7", frame=(0, 10, 30, 30))
    image, signed, _, over, bar = figure.axes
    assert image.images[0].get_array().shape == (30, 50, 3)
    assert over.images[0].get_array().shape == (30, 50)
    assert tuple(over.images[1].get_extent()) == (9.5, 39.5, 29.5, -0.5)
    assert over.images[1].get_clim() == signed.images[0].get_clim()
    assert "±" in bar.get_ylabel()
    assert "cat" in figure.get_suptitle()
    assert fits_a4(figure)


def test_a_heat_map_has_no_sign_and_lets_the_photograph_through():
    heat = np.array([[0.0, 1.0], [2.0, 4.0]])
    figure = sheets.explanation_sheet(RNG.random((20, 20, 3)), heat)
    _, over, bar = figure.axes
    shown = over.images[1]
    assert shown.get_clim() == (0, 4)
    assert shown.cmap.name not in ("jet", sheets.SIGNED)
    assert (np.asarray(shown.get_alpha()) < 1).all()
    assert "heat map, 0 to 4" in bar.get_ylabel()
    assert len(sheets.explanation_sheet(RNG.random((2, 2, 3)), heat, signed=True).axes) == 4
    assert len(sheets.explanation_sheet(RNG.random((2, 2, 3)), -heat).axes) == 4


def test_one_outlier_does_not_leave_a_map_white():
    heat = RNG.normal(size=(50, 50))
    heat[0, 0] = 1000
    figure = sheets.explanation_sheet(np.zeros((50, 50, 3)), heat)
    low, high = figure.axes[1].images[0].get_clim()
    assert -low == high < 5
    assert "99.5%" in figure.axes[-1].get_ylabel()


@pytest.mark.parametrize(("images", "methods"), [(1, 1), (1, 3), (1, 10), (1, 30), (2, 3), (6, 10)])
def test_a_comparison_fits_a_page_and_says_its_limits(images, methods):
    maps = {f"method_{i}": RNG.normal(size=(images, 8, 8, 3)) for i in range(methods - 1)}
    maps["grad_cam"] = RNG.random((images, 8, 8))
    figure = sheets.comparison_sheet(RNG.random((images, 8, 8, 3)), maps, ["cat"] * images, "class 'cat'")
    assert fits_a4(figure)
    assert sum("±" in title for title in titles(figure)) == images * (methods - 1)
    assert sum("0 to" in title for title in titles(figure)) == images
    bars = [ax.get_xlabel() for ax in figure.axes if "limit" in ax.get_xlabel()]
    assert len(bars) == (1 if methods == 1 else 2)


@pytest.mark.parametrize(("side", "channels"), [(4, 256), (32, 64), (32, 256), (110, 96), (150, 3), (1500, 2)])
def test_every_channel_is_drawn_with_its_number_on_pages_of_one_scale(side, channels):
    maps = RNG.random((side, side, channels), "float32")
    figures = activation_sheets.activation_grids(maps, "conv4 of net")
    assert [number for figure in figures for number in texts(figure)] == [str(i) for i in range(channels)]
    assert len({figure.axes[0].images[0].get_clim() for figure in figures}) == 1
    assert all(fits_a4(figure) for figure in figures)
    assert all("conv4 of net" in figure.get_suptitle() for figure in figures)
    drawn = np.concatenate([np.ma.compressed(f.axes[0].images[0].get_array()) for f in figures])
    assert drawn.size == maps.size


def test_few_units_have_names_and_no_histogram():
    values = np.array([-1.5, 0.5, 2.0])
    figure = activation_sheets.unit_sheet(values, "fc: scores of the classes", ["cat", "dog", "bird"])
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "bird"]
    assert [bar.get_width() for bar in ax.patches] == values.tolist()
    assert len(activation_sheets.unit_sheet(np.arange(30.0)).axes) == 1
    assert len(activation_sheets.unit_sheet(np.arange(31.0)).axes) == 2
    named = activation_sheets.unit_sheet(np.arange(100.0), "fc", [f"class {i}" for i in range(100)])
    assert [label.get_text() for label in named.axes[1].get_yticklabels()][:2] == ["class 99", "class 98"]


@pytest.mark.parametrize(
    ("shape", "pages"),
    [
        ((64, 3, 3, 3), 5),
        ((96, 11, 11, 3), 5),
        ((512, 3, 3, 3), 25),
        ((32, 5, 5, 1), 2),
        ((16, 7, 7, 2), 1),
        ((16, 7, 7, 4), 1),
        ((64, 3, 3, 13), 3),
        ((256, 3, 3, 192), 1),
        ((6, 1, 7, 3), 5),
    ],
)
def test_filters_are_numbered_and_fit_a_page(shape, pages):
    filters = RNG.normal(size=shape).astype("float32")
    drawn = filter_sheets(filters, "conv1 of net")
    assert len(drawn) == pages
    for view, figure in drawn.items():
        assert fits_a4(figure), view
        assert "scale" in figure.get_suptitle()
    if shape[-1] in (1, 3):
        numbers = [n for ending, figure in drawn.items() if ending.strip("-123456789") == "" for n in texts(figure)]
        assert numbers == [str(i) for i in range(shape[0])]
    else:
        rows = [label.get_text() for figure in drawn.values() for label in figure.axes[0].get_yticklabels()]
        assert rows == [str(i) for i in range(shape[0] if shape[-1] <= 16 else 24)]
        columns = [label.get_text() for label in next(iter(drawn.values())).axes[0].get_xticklabels()]
        assert columns == [str(i) for i in range(min(16, shape[-1]))]


@pytest.mark.parametrize("channels", [1, 2, 3, 13])
def test_gaps_between_filters_have_no_weights_colour(channels):
    filters = RNG.normal(size=(4, 3, 3, channels))
    view = {1: "one", 3: "red"}.get(channels)
    shown = filter_sheet(filters, view=view).axes[0].images[0]
    pixels = shown.to_rgba(shown.get_array())
    gaps = np.ma.getmaskarray(shown.get_array())
    assert gaps.any()
    scale = shown.cmap(np.linspace(0, 1, 256))
    for colour in np.unique(pixels[gaps], axis=0):
        assert np.abs(scale - colour).max(1).min() > 0.05
    np.testing.assert_allclose(shown.cmap(0.5)[:3], 1, atol=0.05)  # white at zero
    assert to_rgba("white") not in map(tuple, pixels[gaps])


def test_views_of_filters():
    assert filter_views(np.zeros((2, 3, 3, 3))) == ("each", "one", "red", "green", "blue")
    with pytest.raises(UsageError, match=r"Unknown view of filters 'gren'\. Did you mean 'green'"):
        filter_sheet(np.zeros((2, 3, 3, 3)), view="gren")
    with pytest.raises(UsageError, match="Unknown view of filters 'red'"):
        filter_sheet(np.zeros((2, 3, 3, 4)), view="red")


@pytest.mark.parametrize("head", ["softmax", "sigmoid", "one unit"])
def test_the_class_explained_and_its_probability_are_the_models(head):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 2))
    units, activation = (1, "sigmoid") if head == "one unit" else (3, head)
    flat = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(units, activation=activation, name="fc")(flat))
    images = RNG.normal(size=(5, 4, 4, 2)).astype("float32")
    answers = keras.ops.convert_to_numpy(model(images))
    answers = np.concatenate([1 - answers, answers], 1) if units == 1 else answers
    classes, probabilities = class_answers(model, images)
    np.testing.assert_array_equal(classes, answers.argmax(1))
    np.testing.assert_allclose(probabilities, answers.max(1), rtol=1e-5)
    wanted = [1, 0, 0, 1, 1]
    classes, probabilities = class_answers(model, images, wanted)
    np.testing.assert_allclose(probabilities, answers[np.arange(5), wanted], rtol=1e-5)
    assert class_answers(model, images, "dog", ["cat", "dog", "bird"][: answers.shape[1]])[0].tolist() == [1] * 5
    assert class_answers(model, images, {0, 1}) == (None, None)


def _reach(figure, text):
    """(left, bottom, right, top) of a text as fractions of its figure."""
    figure.draw_without_rendering()
    box = text.get_window_extent().transformed(figure.transSubfigure.inverted())
    return box.x0, box.y0, box.x1, box.y1


def test_a_map_in_colour_is_grey_at_zero_stretched_and_cropped():
    heat = np.zeros((6, 8, 3))
    heat[2:4, 3:6] = [0.2, 0.0, -0.1]
    axes = sheets.explanation_sheet(RNG.random((6, 8, 3)), heat).axes
    (drawn,) = (ax for ax in axes if ax.get_title() == "in colour, grey at zero")
    np.testing.assert_allclose(drawn.images[0].get_array(), np.broadcast_to([1, 0.5, 0.25], (2, 3, 3)))
    assert sheets.in_its_field(np.zeros((6, 8, 3))).shape == (6, 8, 3)
    titles = [ax.get_title() for ax in sheets.explanation_sheet(RNG.random((6, 8, 3)), heat.sum(-1)).axes]
    assert "in colour, grey at zero" not in titles


@pytest.mark.parametrize("name", ["a_photograph_" * 12, "a photograph " * 12, "MWM" * 8])
@pytest.mark.parametrize("signed", [True, False])
def test_no_word_of_a_caption_is_cut_off(name, signed):
    heat = np.ones((8, 8))
    figures = [
        sheets.explanation_sheet(np.ones((8, 8, 3)), heat, name, signed=signed),
        sheets.comparison_sheet(np.ones((1, 8, 8, 3)), {"lrp": heat[None]}, title=name),
        activation_sheets.unit_sheet(np.arange(5.0), name),
    ]
    for figure in figures:
        left, bottom, right, top = _reach(figure, figure._suptitle)
        assert min(left, bottom) >= 0
        assert max(right, top) <= 1


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("size", [(10, 200), (200, 10)])
def test_the_scale_of_a_wide_or_tall_photograph_is_not_cut_off(size, signed):
    figure = sheets.explanation_sheet(np.ones((*size, 3)), np.arange(64.0).reshape(8, 8), "title\nmodel", signed=signed)
    left, bottom, right, top = _reach(figure, figure.axes[-1].yaxis.label)
    assert min(left, bottom) >= 0
    assert max(right, top) <= 1


@pytest.mark.parametrize(
    ("name", "head"), [("Conv_1 9 at 0,1", "Conv_1\n9\nat\n0,1"), ("guided_backprop", "guided\nbackprop")]
)
def test_the_name_of_a_layer_stays_whole_in_small_cells(name, head):
    maps = {name: np.ones((1, 8, 8))} | {str(n): np.ones((1, 8, 8)) for n in range(60)}
    figure = sheets.comparison_sheet(np.ones((1, 8, 8, 3)), maps)
    assert figure.axes[1].get_title() == f"{head}\n±1"
