import keras
import numpy as np
import pytest
from keras import layers
from scan_networks import network, whole_images

import kerascnn
from kerascnn import explain
from kerascnn.dataset_scan.blocks import sample_places
from kerascnn.dataset_scan.statistics import Statistics, bin_edges, bin_numbers, on_one_scale, selectivity_index


def test_the_statistics_are_those_of_all_values():
    model = network(3, size=10)
    images, labels = whole_images(50, 3, size=10)
    result = kerascnn.scan(model, images, ["conv1", "conv2"], labels=labels, batch_size=7, samples=None)
    for name in ("conv1", "conv2"):
        values = explain.activations(model, images, name).astype("float64")
        flat = values.reshape(-1, values.shape[-1])
        table = result.stats(name)
        assert table["channel"].tolist() == list(range(values.shape[-1]))
        np.testing.assert_allclose(table["mean"], flat.mean(0), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(table["std"], flat.std(0), rtol=1e-6)
        np.testing.assert_array_equal(table["max"], flat.max(0))
        np.testing.assert_allclose(table["zeros"], (flat == 0).mean(0), rtol=1e-6)
        np.testing.assert_array_equal(table["dead"], flat.max(0) <= 0)
        for q in (5, 50, 95):  # within the bin of a whole number's histogram
            true = np.quantile(flat, q / 100, axis=0, method="inverted_cdf")
            assert (np.abs(table[f"q{q:02d}"] - true) <= np.abs(true) / 14 + 2**-12).all()
        by_class = result.stats(name, by_class=True)
        for number in range(3):
            part = values[labels == number].reshape(-1, values.shape[-1])
            rows = by_class[by_class["class"] == str(number)]
            np.testing.assert_allclose(rows["mean"], part.mean(0), rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(rows["std"], part.std(0), rtol=1e-6)
            np.testing.assert_array_equal(rows["max"], part.max(0))
        counts, edges = result.histogram(name)
        assert counts.sum(1).tolist() == [len(flat)] * values.shape[-1]
        middle = len(counts[0]) // 2  # bins are mirror images: each holds its end that is nearer to zero
        for sign, side in ((1, counts[0]), (-1, counts[0][::-1])):
            expected = np.histogram(sign * flat[:, 0], edges)[0]
            np.testing.assert_array_equal(side[middle + 1 :], expected[middle + 1 :])


def test_a_dead_unit_is_called_dead():
    model = network()
    kernel, bias = model.get_layer("conv1").get_weights()
    kernel[..., 2], bias[2] = 0, -1
    model.get_layer("conv1").set_weights([kernel, bias])
    table = kerascnn.scan(model, whole_images(20)[0], "conv1").stats("conv1")
    assert table["dead"].tolist() == [False, False, True, False]
    assert table["zeros"][2] == 1


def test_a_class_without_images_has_no_statistics():
    result = kerascnn.scan(network(), whole_images(20)[0], "conv1", labels=np.zeros(20, int), class_names=["a", "b"])
    table = result.stats("conv1", by_class=True).drop(columns=["class", "channel"])
    assert table[:4].notna().all(axis=None)
    assert not table["dead"][4:].any()
    assert table[4:].drop(columns="dead").isna().all(axis=None)


def test_the_standard_deviation_survives_a_large_mean():
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, layers.Rescaling(1.0, 1000.0, name="shift")(inputs))
    images = np.random.default_rng(0).normal(size=(64, 4, 4, 1)).astype("float32")
    table = kerascnn.scan(model, images, "shift").stats("shift")
    np.testing.assert_allclose(table["std"][0], (images + np.float32(1000)).astype("float64").std(), rtol=1e-5)


def test_bins_are_where_their_edges_say():
    edges = bin_edges()
    size = np.float32(2) ** (np.arange(10_000) % 16 - 9)
    values = np.random.default_rng(0).normal(size=10_000).astype("float32") * size
    np.testing.assert_array_equal(bin_numbers(values), np.digitize(values, edges) - 1)
    middle = (len(edges) - 1) // 2
    assert bin_numbers(np.float32([0, -0.0, 1e9, -1e9])).tolist() == [middle, middle, len(edges) - 2, 0]


@pytest.mark.parametrize("size", [1e-30, 1e-6, 13_793, 1e20, 1e37])
def test_statistics_of_activations_of_any_size(size):
    """Beside channels of an ordinary size: the range of the histogram follows the data, sums do not overflow."""
    inputs = keras.Input((6, 6, 1))
    model = keras.Model(inputs, layers.Conv2D(3, 1, name="conv")(inputs))
    model.set_weights([np.array([[[[size, 1, -size]]]], "float32"), np.zeros(3, "float32")])
    images = np.random.default_rng(0).uniform(0.1, 2, (30, 6, 6, 1)).astype("float32")
    result = kerascnn.scan(model, images, "conv", samples=None, batch_size=7)
    values = (images * np.float32([size, 1, -size])).astype("float64").reshape(-1, 3)
    table = result.stats("conv")
    np.testing.assert_allclose(table["mean"], values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(table["std"], values.std(0), rtol=1e-5)
    for q in (1, 5, 25, 50, 75, 95, 99):
        true = np.quantile(values, q / 100, axis=0, method="inverted_cdf")
        np.testing.assert_allclose(table[f"q{q:02d}"], true, rtol=0.07)
    counts, edges = result.histogram("conv")
    for channel in range(3):
        np.testing.assert_array_equal(counts[channel].sum(), len(values))
        seen = np.flatnonzero(counts[channel])
        assert edges[seen[0]] <= values[:, channel].min() * (1 + 1e-6) <= edges[seen[0] + 1]
    again = kerascnn.scan(model, images, "conv", samples=None, batch_size=30).histogram("conv")
    np.testing.assert_array_equal(counts, again[0])


def test_a_range_that_widens_loses_no_count():
    """Blocks of ever other sizes one after another count as all of them at once."""
    rng = np.random.default_rng(0)
    blocks = [(rng.normal(size=(5, 4, 2)) * size).astype("float32") for size in (1, 1e-9, 1e9, 0, 1e-3)]
    apart, together = Statistics(4, np.zeros(2), 0), Statistics(4, np.zeros(2), 0)
    for number, block in enumerate(blocks):
        sums = [np.zeros((5, 2))] * 4
        apart.add(number, np.zeros(5, int), *sums, block)
    everything = np.concatenate(blocks)
    together.add(0, np.zeros(25, int), *[np.zeros((25, 2))] * 4, everything)
    np.testing.assert_array_equal(apart.histogram, together.histogram)
    edges = bin_edges(apart.octaves)
    for channel in range(2):
        values = everything[..., channel].ravel()
        above = np.histogram(values[values > 0], edges[len(edges) // 2 :])[0]
        np.testing.assert_array_equal(apart.histogram[0, channel, len(edges) // 2 :], above)
        assert apart.histogram[0, channel, len(edges) // 2 - 1] == (values == 0).sum()
    narrow, wide = np.ones((2, len(bin_edges()) - 1), int), apart.histogram[0]
    (first, second), common = on_one_scale([(narrow, bin_edges()), (wide, edges)])
    np.testing.assert_array_equal(common, edges)
    np.testing.assert_array_equal(second, wide)
    assert first.sum(1).tolist() == narrow.sum(1).tolist()
    np.testing.assert_array_equal(edges[np.flatnonzero(first[0])][[0, -1]], bin_edges()[[0, -2]])


def test_sampled_places_cover_the_map_evenly():
    places = sample_places(np.arange(4000), 64, 4)
    assert places.shape == (4000, 4)
    counts = np.bincount(places.ravel(), minlength=64)
    assert counts.min() > 0.95 * counts.mean()
    assert sorted(sample_places([5], 6, None)[0]) == list(range(6))


def test_quantiles_of_a_sample_are_near_those_of_all():
    model = network(1)
    images, _ = whole_images(400, 1)
    few = kerascnn.scan(model, images, "conv1", samples=4).stats("conv1")
    every = kerascnn.scan(model, images, "conv1", samples=None).stats("conv1")
    np.testing.assert_array_equal(few["mean"], every["mean"])
    assert np.abs(few["q75"] - every["q75"]).max() <= 1  # one whole number


def test_the_selectivity_index_is_from_0_to_1_or_unknown():
    """Channels: one class alone, all alike, a largest mean of 0, scores whose other mean is below 0, and none."""
    means = np.array([[4.0, 2.0, 0.0, 3.0, 0.0], [0.0, 2.0, -1.0, -2.0, 0.0], [2.0, 2.0, -1.0, 1.0, 0.0]])
    np.testing.assert_allclose(selectivity_index(means), [(4 - 1) / (4 + 1), 0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(selectivity_index(means[:1]), np.nan)  # there are no other classes
