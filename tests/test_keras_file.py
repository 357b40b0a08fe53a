""".keras files that are damaged, or that somebody made to do harm: each is one sentence, and nothing is built."""

import json
import os
import zipfile

import keras
import numpy as np
import pytest

from kerascnn.errors import DataError
from kerascnn.keras_file import MOST_IN_SEQUENTIAL, MOST_LAYERS, load


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small functional model's file."""
    path = tmp_path_factory.mktemp("keras") / "whole.keras"
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(inputs))
    keras.Model(inputs, keras.layers.Dense(3, name="out")(x)).save(path)
    return path


def changed(whole, path, change):
    """The file with its configuration changed in place by a function."""
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config)
            new.writestr(name, content)
    return path


def layer(config, number=-1):
    return config["config"]["layers"][number]


def test_a_whole_file_is_loaded(whole, tmp_path):
    model = load(changed(whole, tmp_path / "same.keras", lambda config: None))
    assert model.output_shape == (None, 3)
    np.testing.assert_array_equal(model.get_weights()[0], load(whole).get_weights()[0])


def test_a_flipped_bit_anywhere_is_told_or_does_no_harm(whole, tmp_path):
    content, path = whole.read_bytes(), tmp_path / "flipped.keras"
    expected = load(whole).get_weights()
    with zipfile.ZipFile(whole) as archive:
        middles = [entry.header_offset + 60 + entry.file_size // 2 for entry in archive.infolist()]
    refused = 0
    for place in (*middles, *range(0, len(content), len(content) // 12), len(content) - 30):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            weights = load(path).get_weights()
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017 (some flips do no harm, such as those of dates)
            refused += 1
        else:
            assert all((a == b).all() for a, b in zip(weights, expected, strict=True))
    assert refused >= len(middles)


def many(kind, count):
    def change(config):
        config["class_name"] = kind
        config["config"]["layers"] = [layer(config)] * count

    return change


def torch_module(config):
    layer(config)["class_name"] = "TorchModuleWrapper"


HOSTILE = {
    "weights": (
        lambda config: layer(config)["config"].update(units=4 * 10**11),
        "declares 13,?[0-9,]+ weights and holds",
    ),
    "layers": (many("Functional", 6_000), f"declares 6,000 layers; at most {MOST_LAYERS:,}"),
    "sequential": (many("Sequential", 400), f"Sequential model of 400 layers; at most {MOST_IN_SEQUENTIAL}"),
    "torch": (torch_module, r"holds a PyTorch module, which is a program.*--from x\.pth"),
    "unknown": (lambda config: layer(config).update(class_name="Mine", module=None), "cannot be loaded"),
    "units": (lambda config: layer(config)["config"].update(units=-1), "cannot be loaded"),
    "no layers": (lambda config: config["config"].update(layers=3), "cannot be loaded"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_cannot_be_is_refused_before_it_is_built(kind, whole, tmp_path):
    change, message = HOSTILE[kind]
    with pytest.raises(DataError, match=message):
        load(changed(whole, tmp_path / "hostile.keras", change))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 200_000, "nested too deeply"),
        ("{", "not valid JSON"),
        ("[1]", "cannot be loaded"),
        (None, "without config"),
    ],
)
def test_a_configuration_that_is_none(content, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        if content:
            archive.writestr("config.json", content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.keras")


def test_a_bomb_and_a_pipe(whole, tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("model.weights.h5", "w") as file,
    ):
        for _ in range(300):
            file.write(bytes(1 << 20))
    with pytest.raises(DataError, match=r"bomb\.keras has .* bytes and would unpack to"):
        load(tmp_path / "bomb.keras")
    os.mkfifo(tmp_path / "pipe.keras")
    with pytest.raises(DataError, match=r"pipe\.keras is a named pipe"):
        load(tmp_path / "pipe.keras")


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "b"], ["a", "b", "c", "d"]])
def test_class_names_that_are_not_the_networks(labels, whole, tmp_path):
    (tmp_path / "recipe.json").write_text("{}")
    (tmp_path / "best.keras").write_bytes(whole.read_bytes())
    (tmp_path / "labels.json").write_text(json.dumps(["a", "b", "c"]))
    assert load(tmp_path).output_shape == (None, 3)
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    with pytest.raises(DataError, match=rf"names {len(labels)} classes and the network in best\.keras has 3 outputs"):
        load(tmp_path)
