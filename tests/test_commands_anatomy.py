import json
import shutil

import keras
import pytest


def test_the_table_reads_like_the_reports(call):
    code, out, err = call("table", "cifar_net")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split("  ")[0] == "Layer (type)"
    assert any(line.startswith("fc1 (Dense)") and line.endswith("4,195,328") for line in lines)
    assert "6,216,114, of which 6,216,094 are trainable and 20 are not" in out
    assert "960,896 in the convolutional layers, 5,255,218 in the dense" in out
    assert "131,072 in the convolutional layers, 2,058 in the dense" in out
    rows = json.loads(call("table", "cifar_net", "--format", "json")[1])
    assert sum(row["parameters"] for row in rows) == 6_216_114
    assert call("table", "cifar_net", "--format", "markdown")[1].startswith("|")


def test_runs_and_files_have_tables_too(call, trained):
    by_run = call("table", trained.folder)[1]
    assert by_run == call("table", trained / "best.keras")[1]
    assert "c1 (Conv2D)" in by_run


def test_anyones_files_and_keras_applications_have_tables_too(call, trained, tmp_path):
    keras.saving.load_model(trained / "best.keras", compile=False).save(tmp_path / "old.h5")
    assert "c1 (Conv2D)" in call("table", tmp_path / "old.h5")[1]
    code, out, err = call("cost", "applications:MobileNetV2", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["parameters"] == 3_538_984  # as Keras' documentation rounds: 3.5M
    assert "'MobileNetV2'" in call("table", "applications:MobilNetV2")[2]


@pytest.mark.parametrize(
    ("fields", "frozen"), [({"train_last": 1}, "c1 c3 c5 f6"), ({"freeze": "c1,c5..f6"}, "c1 c5 f6"), ({}, "")]
)
def test_frozen_layers_of_a_run_are_not_trainable(call, trained, tmp_path, fields, frozen):
    """A run's best.keras does not say what the recipe froze; the recipe does."""
    shutil.copytree(trained.folder, tmp_path / "frozen")
    recipe = trained.read("recipe")
    (tmp_path / "frozen" / "recipe.json").write_text(json.dumps(recipe | fields))
    for name in ("frozen", "frozen/best.keras"):
        rows = json.loads(call("table", name, "--format", "json")[1])
        assert " ".join(row["layer"] for row in rows if row["not_trainable"]) == frozen
        assert all(row["trainable"] + row["not_trainable"] == row["parameters"] for row in rows)
    if frozen:
        of_training = [
            json.loads(call("cost", run, "--json")[1])["training_bytes"] for run in ("frozen", trained.folder)
        ]
        assert of_training[0] < of_training[1]


def test_receptive_field_of_two_stacked_convolutions(call):
    code, out, err = call("receptive-field", "vgg16", "conv1_2", "--json", "--image-size", "32")
    assert (code, err) == (0, "")
    assert json.loads(out)["size"] == [5, 5]
    shown = json.loads(call("receptive-field", "cifar_net", "conv4", 0, 0, "--json")[1])
    assert (shown["size"], shown["stride"], shown["offset"]) == ([26, 26], [4, 4], [-11, -11])
    assert shown["top, left, bottom, right"] == [0, 0, 15, 15]
    assert "26 x 26" in call("receptive-field", "cifar_net", "conv4")[1]


def test_receptive_fields_of_every_layer(call):
    lines = call("receptive-field", "cifar_net")[1].splitlines()
    assert lines[2].split() == ["conv1", "32", "x", "32", "3", "x", "3", "1", "x", "1", "-1,", "-1"]
    assert ["conv4", "8", "x", "8", "26", "x", "26", "4", "x", "4", "-11,", "-11"] in [line.split() for line in lines]
    assert ["fc1", "-", "-", "-", "-"] in [line.split() for line in lines]
    rows = {row.pop("layer"): row for row in json.loads(call("receptive-field", "cifar_net", "--json")[1])}
    assert rows["conv4"] == {"map": [8, 8], "size": [26, 26], "stride": [4, 4], "offset": [-11, -11]}
    assert rows["fc1"] == dict.fromkeys(("map", "size", "stride", "offset"))


def test_cost_says_the_largest_batch(call):
    code, out, err = call("cost", "cifar_net", "--memory", "4GB", "--json")
    assert (code, err) == (0, "")
    costs = json.loads(out)
    assert costs["parameters"] == 6_216_114
    assert costs["macs"] == 82_520_064  # 32*32*9*3*64 + 16*16*9*64*128 + 8*8*9*(128+256)*256 + 4096*1024 + ...
    assert costs["largest_inference_batch"] > costs["largest_training_batch"] > 128
    smaller = json.loads(call("cost", "cifar_net", "--memory", "1GiB", "--json")[1])
    assert smaller["largest_training_batch"] < costs["largest_training_batch"]
    text = call("cost", "cifar_net", "--memory", "4GB", "--layers")[1]
    assert f"{costs['largest_training_batch']:,} images in training" in text
    assert "conv4" in text


def test_draw_writes_an_svg(call, tmp_path):
    code, out, err = call("draw", "lenet5")
    assert (code, out, err) == (0, "lenet5.svg\n", "")
    text = (tmp_path / "lenet5.svg").read_text()
    assert text.startswith("<svg")
    assert "c3" in text


def test_draw_overwrites_nothing_but_pictures(call, tmp_path):
    (tmp_path / "recipe.json").write_text("mine")
    code, out, err = call("draw", "lenet5", "recipe.json")
    assert (code, out) == (2, "")
    assert "recipe.json is not the name of an .svg file" in err
    assert (tmp_path / "recipe.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table", "cifar_nett"], "Unknown model 'cifar_nett'. Did you mean 'cifar_net'"),
        (["table", "none.keras"], "There is no file none.keras"),
        (["table", "last"], "There is no last run"),
        (["table", "cifar_net", "--image-size", "4"], "cannot take images of 4x4 pixels"),
        (["receptive-field", "cifar_net", "conv5"], "Did you mean 'conv4'"),
        (["receptive-field", "cifar_net", "conv4", "9", "0"], "no unit (9, 0): it has 8 rows and 8 columns"),
        (["receptive-field", "cifar_net", "conv4", "9"], "A unit has a row and a column"),
        (["cost", "cifar_net", "--memory", "4XB"], "'4XB' is not an amount of memory"),
        (["cost", "cifar_net", "--memory", "."], "'.' is not an amount of memory"),
        (["cost", "cifar_net", "--memory", "4"], "'4' is not an amount of memory"),
        (["draw", "cifar_net", "x.png"], "x.png is not the name of an .svg file"),
        (["cost", "cifar_net", "--precision", "float3"], "float32"),
        (["cost", "cifar_net", "--batch-size", "0"], "batch_size must be a whole number above 0"),
    ],
)
def test_what_is_typed_wrong_gets_one_line_and_exit_2(call, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
