import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from scan_networks import network, whole_images

import kerascnn
from kerascnn import dataset_scan, datasets, explain
from kerascnn.errors import DataError, UsageError


def brute_force(values, k, per_image):
    """{channel: [(value, image, place)]}: all activations (N, places, channels) sorted, the best k."""
    largest = {}
    for channel in range(values.shape[-1]):
        entries = []
        for image, row in enumerate(values[..., channel]):
            entries += sorted(((-float(v), image, place) for place, v in enumerate(row)))[:per_image]
        largest[channel] = [(-value, image, place) for value, image, place in sorted(entries)[:k]]
    return largest


def leaders(result, layer, cols):
    table = result.top(layer)
    rows = zip(table["channel"], table["value"], table["image"], table["row"] * cols + table["col"], strict=True)
    entries = {}
    for channel, *entry in rows:
        entries.setdefault(channel, []).append(tuple(entry))
    return entries


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 40),
    k=st.integers(1, 12),
    per_image=st.integers(1, 5),
    batch_size=st.integers(1, 17),
    channels=st.sampled_from([1, 3]),
)
def test_the_leaders_are_those_of_a_sort_of_everything(seed, count, k, per_image, batch_size, channels):
    model = network(seed, channels)
    images, labels = whole_images(count, seed, channels=channels)
    k = min(k, count)
    result = kerascnn.scan(
        model, images, ["conv1", "relu2", "softmax"], k, labels=labels, per_image=per_image, batch_size=batch_size
    )
    for name, cols in (("conv1", 8), ("relu2", 1)):
        values = explain.activations(model, images, name)
        values = values.reshape(count, -1, values.shape[-1])
        assert leaders(result, name, cols) == brute_force(values, k, per_image)
    table = result.top("conv1")
    assert (table["label"].astype(int) == labels[table["image"]]).all()
    assert set(result.top("softmax")[["row", "col"]].to_numpy().ravel()) == {0}


def test_zero_outside_a_patch_changes_nothing_bitwise():
    rng = np.random.default_rng(0)
    model = kerascnn.models.cifar_net()
    images = rng.normal(size=(40, 32, 32, 3)).astype("float32")
    result = kerascnn.scan(model, images, ["conv2", "conv4"], top=3, batch_size=16)
    for layer in ("conv2", "conv4"):
        table = result.top(layer).join(result.boxes(layer)[["top", "left", "bottom", "right"]]).iloc[::37]
        alone = np.zeros((len(table), 32, 32, 3), "float32")
        for i, row in enumerate(table.itertuples()):
            place = np.s_[row.top : row.bottom, row.left : row.right]
            alone[i][place] = images[row.image][place]
        again = explain.activations(model, alone, layer, batch_size=len(alone))
        whole = explain.activations(model, images[table["image"]], layer, batch_size=len(alone))
        place = np.arange(len(table)), table["row"], table["col"], table["channel"]
        np.testing.assert_array_equal(again[place], whole[place])
        np.testing.assert_allclose(again[place], table["value"], rtol=1e-5)


def test_a_patch_lies_in_its_frame_as_if_the_image_had_no_border():
    inputs = keras.Input((6, 6, 1))
    model = keras.Model(inputs, layers.Conv2D(1, 3, padding="same", name="conv")(inputs))
    model.set_weights([np.ones((3, 3, 1, 1), "float32"), np.zeros(1, "float32")])
    images = np.zeros((2, 6, 6, 1), "float32")
    images[0, 0, 0] = 5  # the first place that sees it is the corner
    images[1, 3, 4] = 4
    result = kerascnn.scan(model, images, "conv", top=2)
    assert result.top("conv")[["value", "image", "row", "col"]].to_numpy().tolist() == [[5, 0, 0, 0], [4, 1, 2, 3]]
    np.testing.assert_array_equal(result.patches("conv", 0)[0, :, :, 0], [[0, 0, 0], [0, 5, 0], [0, 0, 0]])
    np.testing.assert_array_equal(result.patches("conv", 0)[1, :, :, 0], [[0, 0, 0], [0, 0, 0], [0, 0, 4]])
    assert result.boxes("conv").iloc[0].tolist() == [0, 1, 0, 0, 2, 2]
    np.testing.assert_array_equal(result.inside("conv", 0)[0], [[False] * 3, [False, True, True], [False, True, True]])
    assert result.inside("conv", 0)[1].all()


