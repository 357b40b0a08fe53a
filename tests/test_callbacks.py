import json
import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from PIL import Image

import kerascnn
from kerascnn import explain
from kerascnn.callbacks import (
    LOOKS,
    ActivationStats,
    ExplainEachEpoch,
    FeatureEvolution,
    FilterEvolution,
    FilterGrid,
    TopPatches,
)
from kerascnn.callbacks.filters import filters_of, measured, scaled
from kerascnn.callbacks.watching import Watch
from kerascnn.datasets.preprocessing import Preprocessing
from kerascnn.errors import Stopped, UsageError
from kerascnn.plots import mosaic
from kerascnn.training.reading import load_data


def network(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(5, 3, activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Conv2D(6, 3, activation="relu", name="conv2")(x)
    x = layers.Dropout(0.3, name="dropout")(layers.Flatten(name="flatten")(x))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="softmax")(x), name="small")
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    return model


def images(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 12, 12, 3)).astype("float32"), rng.integers(0, 3, count)


def every_look(folder):
    x, y = images(20, 1)
    return [
        FilterGrid("conv1", folder=folder),
        FilterEvolution(folder=folder),
        ActivationStats(x, folder=folder),
        FeatureEvolution(x, channels=(0, 2), epochs=(1, 3), folder=folder),
        TopPatches(x, top=3, every=2, folder=folder, labels=y),
        ExplainEachEpoch("saliency", x[:2], 1, folder=folder),
        ExplainEachEpoch("occlusion", x[:2], 1, folder=folder),
    ]


