"""Grad-CAM, occlusion, averaged gradients and their scores: typed answers and laws."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from kerascnn import explain
from kerascnn.explain import activation_sheets, evaluate, sheets
from kerascnn.explain.caveats import EmptyMap
from kerascnn.explain.methods.occlusion import positions

RNG = np.random.default_rng(21)


def mean_model(head="softmax"):
    """Two classes: the image's sum and minus it, through a convolution of weight 1."""
    inputs = keras.Input((4, 4, 1))
    x = layers.Conv2D(1, 1, use_bias=False, name="conv")(inputs)
    x = layers.Dense(2, use_bias=False, activation=head, name="head")(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    model.set_weights([np.ones((1, 1, 1, 1)), np.stack([np.ones(16), -np.ones(16)], 1)])
    return model


def small_model(seed=0):
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="early")(inputs)
    x = layers.Conv2D(5, 3, activation="tanh", name="late")(layers.MaxPooling2D(2)(x))
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(layers.Flatten()(x)))
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(scale=0.4, size=w.shape) for w in model.get_weights()])
    return model


IMAGE = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)


@pytest.mark.parametrize(
    ("size", "patch", "stride", "expected"),
    [(4, 2, 2, [0, 2]), (5, 2, 2, [0, 2, 3]), (4, 4, 1, [0]), (32, 8, 4, [0, 4, 8, 12, 16, 20, 24])],
)
def test_the_last_square_is_moved_inside(size, patch, stride, expected):
    assert positions(size, patch, stride).tolist() == expected


def test_occlusion_by_hand():
    """The sum of 0..15 is 120; hiding a square with 0 takes its own sum away; scores are before the softmax."""
    table = explain.occlusion_scores(mean_model(), IMAGE, patch=2, stride=2, fill=0)
    hidden = np.array([[0 + 1 + 4 + 5, 2 + 3 + 6 + 7], [8 + 9 + 12 + 13, 10 + 11 + 14 + 15]])
    np.testing.assert_allclose(table[0, :, :, 0], 120 - hidden)
    np.testing.assert_allclose(table[0, :, :, 1], hidden - 120)
    grey = explain.occlusion_scores(mean_model(), IMAGE, patch=2, stride=2)
    np.testing.assert_allclose(grey[0, :, :, 0], 120 - hidden + 4 * 7.5)
    activity = explain.occlusion_scores(mean_model(), IMAGE, patch=2, stride=2, fill=0, layer="conv")
    np.testing.assert_allclose(activity[0, :, :, 0], 120 - hidden)


def test_occlusion_conventions_by_hand():
    model, options = mean_model(), {"patch": 2, "stride": 1, "fill": 0}
    sums = np.array([[IMAGE[0, r : r + 2, c : c + 2].sum() for c in range(3)] for r in range(3)])
    drop = explain.occlusion(model, IMAGE, 0, convention="drop", **options)
    np.testing.assert_allclose(drop[0], sums, rtol=1e-5)
    captum = explain.occlusion(model, IMAGE, 0, convention="captum", **options)
    assert captum[0, 0, 0] == pytest.approx(sums[0, 0])
    assert captum[0, 1, 1] == pytest.approx(sums[:2, :2].mean())
    assert captum[0, 3, 1] == pytest.approx(sums[2, :2].mean())
    table = explain.occlusion_scores(model, IMAGE, **options)
    chance = 1 / (1 + np.exp(-2 * table[0, :, :, 0]))
    values = explain.occlusion(model, IMAGE, 0, convention="probability", **options)
    np.testing.assert_allclose(values[0], chance, rtol=1e-5)
    with pytest.warns(EmptyMap, match="leaves the answer as it is"):  # the probability is 1 in float32
        values = explain.occlusion(model, IMAGE, 0, convention="tf-explain", **options)
    np.testing.assert_allclose(values[0], 1 - chance, atol=1e-6)