class Batches(keras.utils.PyDataset):
    def __init__(self, images, labels, sizes):
        super().__init__()
        self.parts = np.split(np.arange(len(images)), np.cumsum(sizes)[:-1])
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, number):
        return self.images[self.parts[number]], self.labels[self.parts[number]]


def same(a, b, layers=("conv1", "conv2"), patches=True):
    for layer in layers:
        assert a.top(layer).equals(b.top(layer))
        assert a.stats(layer).equals(b.stats(layer))
        if patches:
            for channel in range(4):
                np.testing.assert_array_equal(a.patches(layer, channel), b.patches(layer, channel))


def test_every_kind_of_data_gives_the_same():
    model = network(4)
    images, labels = whole_images(30, 4)
    names = ("a", "b", "c")
    options = {"layers": ["conv1", "conv2"], "top": 4, "batch_size": 8, "class_names": names}
    expected = kerascnn.scan(model, images, labels=labels, **options)
    split = datasets.Split(images.astype("uint8"), labels)
    data = datasets.ImageData("small", "made here", names, split)
    as_floats = lambda pixels: pixels.astype("float32")  # noqa: E731
    same(expected, kerascnn.scan(model, Batches(images, labels, [1, 20, 9]), **options))
    same(expected, kerascnn.scan(model, data, preprocessing=as_floats, **options))
    same(expected, kerascnn.scan(model, split, preprocessing=as_floats, **options))
    one_hot = Batches(images, np.eye(3)[labels], [30])
    same(expected, kerascnn.scan(model, one_hot, **options))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        same(expected, kerascnn.scan(model, tf.data.Dataset.from_tensor_slices((images, labels)).batch(11), **options))


class Single(keras.utils.PyDataset):
    """One image and one label at a time."""

    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        return self.images[number], self.labels[number]


def test_data_that_is_not_batched_is_scanned_image_by_image():
    model, (images, labels) = network(4), whole_images(20, 4)
    options = {"layers": ["conv1", "conv2"], "top": 4, "batch_size": 8, "class_names": ("a", "b", "c")}
    expected = kerascnn.scan(model, images, labels=labels, **options)
    same(expected, kerascnn.scan(model, Single(images, labels), **options))
    same(expected, kerascnn.scan(model, Single(images, np.eye(3)[labels]), **options))
    with pytest.raises(UsageError, match=r"images \(8, 8, 8, 3\) with labels \(7,\): give one label for each image"):
        kerascnn.scan(model, Single([images[:8]], [labels[:7]]), top=4)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices((images, labels))
        same(expected, kerascnn.scan(model, data, **options))
        alone = kerascnn.scan(model, tf.data.Dataset.from_tensor_slices(images), "conv1", 4, batch_size=8)
        assert alone.top("conv1")["value"].equals(expected.top("conv1")["value"])
        with pytest.raises(UsageError, match=r"never ends; .* leave out \.repeat\(\)"):
            kerascnn.scan(model, data.batch(4).repeat())


def test_as_many_leaders_as_the_places_of_all_images():
    """conv1 has 64 places an image, so that 23 images have 69 leaders of three each; units have 23."""
    model, (images, _) = network(1), whole_images(23, 1)
    result = kerascnn.scan(model, images, ["conv1", "softmax"], top=30, per_image=3)
    values = explain.activations(model, images, "conv1").reshape(23, 64, -1)
    assert leaders(result, "conv1", 8) == brute_force(values, 30, 3)
    assert result.top("softmax").groupby("channel").size().tolist() == [23] * 3
    assert result.stats("softmax").shape[0] == len(result.patches("softmax", 0)) // 23 * 3
    with pytest.raises(UsageError, match=r"has 23 images, up to per_image=3 places of each\. Type top=69 or less"):
        kerascnn.scan(model, images, "conv1", top=70, per_image=3)
    with pytest.raises(
        UsageError, match=r"top=30 is larger .* at most 1 place each, in the maps of softmax\. Type top=23"
    ):
        kerascnn.scan(model, images, "softmax", top=30, per_image=3)