def fit(model, epochs, callbacks, **options):
    x, y = images()
    model.fit(x, y, epochs=epochs, batch_size=10, verbose=0, shuffle=False, callbacks=callbacks, **options)
    return model


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A network trained for three epochs under every look: (model, folder)."""
    folder = tmp_path_factory.mktemp("watch")
    return fit(network(), 3, every_look(folder)), folder


def test_looks_never_change_what_is_learned(watched):
    plain = fit(network(), 3, [])
    for a, b in zip(plain.get_weights(), watched[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_files_of_every_look(watched):
    files = {str(path.relative_to(watched[1])) for path in watched[1].rglob("*") if path.suffix != ".json"}
    looks = [f"{n:07d}" for n in range(4)]
    expected = {f"filters/{n}.npz" for n in looks[1:]} | {
        f"filters/conv1-{n}{view}.png" for n in looks[1:] for view in ("", "-one", "-red", "-green", "-blue")
    }
    expected |= {f"filter-evolution/{n}.npz" for n in looks}
    expected |= {f"filter-evolution/{name}" for name in ("strip.png", "evolution.gif", "evolution.csv")}
    expected |= {f"activations/{n}.npz" for n in looks}
    expected |= {
        f"activations/{n}" for n in ("activations.csv", "activations.png", "ridge-conv1.png", "ridge-conv2.png")
    }
    expected |= {"features/0000001.npz", "features/0000003.npz", "features/evolution.png"}
    expected |= {f"patches/conv2-{n}.{suffix}" for n in ("0000002", "0000003") for suffix in ("png", "csv")}
    explained = [*(f"{epoch}.npz" for epoch in looks[1:]), "epochs.png"]
    expected |= {f"{method}/{name}" for method in ("saliency", "occlusion") for name in explained}
    folders = {name.partition("/")[0] for name in expected}
    assert files == expected | folders


def test_filters_of_other_convolutions_by_their_definition():
    """Each filter put alone: a depthwise one answers to one channel, a transposed one paints its kernel."""
    inputs = keras.Input((5, 5, 3))
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", use_bias=False, name="depth")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2DTranspose(4, 3, padding="same", use_bias=False, name="up")(x))
    depth, up = filters_of(model, "depth"), filters_of(model, "up")
    assert (depth.shape, up.shape) == ((6, 3, 3, 1), (4, 3, 3, 6))
    for channel in range(3):
        one = np.zeros((1, 5, 5, 3), "float32")
        one[0, 2, 2, channel] = 1
        answer = keras.ops.convert_to_numpy(model.get_layer("depth")(one))[0, 1:4, 1:4]
        for part in range(2):  # correlation turns the kernel round
            np.testing.assert_array_equal(answer[::-1, ::-1, 2 * channel + part], depth[2 * channel + part, ..., 0])
        assert np.abs(np.delete(answer, [2 * channel, 2 * channel + 1], -1)).max() == 0
    one = np.zeros((1, 5, 5, 6), "float32")
    one[0, 2, 2, 4] = 1
    answer = keras.ops.convert_to_numpy(model.get_layer("up")(one))[0, 1:4, 1:4]
    np.testing.assert_array_equal(np.moveaxis(answer, -1, 0), up[..., 4])


def test_what_is_kept_are_the_networks_numbers(watched):
    model, folder = watched
    x, _ = images(20, 1)
    kernel = model.get_layer("conv1").kernel
    kept = np.load(folder / "filters" / "0000003.npz")["filters"]
    np.testing.assert_array_equal(kept, np.moveaxis(keras.ops.convert_to_numpy(kernel), -1, 0))
    np.testing.assert_array_equal(
        np.load(folder / "filter-evolution" / "0000000.npz")["filters"], filters_of(network(), "conv1")
    )
    table = pd.read_csv(folder / "activations" / "activations.csv")
    assert table["epochs"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for name in ("conv1", "conv2"):
        values = explain.activations(model, x, name).astype("float64")
        row = table[(table["epochs"] == 3) & (table["layer"] == name)].iloc[0]
        stats = [row[column] for column in ("max", "mean", "std", "zeros")]
        np.testing.assert_allclose(stats, [values.max(), values.mean(), values.std(), (values == 0).mean()], rtol=1e-5)
    np.testing.assert_allclose(
        np.load(folder / "saliency" / "0000003.npz")["maps"], explain.saliency(model, x[:2], 1), atol=1e-6
    )
    look = np.load(folder / "features" / "0000003.npz")
    values = explain.activations(model, x, "conv2")
    np.testing.assert_allclose(look["value"], values.max((0, 1, 2))[[0, 2]], rtol=1e-5)
    result = kerascnn.scan(model, x, "conv2", 3)
    np.testing.assert_array_equal(look["patches"][1], result.patches("conv2", 2)[0])
    top = pd.read_csv(folder / "patches" / "conv2-0000003.csv")
    np.testing.assert_allclose(top["value"], result.top("conv2")["value"], rtol=1e-5)


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_images_of_any_number_of_channels_are_drawn(tmp_path, channels):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, channels))
    x = layers.Conv2D(3, 3, activation="relu", name="conv")(inputs)
    outputs = layers.Dense(2, activation="softmax", name="fc")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs, name="bands")
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    x, y = np.random.default_rng(0).random((6, 8, 8, channels), "float32"), np.array([0, 1] * 3)
    looks = [
        FilterGrid(folder=tmp_path),
        FilterEvolution(folder=tmp_path),
        ActivationStats(x, folder=tmp_path),
        FeatureEvolution(x, folder=tmp_path),
        TopPatches(x, top=2, every=1, folder=tmp_path, labels=y),
        ExplainEachEpoch("saliency", x[:2], folder=tmp_path, class_names=["cat", "dog"], labels=y[:2]),
        ExplainEachEpoch("grad_cam", x[:2], folder=tmp_path, bands=(1, 0, 1)),
    ]
    model.fit(x, y, epochs=1, verbose=0, callbacks=looks)
    assert [look.failed for look in looks] == [None] * len(looks)
    assert len(list(tmp_path.rglob("*.png"))) == 8
    assert json.loads((tmp_path / "features" / "look.json").read_text())["channels"] == [0, 1, 2]
    explained = np.load(tmp_path / "saliency" / "0000001.npz")
    answers = model.predict(x[:2], verbose=0)
    np.testing.assert_array_equal(explained["class"], answers.argmax(1))
    np.testing.assert_allclose(explained["probability"], answers.max(1), rtol=1e-5)


def test_the_animation_has_a_frame_for_every_look(watched):
    with Image.open(watched[1] / "filter-evolution" / "evolution.gif") as gif:
        assert gif.n_frames == 4


def test_every_n_steps(tmp_path):
    x, _ = images(20, 1)
    fit(network(), 3, [ActivationStats(x, "conv1", every=5, unit="steps", folder=tmp_path)])  # 4 steps an epoch
    table = pd.read_csv(tmp_path / "activations" / "activations.csv")
    assert table["steps"].tolist() == [0, 5, 10]


def test_periods_that_are_no_epochs_are_counted_in_steps(tmp_path):
    """Also in a second fit; but one that goes on from looks that counted epochs goes on so."""
    x, _ = images(20, 1)

    def look(folder, period=4):
        stats = ActivationStats(x, "conv1", folder=tmp_path / folder)
        stats.period = period
        return stats

    for before, unit, numbers in ((4, "steps", [0, 4, 8]), (0, "epochs", [0, 1, 2])):
        model = fit(network(), 1, [look(unit, before)])  # 4 steps an epoch
        fit(model, 2, [look(unit)], initial_epoch=1)
        table = pd.read_csv(tmp_path / unit / "activations" / "activations.csv")
        assert table[unit].tolist() == numbers


def test_a_second_fit_goes_on_where_the_first_ended(tmp_path):
    """As a resumed training does: fit again with initial_epoch and a new callback."""
    model = fit(network(), 2, [FilterEvolution(folder=tmp_path)])
    fit(model, 4, [FilterEvolution(folder=tmp_path)], initial_epoch=2)
    table = pd.read_csv(tmp_path / "filter-evolution" / "evolution.csv")
    assert sorted(set(table["epochs"])) == [0, 1, 2, 3, 4]
    assert (table[table["epochs"] == 0]["distance"] == 0).all()
    fit(network(1), 1, [FilterEvolution(folder=tmp_path)])  # a new training in the same folder begins anew
    assert sorted(set(pd.read_csv(tmp_path / "filter-evolution" / "evolution.csv")["epochs"])) == [0, 1]


def test_patches_are_also_looked_for_at_the_end_of_a_training_of_several_fits(tmp_path):
    look, model = TopPatches(images(20, 1)[0], top=1, folder=tmp_path), network()
    look.length = 3
    for before, after in ((0, 1), (1, 3)):
        fit(model, after, [look], initial_epoch=before)
    assert [path.name for path in tmp_path.rglob("*.csv")] == ["conv2-0000003.csv"]
    stop = keras.callbacks.EarlyStopping("loss", min_delta=99, patience=1)
    fit(network(), 5, [stop, TopPatches(images(20, 1)[0], top=1, folder=tmp_path)])
    assert [path.name for path in tmp_path.rglob("*.csv")] == ["conv2-0000002.csv"]


def test_the_last_patches_are_of_the_averaged_weights(tmp_path):
    """Also in a run that was stopped within an epoch."""
    options = {"out": tmp_path / "run", "watch": ["patches"], "say": lambda line: None}
    recipe = kerascnn.Recipe(data="digits", image_size=16, epochs=2, batch_size=256, ema=0.9, keep="last")
    stop = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None
    )
    with pytest.raises(Stopped):
        kerascnn.train(recipe, callbacks=[stop], **options)
    run = kerascnn.train(resume=tmp_path / "run", say=lambda line: None)
    (table,) = (run / "watch" / "patches").glob("*-0000002.csv")
    assert sorted(table.parent.glob("*.csv")) == [table]
    data = load_data(recipe)
    (look,) = LOOKS.get("patches")(data, Preprocessing.from_dict(run.read("data")["preprocessing"]))
    look.set_model(kerascnn.load(run))
    look.check()
    np.testing.assert_allclose(pd.read_csv(table)["value"], look._scan().top(look.path)["value"], rtol=1e-5)


def two_of_each(folder, scanning):
    """Pairs of looks of one kind, each of another layer, channel or target; `scanning`: those that scan images too."""
    x, _ = images(12, 1)
    looks = [
        *(FilterGrid(layer, folder=folder) for layer in ("conv1", "conv2")),
        *(FilterEvolution(layer, folder=folder) for layer in ("conv1", "conv2")),
        *(ExplainEachEpoch("saliency", x[:2], target, folder=folder) for target in (0, 1)),
    ]
    if scanning:
        looks += [
            *(ActivationStats(x, layer, folder=folder) for layer in ("conv1", "conv2")),
            *(FeatureEvolution(x, channels=(n,), epochs=(1, 2), folder=folder) for n in (0, 1)),
            *(TopPatches(x, layer, top=2, every=1, folder=folder) for layer in ("conv1", "conv2")),
        ]
    return looks


def kept_arrays(folder):
    """{path: arrays} of all looks below a folder, and the rows of their tables."""
    arrays = {str(p.relative_to(folder)): dict(np.load(p)) for p in folder.rglob("*.npz")}
    return arrays, {str(p.relative_to(folder)): len(pd.read_csv(p)) for p in folder.rglob("*.csv")}


@pytest.mark.parametrize("scanning", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_looks_of_one_kind_write_files_of_their_own_also_after_a_resume(tmp_path, scanning):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    model = fit(network(), 2, two_of_each(whole, scanning))
    half = fit(network(), 1, two_of_each(halves, scanning))
    fit(half, 2, two_of_each(halves, scanning)[::-1], initial_epoch=1)  # in another order: each finds its own folder
    arrays, tables = kept_arrays(whole)
    resumed, resumed_tables = kept_arrays(halves)
    kinds = {"filters": 2, "filter-evolution": 3, "saliency": 2}
    kinds |= {"activations": 3, "features": 2} if scanning else {}
    for kind, count in kinds.items():
        assert sum(path.startswith(f"{kind}/") for path in arrays) == count
        assert sum(path.startswith(f"{kind}-") for path in arrays) == count
    assert arrays.keys() == resumed.keys()
    assert tables == resumed_tables
    for path, contents in arrays.items():
        for name, array in contents.items():
            np.testing.assert_array_equal(array, resumed[path][name], err_msg=path)
    for layer, folder in (("conv1", "filters"), ("conv2", "filters-conv2")):
        np.testing.assert_array_equal(arrays[f"{folder}/0000002.npz"]["filters"], filters_of(model, layer))
    x = images(12, 1)[0][:2]
    for target, folder in ((0, "saliency"), (1, "saliency-1")):
        expected = explain.saliency(model, x, target)
        np.testing.assert_allclose(arrays[f"{folder}/0000002.npz"]["maps"], expected, atol=1e-6)
    if scanning:
        assert arrays["activations-conv2/0000002.npz"]["layers"].tolist() == ["conv2"]
        assert {"patches/conv1-0000002.csv", "patches-conv2/conv2-0000002.csv"} <= tables.keys()
    assert json.loads((whole / "filters-conv2" / "look.json").read_text())["layers"] == ["conv2"]


def test_a_training_that_begins_leaves_nothing_of_an_earlier_one(tmp_path):
    fit(network(), 3, [FilterGrid(layer, folder=tmp_path) for layer in ("conv1", "conv2")])
    (tmp_path / "filters" / "notes.png").write_text("a picture of the user's own")
    fit(network(), 1, [FilterGrid("conv2", folder=tmp_path)])
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*") if p.suffix in (".png", ".npz")}
    assert left == {"filters/0000001.npz", "filters/conv2-0000001.png", "filters/notes.png"}


def test_what_goes_wrong_is_told_once_and_training_goes_on(tmp_path):
    class Broken(Watch):
        looked = 0

        def check(self):
            pass

        def look(self, at):
            self.looked += 1
            raise ValueError(f"nothing to see at {at}.")

    (tmp_path / "run.json").write_text('{"status": "running"}')
    look = Broken("broken", tmp_path / "watch")
    with pytest.warns(
        UserWarning, match="Broken has stopped looking: ValueError: nothing to see at 1. The training goes on"
    ) as w:
        model = fit(network(), 3, [look])
    assert len([x for x in w if "has stopped looking" in str(x.message)]) == 1
    assert look.looked == 1
    assert int(model.optimizer.iterations) == 12
    assert json.loads((tmp_path / "run.json").read_text()) == {
        "status": "running",
        "watch_failed": {"broken": "ValueError: nothing to see at 1."},
    }


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
@pytest.mark.slow
def test_a_mirrored_network_is_looked_at_like_any_other(watched, tmp_path):
    """`tf.distribute.MirroredStrategy` keeps a copy of each variable on every device."""
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = network()
    assert "Mirrored" in type(model.get_layer("conv1").kernel.value).__name__
    looks = every_look(tmp_path)
    fit(model, 3, looks)
    assert [look.failed for look in looks] == [None] * len(looks)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    assert files == sorted(path.relative_to(watched[1]) for path in watched[1].rglob("*"))
    for file in (file for file in files if file.suffix == ".npz"):
        mirrored, alone = np.load(tmp_path / file), np.load(watched[1] / file)
        for name in ("filters", "mean", "value", "maps"):
            if name in mirrored:
                np.testing.assert_allclose(mirrored[name], alone[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_looks_at_a_network_on_two_devices(tmp_path):
    """All looks at once, the fit inside the strategy's scope, on two logical devices of one processor."""
    script = textwrap.dedent("""
        import sys
        sys.path.insert(0, sys.argv[1])
        import numpy as np, tensorflow as tf
        from pathlib import Path
        processor = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
        from test_callbacks import every_look, fit, network
        looks = every_look(Path(sys.argv[2]))
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            model = fit(network(), 2, looks)
        assert [look.failed for look in looks] == [None] * len(looks)
        kernel = model.get_layer("conv1").kernel.value.values[1].numpy()  # of the second device
        kept = np.load(Path(sys.argv[2]) / "filters" / "0000002.npz")["filters"]
        np.testing.assert_array_equal(kept, np.moveaxis(kernel, -1, 0))
    """)
    here = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, "-c", script, here, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("place", ["check", "look", "finish"])
