import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import kerascnn
from kerascnn import dataset_scan


def test_tables_sheets_and_the_scan_itself(call, trained, tmp_path):
    code, out, err = call("scan", trained.folder, "--split", "test", "--layers", "c3,c1", "--top", "4", "--out", "x")
    assert (code, err) == (0, "")
    files = {path.name for path in (tmp_path / "x").iterdir()}
    assert {"scan.npz", "c3-explained.png", "c3-classes.png"} <= files
    tables = {f"{name}.csv" for name in ("filters", "top", "stats", "stats-by-class", "selectivity")}
    sheets = {f"{name}.png" for name in ("filters", "stats", "patches")}
    assert {f"{layer}-{what}" for layer in ("c1", "c3") for what in tables | sheets} <= files
    data = kerascnn.using.data_of(trained)
    prepared = kerascnn.using.preprocessing(trained)
    model = kerascnn.load(trained)
    expected = kerascnn.scan(model, data, ["c1", "c3"], 4, split="test", preprocessing=prepared)
    again = dataset_scan.load(tmp_path / "x" / "scan.npz")
    assert again.top("c3").equals(expected.top("c3"))
    table = pd.read_csv(tmp_path / "x" / "c3-top.csv")
    np.testing.assert_allclose(table["value"], expected.top("c3")["value"], rtol=1e-5)
    np.testing.assert_array_equal(table["bottom"], expected.boxes("c3")["bottom"])
    assert f"{len(data.test)} images of photos (test)" in out
    with Image.open(tmp_path / "x" / "c3-explained.png") as sheet:
        assert sheet.width > 3 * sheet.height / 4


@pytest.mark.parametrize(("side", "typed", "expected"), [(32, None, 128), (100, None, 52), (100, 7, 7)])
def test_fewer_large_images_are_computed_at_once(side, typed, expected, call, make_folder, tmp_path):
    model = kerascnn.models.lenet5(input_shape=(side, side, 3), num_classes=2)
    model.save(tmp_path / "large.keras")
    assert call("adopt", "large.keras", "--preprocess", "0-1")[0] == 0
    more = ["--batch-size", typed] if typed else []
    folder = make_folder({"cat": 6, "dog": 6}, size=(20, 20))
    code, _, err = call("scan", "large.keras", folder, "--layers", "c1", "--out", "x", *more)
    assert (code, err) == (0, "")
    assert dataset_scan.load(tmp_path / "x" / "scan.npz").manifest["batch_size"] == expected


def test_a_split_that_the_data_lack_is_named(call, trained, make_folder):
    code, _, err = call("scan", trained.folder, make_folder({"cat": 2, "dog": 2}), "--split", "test")
    assert code == 2
    assert "photos has no split 'test'; it has train." in err


def test_other_data_and_conv5(call, trained, make_folder):
    folder = make_folder({"cat": 6, "dog": 6}, size=(20, 20))
    code, out, err = call("scan", trained.folder, folder, "--layers", "CONV5", "--top", "3")
    assert (code, err) == (0, "")
    assert "has no layer 'CONV5': its deepest convolution is 'c3'" in out
    assert "12 images of photos (train)" in out
    (folder,) = (trained.folder / "scan").glob("photos-*-train")  # of each data its own
    assert (folder / "c3-patches.png").exists()


def test_another_scan_into_the_folder_joins_the_first_or_puts_it_aside(call, trained, tmp_path):
    arguments = ["scan", trained.folder, "--split", "test", "--out", "x", "--top"]
    assert call(*arguments, "3", "--layers", "c1")[0] == 0
    first = dataset_scan.load(tmp_path / "x" / "scan.npz")
    code, out, _ = call(*arguments, "3", "--layers", "f6")
    assert code == 0
    assert "scan.npz (with c1 of earlier scans) in x" in out
    both = dataset_scan.load(tmp_path / "x" / "scan.npz")
    assert both.layers == ["c1", "f6"]
    assert both.top("c1").equals(first.top("c1"))
    np.testing.assert_array_equal(both.patches("c1", 2), first.patches("c1", 2))
    for name in both.layers:  # every table beside a scan is of that scan
        np.testing.assert_allclose(pd.read_csv(tmp_path / "x" / f"{name}-top.csv")["value"], both.top(name)["value"])
    (tmp_path / "x" / "notes.csv").write_text("the user's own")
    code, out, _ = call(*arguments, "11", "--layers", "c3", "--channels", "1,5")
    assert code == 0
    assert "x/earlier-1 holds the scan that was in x. Two scans" in out
    assert "these differ in top." in out
    files = {path.name for path in (tmp_path / "x").iterdir()}
    assert {name.partition("-")[0] for name in files} == {"c3", "earlier", "notes.csv", "scan.npz"}
    assert {"c3-patches.png", "c3-patches-2.png"} <= files
    assert dataset_scan.load(tmp_path / "x" / "scan.npz").layers == ["c3"]
    assert dataset_scan.load(tmp_path / "x" / "earlier-1" / "scan.npz").layers == ["c1", "f6"]
    assert {"c1-top.csv", "f6-stats.png"} <= {path.name for path in (tmp_path / "x" / "earlier-1").iterdir()}


@pytest.mark.parametrize(
    ("counts", "split", "classes"), [({".": 6}, "train", False), ({"test/cat": 3, "test/dog": 3}, "test", True)]
)
def test_data_that_cannot_be_trained_on(call, trained, make_folder, tmp_path, counts, split, classes):
    folder = make_folder(counts, size=(20, 20))
    code, out, err = call("scan", trained.folder, folder, "--layers", "c3", "--top", "3", "--out", "x")
    assert (code, err) == (0, "")
    assert f"6 images of photos ({split})" in out
    assert (tmp_path / "x" / "c3-patches.png").exists()
    for name in ("c3-stats-by-class.csv", "c3-selectivity.csv", "c3-classes.png"):
        assert (tmp_path / "x" / name).exists() is classes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "c9"], "has no layer 'c9'. Did you mean"),
        (["--top", "10000"], "--top 10000 is larger than the data"),
        (["--split", "tets"], "--split 'tets' is not allowed. Allowed: train, validation, test"),
        (["--top", "0"], "--top 0 is not allowed"),
        (["--channels", "2,16"], "Layer 'c1' has no channel 16: it has 6, 0 to 5"),
        (["--channels", "1-3"], "--channels '1-3' is not a list of channels. Type for example --channels 9,82,140"),
        (["--channels", ""], "--channels '' is not a list of channels"),
    ],
)
def test_bad_input(call, trained, tmp_path, arguments, message):
    code, _, err = call("scan", trained.folder, *arguments, "--out", "y")
    assert code == 2
    assert message in err
    assert not (tmp_path / "y").exists()


def test_few_images_have_fewer_leaders_and_errors_speak_of_options(call, trained, tmp_path):
    for image in sorted((trained / "samples").glob("*.png"))[:3]:
        (tmp_path / "few").mkdir(exist_ok=True)
        shutil.copy(image, tmp_path / "few")
    code, out, _ = call("scan", trained.folder, tmp_path / "few", "--layers", "f6", "--out", tmp_path / "out")
    assert (code, "3 images of few" in out) == (0, True)
    code, _, err = call("scan", trained.folder, tmp_path / "few", "--layers", "f6", "--top", 4)
    assert code == 2
    assert "--top 4 is larger than the data: it has 3 images. Type --top 3 or less." in err