def test_scans_of_several_layers_one_after_another_are_one(tmp_path):
    model, (images, labels) = network(5), whole_images(30, 5)
    options = {"labels": labels, "top": 3}
    expected = kerascnn.scan(model, images, ["conv1", "conv2", "softmax"], **options)
    kerascnn.scan(model, images, ["softmax", "conv1"], out=tmp_path / "a.npz", **options)
    later = kerascnn.scan(model, images, ["conv2", "conv1"], **options)
    merged = later.merged(dataset_scan.load(tmp_path / "a.npz"))
    assert merged.layers == expected.layers == ["conv1", "conv2", "softmax"]
    merged.save(tmp_path / "b.npz")
    again = dataset_scan.load(tmp_path / "b.npz")
    same(again, expected)
    assert again.stats("softmax", by_class=True).equals(expected.stats("softmax", by_class=True))
    np.testing.assert_array_equal(again.patches("softmax", 0), expected.patches("softmax", 0))
    kerascnn.scan(model, images, "conv2", out=tmp_path / "a.npz", **options)
    assert dataset_scan.load(tmp_path / "a.npz").layers == expected.layers
    kerascnn.scan(model, images, "conv1", out=tmp_path / "a.npz", **options | {"top": 2})
    assert dataset_scan.load(tmp_path / "a.npz").layers == ["conv1"]
    others = {"top": {"top": 4}, "class_names": {"class_names": "abc"}, "data": {"labels": labels[::-1]}}
    for name, changed in others.items():
        with pytest.raises(UsageError, match=f"these differ in {name}"):
            kerascnn.scan(model, images, "conv1", **options | changed).merged(expected)
    with pytest.raises(UsageError, match="differ in weights"):
        kerascnn.scan(network(6), images, "conv1", **options).merged(expected)


def test_other_layers_stay_in_a_file_of_another_version(tmp_path):
    model, (images, labels) = network(5), whole_images(30, 5)
    earlier = kerascnn.scan(model, images, "conv1", 3, labels=labels)
    earlier.manifest["kerascnn"] = "0.0"
    earlier.save(tmp_path / "a.npz")
    kerascnn.scan(model, images, "conv2", 3, labels=labels, out=tmp_path / "a.npz")
    found = dataset_scan.load(tmp_path / "a.npz")
    assert (found.layers, found.manifest["kerascnn"]) == (["conv1", "conv2"], kerascnn.__version__)
    same(found, kerascnn.scan(model, images, ["conv1", "conv2"], 3, labels=labels))


def test_patches_follow_the_preprocessing_s_crop():
    from kerascnn.datasets.preprocessing import Preprocessing

    model = network(4)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 10, 3), np.uint8)
    prepared = Preprocessing((12, 10), (8, 8), 3, (0.0,) * 3, (1 / 255,) * 3)
    data = datasets.ImageData("small", "made here", ("a",), datasets.Split(pixels, np.zeros(9, int)))
    result = kerascnn.scan(model, data, "conv1", top=1, preprocessing=prepared)
    expected = kerascnn.scan(model, pixels[:, 2:10, 1:9].astype("float32"), "conv1", top=1)
    assert result.top("conv1")["image"].equals(expected.top("conv1")["image"])
    np.testing.assert_array_equal(result.patches("conv1", 0), expected.patches("conv1", 0))
    assert result.images("conv1", 0).shape == (1, 8, 8, 3)