def test_no_error_of_a_look_ends_a_training(tmp_path, place):
    class Broken(Watch):
        def check(self):
            if place == "check":
                raise TypeError("unforeseen.")

        def look(self, at):
            if place == "look":
                raise TypeError("unforeseen.")

        def finish(self):
            if place == "finish":
                raise TypeError("unforeseen.")

    look = Broken("broken", tmp_path)
    with pytest.warns(UserWarning, match="Broken has stopped looking: TypeError: unforeseen. The training goes on"):
        model = fit(network(), 2, [look])
    assert int(model.optimizer.iterations) == 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: FilterGrid("conv9", folder=f), "no layer 'conv9'. Did you mean"),
        (
            lambda f: FilterGrid("softmax", folder=f),
            "'softmax' of model 'small' has no filters. Those that have: conv1, conv2",
        ),
        (lambda f: ActivationStats(images()[0], "conv9", folder=f), "no layer 'conv9'"),
        (lambda f: ActivationStats(images()[0][:, :9], folder=f), r"received shape \(1, 9, 12, 3\)"),
        (lambda f: TopPatches(images()[0], top=100, folder=f), "top=100 is larger than the data"),
        (lambda f: FeatureEvolution(images()[0], channels=(6,), folder=f), "no channel 6: it has 6, 0 to 5"),
        (lambda f: ExplainEachEpoch("saliency", images()[0], 5, folder=f), "5"),
        (lambda f: FilterGrid(folder=f / "file"), "FilterGrid cannot write to .*file"),
        (
            lambda f: ExplainEachEpoch("saliency", images()[0][:2], bands=(0, 1, 3), folder=f),
            r"bands=\(0, 1, 3\) is not allowed: .* 3 channels of these images, 0 to 2",
        ),
        (lambda f: FeatureEvolution(images()[0], bands=(7,), folder=f), r"bands=\(7,\) is not allowed"),
    ],
)
def test_what_cannot_work_is_an_error_before_the_first_step(tmp_path, make, message):
    (tmp_path / "file").write_text("a file where a folder should be")
    model = network()
    with pytest.raises(UsageError, match=message):
        fit(model, 1, [make(tmp_path)])
    assert int(model.optimizer.iterations) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FilterGrid(every=0), "every=0 is not allowed"),
        (lambda: FilterGrid(unit="epoch"), "Unknown unit 'epoch'. Did you mean 'epochs'"),
        (lambda: ExplainEachEpoch("saliancy", images()[0]), "Did you mean 'saliency'"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_scales_and_mosaic_by_hand():
    tiles = np.array([[[0.0, 2.0]], [[-4.0, 0.0]], [[1.0, 1.0]]])  # three tiles of 1x2
    np.testing.assert_array_equal(scaled(tiles), [[[0, 1]], [[0, 1]], [[0.5, 0.5]]])
    np.testing.assert_array_equal(scaled(tiles, "one"), [[[0.5, 0.75]], [[0, 0.5]], [[0.625, 0.625]]])
    np.testing.assert_array_equal(mosaic(scaled(tiles)), [[0, 1, 1, 0, 1], [1] * 5, [0.5, 0.5, 1, 1, 1]])


def test_edges_are_told_from_blobs_with_their_direction():
    vertical = np.array([[1, 0, -1]] * 3, float)  # varies from left to right
    filters = np.stack([vertical, vertical.T, np.eye(3) - np.eye(3)[::-1], np.ones((3, 3)), np.zeros((3, 3))])
    filters = np.stack([*filters, [[0, 1, 0], [1, 2, 1], [0, 1, 0]]])[..., None].astype("float32")
    table = measured(filters)
    np.testing.assert_allclose(table["norm"], np.sqrt((filters**2).sum((1, 2, 3))), rtol=1e-6)
    np.testing.assert_allclose(np.cos(np.radians(2 * table["orientation"][:2])), [1, -1], atol=1e-6)
    assert (table["coherence"][:2] > 0.5).all()
    assert table["coherence"][5] < 1e-6  # a blob has no direction
    assert table["coherence"][3] == table["coherence"][4] == 0
    start = filters.copy()
    moved = filters + 0
    moved[0] *= 0.01
    moved[2] += 0.001
    moved[5] *= 2
    verdicts = measured(moved, start)["verdict"].tolist()
    assert verdicts == ["died", "froze", "froze", "froze", "", ""]
    turned = measured(np.stack([vertical, vertical.T])[..., None], np.ones((2, 3, 3, 1)))
    assert turned["verdict"].tolist() == ["edge", "edge"]
    np.testing.assert_allclose(turned["distance"], np.sqrt(((vertical - 1) ** 2).sum()))


def test_gratings_have_their_frequency_and_angle():
    rows, cols = np.mgrid[:11, :11]
    for angle, frequency in ((30, 0.2), (120, 0.3)):
        phase = cols * np.cos(np.radians(angle)) + rows * np.sin(np.radians(angle))
        table = measured(np.cos(2 * np.pi * frequency * phase)[None, ..., None])
        np.testing.assert_allclose(table["orientation"][0], angle, atol=3)
        np.testing.assert_allclose(table["frequency"][0], frequency, atol=0.04)
        assert table["coherence"][0] > 0.7


@pytest.mark.slow
def test_on_the_command_line_and_after_a_kill(tmp_path):
    """A run that is killed and resumed has the looks, and the weights, of one that was not."""
    script = textwrap.dedent("""
        import os, signal, sys
        import keras, kerascnn
        class Kill(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
        kerascnn.train(data="digits", epochs=3, batch_size=256, watch=["filters", "activations"], out=sys.argv[1],
                       callbacks=[Kill()], say=lambda line: None)
    """)
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "a"], capture_output=True, check=False)
    assert done.returncode == -9
    assert not (tmp_path / "a" / "watch" / "activations" / "0000003.npz").exists()
    resumed = kerascnn.train(resume=tmp_path / "a", say=lambda line: None)
    options = {"data": "digits", "epochs": 3, "batch_size": 256, "say": lambda line: None}
    whole = kerascnn.train(out=tmp_path / "b", watch=["filters", "activations"], **options)
    unwatched = kerascnn.train(out=tmp_path / "c", **options)
    for a, b, c in zip(*(kerascnn.load(run).get_weights() for run in (resumed, whole, unwatched)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(b, c)
    for name in ("activations/activations.csv", "filter-evolution/evolution.csv"):
        assert (resumed / "watch" / name).read_bytes() == (whole / "watch" / name).read_bytes()
    assert whole.read("run")["watch"] == ["filters", "activations"]
    assert not (unwatched / "watch").exists()
    with pytest.raises(UsageError, match=r"Unknown look during training 'filter'\. Did you mean 'filters'"):
        kerascnn.train(watch=["filter"], out=tmp_path / "d")
    assert not os.path.exists(tmp_path / "d")
    with pytest.raises(UsageError, match="no convolution"):
        kerascnn.train(
            model="rnn", data="digits", image_size=28, channels=1, watch=["filters"], out=tmp_path / "d", say=print
        )
    assert not os.path.exists(tmp_path / "d")