def test_captums_last_square_is_cut_at_the_border():
    """A row of 5 pixels of value 1 to 5, squares of 2 in steps of 2: the third covers the last pixel alone."""
    model = keras.Sequential([keras.Input((1, 5, 1)), layers.Flatten(), layers.Dense(1, use_bias=False)])
    model.set_weights([np.ones((5, 1))])
    row = np.arange(1, 6, dtype="float32").reshape(1, 1, 5, 1)
    options = {"patch": (1, 2), "stride": (1, 2), "fill": 0}
    values = explain.occlusion(model, row, 0, convention="captum", **options)
    np.testing.assert_allclose(values[0, 0], [3, 3, 7, 7, 5])
    np.testing.assert_allclose(explain.occlusion(model, row, 0, convention="drop", **options)[0, 0], [3, 7, 9])


def test_occlusion_is_what_predict_says_and_memory_does_not_change_it():
    model, images = small_model(), RNG.normal(size=(2, 12, 12, 3)).astype("float32")
    table = explain.occlusion_scores(model, images, patch=(5, 3), stride=(4, 2))
    assert table.shape == (2, 3, 6, 4)
    for n, r, c in ((0, 0, 0), (1, 2, 5), (0, 1, 3)):
        hidden = images[n].copy()
        row, col = [0, 4, 7][r], [0, 2, 4, 6, 8, 9][c]
        hidden[row : row + 5, col : col + 3] = images[n].mean((0, 1))
        powers = np.exp(table[n, r, c] - table[n, r, c].max())
        np.testing.assert_allclose(powers / powers.sum(), model.predict(hidden[None], verbose=0)[0], rtol=1e-4)
    tiny = explain.occlusion_scores(model, images, patch=(5, 3), stride=(4, 2), max_memory=0)
    np.testing.assert_allclose(tiny, table, rtol=1e-5, atol=1e-6)


def test_the_trio_of_zeiler_and_fergus():
    model, images = small_model(), RNG.normal(size=(2, 12, 12, 3)).astype("float32")
    trio = explain.occlusion_trio(model, images, [1, 3], patch=4, stride=4)
    clear = explain.activations(model, images, "late").sum((1, 2))
    assert trio["channel"].tolist() == clear.argmax(-1).tolist()
    table = explain.occlusion_scores(model, images, patch=4, stride=4)
    assert trio["label"].tolist() == table.argmax(-1).tolist()
    assert trio["probability"].shape == trio["activity"].shape == (2, 3, 3)
    powers = np.exp(table)
    np.testing.assert_allclose(trio["probability"][1], (powers / powers.sum(-1, keepdims=True))[1, ..., 3], rtol=1e-4)


def test_grad_cam_by_hand():
    """The gradient of the sum is 1 everywhere, so that the map is the convolution's output; rectified for class 1."""
    np.testing.assert_allclose(explain.grad_cam(mean_model(), IMAGE, 0)[0], IMAGE[0, :, :, 0])
    with pytest.warns(EmptyMap, match="grad_cam: the map is zero everywhere: nothing at this layer speaks"):
        assert explain.grad_cam(mean_model(), IMAGE, 1).max() == 0
    np.testing.assert_allclose(explain.grad_cam(mean_model(), IMAGE, 1, rectify=False)[0], -IMAGE[0, :, :, 0])
    np.testing.assert_allclose(explain.layer_cam(mean_model(), IMAGE, 0)[0], IMAGE[0, :, :, 0])


def test_integrated_gradients_are_complete():
    model, images = small_model(), RNG.normal(size=(3, 12, 12, 3)).astype("float32")
    scores = keras.Model(model.input, layers.Dense(4, name="logits")(model.layers[-2].output))
    scores.get_layer("logits").set_weights(model.get_layer("head").get_weights())
    first, last = scores.predict(np.full_like(images, 0.2), verbose=0), scores.predict(images, verbose=0)
    values = explain.integrated_gradients(model, images, 2, baseline=0.2, steps=200)
    np.testing.assert_allclose(values.sum((1, 2, 3)), (last - first)[:, 2], rtol=2e-2, atol=2e-2)