def test_numbers_and_names_of_numpy_are_as_good_as_python_s(tmp_path):
    images, labels = whole_images(30)
    names = np.array(["a", "b", "c"])
    one, two = np.int64(1), np.int32(2)
    result = kerascnn.scan(
        network(),
        images,
        top=two,
        labels=labels % 3,
        class_names=names,
        per_image=one,
        samples=two,
        out=tmp_path / "s.npz",
    )
    expected = kerascnn.scan(network(), images, top=2, labels=labels % 3, class_names=("a", "b", "c"), samples=2)
    assert result.top("conv1").equals(expected.top("conv1"))
    assert (tmp_path / "s.npz").exists()


def test_saved_and_loaded(tmp_path):
    model = network(5)
    images, labels = whole_images(30, 5)
    result = kerascnn.scan(model, images, ["conv1", "conv2"], labels=labels, out=tmp_path / "scan.npz")
    again = dataset_scan.load(tmp_path / "scan.npz")
    same(result, again)
    assert again.class_names == ("0", "1", "2")
    assert again.selectivity("conv2").equals(result.selectivity("conv2"))
    assert os.listdir(tmp_path) == ["scan.npz"]
    result.save(tmp_path / "small.npz", patches=False)
    with pytest.raises(UsageError, match="saved without patches"):
        dataset_scan.load(tmp_path / "small.npz").patches("conv1", 0)
    again.save(tmp_path / "small.npz", patches=False)
    same(result, again)
    torn = tmp_path / "torn.npz"
    torn.write_bytes((tmp_path / "scan.npz").read_bytes()[:-500])
    with pytest.raises(DataError, match="torn"):
        dataset_scan.load(torn)
    with pytest.raises(UsageError, match="no scan"):
        dataset_scan.load(tmp_path / "nothing.npz")