def test_smoothgrad_without_noise_is_saliency_and_batches_do_not_matter():
    model, images = small_model(), RNG.normal(size=(3, 12, 12, 3)).astype("float32")
    plain = explain.saliency(model, images, 1)
    np.testing.assert_allclose(explain.smoothgrad(model, images, 1, noise=0, samples=3), plain, rtol=1e-5, atol=1e-6)
    noisy = explain.smoothgrad(model, images, 1, samples=5)
    np.testing.assert_allclose(explain.smoothgrad(model, images[:2], 1, samples=5), noisy[:2], rtol=1e-4, atol=1e-5)
    assert explain.smoothgrad(model, images, 1, samples=5, squared=True).min() >= 0


def test_pointing_and_mass_by_hand():
    maps = np.array([[[3.0, 1.0], [0.0, -9.0]], [[0.0, 1.0], [2.0, 1.0]]])
    masks = np.array([[[True, False], [False, False]], [[True, True], [False, False]]])
    assert evaluate.pointing_game(maps, masks) == 0.5
    assert evaluate.mass_accuracy(maps, masks) == pytest.approx((3 / 4 + 1 / 4) / 2)


def test_similarity_of_a_map_with_itself_is_one():
    values = RNG.normal(size=(16, 16))
    assert evaluate.structural_similarity(values, values) == pytest.approx(1)
    assert evaluate.structural_similarity(values, -values) < 0


def test_deletion_begins_with_the_whole_image_and_insertion_ends_with_it():
    model, images = small_model(), RNG.normal(size=(2, 12, 12, 3)).astype("float32")
    maps, classes = np.abs(explain.saliency(model, images, 1)).max(-1), [1, 1]
    whole = model.predict(images, verbose=0)[:, 1]
    gone = evaluate.deletion_curve(model, images, classes, maps, steps=6, fill=0)
    back = evaluate.deletion_curve(model, images, classes, maps, steps=6, fill=0, insertion=True)
    np.testing.assert_allclose(gone[:, 0], whole, rtol=1e-4)
    np.testing.assert_allclose(back[:, -1], whole, rtol=1e-4)
    np.testing.assert_allclose(gone[:, -1], back[:, 0], rtol=1e-4)
    some = images.copy()
    order = np.argsort(-maps[0].ravel(), kind="stable")[:24]
    some[0].reshape(-1, 3)[order] = 0
    np.testing.assert_allclose(gone[0, 1], model.predict(some, verbose=0)[0, 1], rtol=1e-4)


@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_randomisation_changes_a_copy_only(mode):
    model, images = small_model(), RNG.normal(size=(2, 12, 12, 3)).astype("float32")
    before = [w.tobytes() for w in model.get_weights()]
    table = evaluate.randomisation(model, images, methods=("saliency", "deconvnet"), mode=mode)
    assert [w.tobytes() for w in model.get_weights()] == before
    assert table["layer"].unique().tolist() == ["head", "late", "early"]
    assert set(zip(table["method"], table["fails"], strict=True)) == {("saliency", False), ("deconvnet", True)}
    assert table["spearman"].between(-1, 1).all()


def test_the_modes_of_randomisation_begin_alike_and_part():
    model, images = small_model(), RNG.normal(size=(2, 12, 12, 3)).astype("float32")
    both = [evaluate.randomisation(model, images, mode=mode) for mode in ("cascading", "independent")]
    first, last = both[0]["layer"].iloc[[0, -1]]
    scores = [table.set_index(["layer", "method"])[["spearman", "ssim"]] for table in both]
    pd.testing.assert_frame_equal(scores[0].loc[first], scores[1].loc[first])
    assert not scores[0].loc[last].equals(scores[1].loc[last])


def test_the_random_twin_is_what_cascading_ends_with():
    model, images = small_model(), RNG.normal(size=(2, 12, 12, 3)).astype("float32")
    last = evaluate.randomisation(model, images, [0, 2], seed=3).iloc[-1]
    named = evaluate.randomisation(model, images, ["a", "c"], seed=3, class_names=("a", "b", "c", "d")).iloc[-1]
    assert named.equals(last)
    before = evaluate.importance("saliency", model, images, [0, 2])
    after = evaluate.importance("saliency", evaluate.random_twin(model, seed=3), images, [0, 2])
    ranks, alike = evaluate.likeness(before, after)
    assert (ranks.mean(), alike.mean()) == (last["spearman"], last["ssim"])
    assert ranks[0] != ranks[1]