KILLED = """
    import os, signal, sys
    sys.path.insert(0, {tests!r})
    import kerascnn
    from scan_networks import network, whole_images
    from test_dataset_scan import Batches

    def say(done, count):
        if done == 40:
            os.kill(os.getpid(), signal.SIGKILL)

    images, labels = whole_images(100, 6)
    data = Batches(images, labels, [100]) if {stream} else images
    more = {{}} if {stream} else {{"labels": labels}}
    kerascnn.scan(network(6), data, ["conv1", "conv2"], batch_size=8, out={out!r}, every=0, say=say, **more)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_a_killed_scan_goes_on_and_ends_with_the_same(tmp_path, stream):
    out = str(tmp_path / "scan.npz")
    script = textwrap.dedent(KILLED).format(tests=os.path.dirname(__file__), out=out, stream=stream)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == ["scan.npz.part"]
    images, labels = whole_images(100, 6)
    data = Batches(images, labels, [100]) if stream else images
    more = {} if stream else {"labels": labels}
    seen = []
    options = {"layers": ["conv1", "conv2"], "batch_size": 8, **more}
    result = kerascnn.scan(network(6), data, out=out, say=lambda done, count: seen.append(done), **options)
    assert seen[0] == 40  # the last state before the kill had 32
    same(result, kerascnn.scan(network(6), data, **options))
    assert sorted(os.listdir(tmp_path)) == ["scan.npz"]


def test_another_network_does_not_go_on_from_a_state(tmp_path):
    images, _ = whole_images(40, 6)

    class Enough(Exception):  # noqa: N818
        pass

    def stop(done, count):
        if done == 24:
            raise Enough

    with pytest.raises(Enough):
        kerascnn.scan(network(6), images, "conv1", batch_size=8, out=tmp_path / "s.npz", every=0, say=stop)
    assert (tmp_path / "s.npz.part").exists()
    result = kerascnn.scan(network(7), images, "conv1", batch_size=8, out=tmp_path / "s.npz")
    same(result, kerascnn.scan(network(7), images, "conv1", batch_size=8), ["conv1"])


def test_the_model_is_untouched_and_layers_without_rules_are_called():
    class Odd(layers.Layer):
        def call(self, x):
            return keras.ops.sort(x, axis=-1)

    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv1")(inputs)
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="conv2")(Odd(name="odd")(x)))
    before, config = model.get_weights(), model.to_json()
    images, _ = whole_images(10)
    with pytest.warns(UserWarning, match=r"How far layer 'odd' \(Odd\) reaches is not known.* Whole images stand for"):
        result = kerascnn.scan(model, images, "conv2", top=1, batch_size=4)
    expected = keras.Model(inputs, model.get_layer("conv2").output).predict(images, verbose=0)
    np.testing.assert_allclose(result.top("conv2")["value"], expected.max((0, 1, 2)), rtol=1e-5)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert model.to_json() == config
    assert result.boxes("conv2").iloc[0].tolist()[2:] == [0, 0, 8, 8]  # nobody knows how Odd spreads: the whole image


def test_nested_and_shared_layers():
    inner_in = keras.Input((8, 8, 3))
    inner = keras.Model(inner_in, layers.Conv2D(3, 3, padding="same", name="conv")(inner_in), name="block")
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, inner(inner(inputs)))
    images, _ = whole_images(10)
    first, second = (kerascnn.scan(model, images, f"conv#{n}", top=1) for n in (1, 2))
    assert first.layers == ["block/conv#1"]
    assert first.patches("block/conv#1", 0).shape == (1, 3, 3, 3)
    assert second.patches("block/conv#2", 0).shape == (1, 5, 5, 3)
    assert kerascnn.scan(model, images, top=1).layers == ["block/conv#1", "block/conv#2"]


def test_a_layer_within_a_nested_model_and_again_outside_it():
    """Its second call sees 5x5 pixels: what lies outside a patch changes nothing."""
    shared, inner_input = layers.Conv2D(3, 3, padding="same", name="shared"), keras.Input((9, 9, 3))
    inner = keras.Model(inner_input, shared(inner_input), name="inner")
    image = keras.Input((9, 9, 3))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(shared(inner(image)))))
    result = kerascnn.scan(model, np.random.default_rng(0).random((4, 9, 9, 3), "float32"), "shared", top=1)
    assert kerascnn.anatomy.receptive_field(model, "shared").size == (5, 5)
    assert kerascnn.anatomy.receptive_field(model, "inner/shared").size == (3, 3)
    boxes = result.boxes("shared")
    assert ((boxes["bottom"] - boxes["top"]).max(), (boxes["right"] - boxes["left"]).max()) <= (5, 5)
    assert (boxes["bottom"] - boxes["top"]).max() > 3


def test_a_network_for_images_of_any_size_has_fields_of_its_own():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(inputs)
    model = keras.Model(inputs, layers.Conv2D(4, 3, name="conv2")(x))
    images, _ = whole_images(10)
    result = kerascnn.scan(model, images, top=2)
    assert result.patches("conv1", 0).shape == (2, 3, 3, 3)
    assert result.patches("conv2", 0).shape == (2, 5, 5, 3)


def test_conv5_is_the_deepest_convolution():
    with pytest.warns(UserWarning, match="no layer 'CONV5': its deepest convolution is 'conv2'"):
        assert kerascnn.scan(network(), whole_images(9)[0], "CONV5").layers == ["conv2"]


def test_interesting_neurons_come_out_by_themselves():
    """Channel 1 answers to red alone; the others to all."""
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, layers.ReLU(name="relu")(layers.Conv2D(3, 1, use_bias=False, name="conv")(inputs)))
    kernel = np.array([[1, 1, 1], [1, -1, 1], [1, -1, 0.5]], "float32")  # (colour, channel)
    model.set_weights([kernel[None, None]])
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    images = rng.uniform(0.5, 1, (30, 4, 4, 3)).astype("float32") * np.eye(3, dtype="float32")[labels][:, None, None]
    result = kerascnn.scan(model, images, "relu", labels=labels, class_names=("red", "green", "blue"), top=5)
    table = result.interesting()
    assert table.iloc[0]["channel"] == 1
    assert table.iloc[0]["class"] == table.iloc[0]["preferred"] == "red"
    assert table.iloc[0]["share"] == 1
    np.testing.assert_allclose(table.iloc[0]["index"], 1, rtol=1e-6)
    means = [images[labels == c].sum(-1).mean() for c in range(3)]  # channel 0 adds the colours up
    best, rest = max(means), (sum(means) - max(means)) / 2
    np.testing.assert_allclose(result.selectivity("relu")["index"][0], (best - rest) / (best + rest), rtol=1e-5)
    # classes of which there are no images count for nothing
    more = kerascnn.scan(model, images, "relu", labels=labels + 1, class_names=("none", "red", "green", "blue", "no"))
    np.testing.assert_allclose(more.selectivity("relu")["index"], result.selectivity("relu")["index"], rtol=1e-6)
    assert more.selectivity("relu")["preferred"].tolist() == result.selectivity("relu")["preferred"].tolist()


def test_other_data_does_not_go_on_from_a_state(tmp_path):
    """As many images of the same size, but others: their scan begins anew, from arrays and from streams."""
    (old, _), (new, _) = whole_images(40, 6), whole_images(40, 7)

    class Enough(Exception):  # noqa: N818
        pass

    def stop(done, count):
        if done == 24:
            raise Enough

    options = {"layers": "conv1", "batch_size": 8, "out": tmp_path / "s.npz"}
    for wrap in (lambda x: x, lambda x: Batches(x, np.zeros(40, int), [40])):
        with pytest.raises(Enough):
            kerascnn.scan(network(6), wrap(old), every=0, say=stop, **options)
        result = kerascnn.scan(network(6), wrap(new), **options)
        same(result, kerascnn.scan(network(6), wrap(new), "conv1", batch_size=8), ["conv1"])


def test_images_without_labels_belong_to_no_class():
    images, _ = whole_images(30)
    with pytest.raises(UsageError, match="images without labels: give labels="):
        kerascnn.scan(network(), images, class_names=("a", "b", "c"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "conv3"}, "no layer 'conv3'. Did you mean"),
        ({"layers": []}, "names no layer"),
        ({"top": 31}, "top=31 is larger than the data: it has 30 images. Type top=30"),
        ({"top": 0}, "top=0 is not allowed"),
        ({"labels": np.zeros(30)}, r"labels has dtype float64; whole numbers are allowed\. Type labels\.astype\(int\)"),
        ({"labels": np.arange(30) - 1}, "A label is -1, as of images without labels"),
        (
            {"data": np.zeros((30, 16, 16, 3)), "preprocessing": lambda x: x[:, ::2, ::2]},
            "makes images of 8x8 pixels from 16x16, so that patches cannot",
        ),
        ({"labels": np.zeros(4, int)}, r"labels has shape \(4,\); one label for each of 30 images is allowed"),
        ({"data": np.zeros((0, 8, 8, 3), "float32")}, "holds no images"),
        ({"data": Batches(np.zeros((0, 8, 8, 3)), np.zeros(0), [0])}, "holds no images"),
        ({"data": np.zeros((30, 9, 8, 3), "float32")}, r"received shape \(30, 9, 8, 3\)"),
        ({"data": np.full((30, 8, 8, 3), np.nan, "float32")}, "NaN"),
        ({"data": "photos"}, "type str cannot be scanned. Allowed: an array"),
    ],
)
def test_bad_input(options, message):
    data = options.pop("data", None)
    with pytest.raises(UsageError, match=message):
        kerascnn.scan(network(), whole_images(30)[0] if data is None else data, **options)


def test_nan_weights_and_layers_without_channels_are_named():
    model = network()
    kernel, bias = model.get_layer("conv2").get_weights()
    model.get_layer("conv2").set_weights([kernel * np.nan, bias])
    with pytest.raises(UsageError, match="Layer 'conv2' of model 'small' has NaN among its weights"):
        kerascnn.scan(model, whole_images(30)[0])
    recurrent = kerascnn.models.rnn()
    rows = np.zeros((30, *recurrent.input_shape[1:]), "float32")
    with pytest.raises(UsageError, match="has no convolution, so name other layers with layers="):
        kerascnn.scan(recurrent, rows)
    with pytest.raises(UsageError, match="has no channels: its output is"):
        kerascnn.scan(recurrent, rows, recurrent.layers[1].name)
    result = kerascnn.scan(network(), whole_images(30)[0], "conv1")
    with pytest.raises(UsageError, match="no channel 4: it has 4, 0 to 3"):
        result.patches("conv1", 4)
    with pytest.raises(UsageError, match="Unknown layer of this scan"):
        result.top("conv2")
    with pytest.raises(UsageError, match="knows no classes"):
        result.interesting()


def test_images_that_leave_a_channel_at_zero_are_not_of_its_class():
    """One image of the second class excites the channel; those that lead after it do so by their number alone."""
    inputs = keras.Input((2, 2, 1))
    model = keras.Model(inputs, layers.ReLU(name="relu")(inputs))
    images = np.zeros((8, 2, 2, 1), "float32")
    images[6] = 1
    result = kerascnn.scan(
        model, images, "relu", labels=np.array([0, 0, 0, 0, 1, 1, 1, 1]), class_names=["first", "second"], top=4
    )
    row = result.selectivity("relu").loc[0]
    assert (row["class"], row["share"]) == ("second", 1 / 4)


class Subclassed(keras.Model):
    """A model whose layers Keras keeps no graph of."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.conv = keras.layers.Conv2D(4, 3, activation="relu")
        self.scores = keras.layers.Dense(3, activation="softmax")

    def call(self, images):
        return self.scores(keras.ops.max(self.conv(images), axis=(1, 2)))


def test_the_answers_of_a_subclassed_model_are_scanned(tmp_path):
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).random((20, 8, 8, 3)).astype("float32")
    model = Subclassed()
    with pytest.raises(UsageError, match=r"subclass of keras\.Model"):
        dataset_scan.scan(model, images, top=3)  # not built
    answers, before = model.predict(images, verbose=0), [w.copy() for w in model.get_weights()]
    result = dataset_scan.scan(model, images, top=3, out=tmp_path / "scan.npz")
    assert result.layers == ["subclassed"]
    top = result.top("subclassed")
    for channel in range(3):
        best = top[top["channel"] == channel]
        assert best["image"].tolist() == np.argsort(-answers[:, channel])[:3].tolist()
        np.testing.assert_allclose(best["value"], np.sort(answers[:, channel])[::-1][:3], rtol=1e-5)
    assert result.boxes("subclassed")[["top", "left", "bottom", "right"]].to_numpy().tolist() == [[0, 0, 8, 8]] * 9
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    first = result.manifest["weights"]
    model.set_weights([w + 1 for w in before])
    assert dataset_scan.scan(model, images, top=3).manifest["weights"] != first


def test_large_patches_of_photographs_are_saved_small(tmp_path):
    """A layer that sees 65 pixels and more; smooth images, as photographs are."""
    inputs = keras.Input((96, 96, 3))
    model = keras.Model(inputs, layers.Conv2D(4, 70, strides=13, name="wide", activation="relu")(inputs))
    rows = np.linspace(0, 3, 96)
    phase = np.random.default_rng(0).uniform(0, 6, (12, 3))
    waves = np.sin(rows[:, None, None] + rows[:, None] * 2 + phase[:, None, None])
    images = np.round(127.5 + 120 * waves).astype("uint8")
    split = datasets.Split(images, np.zeros(12, "int64"))
    result = kerascnn.scan(model, split, top=5, preprocessing=lambda pixels: pixels / np.float32(255) - 0.5)
    result.save(tmp_path / "scan.npz")
    again = dataset_scan.load(tmp_path / "scan.npz")
    for channel in range(4):
        loaded, exact = again.patches("wide", channel), result.patches("wide", channel)
        assert loaded.dtype == np.uint8
        assert np.abs(loaded.astype(int) - exact).max() <= 32
        assert np.abs(loaded.astype(int) - exact).mean() <= 3
    assert (tmp_path / "scan.npz").stat().st_size < 0.1 * 20 * 70 * 70 * 3
    assert again.top("wide").equals(result.top("wide"))