def test_randomisation_reaches_frozen_layers():
    model, images = small_model(), RNG.normal(size=(2, 12, 12, 3)).astype("float32")
    thawed = evaluate.randomisation(model, images)
    for layer in model.layers[:-1]:
        layer.trainable = False
    assert evaluate.randomisation(model, images).equals(thawed)
    assert [layer.name for layer in model.layers if layer.trainable_weights] == ["head"]


def test_maps_by_name_are_those_of_the_method_at_the_images_size():
    model, images = small_model(), RNG.normal(size=(2, 12, 12, 3)).astype("float32")
    hidden = explain.occlusion(model, images, [1, 2], patch=3, stride=1, convention="captum")
    np.testing.assert_allclose(explain.maps("occlusion", model, images, [1, 2]), hidden, atol=1e-6)
    wide = explain.occlusion(model, images, [1, 2], patch=4, stride=2, convention="captum")
    np.testing.assert_allclose(explain.maps("occlusion", model, images, [1, 2], patch=4), wide, atol=1e-6)
    flat = keras.Sequential([keras.Input((16, 4, 1)), layers.Flatten(), layers.Dense(2)])
    tall = RNG.normal(size=(1, 16, 4, 1)).astype("float32")
    squares = explain.occlusion(flat, tall, 0, patch=1, stride=1, convention="captum")
    np.testing.assert_allclose(explain.maps("occlusion", flat, tall, 0), squares, atol=1e-6)
    small = explain.grad_cam(model, images, [1, 2], layer="early")
    assert small.shape == (2, 10, 10)
    large = explain.maps("grad_cam", model, images, [1, 2], layer="early")
    np.testing.assert_allclose(large, explain.enlarge(small, (12, 12)), atol=1e-6)
    np.testing.assert_allclose(explain.maps("saliency", model, images), explain.saliency(model, images), atol=1e-6)


def test_evaluate_scores_every_method_and_random_maps():
    model, images = small_model(), RNG.normal(size=(2, 12, 12, 3)).astype("float32")
    masks = np.zeros((2, 12, 12), bool)
    masks[:, :6] = True
    table = evaluate.evaluate(model, images, [0, 1], masks=masks, methods=["saliency", "occlusion"], steps=4)
    assert table["method"].tolist() == ["saliency", "occlusion", "random"]
    maps = evaluate.importance("saliency", model, images, np.array([0, 1]))
    for name, insertion in (("deletion", False), ("insertion", True)):
        curve = evaluate.deletion_curve(model, images, [0, 1], maps, steps=4, insertion=insertion)
        np.testing.assert_allclose(table.loc[0, name], curve.mean(), rtol=1e-5)
    assert table[["deletion", "insertion", "mass", "pointing"]].apply(lambda c: c.between(0, 1).all()).all()


def test_signed_maps_are_white_at_zero_between_symmetric_limits():
    figure = sheets.explanation_sheet(IMAGE[0], np.array([[1.0, -4.0], [0.0, 2.0]]))
    shown = figure.axes[1].images[0]
    assert shown.get_clim() == (-4, 4)
    np.testing.assert_allclose(shown.cmap(0.5)[:3], 1, atol=0.05)


def test_a_grid_of_activations_has_one_pixel_gaps():
    figure = activation_sheets.activation_grid(np.ones((2, 3, 5)))
    drawn = figure.axes[0].images[0].get_array()
    assert drawn.shape == (2 * 3 - 1, 3 * 4 - 1)
    assert np.isnan(np.ma.filled(drawn, np.nan)[2]).all()


def test_activations_of_layers_without_a_rule():
    inputs = keras.Input((6, 4))
    outputs = layers.Dense(2, name="head")(layers.LSTM(3, name="lstm")(inputs))
    model = keras.Model(inputs, outputs)
    rows = RNG.normal(size=(2, 6, 4)).astype("float32")
    values = explain.activations(model, rows)
    assert list(values) == ["lstm", "head"]
    np.testing.assert_allclose(values["head"], model(rows), rtol=1e-5)
